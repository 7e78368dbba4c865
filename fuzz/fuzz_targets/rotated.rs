//! Any bytes as a compressed log file, and as the index of one that is not.
#![no_main]
use std::os::unix::fs::MetadataExt;

use corten_runtime::log::{Reader, Selection};
use corten_runtime::monitor::protocol::{LogDriver, Timestamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, Option<u8>, Option<i64>, &[u8], &[u8], &[u8])| {
    let (json, tail, since, list, index, log) = input;
    let directory = tempfile::tempdir_in("/dev/shm").expect("scratch directory");
    let path = directory.path().join("log");
    let mut packed = list.to_vec();
    packed.extend((list.len() as u32).to_le_bytes());
    packed.extend(b"cortlidx");
    packed.extend([3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    std::fs::write(directory.path().join("log.1.gz"), packed).expect("write the packed log");
    let mut content = if json { Vec::new() } else { b"cortlog\x01".to_vec() };
    content.extend_from_slice(log);
    std::fs::write(&path, content).expect("write the log");
    let inode = std::fs::metadata(&path).expect("it is there").ino();
    let head = [&b"cortlidx"[..], &inode.to_le_bytes(), index].concat();
    std::fs::write(directory.path().join("log.index"), head).expect("write the index");
    let driver = if json { LogDriver::JsonFile } else { LogDriver::Local };
    let selection =
        Selection { tail: tail.map(u64::from), since: since.map(Timestamp), ..Selection::default() };
    if let Ok(mut reader) = Reader::open(path, driver, selection) {
        while let Ok(Some(_)) = reader.next_entry() {}
    }
});
