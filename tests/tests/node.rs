//! Clients in Node.js (`tests/node/`): dockerode, and with its modules from npm some that speak BuildKit's protocol by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use corten_tests::{TestEngine, run, run_with_input};

/// A directory with the programs and the modules that they need.
static MODULES: LazyLock<PathBuf> = LazyLock::new(|| {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let modules = repository.join("target/clients/node");
    fs::create_dir_all(&modules).expect("a directory for modules");
    for name in ["package.json", "dockerode.mjs", "hostile.mjs", "history.mjs"] {
        fs::copy(repository.join("tests/node").join(name), modules.join(name)).expect("a copy");
    }
    let mut install = Command::new("npm");
    run(install.args(["install", "--no-audit", "--no-fund", "--silent"]).current_dir(&modules)).ok();
    modules
});

/// What a program prints that has an engine's socket as its argument.
fn node(program: &str, engine: &TestEngine) -> String {
    let mut node = Command::new("node");
    run(node.arg(program).arg(engine.socket()).current_dir(&*MODULES)).ok()
}

#[test]
fn dockerode_finds_an_engine_like_dockers() {
    let engine = TestEngine::with_busybox();
    assert_eq!(node("dockerode.mjs", &engine), "ok");
}

#[test]
fn contexts_that_mean_harm_are_refused() {
    let engine = TestEngine::with_busybox();
    let told = node("hostile.mjs", &engine);
    let (last, refused) =
        told.lines().collect::<Vec<_>>().split_last().map(|(a, b)| (*a, b.to_vec())).unwrap();
    assert_eq!(last, "honest: built", "{told}");
    assert_eq!(refused.len(), 23, "{told}");
    for line in &refused {
        assert!(!line.ends_with(": built") && line.len() < 500, "{line}");
    }
    assert_eq!(
        engine.corten(&["run", "--rm", "good", "sh", "-c", "cd all; cat d/f g; find . | wc -l"]).ok(),
        "textmore4"
    );
    engine.corten(&["inspect", "evil"]).fails(1);
    let found = run(Command::new("find").arg(engine.data_root()).args(["-name", "evil"]));
    assert_eq!(found.stdout, "", "nothing was written for it");
    assert!(["/evil", "/tmp/evil"].iter().all(|path| !Path::new(path).exists()));
}

#[test]
fn the_history_is_told_by_buildkits_calls() {
    let engine = TestEngine::with_busybox();
    let build = |dockerfile: &str| run_with_input(&mut engine.command(&["build", "-"]), dockerfile);
    build("FROM busybox\nRUN true\n").ok();
    build("FROM busybox\nRUN echo last words; exit 7\n").fails(1);
    assert_eq!(node("history.mjs", &engine), "ok");
}
