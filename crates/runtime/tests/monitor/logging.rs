//! What reaches the log files, and receivers elsewhere.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;

use corten_runtime::log::{Reader, Selection};
use corten_runtime::monitor::protocol::{
    LogDriver, RemoteAddress, RemoteFormat, RemoteLog, RemotePolicy, Syslog, SyslogFormat, Transport,
};

use crate::fixture::{Host, is_root};

#[test]
fn a_million_lines_are_logged_within_bounds() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut launch = host.launch("yes 0123456789012345678901234567890123456789 | head -n 1000000; echo end");
    launch.log.bytes_max = 4 << 20;
    launch.log.files_max = 3;
    let container = host.start(launch, Vec::new());
    assert_eq!(container.exited().code, 0);
    container.gone();
    let files: Vec<_> = std::fs::read_dir(&container.launch.state_dir)
        .unwrap()
        .flatten()
        .map(|e| (e.file_name().to_string_lossy().into_owned(), e.metadata().unwrap().len()))
        .filter(|(name, _)| name.starts_with("container.log") && !name.ends_with(".index"))
        .map(|(_, len)| len)
        .collect();
    assert_eq!(files.len(), 3);
    assert!(files.iter().all(|len| *len <= 4 << 20), "{files:?}");
    let log = &container.launch.log;
    let selection = Selection { tail: Some(2), ..Selection::default() };
    let mut reader = Reader::open(log.path.clone(), log.driver, selection).unwrap();
    let mut tail = Vec::new();
    while reader.next_chunk(&mut tail, usize::MAX).unwrap().is_some() {}
    assert_eq!(tail, b"0123456789012345678901234567890123456789\nend\n");
}

#[test]
fn json_file_is_there_for_tools_that_read_it_themselves() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut launch = host.launch("echo one; printf two >&2");
    launch.log.driver = LogDriver::JsonFile;
    let container = host.start(launch, Vec::new());
    container.exited();
    container.gone();
    let text = std::fs::read_to_string(&container.launch.log.path).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let pairs: Vec<_> =
        lines.iter().map(|l| (l["stream"].as_str().unwrap(), l["log"].as_str().unwrap())).collect();
    assert_eq!(pairs, [("stdout", "one\n"), ("stderr", "two")]);
}

#[test]
fn without_a_log_nothing_is_written() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut launch = host.launch("echo one");
    launch.log.driver = LogDriver::None;
    let container = host.start(launch, Vec::new());
    assert_eq!(container.exited().code, 0);
    container.gone();
    assert!(!container.launch.log.path.exists());
}

#[test]
fn a_receiver_that_has_moved_is_found_by_its_name() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Nobody is there any more.
    let gone = "127.0.0.1:1".parse().unwrap();
    let mut launch = host.launch("echo hello; sleep 1000");
    let syslog = Syslog { format: SyslogFormat::Unix, facility: 1, host: "h".into(), tag: "t".into() };
    launch.log.remote = Some(Box::new(RemoteLog {
        format: RemoteFormat::Syslog(syslog),
        transport: Transport::Stream,
        addresses: vec![RemoteAddress::Ip(gone)],
        host: Some(("localhost".into(), port)),
        policy: RemotePolicy {
            buffer_bytes_max: None,
            wait_for_connection: true,
            retry_ms: 10,
            retries_max: None,
            write_timeout_ms: 0,
        },
    }));
    let mut container = host.start(launch, Vec::new());
    container.started();
    let mut line = String::new();
    BufReader::new(listener.accept().unwrap().0).read_line(&mut line).unwrap();
    assert!(line.ends_with(": hello\n"), "{line:?}");
    container.signal(9);
    container.exited();
    container.gone();
}
