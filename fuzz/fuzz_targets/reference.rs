//! A name that is accepted survives being written and read again.
#![no_main]
use corten_image::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(reference) = Reference::parse(text) {
        assert_eq!(Reference::parse(&reference.to_string()).ok(), Some(reference.clone()));
        assert_eq!(Reference::parse(&reference.familiar()).ok(), Some(reference));
    }
});
