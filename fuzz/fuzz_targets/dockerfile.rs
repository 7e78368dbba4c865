//! Dockerfiles of strangers: parsing, expansion of all their words, checks.
#![no_main]

use std::collections::BTreeMap;

use corten_build::dockerfile::check::{Circumstances, check};
use corten_build::dockerfile::expand::Expander;
use corten_build::dockerfile::{parse, parse_trigger};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let source = String::from_utf8_lossy(data);
    let variables = |name: &str| (name.len() % 2 == 1).then(|| source.chars().take(32).collect());
    let _ = parse_trigger(&source);
    match parse(&source) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(dockerfile) => {
            let expander = Expander::new(dockerfile.directives.escape);
            for located in dockerfile.stages.iter().flat_map(|stage| &stage.instructions) {
                let _ = expander.word(&located.original, &variables);
                let _ = expander.words(&located.original, &variables);
            }
            let platform = corten_image::Platform::new("linux", "amd64", None);
            let circumstances = Circumstances {
                options: None,
                build_args: &BTreeMap::new(),
                target: "",
                build_platform: &platform,
                target_platform: &platform,
                ignore: None,
                stages: None,
                base: &|_| None,
            };
            let _ = check(&dockerfile, &circumstances);
        }
    }
});
