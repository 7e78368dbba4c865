//! Any bytes as a question, as the answer to one, and as a file of names.
#![no_main]
use corten_runtime::dns::message::{self, Answer, Malformed, Query, Rcode};
use corten_runtime::dns::names::Names;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8], &[u8])| {
    let (question, response, file) = input;
    let query = match Query::parse(question) {
        Ok(query) => query,
        Err(Malformed::Ignore) => return,
        Err(Malformed::Refuse(code)) => return drop(message::refusal(question, code)),
    };
    let name = query.name().unwrap_or_default();
    if query.is_answered_by(response) {
        assert!(message::truncated(&query, response).len() <= question.len());
    }
    let path = tempfile::NamedTempFile::new_in("/dev/shm").expect("scratch file").into_temp_path();
    std::fs::write(&path, [b"corten-names-1\tnet\n", file].concat()).expect("write the names");
    let found = Names::open(&path).and_then(|names| names.find(&name)).expect("files can be read");
    let bytes_max = query.udp_bytes_max();
    let mut answer = Answer::new(&query, Rcode::NoError, bytes_max);
    found.v4.into_iter().for_each(|address| answer.address(address.into()));
    found.v6.into_iter().for_each(|address| answer.address(address.into()));
    found.pointers.iter().for_each(|pointer| answer.pointer(pointer));
    let answer = answer.finish();
    assert!(answer.len() <= bytes_max && query.is_answered_by(&answer));
});
