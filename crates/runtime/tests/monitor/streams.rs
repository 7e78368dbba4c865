//! Attached clients: framing, input, half-close, detaching, terminals, slow and vanished ones.

use std::io::Read;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use corten_runtime::monitor::protocol::{Attach, Event, Request, Stdio};

use crate::fixture::{
    Host, client, eventually, interactive, is_root, output, read_frames, read_until, type_in,
};

#[test]
fn output_is_framed_and_complete_from_the_first_byte() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let (mut one, first) = client(output());
    let (mut raw, second) = client(Attach { raw: true, ..output() });
    let container = host.start(host.launch("echo out; echo err >&2; exit 3"), vec![first, second]);
    assert_eq!(read_frames(&mut one), ("out\n".into(), "err\n".into()));
    let mut text = String::new();
    raw.read_to_string(&mut text).unwrap();
    assert_eq!(text, "out\nerr\n");
    assert_eq!(container.exited().code, 3);
    container.gone();
}

#[test]
fn half_closed_stdin_ends_the_input_and_not_the_output() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let (mut stream, attached) = client(Attach { stdin_head: b"from the head, ".to_vec(), ..interactive() });
    let mut launch = host.launch("cat; echo end");
    launch.stdio = Stdio { open_stdin: true, stdin_once: true, ..Stdio::default() };
    let container = host.start(launch, vec![attached]);
    type_in(&mut stream, "typed\n");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_frames(&mut stream).0, "from the head, typed\nend\n");
    assert_eq!(container.exited().code, 0);
    container.gone();
}

#[test]
fn input_larger_than_a_pipe_arrives_although_the_client_has_gone() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let (mut stream, attached) = client(interactive());
    let mut launch = host.launch("sleep 0.2; wc -c");
    launch.stdio = Stdio { open_stdin: true, stdin_once: true, ..Stdio::default() };
    let container = host.start(launch, vec![attached]);
    container.started();
    type_in(&mut stream, &"x".repeat(300_000));
    drop(stream);
    assert_eq!(container.exited().code, 0);
    assert_eq!(container.log(), "300000\n");
    container.gone();
}

#[test]
fn open_stdin_survives_its_clients() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut launch =
        host.launch("while read line; do echo got $line; [ $line = stop ] && exit 0; done; exit 9");
    launch.stdio.open_stdin = true;
    let mut container = host.start(launch, Vec::new());
    container.started();
    for word in ["one", "stop"] {
        let (mut stream, (attach, fd)) = client(interactive());
        let answer = container.ask(|seq| Request::Attach { seq, exec: None, attach }, &[fd]);
        assert!(matches!(answer, Event::Done { .. }), "{answer:?}");
        type_in(&mut stream, &format!("{word}\n"));
        eventually("the line is read", || container.log().contains(word));
        stream.shutdown(Shutdown::Write).unwrap();
        // Without stdin_once a client that has no more input is done.
        assert!(read_frames(&mut stream).0.contains(word));
    }
    assert_eq!(container.exited().code, 0);
    container.gone();
}

#[test]
fn detach_keys_leave_the_container_running() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let keys = Attach { raw: true, detach_keys: vec![16, 17], ..interactive() };
    let (mut stream, attached) = client(keys);
    let mut launch = host.launch("stty size; tty; read line; echo got $line; read line");
    launch.stdio = Stdio { tty: true, size: (24, 80), open_stdin: true, stdin_once: true };
    let mut container = host.start(launch, vec![attached]);
    let seen = read_until(&mut stream, "/dev/pts/0");
    assert!(seen.contains("24 80"), "{seen:?}");
    type_in(&mut stream, "word\n");
    read_until(&mut stream, "got word");
    type_in(&mut stream, "\x10\x11");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    container.signal(9);
    assert_eq!(container.exited().code, 137);
    container.gone();
}

/// As by an init that writes to its console now and then.
#[test]
fn a_terminal_that_nobody_had_open_for_a_while_is_read_again() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let (mut stream, attached) = client(Attach { raw: true, ..interactive() });
    let script = "t=$(tty); exec </dev/null >/dev/null 2>&1; echo closed >$t; sleep 0.2; echo more >$t; sleep 0.2; seq 20000 >$t;
        echo ready >$t; read line <$t; echo got $line >$t";
    let mut launch = host.launch(script);
    launch.stdio = Stdio { tty: true, size: (24, 80), open_stdin: true, stdin_once: true };
    let container = host.start(launch, vec![attached]);
    let pid = container.started();
    let seen = read_until(&mut stream, "ready");
    assert!(
        seen.starts_with("closed\r\nmore\r\n1\r\n2\r\n") && seen.contains("\r\n20000\r\n"),
        "{} bytes",
        seen.len()
    );
    eventually("the terminal is read", || {
        let link = std::fs::read_link(format!("/proc/{pid}/fd/0"));
        link.is_ok_and(|path| path.ends_with("pts/0"))
    });
    type_in(&mut stream, "word\n");
    read_until(&mut stream, "got word");
    assert_eq!(container.exited().code, 0);
    container.gone();
}

#[test]
fn a_terminal_is_resized() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut launch = host.launch("trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done");
    launch.stdio.tty = true;
    let mut container = host.start(launch, Vec::new());
    container.started();
    eventually("the trap is set", || container.log().contains("ready"));
    let answer = container.ask(|seq| Request::Resize { seq, exec: None, rows: 33, columns: 111 }, &[]);
    assert!(matches!(answer, Event::Done { .. }), "{answer:?}");
    assert_eq!(container.exited().code, 0);
    assert!(container.log().contains("33 111"), "{:?}", container.log());
    container.gone();
}

#[test]
fn an_exec_has_streams_of_its_own() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut container = host.run("sleep 1000");
    container.started();
    let (mut stream, attached) = client(interactive());
    let answer = container.exec("e", "cat; echo err >&2; exit 6", Some(attached), false);
    assert!(matches!(answer, Event::ExecStarted { .. }), "{answer:?}");
    type_in(&mut stream, "ping\n");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_frames(&mut stream), ("ping\n".into(), "err\n".into()));
    assert_eq!(container.exec_code("e"), 6);

    let (mut stream, attached) = client(Attach { raw: true, ..interactive() });
    let answer = container.exec("t", "stty size; read x; echo got $x", Some(attached), true);
    assert!(matches!(answer, Event::ExecStarted { .. }), "{answer:?}");
    read_until(&mut stream, "30 90");
    type_in(&mut stream, "word\n");
    read_until(&mut stream, "got word");
    assert_eq!(container.exec_code("t"), 0);
    assert_eq!(container.log(), "");
    container.signal(9);
    container.exited();
    container.gone();
}

#[test]
fn an_exec_whose_children_hold_its_pipes_ends_nevertheless() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut container = host.run("sleep 1000");
    container.started();
    let (mut stream, attached) = client(output());
    container.exec("e", "sleep 1000 & echo out", Some(attached), false);
    assert_eq!(container.exec_code("e"), 0);
    assert_eq!(read_frames(&mut stream).0, "out\n");
    container.signal(9);
    container.exited();
    container.gone();
}

#[test]
fn a_client_that_vanishes_costs_nobody_anything() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let (gone, first) = client(output());
    let (mut stays, second) = client(output());
    let container = host.start(host.launch("sleep 0.1; seq 100000"), vec![first, second]);
    drop(gone);
    let expected: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(read_frames(&mut stays).0, expected);
    assert_eq!(container.exited().code, 0);
    assert_eq!(container.log(), expected);
    container.gone();
}

#[test]
fn a_slow_client_slows_the_container_down_and_gets_everything() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let (mut slow, attached) = client(Attach { holds: true, ..output() });
    let container = host.start(host.launch("seq 300000; echo done >&2"), vec![attached]);
    container.started();
    // More than socket, queue and pipe hold: the container can't have ended.
    std::thread::sleep(Duration::from_millis(300));
    assert!(!container.log().contains("done"));
    let (out, err) = read_frames(&mut slow);
    assert_eq!((out.lines().count(), err.as_str()), (300_000, "done\n"));
    assert_eq!(container.exited().code, 0);
    container.gone();
}

#[test]
fn a_visitor_who_does_not_read_is_let_go() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let (stuck, first) = client(output());
    let container = host.start(host.launch("seq 300000; echo done >&2"), vec![first]);
    container.started();
    assert_eq!(container.exited().code, 0);
    assert!(container.log().contains("done"));
    container.gone();
    drop(stuck);
}

#[test]
fn a_visitor_who_reads_byte_by_byte_is_let_go_too() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let (mut slow, first) = client(output());
    let container = host.start(host.launch("seq 300000"), vec![first]);
    container.started();
    let ended = Arc::new(AtomicBool::new(false));
    let reading = std::thread::spawn({
        let ended = ended.clone();
        move || {
            let mut byte = [0];
            while slow.read(&mut byte).is_ok_and(|read| read > 0) && !ended.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    assert_eq!(container.exited().code, 0, "while somebody reads");
    ended.store(true, Relaxed);
    container.gone();
    reading.join().unwrap();
}

#[test]
fn a_stuck_client_stops_the_others_for_a_moment_only() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let (stuck, first) = client(output());
    let (mut reads, second) = client(output());
    let container = host.start(host.launch("seq 300000"), vec![first, second]);
    assert_eq!(read_frames(&mut reads).0.lines().count(), 300_000);
    assert_eq!(container.exited().code, 0);
    container.gone();
    drop(stuck);
}

/// Its pipes never run empty: reading them to their end would keep the monitor from everything else, and take all memory.
#[test]
fn an_exec_that_leaves_a_busy_writer_behind_ends_nevertheless() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut container = host.run("sleep 1000");
    container.started();
    let (stuck, attached) = client(output());
    container.exec("e", "yes & exit 4", Some(attached), false);
    let answer = container.ask(|seq| Request::Status { seq }, &[]);
    assert!(matches!(answer, Event::Status { .. }), "{answer:?}");
    assert_eq!(container.exec_code("e"), 4);
    let private = container.monitor_s_private_kib();
    assert!(private < 4096, "{private} KiB");
    drop(stuck);
    container.signal(9);
    container.exited();
    container.gone();
}
