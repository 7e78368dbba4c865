//! Programs of Python's: docker-py, and the command lines at a pseudo terminal. The scenarios are in `tests/python/`.

use std::path::Path;
use std::process::Command;

use corten_tests::{TestEngine, run};

/// Runs a script with Debian's Python, which has docker-py (`scripts/setup`).
fn python(script: &str, arguments: &[&str]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
    let mut command = Command::new("/usr/bin/python3");
    command.arg(path).args(arguments).env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
    print!("{}", run(&mut command).ok());
}

#[test]
fn docker_py_finds_an_engine_like_dockers() {
    let engine = TestEngine::with_busybox();
    python("sdk.py", &[&engine.host()]);
}

#[test]
fn our_client_at_a_terminal_and_in_pipes() {
    let engine = TestEngine::with_busybox();
    let client = engine.command(&[]);
    let words = client.get_args().map(|word| word.to_str().expect("UTF-8"));
    let program = client.get_program().to_str().expect("UTF-8");
    python("terminal.py", &std::iter::once(program).chain(words).collect::<Vec<_>>());
}

#[test]
fn docker_at_a_terminal_and_in_pipes() {
    let engine = TestEngine::with_busybox();
    python("terminal.py", &["docker", "-H", &engine.host()]);
}
