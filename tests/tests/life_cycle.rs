//! The life of a container: start, stop, exit codes, streams, exec, logs, and what survives the engine.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use corten_tests::{TestEngine, eventually};

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
    engine.corten(&["run", "-d", "--name", "brief", "busybox", "sh", "-c", "sleep 1; exit 9"]).ok();
    let port = engine.corten(&["port", "long", "80"]).ok();
    let fetch = || {
        corten_tests::run(std::process::Command::new("curl").args([
            "-s",
            "--max-time",
            "5",
            &format!("http://{port}/"),
        ]))
    };
    eventually("the server answers", || fetch().stdout == "hello\n");
    let pid = engine.corten(&["inspect", "-f", "{{.State.Pid}}", "long"]).ok();
    engine.kill();
    assert_eq!(fetch().stdout, "hello\n", "a published port needs no engine");
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
    assert_eq!(engine.corten(&["logs", "short"]).ok(), "before");
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
    engine.background("stubborn", &[], "trap '' TERM; while :; do sleep 1; done");
    let before = Instant::now();
    engine.corten(&["stop", "-t", "1", "stubborn"]).ok();
    let took = before.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(8), "{took:?}");
    engine.background(
        "polite",
        &["--stop-signal", "USR1"],
        "trap 'exit 5' USR1; while :; do sleep 0.1; done",
    );
    engine.docker(&["stop", "polite"]).ok();
    assert_eq!(engine.corten(&["inspect", "-f", "{{.State.ExitCode}}", "polite"]).ok(), "5");
}

#[test]
fn events_tell_the_story() {
    let engine = TestEngine::with_busybox();
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().to_string();
    engine.corten(&["run", "--rm", "--name", "told", "busybox", "true"]).ok();
    // In the future, as the docker CLI cuts it to whole seconds.
    let until = (since.parse::<u64>().unwrap() + 2).to_string();
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
fn what_is_kept_but_not_acted_on_is_said() {
    let engine = TestEngine::with_busybox();
    let output = engine.docker(&["create", "--restart", "always", "--health-cmd", "true", "busybox"]);
    assert!(
        output.stderr.contains("restart policy") && output.stderr.contains("health check"),
        "{}",
        output.stderr
    );
}
