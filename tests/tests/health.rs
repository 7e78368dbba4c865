//! Health checks with real clients: how health turns, who is told, what is done about it, and that none of it needs an engine.

use std::path::PathBuf;

use corten_tests::{TestEngine, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A directory that a container sees at /probe; it is well as long as the file `well` is there.
struct Probed<'a> {
    engine: &'a TestEngine,
    directory: PathBuf,
    name: &'a str,
}

const QUICK: [&str; 6] = [
    "--health-cmd",
    "echo looking; echo >> /probe/looks; test -e /probe/well",
    "--health-interval",
    "100ms",
    "--health-retries",
    "2",
];

impl<'a> Probed<'a> {
    fn run(engine: &'a TestEngine, name: &'a str, options: &[&str]) -> Self {
        let directory = engine.data_root().join(format!("probe-{name}"));
        std::fs::create_dir(&directory).unwrap();
        let probed = Self { engine, directory, name };
        let volume = format!("{}:/probe", probed.directory.display());
        let options = [&["-v", &volume, "--stop-timeout", "0"], options].concat();
        engine.background(name, &options, "sleep 1000");
        probed
    }

    fn set_well(&self, well: bool) {
        let file = self.directory.join("well");
        if well { std::fs::write(file, "").unwrap() } else { std::fs::remove_file(file).unwrap() }
    }

    fn becomes(&self, status: &str) {
        eventually(status, || field(self.engine, self.name, "{{.State.Health.Status}}") == status);
    }
}

fn field(engine: &TestEngine, name: &str, template: &str) -> String {
    engine.corten(&["inspect", "-f", template, name]).ok()
}

fn actions(engine: &TestEngine, name: &str) -> Vec<String> {
    let filter = format!("container={name}");
    let format = ["--format", "{{.Action}}"];
    let text = engine
        .corten(&[&["events", "--since", "1", "--until", "0s", "-f", &filter][..], &format].concat())
        .ok();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn health_turns_and_everybody_is_told() {
    let engine = TestEngine::with_busybox();
    let long = ["--health-cmd", "false", "--health-interval", "1h"];
    engine.background("waiting", &long, "sleep 1000");
    engine.background("plain", &[], "sleep 1000");
    let state: Value = serde_json::from_str(&field(&engine, "waiting", "{{json .State.Health}}")).unwrap();
    assert_eq!(state, serde_json::json!({"Status": "starting", "FailingStreak": 0, "Log": []}));
    assert!(!engine.docker(&["inspect", "plain"]).ok().contains("\"Health\""));

    let web = Probed::run(&engine, "web", &QUICK);
    web.becomes("unhealthy");
    web.set_well(true);
    web.becomes("healthy");
    let health: Value = serde_json::from_str(&field(&engine, "web", "{{json .State.Health}}")).unwrap();
    let log = health["Log"].as_array().unwrap();
    assert!((1..=5).contains(&log.len()));
    let last = log.last().unwrap();
    assert_eq!((&last["ExitCode"], &last["Output"]), (&0.into(), &"looking\n".into()));
    assert!(last["Start"].as_str().unwrap() < last["End"].as_str().unwrap());
    assert_eq!(health["FailingStreak"], 0);

    let status = engine.docker(&["ps", "--format", "{{.Names}} {{.Status}}"]).ok();
    let of = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(of("web").ends_with(" (healthy)"), "{status}");
    assert!(of("waiting").ends_with(" (health: starting)"), "{status}");
    assert!(!of("plain").contains('('), "{status}");
    let names = |filter: &str| engine.docker(&["ps", "--filter", filter, "--format", "{{.Names}}"]).ok();
    assert_eq!(names("health=healthy"), "web");
    assert_eq!(names("health=starting"), "waiting");
    assert_eq!(names("health=none"), "plain");
    let wrong = engine.docker(&["ps", "--filter", "health=so-so"]).fails(1);
    assert!(
        wrong.contains("invalid value for health (so-so): must be one of none, starting, healthy, unhealthy"),
        "{wrong}"
    );
    let list_of = |version: &str| {
        let all: Value =
            serde_json::from_str(&engine.curl(&[], &format!("/{version}/containers/json")).ok()).unwrap();
        all.as_array().unwrap().iter().find(|c| c["Names"][0] == "/web").unwrap()["Health"].clone()
    };
    assert_eq!(list_of("v1.52"), serde_json::json!({"Status": "healthy", "FailingStreak": 0}));
    assert_eq!(list_of("v1.51"), Value::Null);

    // A turn is told right after the state says so.
    let mut actions = Vec::new();
    eventually("both turns are told", || {
        actions = self::actions(&engine, "web");
        let turns = actions.iter().filter(|action| action.starts_with("health_status"));
        turns.eq(["health_status: unhealthy", "health_status: healthy"])
    });
    let first = actions.iter().position(|action| action.starts_with("exec_create")).unwrap();
    let probe = "/bin/sh -c echo looking; echo >> /probe/looks; test -e /probe/well";
    assert_eq!(actions[first], format!("exec_create: {probe}"));
    assert_eq!(actions[first + 1], format!("exec_start: {probe}"));
    assert_eq!(actions[first + 2], "exec_die");

    engine.corten(&["stop", "web"]).ok();
    assert_eq!(field(&engine, "web", "{{.State.Health.Status}}"), "unhealthy");
    engine.corten(&["start", "web"]).ok();
    web.becomes("healthy");
    assert_ne!(names("health=healthy"), "");
}

#[test]
fn health_goes_on_without_an_engine() {
    let mut engine = TestEngine::with_busybox();
    let directory = {
        let web = Probed::run(&engine, "web", &QUICK);
        web.becomes("unhealthy");
        web.directory.clone()
    };
    engine.kill();
    std::fs::write(directory.join("well"), "").unwrap();
    let looks = || std::fs::read_to_string(directory.join("looks")).unwrap().len();
    let before = looks();
    eventually("it is probed without an engine", || looks() >= before + 6);
    engine.restart();
    let web = Probed { engine: &engine, directory, name: "web" };
    web.becomes("healthy");
    eventually("what was found meanwhile is told", || {
        let log: Value = serde_json::from_str(&field(&engine, "web", "{{json .State.Health.Log}}")).unwrap();
        log.as_array().unwrap().len() == 5
            && actions(&engine, "web").contains(&"health_status: healthy".to_owned())
    });
    web.set_well(false);
    web.becomes("unhealthy");
}

#[test]
fn an_unhealthy_container_is_treated_as_was_asked_for() {
    let engine = TestEngine::with_busybox();
    let run = |name: &'static str, options: &[&str]| Probed::run(&engine, name, &[&QUICK, options].concat());
    let status = |name: &str| field(&engine, name, "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}");

    let none = run("none", &["--health-on-failure", "none", "--restart", "always"]);
    none.becomes("unhealthy");
    run("kill", &["--health-on-failure", "kill"]);
    eventually("it is killed", || status("kill") == "exited 137 0");
    // Docker's own CLI says it by the label.
    run(
        "stop",
        &["--label", "com.corten.health-on-failure=stop", "--restart", "always", "--stop-signal", "KILL"],
    );
    eventually("it is stopped, whatever its policy says", || status("stop") == "exited 137 0");

    let restart = run("restart", &["--health-on-failure", "restart", "--health-start-period", "0s"]);
    let restarts = || field(&engine, "restart", "{{.RestartCount}}").parse::<u64>().unwrap();
    eventually("it is started again", || restarts() >= 1);
    restart.set_well(true);
    restart.becomes("healthy");
    let policy = run("policy", &["--health-on-failure", "kill", "--restart", "on-failure"]);
    eventually("its policy brings it back", || field(&engine, "policy", "{{.RestartCount}}") != "0");
    policy.set_well(true);
    policy.becomes("healthy");

    assert_eq!(field(&engine, "none", "{{.State.Running}} {{.RestartCount}}"), "true 0");
    let mut killed = Vec::new();
    eventually("its end is told", || {
        killed = actions(&engine, "kill");
        killed.contains(&"die".to_owned())
    });
    let position =
        |action: &str| killed.iter().position(|a| a == action).unwrap_or_else(|| panic!("{killed:?}"));
    assert!(position("health_status: unhealthy") < position("kill") && position("kill") < position("die"));
}

#[test]
fn unhealthy_without_an_engine_is_ended_then_and_started_when_it_is_back() {
    let mut engine = TestEngine::with_busybox();
    let directories: Vec<PathBuf> = ["kill", "restart"]
        .iter()
        .map(|action| {
            let options = [
                &QUICK[..],
                &[
                    "--health-on-failure",
                    action,
                    "--health-start-period",
                    "1m",
                    "--health-start-interval",
                    "100ms",
                ],
            ]
            .concat();
            let probed = Probed::run(&engine, action, &options);
            probed.set_well(true);
            probed.becomes("healthy");
            probed.directory.clone()
        })
        .collect();
    let pids: Vec<String> =
        ["kill", "restart"].iter().map(|name| field(&engine, name, "{{.State.Pid}}")).collect();
    engine.kill();
    for directory in &directories {
        std::fs::remove_file(directory.join("well")).unwrap();
    }
    eventually("the monitors have ended both", || {
        pids.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
    });
    engine.restart();
    // A monitor tells of the end a moment after the process is gone.
    eventually("its end is known", || {
        field(&engine, "kill", "{{.State.Status}} {{.State.ExitCode}}") == "exited 137"
    });
    eventually("it is back", || {
        field(&engine, "restart", "{{.State.Status}} {{.RestartCount}}") == "running 1"
    });
}

#[test]
fn probes_of_images_flags_and_the_api() {
    let engine = TestEngine::with_busybox();
    let create = |body: &str| {
        let answer =
            engine.curl(&["-H", "Content-Type: application/json", "-d", body], "/containers/create").ok();
        serde_json::from_str::<Value>(&answer).unwrap()
    };
    let refused = |health: &str| {
        let body = format!(r#"{{"Image":"busybox","Healthcheck":{health}}}"#);
        create(&body)["message"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(
        refused(r#"{"Test":["CMD","true"],"Interval":999999}"#),
        "Interval in Healthcheck cannot be less than 1ms"
    );
    assert_eq!(
        refused(r#"{"Test":["CMD","true"],"StartPeriod":1}"#),
        "StartPeriod in Healthcheck cannot be less than 1ms"
    );
    assert_eq!(
        refused(r#"{"Test":["CMD","true"],"Retries":-1}"#),
        "Retries in Healthcheck cannot be negative"
    );
    let odd = create(r#"{"Image":"busybox","Healthcheck":{"Test":["HTTP","/"]}}"#);
    assert!(odd["Warnings"][0].as_str().unwrap().contains("Unknown healthcheck type 'HTTP'"), "{odd}");
    // Neither a shell nor an interval: the program itself, after Docker's thirty seconds.
    let exec = create(
        r#"{"Image":"busybox","Cmd":["sleep","1000"],"Healthcheck":{"Test":["CMD","test","-d","/proc"],"Interval":50000000}}"#,
    );
    let id = exec["Id"].as_str().unwrap();
    engine.docker(&["start", id]).ok();
    eventually("healthy", || field(&engine, id, "{{.State.Health.Status}}") == "healthy");

    engine.docker(&["run", "-d", "--name", "off", "--no-healthcheck", "busybox", "sleep", "1000"]).ok();
    assert_eq!(field(&engine, "off", "{{.Config.Healthcheck.Test}}"), "[NONE]");
    assert!(!engine.docker(&["inspect", "off"]).ok().contains("\"Health\""));
    let slow = [
        "--health-cmd",
        "echo slow; sleep 100",
        "--health-timeout",
        "1s",
        "--health-interval",
        "50ms",
        "--health-retries",
        "1",
    ];
    engine
        .docker(&[&["run", "-d", "--name", "slow"], &slow[..], &["busybox", "sleep", "1000"]].concat())
        .ok();
    eventually("unhealthy", || field(&engine, "slow", "{{.State.Health.Status}}") == "unhealthy");
    // On a busy machine a probe's time may be up before it has said anything.
    eventually("what it said is kept", || {
        let results = "{{range .State.Health.Log}}{{.ExitCode}} {{.Output}};{{end}}";
        field(&engine, "slow", results).contains("-1 Health check exceeded timeout (1s): slow")
    });
    // Paused for longer than it would take to fail.
    engine.docker(&["pause", id]).ok();
    std::thread::sleep(std::time::Duration::from_millis(500));
    engine.docker(&["unpause", id]).ok();
    assert!(!actions(&engine, id).contains(&"health_status: unhealthy".to_owned()));
}

#[test]
fn after_a_reboot_who_needs_a_healthy_service_waits_for_it() {
    let mut engine = TestEngine::with_busybox();
    let label = |name: &str, value: &str| format!("com.docker.compose.{name}={value}");
    let labels = |service: &str, depends_on: &str| {
        let labels = [label("project", "shop"), label("service", service), label("depends_on", depends_on)];
        labels.into_iter().flat_map(|label| ["--label".to_owned(), label]).collect::<Vec<String>>()
    };
    let run = |name: &str, labels: Vec<String>, options: &[&str], script: &str| {
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        engine.background(name, &[&["--restart", "always"], options, &labels].concat(), script);
    };
    let slow = ["--health-cmd", "test -e /tmp/up", "--health-interval", "100ms", "--health-retries", "1000"];
    run("db", labels("db", ""), &slow, "rm -f /tmp/up; sleep 2; touch /tmp/up; sleep 1000");
    run("app", labels("app", "db:service_healthy:false"), &[], "sleep 1000");
    engine.kill();
    for entry in std::fs::read_dir(engine.exec_root().join("containers")).unwrap().flatten() {
        let state = std::fs::read_to_string(entry.path().join("state.json")).unwrap();
        let state: Value = serde_json::from_str(&state).unwrap();
        let pid = state["monitor_pid"].as_i64().unwrap() as i32;
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
    engine.restart();
    eventually("both are back", || field(&engine, "app", "{{.State.Status}}") == "running");
    assert_eq!(field(&engine, "db", "{{.State.Health.Status}}"), "healthy");
    let format = "{{.Actor.Attributes.name}} {{.Action}}";
    eventually("its start is told after the other one's health", || {
        let actions = engine.corten(&["events", "--since", "1", "--until", "0s", "--format", format]).ok();
        // The last of each: whether the first lives' are known depends on when the engine was killed.
        let lines: Vec<&str> = actions.lines().collect();
        let at = |line: &str| lines.iter().rposition(|l| *l == line);
        let healthy = at("db health_status: healthy");
        healthy.is_some() && at("db start") < healthy && healthy < at("app start")
    });
}
