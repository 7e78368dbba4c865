//! The life of a container: start, stop, exit codes, streams, exec, logs, and what survives the engine.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use corten_tests::{TestEngine, eventually, now_s};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn exit_codes_are_dockers() {
    let engine = TestEngine::with_busybox();
    for client in [TestEngine::corten, TestEngine::docker] {
        assert_eq!(client(&engine, &["run", "--rm", "busybox", "sh", "-c", "exit 42"]).code, 42);
        assert_eq!(
            client(
                &engine,
                &["run", "--rm", "busybox", "sh", "-c", "(sleep 1000; true) & kill -9 $!; wait $!"]
            )
            .code,
            137
        );
        let missing = client(&engine, &["run", "--rm", "busybox", "no-such-program"]);
        assert!(missing.fails(127).contains("no-such-program"));
        let not_executable = client(&engine, &["run", "--rm", "busybox", "/etc/passwd"]);
        assert!(not_executable.fails(126).contains("/etc/passwd"));
        assert_eq!(client(&engine, &["run", "--rm", "--no-such-flag", "busybox"]).code, 125);
        assert_eq!(client(&engine, &["run", "--rm", "--pull", "never", "no-such-image"]).code, 125);
    }
    assert_eq!(engine.corten(&["ps", "-aq"]).ok(), "");
}

#[test]
fn stdin_reaches_the_container_and_ends_with_the_client() {
    let engine = TestEngine::with_busybox();
    for mut command in [
        engine.command(&["run", "--rm", "-i", "busybox", "wc", "-c"]),
        engine.docker_command(&["run", "--rm", "-i", "busybox", "wc", "-c"]),
    ] {
        let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let data = vec![b'x'; 3_000_000];
        client.stdin.take().unwrap().write_all(&data).unwrap();
        let output = client.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "3000000");
    }
}

#[test]
fn streams_are_kept_apart() {
    let engine = TestEngine::with_busybox();
    for client in [TestEngine::corten, TestEngine::docker] {
        let output = client(&engine, &["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"]);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    }
}

#[test]
fn detached_containers_are_listed_stopped_and_removed() {
    let engine = TestEngine::with_busybox();
    let id = engine.corten(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).ok();
    assert_eq!(id.len(), 64);
    for client in [TestEngine::corten, TestEngine::docker] {
        assert_eq!(client(&engine, &["ps", "-q", "--no-trunc"]).ok(), id);
        assert_eq!(client(&engine, &["ps", "--format", "{{.Names}} {{.State}}"]).ok(), "web running");
        assert_eq!(
            client(&engine, &["inspect", "-f", "{{.Name}} {{.State.Running}}", "web"]).ok(),
            "/web true"
        );
    }
    let conflict = engine.corten(&["run", "-d", "--name", "web", "busybox"]);
    assert!(conflict.fails(125).contains("already in use"));
    assert!(engine.corten(&["rm", "web"]).fails(1).contains("running"));
    engine.docker(&["stop", "-t", "0", "web"]).ok();
    assert_eq!(engine.corten(&["inspect", "-f", "{{.State.ExitCode}}", &id[..12]]).ok(), "137");
    engine.corten(&["start", "web"]).ok();
    engine.docker(&["restart", "-t", "0", "web"]).ok();
    engine.docker(&["rename", "web", "site"]).ok();
    engine.docker(&["pause", "site"]).ok();
    assert!(engine.corten(&["ps", "--format", "{{.Status}}"]).ok().ends_with("(Paused)"));
    engine.corten(&["unpause", "site"]).ok();
    assert!(engine.docker(&["top", "site"]).ok().contains("sleep 1000"));
    engine.docker(&["kill", "site"]).ok();
    assert_eq!(engine.docker(&["wait", "site"]).ok(), "137");
    engine.docker(&["rm", "site"]).ok();
}

#[test]
fn exec_runs_beside_and_reports_its_end() {
    let engine = TestEngine::with_busybox();
    engine.corten(&["run", "-d", "--name", "one", "-e", "A=1", "busybox", "sleep", "1000"]).ok();
    for client in [TestEngine::corten, TestEngine::docker] {
        assert_eq!(client(&engine, &["exec", "one", "sh", "-c", "echo $A; exit 3"]).code, 3);
        assert_eq!(
            client(
                &engine,
                &[
                    "exec",
                    "-e",
                    "B=2",
                    "-w",
                    "/tmp",
                    "-u",
                    "app",
                    "one",
                    "sh",
                    "-c",
                    "echo $A $B; pwd; id -un"
                ]
            )
            .ok(),
            "1 2\n/tmp\napp"
        );
        assert_eq!(client(&engine, &["exec", "one", "no-such-program"]).code, 127);
    }
    let mut client = engine
        .docker_command(&["exec", "-i", "one", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    client.stdin.take().unwrap().write_all(b"through").unwrap();
    assert_eq!(client.wait_with_output().unwrap().stdout, b"through");
    engine.docker(&["exec", "-d", "one", "touch", "/made"]).ok();
    eventually("the detached exec has run", || {
        engine.corten(&["exec", "one", "test", "-e", "/made"]).code == 0
    });
}

#[test]
fn logs_in_all_ways() {
    let engine = TestEngine::with_busybox();
    let script = "for i in 1 2 3 4 5; do echo line $i; done; echo bad >&2";
    engine.corten(&["run", "--name", "one", "busybox", "sh", "-c", script]).ok();
    engine.corten(&["run", "--name", "two", "--log-driver", "json-file", "busybox", "sh", "-c", script]).ok();
    for name in ["one", "two"] {
        for client in [TestEngine::corten, TestEngine::docker] {
            let all = client(&engine, &["logs", name]);
            assert_eq!(all.stdout, "line 1\nline 2\nline 3\nline 4\nline 5\n");
            assert_eq!(all.stderr, "bad\n");
            let tail = client(&engine, &["logs", "--tail", "2", name]);
            assert_eq!((tail.stdout.as_str(), tail.stderr.as_str()), ("line 5\n", "bad\n"));
            let stamped = client(&engine, &["logs", "-t", "--tail", "1", name]);
            assert!(
                stamped.stderr.starts_with("20") && stamped.stderr.ends_with("Z bad\n"),
                "{}",
                stamped.stderr
            );
            assert_eq!(client(&engine, &["logs", "--since", "2099-01-01T00:00:00Z", name]).stdout, "");
        }
    }
    let none = engine.corten(&["run", "--name", "three", "--log-driver", "none", "busybox", "echo", "x"]);
    assert_eq!(none.ok(), "x");
    assert!(engine.corten(&["logs", "three"]).fails(1).contains("does not support reading"));
}

#[test]
fn following_ends_with_the_container() {
    let engine = TestEngine::with_busybox();
    engine
        .corten(&["run", "-d", "--name", "one", "busybox", "sh", "-c", "echo first; sleep 1; echo last"])
        .ok();
    for mut command in [engine.command(&["logs", "-f", "one"]), engine.docker_command(&["logs", "-f", "one"])]
    {
        assert_eq!(corten_tests::run(&mut command).ok(), "first\nlast");
    }
}

#[test]
fn containers_outlive_the_engine() {
    let mut engine = TestEngine::with_busybox();
    engine.background("long", &["-p", "127.0.0.1::80"], "echo hello > /index.html; httpd -f -p 80 -h /");
    engine
        .corten(&["run", "-d", "--name", "short", "-i", "busybox", "sh", "-c", "echo before; read x; exit 7"])
        .ok();
    let gate = tempfile::tempdir().unwrap();
    let volume = format!("{}:/gate", gate.path().display());
    engine.background("brief", &["-v", &volume], "until test -e /gate/go; do sleep 0.1; done; exit 9");
    let port = engine.corten(&["port", "long", "80"]).ok();
    let fetch = || {
        corten_tests::run(std::process::Command::new("curl").args([
            "-s",
            "--max-time",
            "30",
            &format!("http://{port}/"),
        ]))
    };
    eventually("the server answers", || fetch().stdout == "hello\n");
    let pid = engine.corten(&["inspect", "-f", "{{.State.Pid}}", "long"]).ok();
    engine.kill();
    assert_eq!(fetch().stdout, "hello\n", "a published port needs no engine");
    std::fs::write(gate.path().join("go"), "").unwrap();
    eventually("the short-lived container ends without an engine", || {
        let directory = engine.data_root().join("containers");
        std::fs::read_dir(directory).unwrap().flatten().any(|entry| entry.path().join("exit.json").exists())
    });
    engine.restart();
    assert_eq!(engine.corten(&["inspect", "-f", "{{.State.Pid}}", "long"]).ok(), pid);
    assert_eq!(fetch().stdout, "hello\n");
    assert_eq!(
        engine.corten(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "brief"]).ok(),
        "exited 9"
    );
    eventually("it has said its word", || engine.corten(&["logs", "short"]).ok() == "before");
    assert_eq!(engine.corten(&["exec", "long", "echo", "still here"]).ok(), "still here");
    let mut attached = engine.command(&["attach", "short"]).stdin(Stdio::piped()).spawn().unwrap();
    attached.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(attached.wait().unwrap().code(), Some(7));
    assert_eq!(engine.docker(&["wait", "short"]).ok(), "7");
    engine.stop();
    engine.restart();
    assert_eq!(engine.corten(&["inspect", "-f", "{{.State.Pid}}", "long"]).ok(), pid);
}

#[test]
fn stopping_waits_as_long_as_was_said() {
    let engine = TestEngine::with_busybox();
    engine.background("stubborn", &["--stop-timeout", "1000"], "trap '' TERM; while :; do sleep 1; done");
    let before = Instant::now();
    engine.corten(&["stop", "-t", "1", "stubborn"]).ok();
    let took = before.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(60), "{took:?}");
    engine.background(
        "polite",
        &["--stop-signal", "USR1"],
        "trap 'exit 5' USR1; echo ready; while :; do sleep 0.1; done",
    );
    eventually("it listens", || engine.corten(&["logs", "polite"]).ok() == "ready");
    engine.docker(&["stop", "polite"]).ok();
    assert_eq!(engine.corten(&["inspect", "-f", "{{.State.ExitCode}}", "polite"]).ok(), "5");
}

#[test]
fn events_tell_the_story() {
    let engine = TestEngine::with_busybox();
    let since = now_s().to_string();
    engine.corten(&["run", "--rm", "--name", "told", "busybox", "true"]).ok();
    // In the future, as the docker CLI cuts it to whole seconds.
    let until = (now_s() + 2).to_string();
    for client in [TestEngine::corten, TestEngine::docker] {
        let story = client(
            &engine,
            &[
                "events",
                "--since",
                &since,
                "--until",
                &until,
                "--filter",
                "container=told",
                "--format",
                "{{.Action}}",
            ],
        )
        .ok();
        assert_eq!(story, "create\nattach\nstart\ndie\ndestroy");
        let format = "{{.Action}} {{.Actor.Attributes.name}}";
        let filters = ["--since", &since, "--until", &until, "--filter", "type=network", "--format", format];
        let story = client(&engine, &[&["events"][..], &filters].concat()).ok();
        assert_eq!(story, "connect bridge\ndisconnect bridge");
    }
}

#[test]
fn a_restart_is_told_as_an_end_a_stop_and_a_start() {
    let engine = TestEngine::with_busybox();
    engine.background("again", &[], "exec sleep 1000");
    engine.docker(&["restart", "-t", "0", "again"]).ok();
    engine.corten(&["stop", "-t", "0", "again"]).ok();
    // There is nothing to stop in one that does not run.
    engine.corten(&["restart", "again"]).ok();
    let until = (now_s() + 1).to_string();
    let filters =
        ["--since", "1", "--until", &until, "--filter", "type=container", "--format", "{{.Action}}"];
    let story = engine.corten(&[&["events"][..], &filters].concat()).ok();
    let expected = "create start kill die stop start restart kill die stop start restart";
    assert_eq!(story.lines().collect::<Vec<_>>().join(" "), expected);
}

#[test]
fn restarting_keeps_what_would_go_with_its_end() {
    let engine = TestEngine::with_busybox();
    engine.corten(&["run", "-d", "--rm", "--name", "again", "busybox", "sleep", "1000"]).ok();
    engine.corten(&["exec", "again", "touch", "/kept"]).ok();
    engine.corten(&["restart", "-t", "0", "again"]).ok();
    engine.corten(&["exec", "again", "test", "-e", "/kept"]).ok();
    engine.docker(&["stop", "-t", "0", "again"]).ok();
    eventually("it goes with its end", || engine.corten(&["ps", "-aq"]).ok().is_empty());
}

#[test]
fn an_end_says_why_it_came() {
    let engine = TestEngine::with_busybox();
    let reason = |name: &str| {
        eventually("its end", || {
            engine.corten(&["inspect", "-f", "{{.State.Running}}", name]).ok() == "false"
        });
        engine
            .corten(&["inspect", "-f", "{{.State.ExitReason.Kind}}: {{.State.ExitReason.Message}}", name])
            .ok()
    };
    engine.background("exits", &[], "exit 3");
    assert_eq!(reason("exits"), "exited: its program ended with 3");
    engine.background("stops", &["--stop-timeout", "1"], "trap '' TERM; while :; do sleep 0.1; done");
    eventually("it is deaf", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid(&engine, "stops"))).unwrap();
        status.lines().any(|line| line.starts_with("SigIgn") && !line.ends_with("0000"))
    });
    engine.corten(&["stop", "stops"]).ok();
    assert_eq!(reason("stops"), "stopped: stopped by its user; SIGTERM was not heeded in time, SIGKILL was");
    engine.background("killed", &[], "sleep 1000");
    engine.corten(&["kill", "killed"]).ok();
    assert_eq!(reason("killed"), "killed: killed by its user with SIGKILL");
    // Somebody else's signal, and one that leaves a core dump (the host's own process namespace heeds it).
    engine.background("crashed", &["--pid", "host", "--ulimit", "core=-1", "-w", "/tmp"], "exec sleep 1000");
    kill_process(Pid::from_raw(pid(&engine, "crashed")).unwrap(), Signal::SEGV).unwrap();
    assert!(reason("crashed").starts_with("signal: ended by SIGSEGV"));
    assert_eq!(
        engine.corten(&["inspect", "-f", "{{.State.ExitReason.Signal}} {{.State.ExitCode}}", "crashed"]).ok(),
        "SIGSEGV 139"
    );
    engine.corten(&["run", "-d", "--name", "typo", "busybox", "/no/such/program"]).fails(127);
    let typo = engine.corten(&["inspect", "-f", "{{.State.ExitReason.Kind}}", "typo"]).ok();
    assert_eq!(typo, "not-started");

    engine.background(
        "hungry",
        &["--memory", "16m", "--memory-swap", "16m"],
        "x=x; while :; do x=$x$x; done",
    );
    assert_eq!(
        reason("hungry"),
        "out-of-memory: the kernel killed it for want of memory (its limit is 16 MiB)"
    );
    assert_eq!(
        engine.docker(&["inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "hungry"]).ok(),
        "true 137"
    );
    let line = engine.corten(&["ps", "-a", "--filter", "name=hungry", "--format", "{{.Status}}"]).ok();
    assert!(line.starts_with("Exited (137) ") && line.ends_with(" (out of memory)"), "{line}");
    let line = engine.docker(&["ps", "-a", "--filter", "name=hungry", "--format", "{{.Status}}"]).ok();
    assert!(line.ends_with(" ago"), "{line}");
    let die = ["events", "--since", "1", "--until", "0s", "--filter", "event=die", "--format"];
    let format = "{{.Actor.Attributes.name}} {{.Actor.Attributes.exitReason}}";
    eventually("its end is told", || {
        engine.corten(&[&die[..], &[format]].concat()).ok().contains("hungry out-of-memory")
    });
    // The next run has no end yet.
    engine.corten(&["start", "killed"]).ok();
    assert!(!engine.corten(&["inspect", "killed"]).ok().contains("ExitReason"));
}

fn pid(engine: &TestEngine, name: &str) -> i32 {
    engine.corten(&["inspect", "-f", "{{.State.Pid}}", name]).ok().parse().unwrap()
}
