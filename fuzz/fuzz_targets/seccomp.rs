//! A user's profile, in Docker's format or the OCI's, is compiled or refused.
#![no_main]
use corten_runtime::seccomp::{Arch, compile, from_docker_json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(profile) = from_docker_json(text, &Default::default(), Arch::NATIVE) {
        let _ = compile(&profile);
    }
});
