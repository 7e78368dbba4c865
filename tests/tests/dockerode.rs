//! dockerode, the client of Node.js (`tests/node/`), with its modules from npm.

use std::path::Path;
use std::process::Command;

use corten_tests::{TestEngine, run};

#[test]
fn dockerode_finds_an_engine_like_dockers() {
    let engine = TestEngine::with_busybox();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let modules = repository.join("target/clients/node");
    std::fs::create_dir_all(&modules).expect("a directory for modules");
    for name in ["package.json", "dockerode.mjs"] {
        std::fs::copy(repository.join("tests/node").join(name), modules.join(name)).expect("a copy");
    }
    let mut install = Command::new("npm");
    run(install.args(["install", "--no-audit", "--no-fund", "--silent"]).current_dir(&modules)).ok();
    let mut node = Command::new("node");
    node.arg("dockerode.mjs").arg(engine.socket()).current_dir(&modules);
    assert_eq!(run(&mut node).ok(), "ok");
}
