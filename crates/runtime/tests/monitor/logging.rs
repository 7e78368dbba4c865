//! What reaches the log files.

use corten_runtime::log::{Reader, Selection};
use corten_runtime::monitor::protocol::LogDriver;

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
        .filter(|e| e.file_name().to_string_lossy().starts_with("container.log"))
        .map(|e| e.metadata().unwrap().len())
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
