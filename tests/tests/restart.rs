//! Restart policies with programs that end, and engines that do: what comes back, when, and what stays where it is.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::time::{Duration, Instant};

use corten_tests::{Output, TestEngine, eventually, run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn inspect(engine: &TestEngine, name: &str) -> Value {
    let text = engine.corten(&["inspect", name]).ok();
    serde_json::from_str::<Value>(&text).expect("JSON")[0].take()
}

fn field(engine: &TestEngine, name: &str, template: &str) -> String {
    engine.corten(&["inspect", "-f", template, name]).ok()
}

fn status(engine: &TestEngine, name: &str) -> String {
    field(engine, name, "{{.State.Status}}")
}

fn restarts(engine: &TestEngine, name: &str) -> u64 {
    field(engine, name, "{{.RestartCount}}").parse().expect("a number")
}

/// When (in nanoseconds) a container had which events.
fn events(engine: &TestEngine, name: &str) -> Vec<(String, u64)> {
    let filter = format!("container={name}");
    let text = engine
        .corten(&[
            "events",
            "--since",
            "1",
            "--until",
            "0s",
            "-f",
            &filter,
            "--format",
            "{{.Action}} {{.TimeNano}}",
        ])
        .ok();
    let lines = text.lines().map(|line| line.rsplit_once(' ').expect("two words"));
    lines.map(|(action, time)| (action.to_owned(), time.parse().expect("a time"))).collect()
}

fn first_pid(engine: &TestEngine, name: &str) -> i32 {
    field(engine, name, "{{.State.Pid}}").parse().expect("a process id")
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).expect("a process id"), Signal::KILL).expect("kill");
}

/// Those whose program has failed so often that many seconds go by until its next start: with 7 failures a dozen, and with each further
/// one twice as many.
fn in_a_long_pause(engine: &TestEngine, names: &[&str], failures: u64) {
    names.iter().for_each(|name| engine.background(name, &["--restart", "always"], "exit 3"));
    for name in names {
        eventually("a long pause", || {
            restarts(engine, name) >= failures && status(engine, name) == "restarting"
        });
    }
}

fn refused(output: Output, text: &str) {
    assert_ne!(output.code, 0, "{output:?}");
    assert!(output.stderr.contains(text), "{output:?}");
}

#[test]
fn pauses_between_starts_double() {
    let engine = TestEngine::with_busybox();
    engine.background("crash", &["--restart", "always"], "exit 1");
    eventually("six starts", || restarts(&engine, "crash") >= 6);
    engine.corten(&["rm", "-f", "crash"]).ok();
    let events = events(&engine, "crash");
    let dies: Vec<u64> = events.iter().filter(|(action, _)| action == "die").map(|(_, time)| *time).collect();
    let starts: Vec<u64> =
        events.iter().filter(|(action, _)| action == "start").map(|(_, time)| *time).collect();
    for (number, (die, start)) in dies.iter().zip(&starts[1..]).enumerate() {
        let pause = Duration::from_nanos(start - die);
        let wanted = Duration::from_millis(100 << number);
        assert!(pause >= wanted, "{number}: {pause:?}");
        // What a busy machine adds to it has no bound; without one the pauses would be the same.
        assert!(pause < wanted * 2 + Duration::from_secs(30), "{number}: {pause:?}");
    }
    assert!(dies.len() >= 6);
}

#[test]
fn on_failure_counts_and_success_is_no_failure() {
    let engine = TestEngine::with_busybox();
    engine.background("fails", &["--restart", "on-failure:2"], "exit 7");
    engine.background("works", &["--restart", "on-failure"], "exit 0");
    eventually("it is given up", || status(&engine, "fails") == "exited");
    assert_eq!(field(&engine, "fails", "{{.RestartCount}} {{.State.ExitCode}}"), "2 7");
    assert_eq!(events(&engine, "fails").iter().filter(|(action, _)| action == "start").count(), 3);
    eventually("it is over", || status(&engine, "works") == "exited");
    assert_eq!(restarts(&engine, "works"), 0);
    // Who starts it begins anew.
    engine.corten(&["start", "fails"]).ok();
    eventually("it is given up again", || {
        status(&engine, "fails") == "exited" && restarts(&engine, "fails") == 2
    });
    assert_eq!(events(&engine, "fails").iter().filter(|(action, _)| action == "start").count(), 6);
}

#[test]
fn between_two_starts_it_looks_and_refuses_as_in_docker() {
    let engine = TestEngine::with_busybox();
    // A busy machine may need more time for all of this than a pause has. The next one is twice as long.
    for failures in 7.. {
        in_a_long_pause(&engine, &["crash"], failures);
        let before = restarts(&engine, "crash");
        let looked = catch_unwind(AssertUnwindSafe(|| looks_and_refuses_as_in_docker(&engine)));
        let Err(panic) = looked else { return };
        if failures == 9 || restarts(&engine, "crash") == before {
            resume_unwind(panic);
        }
        engine.corten(&["rm", "-f", "crash"]).ok();
    }
}

fn looks_and_refuses_as_in_docker(engine: &TestEngine) {
    let state = inspect(engine, "crash")["State"].take();
    assert_eq!(
        (&state["Running"], &state["Restarting"], &state["Paused"]),
        (&true.into(), &true.into(), &false.into())
    );
    assert_eq!((&state["Pid"], &state["ExitCode"]), (&0.into(), &3.into()));
    let line = engine.docker(&["ps", "--format", "{{.Names}}: {{.Status}}: {{.State}}"]).ok();
    assert!(line.starts_with("crash: Restarting (3) ") && line.ends_with(" ago: restarting"), "{line}");
    assert_eq!(engine.docker(&["ps", "-q", "--filter", "status=running"]).ok(), "");
    assert_ne!(engine.docker(&["ps", "-q", "--filter", "status=restarting"]).ok(), "");

    let id = field(engine, "crash", "{{.Id}}");
    let restarting = format!("ontainer {id} is restarting, wait until the container is running");
    refused(engine.docker(&["exec", "crash", "true"]), &restarting);
    refused(engine.docker(&["pause", "crash"]), &restarting);
    refused(engine.docker(&["top", "crash"]), &restarting);
    refused(engine.docker(&["kill", "-s", "HUP", "crash"]), &restarting);
    // The CLI looks itself before it attaches.
    refused(
        engine.docker(&["attach", "crash"]),
        "cannot attach to a restarting container, wait until it is running",
    );
    let attach = engine.curl(&["-X", "POST"], "/containers/crash/attach?stream=1").stdout;
    assert!(
        attach.contains("container crash is restarting, wait until the container is running"),
        "{attach}"
    );
    refused(
        engine.docker(&["rm", "crash"]),
        "container is restarting: stop the container before removing or force remove",
    );
    let start =
        engine.curl(&["-X", "POST", "-o", "/dev/null", "-w", "%{http_code}"], "/containers/crash/start");
    assert_eq!(start.ok(), "304");
}

#[test]
fn stop_kill_and_remove_in_the_pause_between_two_starts() {
    let engine = TestEngine::with_busybox();
    in_a_long_pause(&engine, &["stop", "kill", "remove"], 8);
    let begin = Instant::now();
    engine.docker(&["stop", "stop"]).ok();
    engine.docker(&["kill", "kill"]).ok();
    engine.docker(&["rm", "-f", "remove"]).ok();
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    for name in ["stop", "kill"] {
        assert_eq!(
            field(&engine, name, "{{.State.Status}} {{.State.ExitCode}} {{.State.Restarting}}"),
            "exited 3 false"
        );
    }
    let count = |name: &str| events(&engine, name).iter().filter(|(action, _)| action == "start").count();
    let before = (count("stop"), count("kill"));
    assert!(events(&engine, "stop").iter().any(|(action, _)| action == "stop"));
    refused(engine.docker(&["inspect", "remove"]), "remove");
    // A user's start and another end: a new row of pauses, of which the first is short.
    engine.docker(&["start", "stop"]).ok();
    eventually("it fails again", || count("stop") >= before.0 + 2);
    assert_eq!(count("kill"), before.1);
}

#[test]
fn a_policy_that_is_taken_away_ends_the_restarts() {
    let engine = TestEngine::with_busybox();
    in_a_long_pause(&engine, &["crash"], 7);
    engine.corten(&["update", "--restart", "no", "crash"]).ok();
    assert_eq!(status(&engine, "crash"), "exited");
    engine.corten(&["rm", "crash"]).ok();
}

#[test]
fn a_wait_ends_with_an_end_and_so_do_followers() {
    let engine = TestEngine::with_busybox();
    engine.background("again", &["--restart", "unless-stopped"], "echo one; sleep 1; exit 5");
    let mut follow =
        engine.docker_command(&["logs", "-f", "again"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    assert_eq!(engine.docker(&["wait", "again"]).ok(), "5");
    follow.wait().unwrap();
    eventually("it runs again", || restarts(&engine, "again") >= 1 && status(&engine, "again") == "running");
    // In the foreground the first end is the command's.
    assert_eq!(
        engine
            .docker(&["run", "--name", "front", "--restart", "always", "busybox", "sh", "-c", "exit 4"])
            .code,
        4
    );
    eventually("it came back", || restarts(&engine, "front") >= 1);
}

#[test]
fn only_signals_that_mean_the_end_stop_the_restarts() {
    let engine = TestEngine::with_busybox();
    let script = "trap 'exit 1' HUP; trap 'exit 2' TERM; echo ready; while :; do sleep 0.1; done";
    engine.background("reload", &["--restart", "always"], script);
    let ready = |times: usize| {
        eventually("it listens", || engine.corten(&["logs", "reload"]).ok().lines().count() == times);
    };
    ready(1);
    engine.corten(&["kill", "-s", "HUP", "reload"]).ok();
    eventually("it is back", || restarts(&engine, "reload") == 1 && status(&engine, "reload") == "running");
    ready(2);
    engine.corten(&["kill", "-s", "TERM", "reload"]).ok();
    eventually("it is over", || status(&engine, "reload") == "exited");
    assert_eq!(restarts(&engine, "reload"), 1);
}

#[test]
fn who_was_stopped_stays_so_until_an_engine_begins_and_unless_stopped_for_good() {
    let mut engine = TestEngine::with_busybox();
    for policy in ["always", "unless-stopped", "on-failure", "no"] {
        engine.background(policy, &["--restart", policy, "--stop-timeout", "0"], "sleep 1000");
    }
    engine.corten(&["create", "--name", "never", "--restart", "always", "busybox", "true"]).ok();
    engine.corten(&["stop", "always", "unless-stopped", "on-failure", "no"]).ok();
    assert_eq!(status(&engine, "always"), "exited");
    engine.stop();
    engine.restart();
    eventually("always is back", || status(&engine, "always") == "running");
    assert_eq!(restarts(&engine, "always"), 0);
    for name in ["unless-stopped", "on-failure", "no"] {
        assert_eq!(status(&engine, name), "exited", "{name}");
    }
    assert_eq!(status(&engine, "never"), "created");
    // Started again by a user, it counts as not stopped.
    engine.corten(&["start", "unless-stopped"]).ok();
    engine.kill();
    kill(first_pid_of_killed(&engine));
    engine.restart();
    eventually("it came back", || status(&engine, "unless-stopped") == "running");
}

/// The only container's process below a killed engine, as its monitor has written it down.
fn first_pid_of_killed(engine: &TestEngine) -> i32 {
    let pids = states(engine).map(|state| (state["pid"].as_i64().unwrap() as i32, state["started"].as_i64()));
    pids.max_by_key(|(_, started)| *started).expect("a running container").0
}

fn states(engine: &TestEngine) -> impl Iterator<Item = Value> + use<> {
    let containers = std::fs::read_dir(engine.exec_root().join("containers")).expect("run directories");
    containers.flatten().filter_map(|entry| {
        let text = std::fs::read_to_string(entry.path().join("state.json")).ok()?;
        serde_json::from_str(&text).ok()
    })
}

#[test]
fn an_engine_killed_in_any_phase_is_followed_by_one_that_goes_on() {
    let mut engine = TestEngine::with_busybox();
    // One that waits for its next start, one that runs, one that ends while there is no engine.
    in_a_long_pause(&engine, &["waits"], 7);
    engine.background("runs", &["--restart", "always"], "sleep 1000");
    engine.background("ends", &["--restart", "on-failure:5"], "sleep 1000");
    let (pid, runs) = (first_pid(&engine, "ends"), first_pid(&engine, "runs"));
    let count = restarts(&engine, "waits");
    engine.kill();
    kill(pid);
    engine.restart();
    eventually("it is started again", || {
        restarts(&engine, "ends") == 1 && status(&engine, "ends") == "running"
    });
    assert_eq!(first_pid(&engine, "runs"), runs);
    eventually("it goes on to fail", || restarts(&engine, "waits") > count);
    // In the middle of starts and ends.
    engine.background("loop", &["--restart", "always"], "exit 1");
    for _ in 0..3 {
        engine.kill();
        engine.restart();
    }
    let count = restarts(&engine, "loop");
    eventually("it is still tried", || restarts(&engine, "loop") > count);
    engine.corten(&["stop", "loop", "waits"]).ok();
    engine.kill();
    engine.restart();
    // Stopped, but `always` forgets that with an engine's beginning.
    eventually("it is tried again", || restarts(&engine, "loop") > 0);
}

#[test]
fn after_a_reboot_what_ran_comes_back_in_the_order_of_its_dependencies() {
    let mut engine = TestEngine::with_busybox();
    let label = |name: &str, value: &str| format!("com.docker.compose.{name}={value}");
    // In the wrong order, and after a name that sorts first.
    for (service, depends_on) in [
        ("app", "base:service_started:false,cache:service_started:true"),
        ("cache", "base:service_started:false"),
        ("base", ""),
    ] {
        let labels = [label("project", "shop"), label("service", service), label("depends_on", depends_on)];
        let labels: Vec<&str> = labels.iter().flat_map(|label| ["--label", label.as_str()]).collect();
        engine.background(service, &[&["--restart", "unless-stopped"], &labels[..]].concat(), "sleep 1000");
    }
    engine.background("sidecar", &["--restart", "always", "--network", "container:app"], "sleep 1000");
    engine.background("plain", &[], "sleep 1000");
    engine.background("stopped", &["--restart", "unless-stopped", "--stop-timeout", "0"], "sleep 1000");
    engine.corten(&["stop", "stopped"]).ok();
    eventually("its monitor is gone", || states(&engine).count() == 5);
    engine.kill();
    // The machine goes down: every process, and all that is on tmpfs.
    let monitors: Vec<i32> =
        states(&engine).map(|state| state["monitor_pid"].as_i64().unwrap() as i32).collect();
    assert_eq!(monitors.len(), 5);
    monitors.into_iter().for_each(kill);
    eventually("the containers are gone", || {
        states(&engine).all(|state| !std::path::Path::new(&format!("/proc/{}", state["pid"])).exists())
    });
    for entry in std::fs::read_dir(engine.exec_root()).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::remove_file(path).unwrap()
        }
    }
    // As another boot has another id.
    change_state(&engine, "UPDATE setting SET value='x' WHERE name='boot'");
    engine.restart();
    let names = ["base", "cache", "app", "sidecar"];
    for name in names {
        eventually("all are back", || status(&engine, name) == "running");
    }
    let began: Vec<String> = names.iter().map(|name| field(&engine, name, "{{.State.StartedAt}}")).collect();
    assert!(began.is_sorted(), "{began:?}");
    let plain = "{{.State.Status}} {{.State.ExitCode}} {{.State.ExitReason.Kind}}";
    assert_eq!(field(&engine, "plain", plain), "exited 255 host-restarted");
    assert_eq!(status(&engine, "stopped"), "exited");
}

/// Changes the database of an engine that is not there.
fn change_state(engine: &TestEngine, statement: &str) {
    let change =
        "import sqlite3,sys; d=sqlite3.connect(sys.argv[1]); d.execute(sys.argv[2]); d.commit(); d.close()";
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", change]).arg(engine.data_root().join("engine.db")).arg(statement);
    assert_eq!(run(&mut python).code, 0);
}

/// Former engines could write that down, when they were killed at the right moment.
#[test]
fn two_containers_of_one_name_keep_their_files() {
    let mut engine = TestEngine::with_busybox();
    for name in ["one", "two"] {
        engine.corten(&["run", "--name", name, "busybox", "sh", "-c", "echo x > /file"]).ok();
    }
    let ids = engine.corten(&["ps", "-aq", "--no-trunc"]).ok();
    engine.stop();
    change_state(&engine, "UPDATE container SET record = json_set(record, '$.name', 'one')");
    engine.restart();
    assert_eq!(engine.corten(&["ps", "-aq", "--no-trunc"]).ok(), ids);
    let names = engine.corten(&["ps", "-a", "--format", "{{.Names}}"]).ok();
    assert!(names.lines().any(|name| name == "one"), "{names}");
    for name in names.lines() {
        assert!(engine.corten(&["diff", name]).ok().contains("A /file"), "{name}");
    }
    // For good.
    engine.stop();
    engine.restart();
    assert_eq!(engine.corten(&["ps", "-a", "--format", "{{.Names}}"]).ok(), names);
}

#[test]
fn commands_on_several_containers_follow_their_dependencies() {
    let engine = TestEngine::with_busybox();
    let label = |name: &str, value: &str| format!("com.docker.compose.{name}={value}");
    for (service, depends_on) in
        [("app", "cache:service_started:true"), ("cache", "base:service_started:false"), ("base", "")]
    {
        let labels = [label("project", "shop"), label("service", service), label("depends_on", depends_on)];
        let labels: Vec<&str> = labels.iter().flat_map(|label| ["--label", label.as_str()]).collect();
        let create = [
            &["create", "--name", service, "--stop-timeout", "0"][..],
            &labels,
            &["busybox", "sleep", "1000"],
        ];
        engine.corten(&create.concat()).ok();
    }
    let stamps = |template: &str, names: [&str; 3]| names.map(|name| field(&engine, name, template));
    engine.corten(&["start", "app", "cache", "base"]).ok();
    assert!(stamps("{{.State.StartedAt}}", ["base", "cache", "app"]).is_sorted());
    engine.corten(&["stop", "base", "cache", "app"]).ok();
    assert!(stamps("{{.State.FinishedAt}}", ["app", "cache", "base"]).is_sorted());
    engine.corten(&["restart", "-t", "0", "app", "base", "cache"]).ok();
    assert!(stamps("{{.State.StartedAt}}", ["base", "cache", "app"]).is_sorted());
    let missing = engine.corten(&["stop", "nobody", "app"]);
    assert_eq!((missing.code, missing.stdout.trim()), (1, "app"), "{missing:?}");
}

#[test]
fn a_start_that_fails_is_tried_again() {
    let engine = TestEngine::with_busybox();
    let directory = engine.data_root().join("source");
    std::fs::create_dir(&directory).unwrap();
    let mount = format!("type=bind,src={},dst=/mnt", directory.display());
    engine.background("bound", &["--restart", "always", "--mount", &mount], "sleep 1000");
    std::fs::remove_dir(&directory).unwrap();
    kill(first_pid(&engine, "bound"));
    eventually("a start has failed", || {
        restarts(&engine, "bound") >= 2 && field(&engine, "bound", "{{.State.Error}}").contains("source")
    });
    std::fs::create_dir(&directory).unwrap();
    eventually("it is back", || status(&engine, "bound") == "running");
    assert_eq!(field(&engine, "bound", "{{.State.Error}}"), "");
    std::fs::remove_dir(&directory).unwrap();
}

#[test]
fn policies_that_make_no_sense_are_refused_in_dockers_words() {
    let engine = TestEngine::with_busybox();
    let create = |policy: &str, more: &str| {
        let body = format!(r#"{{"Image":"busybox","HostConfig":{{"RestartPolicy":{policy}{more}}}}}"#);
        engine.curl(&["-H", "Content-Type: application/json", "-d", &body], "/containers/create").stdout
    };
    for (policy, text) in [
        (
            r#"{"Name":"always","MaximumRetryCount":1}"#,
            "maximum retry count can only be used with 'on-failure'\"",
        ),
        (
            r#"{"Name":"no","MaximumRetryCount":-1}"#,
            "maximum retry count can only be used with 'on-failure' and cannot be negative",
        ),
        (r#"{"Name":"on-failure","MaximumRetryCount":-1}"#, "maximum retry count cannot be negative"),
        (
            r#"{"Name":"sometimes"}"#,
            "unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        ),
    ] {
        let answer = create(policy, "");
        assert!(answer.contains(&format!("invalid restart policy: {text}")), "{answer}");
    }
    let answer = create(r#"{"Name":"always"}"#, r#","AutoRemove":true"#);
    assert!(answer.contains("can't create 'AutoRemove' container with restart policy"), "{answer}");
    let warnings = engine.docker(&["create", "--restart", "always", "busybox"]);
    assert_eq!(warnings.stderr, "");
}
