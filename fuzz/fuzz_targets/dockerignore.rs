//! `.dockerignore` files of strangers, up to the first empty line; what follows are paths.
#![no_main]

use corten_build::ignore::{Ignore, Matches};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let source = String::from_utf8_lossy(data);
    let (file, paths) = source.split_once("\n\n").unwrap_or((&source, "a/b"));
    let Ok(ignore) = Ignore::parse(file) else { return };
    for path in paths.lines().take(16) {
        let mut matches = Matches::default();
        let mut left_out = false;
        for (end, _) in path.match_indices('/') {
            matches = ignore.below(&matches, &path[..end]);
            left_out |= !ignore.may_include_below(&matches, &path[..end]);
        }
        let walked = left_out || ignore.below(&matches, path).excluded();
        assert_eq!(walked, ignore.excludes(path));
    }
});
