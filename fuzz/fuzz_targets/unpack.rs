//! Any archive, unpacked into a directory: whatever it makes lies below it.
#![no_main]
use corten_image::files::{Owner, Plain, Rebase, UnpackOptions, unpack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, bool, &[u8])| {
    let (keep_kinds, rebased, archive) = input;
    let scratch = tempfile::tempdir_in("/dev/shm").expect("scratch directory");
    let (inside, outside) = (scratch.path().join("in"), scratch.path().join("out"));
    std::fs::create_dir_all(inside.join("to")).expect("a root");
    std::fs::create_dir(&outside).expect("what lies beside it");
    std::os::unix::fs::symlink("../../out", inside.join("to/up")).expect("a link out");
    std::os::unix::fs::symlink(&outside, inside.join("to/out")).expect("a link out");
    let root = std::fs::File::open(&inside).expect("the root");
    let options = UnpackOptions {
        owner: Owner::Caller,
        keep_kinds,
        rebase: rebased.then(|| Rebase::new("a", "b/c")),
        own_entry: true,
        skip_refused_xattrs: true,
        ..UnpackOptions::default()
    };
    let _ = unpack(&root, b"/to", Plain(archive), &options);
    assert!(std::fs::read_dir(&outside).expect("it").next().is_none());
    assert_eq!(std::fs::read_dir(scratch.path()).expect("it").count(), 2);
});
