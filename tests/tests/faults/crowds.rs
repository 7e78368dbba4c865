//! Many at once, and races between them.

use std::thread;
use std::time::{Duration, Instant};

use corten_tests::http::Connection;
use corten_tests::{TestEngine, eventually};

use super::descriptors;

#[test]
fn many_at_once_and_the_engine_is_as_before() {
    let engine = TestEngine::with_busybox();
    let pid = engine.pid().expect("a running engine");
    engine.corten(&["run", "--rm", "busybox", "true"]).ok();
    let before = descriptors(pid);
    let deadline = Instant::now() + Duration::from_secs(8);
    thread::scope(|scope| {
        for worker in 0..16 {
            let engine = &engine;
            scope.spawn(move || {
                let mut rounds = 0;
                while Instant::now() < deadline {
                    let expected = format!("{worker} {rounds}");
                    assert_eq!(engine.corten(&["run", "--rm", "busybox", "echo", &expected]).ok(), expected);
                    rounds += 1;
                }
            });
        }
    });
    assert_eq!(engine.corten(&["ps", "-aq"]).ok(), "");
    eventually("the engine's descriptors are closed", || descriptors(pid) <= before + 20);
}

#[test]
fn two_hundred_containers() {
    let engine = TestEngine::with_busybox();
    let pid = engine.pid().expect("a running engine");
    engine.corten(&["run", "--rm", "busybox", "true"]).ok();
    let (before, memory) = (descriptors(pid), resident_kib(pid));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                (0..25).for_each(|_| drop(engine.corten(&["run", "-d", "busybox", "sleep", "1000"]).ok()))
            });
        }
    });
    let ids = engine.corten(&["ps", "-q"]).ok();
    let ids: Vec<&str> = ids.lines().collect();
    assert_eq!(ids.len(), 200);
    engine.corten(&[&["rm", "-f"], ids.as_slice()].concat()).ok();
    eventually("the engine's descriptors are closed", || descriptors(pid) <= before + 20);
    let grown = resident_kib(pid).saturating_sub(memory);
    assert!(grown < 24 << 10, "{grown} KiB more than before");
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn races_for_one_name_and_one_container() {
    let engine = TestEngine::with_busybox();
    let deadline = Instant::now() + Duration::from_secs(6);
    let commands: [&[&str]; 8] = [
        &["create", "--name", "prize", "busybox", "sleep", "1000"],
        &["create", "--name", "prize", "--rm", "busybox", "sleep", "1000"],
        &["start", "prize"],
        &["stop", "-t", "0", "prize"],
        &["rm", "-f", "prize"],
        &["rm", "prize"],
        &["exec", "prize", "true"],
        &["rename", "prize", "other"],
    ];
    thread::scope(|scope| {
        for args in commands {
            let engine = &engine;
            scope.spawn(move || {
                while Instant::now() < deadline {
                    let output = engine.corten(args);
                    assert!(
                        !output.stderr.contains("internal") && !output.stderr.contains("panic"),
                        "{args:?}: {}",
                        output.stderr
                    );
                    if args[0] == "rename" {
                        engine.corten(&["rm", "-f", "other"]);
                    }
                }
            });
        }
    });
    for name in ["prize", "other"] {
        engine.corten(&["rm", "-f", name]);
        let fresh = engine.corten(&["create", "--name", name, "busybox"]);
        assert_eq!(fresh.code, 0, "{name} is free again: {}", fresh.stderr);
    }
}

#[test]
fn images_and_volumes_removed_while_containers_are_made() {
    let engine = TestEngine::with_busybox();
    let deadline = Instant::now() + Duration::from_secs(4);
    thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < deadline {
                engine.corten(&["tag", "busybox", "copy"]);
                engine.corten(&["rmi", "-f", "copy"]);
            }
        });
        scope.spawn(|| {
            while Instant::now() < deadline {
                engine.corten(&["volume", "rm", "-f", "shared"]);
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while Instant::now() < deadline {
                    let output = engine.corten(&[
                        "run",
                        "--rm",
                        "-v",
                        "shared:/data",
                        "copy",
                        "sh",
                        "-c",
                        "echo x > /data/f",
                    ]);
                    let missing = output.stderr.contains("copy");
                    assert!(output.code == 0 || missing, "{}: {}", output.code, output.stderr);
                }
            });
        }
    });
    assert_eq!(engine.corten(&["run", "--rm", "busybox", "echo", "fine"]).ok(), "fine");
}

/// Whoever is faster, its own end or who ends it: a container goes when it is to go.
#[test]
fn containers_that_end_while_they_are_ended() {
    let engine = TestEngine::with_busybox();
    let wish = r#"{"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}"#;
    let work = |worker: u64| {
        let mut api = Connection::open(&engine.socket(), Duration::from_secs(60)).expect("connect");
        let mut ask = |method: &str, path: &str, body: &str, wanted: &[u16]| {
            let answer = api.request(method, path, body).expect("an answer");
            assert!(wanted.contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text());
        };
        let container = format!("/containers/brief-{worker}");
        for round in 0..50 {
            ask("POST", &format!("/containers/create?name=brief-{worker}"), wish, &[201]);
            ask("POST", &format!("{container}/start"), "", &[204]);
            // Each round a little later in its life.
            thread::sleep(Duration::from_micros(round * 100));
            match round % 3 {
                0 => ask("POST", &format!("{container}/stop?t=0"), "", &[204, 304]),
                1 => ask("POST", &format!("{container}/kill"), "", &[204, 409]),
                _ => {}
            }
            ask("DELETE", &format!("{container}?force=1"), "", &[204]);
        }
    };
    let work = &work;
    thread::scope(|scope| (0..8).for_each(|worker| drop(scope.spawn(move || work(worker)))));
}
