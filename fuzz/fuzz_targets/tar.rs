//! A tar stream of any bytes is read to its end or refused; never a panic, a loop, or memory without bound.
#![no_main]
use std::io::Read;

use corten_image::tar::Reader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = Reader::new(bytes);
    while let Ok(Some(_)) = reader.next_entry() {
        if reader.by_ref().take(1 << 20).read_to_end(&mut Vec::new()).is_err() {
            break;
        }
    }
});
