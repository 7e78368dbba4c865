//! A log file of any bytes, torn or foreign, is read to its end in either format.
#![no_main]
use corten_runtime::log::{Reader, Selection};
use corten_runtime::monitor::protocol::LogDriver;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, Option<u8>, &[u8])| {
    let (json, tail, bytes) = input;
    let directory = tempfile::tempdir_in("/dev/shm").expect("scratch directory");
    let path = directory.path().join("log");
    let mut content = if json { Vec::new() } else { b"cortlog\x01".to_vec() };
    content.extend_from_slice(bytes);
    std::fs::write(&path, content).expect("write the log");
    let driver = if json { LogDriver::JsonFile } else { LogDriver::Local };
    let selection = Selection { tail: tail.map(u64::from), ..Selection::default() };
    if let Ok(mut reader) = Reader::open(path, driver, selection) {
        while let Ok(Some(_)) = reader.next_entry() {}
    }
});
