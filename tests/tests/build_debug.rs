//! `build --debug-on-failure`: a shell in what a failed step has left.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Stdio};

use corten_tests::{Output, TestEngine, eventually, run_with_input};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;

const DOCKERFILE: &str = "FROM busybox
WORKDIR /work
ENV COLOUR=green
RUN --mount=type=secret,id=key --mount=type=cache,target=/cache echo half > made && echo kept > /cache/file && exit 3
";

fn context(dockerfile: &str) -> TempDir {
    let context = tempfile::tempdir().unwrap();
    fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    fs::write(context.path().join("key"), "hush").unwrap();
    context
}

fn flags(context: &TempDir) -> [String; 6] {
    let secret = format!("id=key,src={}", context.path().join("key").display());
    let path = context.path().to_str().unwrap().to_owned();
    ["--debug-on-failure".into(), "--progress".into(), "plain".into(), "--secret".into(), secret, path]
}

fn build(engine: &TestEngine, context: &TempDir, input: &str) -> Output {
    run_with_input(engine.command(&["build"]).args(flags(context)), input)
}

/// Nothing of a step is left: no container, no memory, no snapshot of one.
fn nothing_is_left(engine: &TestEngine) {
    eventually("the step's container is gone", || {
        let left = fs::read_dir(engine.data_root().join("containers")).map_or(0, Iterator::count);
        left == 0 && fs::read_dir(engine.exec_root().join("containers")).map_or(0, Iterator::count) == 0
    });
}

#[test]
fn a_shell_sees_what_the_failed_step_saw() {
    let engine = TestEngine::with_busybox();
    let told = build(
        &engine,
        &context(DOCKERFILE),
        "cat made; pwd; echo $COLOUR; cat /run/secrets/key; cat /cache/file; echo more >> made; wc -l < made; exit 9\n",
    );
    assert_eq!(told.code, 1, "the build's status, not the shell's: {}", told.stderr);
    assert_eq!(told.stdout, "half\n/work\ngreen\nhushkept\n2\n", "{}", told.stderr);
    assert!(told.stderr.contains("did not complete successfully: exit code: 3"), "{}", told.stderr);
    assert!(told.stderr.contains("   4 | >>> RUN"), "{}", told.stderr);
    nothing_is_left(&engine);
    // What was done in the shell is no part of anything: the step is done again, from the state before it.
    let told = build(&engine, &context(DOCKERFILE), "wc -l < made\n");
    assert_eq!(told.stdout, "1\n", "{}", told.stderr);
}

#[test]
fn a_build_that_does_not_fail_opens_none() {
    let engine = TestEngine::with_busybox();
    let told = build(&engine, &context("FROM busybox\nRUN true\n"), "echo shell\n");
    assert_eq!((told.code, told.stdout.as_str()), (0, ""), "{}", told.stderr);
    // Nor does one whose failure is no program's.
    let told = build(&engine, &context("FROM busybox\nCOPY nothing /\n"), "echo shell\n");
    assert_eq!((told.code, told.stdout.as_str()), (1, ""), "{}", told.stderr);
}

#[test]
fn the_shell_is_that_of_the_dockerfile_and_one_that_is_missing_is_told_of() {
    let engine = TestEngine::with_busybox();
    let dockerfile = "FROM busybox\nSHELL [\"/bin/ash\", \"-c\"]\nRUN false\n";
    let told = build(&engine, &context(dockerfile), "echo $0\n");
    assert_eq!(told.stdout, "/bin/ash\n", "{}", told.stderr);
    let dockerfile = "FROM busybox\nRUN rm -f /bin/sh /bin/ash; exit 4\n";
    let told = build(&engine, &context(dockerfile), "echo shell\n");
    assert_eq!((told.code, told.stdout.as_str()), (1, ""), "{}", told.stderr);
    assert!(told.stderr.contains("no shell in the failed step: "), "{}", told.stderr);
    assert!(told.stderr.contains("exit code: 4"), "{}", told.stderr);
    nothing_is_left(&engine);
}

#[test]
fn standard_streams_must_be_free() {
    let engine = TestEngine::with_busybox();
    let dockerless =
        run_with_input(&mut engine.command(&["build", "--debug-on-failure", "-"]), "FROM busybox\n");
    assert!(dockerless.fails(1).contains("needs standard input"));
    let context = context(DOCKERFILE);
    let path = context.path().to_str().unwrap();
    let told = engine.corten(&["build", "--debug-on-failure", "-o", "-", path]);
    assert!(told.fails(1).contains("needs standard output"));
}

/// A build whose shell waits for what we type.
fn waiting(engine: &TestEngine, context: &TempDir) -> (Child, ChildStdin) {
    let mut command = engine.command(&["build"]);
    command.args(flags(context)).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"echo ready\n").unwrap();
    let mut said = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"ready\n");
    (child, input)
}

#[test]
fn a_client_that_is_killed_in_its_shell_leaves_nothing() {
    let engine = TestEngine::with_busybox();
    let (mut child, _input) = waiting(&engine, &context(DOCKERFILE));
    child.kill().unwrap();
    child.wait().unwrap();
    nothing_is_left(&engine);
}

#[test]
fn an_engine_that_is_killed_under_a_shell_leaves_nothing() {
    let mut engine = TestEngine::with_busybox();
    let (mut child, _input) = waiting(&engine, &context(DOCKERFILE));
    engine.kill();
    // The shell goes on without an engine; the next one ends it, as it does all steps of builds that are over.
    engine.restart();
    nothing_is_left(&engine);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let told = build(&engine, &context(DOCKERFILE), "cat made\n");
    assert_eq!(told.stdout, "half\n", "{}", told.stderr);
}

#[test]
fn a_terminal_has_a_shell_of_its_size() {
    let engine = TestEngine::with_busybox();
    let context = context(DOCKERFILE);
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = || File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut master = File::from(master);
    let size = rustix::termios::Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, size).unwrap();
    let mut command = engine.command(&["build"]);
    let [debug, _, _, secret, value, path] = flags(&context);
    command.args([debug, secret, value, path]).env("TERM", "xterm");
    let mut child = command.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
    drop(command);
    let mut shown = String::new();
    let mut read_until = |master: &mut File, wanted: &str| {
        let mut piece = [0; 4096];
        while !shown.contains(wanted) {
            let count = master.read(&mut piece).unwrap_or(0);
            assert!(count > 0, "it ended before {wanted:?}: {shown}");
            shown.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    };
    read_until(&mut master, "a shell in the failed step");
    read_until(&mut master, "/work # ");
    // The size comes right behind the start.
    master
        .write_all(b"until [ \"$(stty size)\" = '33 101' ]; do sleep 0.1; done; echo si''zed; tty\n")
        .unwrap();
    read_until(&mut master, "sized\r\n");
    read_until(&mut master, "/dev/pts/");
    master.write_all(b"exit\n").unwrap();
    read_until(&mut master, "exit code: 3");
    assert_eq!(child.wait().unwrap().code(), Some(1));
    nothing_is_left(&engine);
}
