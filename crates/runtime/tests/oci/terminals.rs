//! Terminals that others hold.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use crate::bundle::Bundle;

/// Waits for the descriptor that is sent to a console socket.
fn receive(listener: &UnixListener) -> OwnedFd {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut fds = Vec::new();
    corten_sys::fd::receive(stream.as_fd(), &mut [0; 64], &mut fds).unwrap();
    fds.pop().unwrap()
}

fn read_until(terminal: &mut std::fs::File, text: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 512];
    while !seen.contains(text) {
        let n = terminal.read(&mut buffer).unwrap();
        assert!(n > 0, "{seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    seen
}

#[test]
fn the_terminal_goes_to_the_console_socket() {
    let Some(mut bundle) = Bundle::new("stty size; read line; echo got $line; exec sleep 1000") else {
        return;
    };
    bundle.config["process"]["terminal"] = true.into();
    bundle.config["process"]["consoleSize"] = serde_json::json!({"height": 31, "width": 101});
    assert!(bundle.fails(&["create", "%"]).contains("--console-socket"));
    let listener = UnixListener::bind(bundle.path("console")).unwrap();
    bundle.ok(&["create", "--console-socket", "console", "%"]);
    let mut terminal = std::fs::File::from(receive(&listener));
    bundle.ok(&["start", "%"]);
    read_until(&mut terminal, "31 101");
    terminal.write_all(b"word\n").unwrap();
    read_until(&mut terminal, "got word");

    bundle.ok(&[
        "exec",
        "--detach",
        "--tty",
        "--console-socket",
        "console",
        "%",
        "sh",
        "-c",
        "echo exec; sleep 1000",
    ]);
    let mut terminal = std::fs::File::from(receive(&listener));
    read_until(&mut terminal, "exec");
}

#[test]
fn run_carries_between_its_streams_and_the_terminal() {
    let Some(mut bundle) = Bundle::new("read line; echo got $line; exit 9") else { return };
    bundle.config["process"]["terminal"] = true.into();
    let input = bundle.path("input");
    std::fs::write(&input, "word\n").unwrap();
    let output = bundle.command(&["run", "%"]).stdin(std::fs::File::open(input).unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(9));
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(seen.contains("got word\r\n"), "{seen:?}");
}

#[test]
fn a_descriptor_of_the_process_is_sent_on_request() {
    let Some(bundle) = Bundle::new("true") else { return };
    let listener = UnixListener::bind(bundle.path("pidfd")).unwrap();
    let status = bundle
        .command(&["create", "--pidfd-socket", "pidfd", "%"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let pidfd = receive(&listener);
    corten_sys::process::pidfd_send_signal(pidfd.as_fd(), 9).unwrap();
    crate::bundle::eventually("it has stopped", || bundle.status() == "stopped");
}
