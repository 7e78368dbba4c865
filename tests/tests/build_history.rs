//! Builds that were: listed, their output shown again, removed; by our client and by BuildKit's calls.

use std::fs;
use std::process::Stdio;

use corten_tests::{TestEngine, eventually};
use tempfile::TempDir;

fn context(dockerfile: &str) -> TempDir {
    let context = tempfile::tempdir().unwrap();
    fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    context
}

fn build(engine: &TestEngine, dockerfile: &str, flags: &[&str]) -> i32 {
    let context = context(dockerfile);
    let path = context.path().to_str().unwrap().to_owned();
    engine.corten(&[&["build"], flags, &[&path]].concat()).code
}

/// What the history has of each build, newest first.
fn history(engine: &TestEngine, format: &str) -> Vec<String> {
    let listed = engine.corten(&["builder", "history", "ls", "--format", format]).ok();
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn builds_are_remembered_with_what_they_told() {
    let mut engine = TestEngine::with_busybox();
    assert!(history(&engine, "{{.Ref}}").is_empty());
    let dockerfile = "FROM busybox as base\nRUN echo said $((40 + 2))\n";
    assert_eq!(build(&engine, dockerfile, &["-t", "first:1"]), 0);
    assert_eq!(build(&engine, "FROM busybox\nRUN echo broken >&2; exit 7\n", &[]), 1);
    // By Docker's client: with BuildKit where it has it, and by the older API.
    let context = context(dockerfile);
    let path = context.path().to_str().unwrap();
    engine.docker(&["build", "-q", "-t", "second", path]).ok();
    let mut older = engine.docker_command(&["build", "-q", "-t", "third", path]);
    assert!(older.env("DOCKER_BUILDKIT", "0").output().unwrap().status.success());

    let listed = history(&engine, "{{.Status}} {{.Steps}} {{.Error}}");
    assert_eq!(listed.len(), 4, "{listed:#?}");
    assert!(listed[0].starts_with("Completed "), "{listed:#?}");
    assert!(listed[1].starts_with("Completed "), "{listed:#?}");
    assert!(listed[2].starts_with("Error ") && listed[2].ends_with("exit code: 7"), "{listed:#?}");
    assert!(listed[3].contains("(1 cached)"), "only the base was there: {listed:#?}");
    let names = history(&engine, "{{.Name}}");
    assert!(names[1].contains("second") && names[0].contains("third"), "{names:?}");
    let found = history(&engine, "{{.Image}}");
    let inspected = engine.corten(&["inspect", "-f", "{{json .Descriptor}}", "first:1"]).ok();
    assert!(!found[3].is_empty() && inspected.contains(&found[3]), "{found:?} {inspected}");
    assert!(found[2].is_empty(), "{found:?}");

    // The same after a restart; and as it was printed.
    let references = history(&engine, "{{.Ref}}");
    engine.stop();
    engine.restart();
    assert_eq!(history(&engine, "{{.Ref}}"), references);
    let shown = engine.corten(&["builder", "history", "logs", &references[3][..10]]);
    assert!(
        shown.stderr.contains("said 42") && shown.stderr.contains("[base 2/2] RUN echo"),
        "{}",
        shown.stderr
    );
    let shown = engine.corten(&["builder", "history", "logs", "--progress", "rawjson", &references[2]]);
    assert!(shown.stderr.contains("\"error\":\"process"), "{}", shown.stderr);
    let failed = engine.corten(&["builder", "history", "logs", "nothing"]).fails(1);
    assert!(failed.contains("no such build: nothing"), "{failed}");

    engine.corten(&["builder", "history", "rm", &references[0]]).ok();
    assert_eq!(history(&engine, "{{.Ref}}"), references[1..]);
    engine.corten(&["builder", "history", "rm", "--all"]).ok();
    assert!(history(&engine, "{{.Ref}}").is_empty());
    let left = fs::read_dir(engine.data_root().join("build/history")).unwrap().count();
    assert_eq!(left, 0, "what they told goes with them");
}

#[test]
fn only_so_many_are_kept_but_what_is_pinned_stays() {
    let engine = TestEngine::with_busybox();
    assert_eq!(build(&engine, "FROM scratch\n", &["-t", "pinned"]), 0);
    let pinned = history(&engine, "{{.Ref}}").remove(0);
    engine.corten(&["builder", "history", "pin", &pinned]).ok();
    let other = context("FROM scratch\nLABEL a=b\n");
    for _ in 0..52 {
        engine.corten(&["build", "-q", other.path().to_str().unwrap()]).ok();
    }
    let kept = history(&engine, "{{.Ref}}");
    assert_eq!((kept.len(), kept.last()), (51, Some(&pinned)));
    engine.corten(&["builder", "history", "unpin", &pinned]).ok();
    assert_eq!(history(&engine, "{{.Ref}}").len(), 50);
    assert_eq!(fs::read_dir(engine.data_root().join("build/history")).unwrap().count(), 50);
}

#[test]
fn a_build_that_is_given_up_is_told_of_and_one_that_dies_with_its_engine_leaves_nothing() {
    let mut engine = TestEngine::with_busybox();
    let context = context("FROM busybox\nRUN echo begun; sleep 600\n");
    let begin = |engine: &TestEngine| {
        let mut command = engine.command(&["build", context.path().to_str().unwrap()]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("it is under way", || {
            history(engine, "{{.Status}} {{.Steps}}").iter().any(|now| now.starts_with("Running 3/4 "))
        });
        child
    };
    let mut child = begin(&engine);
    // What goes on can't be removed.
    let reference = history(&engine, "{{.Ref}}").remove(0);
    assert!(engine.corten(&["builder", "history", "rm", &reference]).fails(1).contains("not over"));
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("its end is told", || history(&engine, "{{.Status}}") == ["Canceled"]);
    let mut child = begin(&engine);
    engine.kill();
    child.wait().unwrap();
    engine.restart();
    assert_eq!(history(&engine, "{{.Status}}"), ["Canceled"]);
    eventually("what it told is gone", || {
        fs::read_dir(engine.data_root().join("build/history")).unwrap().count() == 1
    });
}
