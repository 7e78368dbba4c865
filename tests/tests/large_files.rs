//! `cp` of what is large: by descriptor from and to our client, as an archive from and to docker's.

use std::fs;
use std::process::Command;

use corten_tests::{TestEngine, run};
use tempfile::TempDir;

/// By descriptor, and by docker's client as an archive: the same bytes, owners and holes, there and back.
#[test]
fn large_files_arrive_whole_by_either_client() {
    let engine = TestEngine::with_busybox();
    let scratch = TempDir::new().unwrap();
    let from = scratch.path().join("from");
    fs::create_dir_all(from.join("sub")).unwrap();
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 251) as u8 ^ (at >> 13) as u8).collect();
    fs::write(from.join("large"), &bytes).unwrap();
    fs::write(from.join("sub/larger"), bytes.repeat(5)).unwrap();
    fs::write(from.join("small"), "s").unwrap();
    engine.corten(&["create", "--name", "stopped", "busybox", "true"]).ok();
    engine.corten(&["run", "-d", "--name", "running", "busybox", "sleep", "1000"]).ok();
    for (number, (container, client)) in
        ["stopped", "running"].into_iter().flat_map(|c| [(c, true), (c, false)]).enumerate()
    {
        let cli =
            |arguments: &[&str]| if client { engine.corten(arguments) } else { engine.docker(arguments) };
        let place = format!("{container}:/copy{number}");
        cli(&["cp", from.to_str().unwrap(), &place]).ok();
        let to = scratch.path().join(format!("to{number}"));
        cli(&["cp", &place, to.to_str().unwrap()]).ok();
        run(Command::new("diff").arg("-r").arg(&from).arg(&to)).ok();
    }
}

/// What goes wrong at the engine's end of a copy by descriptor is told as it is.
#[test]
fn a_copy_by_descriptor_that_fails_says_why() {
    let engine = TestEngine::with_busybox();
    let scratch = TempDir::new().unwrap();
    let large = scratch.path().join("large");
    fs::write(&large, vec![1; 8 << 20]).unwrap();
    let large = large.to_str().unwrap();
    engine
        .corten(&["run", "-d", "--name", "tight", "--tmpfs", "/t:size=1m", "busybox", "sleep", "1000"])
        .ok();
    engine.corten(&["create", "--name", "read", "--read-only", "busybox", "true"]).ok();
    for (to, why) in [
        ("tight:/t/", "no space left on device"),
        ("read:/", "container rootfs is marked read-only"),
        ("nobody:/", "No such container: nobody"),
    ] {
        let failed = engine.corten(&["cp", large, to]);
        assert!(failed.code == 1 && failed.stderr.contains(why), "{to}: {failed:?}");
    }
    // On this side.
    let full = scratch.path().join("full");
    fs::create_dir(&full).unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&full)).ok();
    engine.corten(&["cp", large, "tight:/large"]).ok();
    let failed = engine.corten(&["cp", "tight:/large", full.to_str().unwrap()]);
    run(Command::new("umount").arg(&full)).ok();
    assert!(failed.code == 1 && failed.stderr.contains("No space left on device"), "{failed:?}");
}
