//! Containers made by another OCI runtime (runc), beside ours: the same commands, logs, execs and ends.

use std::io::Write;
use std::process::Stdio;

use corten_tests::{TestEngine, eventually};

fn engine() -> TestEngine {
    let engine = TestEngine::start_with(&["--add-runtime", "other=runc"]);
    engine.add_busybox();
    engine
}

#[test]
fn programs_run_and_end_as_with_ours() {
    let engine = engine();
    let run = |options: &[&str], command: &[&str]| {
        engine.corten(&[&["run", "--rm", "--runtime", "other"], options, &["busybox"], command].concat())
    };
    let output = run(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str(), output.code), ("out\n", "err\n", 7));
    assert_eq!(run(&["--memory", "64m"], &["cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]).code, 0);
    assert!(run(&["-u", "nobodyx"], &["true"]).fails(125).contains("unable to find user nobodyx"));
    assert_eq!(run(&["-u", "1000:50"], &["sh", "-c", "id -u; id -g"]).ok(), "1000\n50");
    assert_eq!(
        run(&["-w", "/made/here", "--hostname", "h"], &["sh", "-c", "pwd; hostname"]).ok(),
        "/made/here\nh"
    );
    assert!(run(&[], &["nosuch"]).fails(127).contains("nosuch"));
    assert_eq!(
        run(&["-t"], &["sh", "-c", "test -t 1 && stty size && echo terminal"])
            .ok()
            .lines()
            .last()
            .map(str::trim),
        Some("terminal")
    );
    assert!(run(&["--init"], &["true"]).fails(125).contains("--init"));
    let mut cat = engine.command(&["run", "--rm", "-i", "--runtime", "other", "busybox", "cat"]);
    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("corten");
    cat.stdin.take().expect("stdin").write_all(b"through").expect("write");
    assert_eq!(cat.wait_with_output().expect("its output").stdout, b"through");
    assert_eq!(engine.corten(&["ps", "-aq"]).ok(), "");
}

#[test]
fn it_lives_with_execs_limits_ports_and_a_killed_engine() {
    let mut engine = engine();
    let script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    engine.background("long", &["--runtime", "other", "-p", "127.0.0.1::80", "-v", "data:/data"], script);
    eventually("its output is logged", || engine.corten(&["logs", "long"]).stdout == "ready\n");
    assert_eq!(engine.corten(&["inspect", "-f", "{{.HostConfig.Runtime}}", "long"]).ok(), "other");
    assert_eq!(engine.docker(&["exec", "-e", "A=b", "long", "sh", "-c", "echo $A; exit 4"]).code, 4);
    assert_eq!(
        engine.corten(&["exec", "-t", "long", "sh", "-c", "test -t 0 && echo terminal"]).ok().trim(),
        "terminal"
    );
    assert!(engine.corten(&["exec", "long", "nosuch"]).stdout.contains("nosuch"));
    let id = engine.corten(&["inspect", "-f", "{{.Id}}", "long"]).ok();
    let config = std::fs::read(engine.exec_root().join("containers").join(&id).join("oci/config.json"));
    let config: serde_json::Value = serde_json::from_slice(&config.expect("a configuration")).expect("JSON");
    assert_eq!(config["ociVersion"], "1.0.2", "crun 1.8 reads no other");
    eventually("execs leave no files in memory", || {
        let bundle =
            std::fs::read_dir(engine.exec_root().join("containers").join(&id).join("oci")).expect("a bundle");
        let mut names = bundle.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        !names.any(|name| name.starts_with("exec-") && !name.ends_with(".sock"))
    });
    engine.corten(&["pause", "long"]).ok();
    engine.corten(&["unpause", "long"]).ok();
    assert!(engine.corten(&["top", "long"]).ok().contains("sleep"));
    engine.kill();
    engine.restart();
    assert_eq!(engine.corten(&["exec", "long", "echo", "still"]).ok(), "still");
    engine.corten(&["stop", "long"]).ok();
    assert_eq!(engine.corten(&["inspect", "-f", "{{.State.ExitCode}}", "long"]).ok(), "3");
    assert_eq!(engine.corten(&["logs", "long"]).ok(), "ready\nbye");
    engine.corten(&["start", "long"]).ok();
    engine.corten(&["rm", "-f", "-v", "long"]).ok();
    engine.corten(&["volume", "rm", "data"]).ok();
}

#[test]
fn the_operator_names_them() {
    let engine = engine();
    let told = engine.docker(&["info", "--format", "{{json .Runtimes}} {{.DefaultRuntime}}"]).ok();
    assert!(told.contains("runc") && told.contains("\"other\"") && told.ends_with(" corten"), "{told}");
    let unknown = engine.corten(&["run", "--rm", "--runtime", "kata", "busybox", "true"]).fails(125);
    assert!(unknown.contains("unknown or invalid runtime name: kata"));
}
