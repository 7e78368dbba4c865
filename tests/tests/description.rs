//! Every answer of a broad run of requests is as Docker's description of the API says: documented status, fields and types.
//!
//! The descriptions are not part of this repository: they are looked for in `../shared/specs` beside it, or where
//! `CORTEN_API_DESCRIPTIONS` says. Without them, or without Debian's python3-yaml, the tests say so and pass.

use std::path::{Path, PathBuf};
use std::process::Command;

use corten_tests::{TestEngine, run};

fn description(version: &str) -> Option<PathBuf> {
    let directory = std::env::var_os("CORTEN_API_DESCRIPTIONS")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/specs"));
    let path = directory.join(format!("docker-engine-api-{version}.yaml"));
    if !path.exists() {
        eprintln!("skipped: there is no {}", path.display());
        return None;
    }
    if run(Command::new("/usr/bin/python3").args(["-c", "import yaml"])).code != 0 {
        eprintln!("skipped: python3-yaml is not installed");
        return None;
    }
    Some(path)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("api").join(name)
}

fn answers(version: &str) {
    let Some(description) = description(version) else { return };
    let engine = TestEngine::with_busybox();
    let mut command = Command::new("/usr/bin/python3");
    command.arg("-B").arg(script("answers.py")).arg(engine.socket()).arg(description);
    let output = run(&mut command);
    println!("{}", output.stdout);
    assert_eq!(output.code, 0, "{}", output.stderr);
}

#[test]
fn answers_of_1_50() {
    answers("1.50");
}

#[test]
fn answers_of_1_55() {
    answers("1.55");
}

/// docs/engine-api-options.md has every option, and promises nothing of endpoints that are not built.
#[test]
fn the_documentation_has_every_option() {
    let Some(description) = description("1.55") else { return };
    let engine = TestEngine::start();
    let endpoints = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(endpoints.path(), engine.curl(&[], "/corten/endpoints").ok())
        .expect("write the endpoints");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/engine-api-options.md");
    let mut command = Command::new("/usr/bin/python3");
    command.arg("-B").arg(script("options.py")).arg(description).arg(page).arg(endpoints.path());
    let output = run(&mut command);
    assert_eq!(output.code, 0, "{}", output.stderr);
}
