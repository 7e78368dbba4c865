//! The engine about itself, by real clients: events and their past, versions of the API, settings read again.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use corten_tests::{TestEngine, eventually, now_s, run};
use serde_json::Value;

/// The lines of an event stream that is over.
fn past(engine: &TestEngine, arguments: &[&str], path: &str) -> Vec<Value> {
    let text = engine.curl(arguments, path).ok();
    text.lines().map(|line| serde_json::from_str(line.trim_start_matches('\u{1e}')).expect(line)).collect()
}

fn actions(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["Action"].as_str()).collect()
}

#[test]
fn events_are_replayed_after_a_restart_and_a_kill() {
    let mut engine = TestEngine::with_busybox();
    engine.corten(&["volume", "create", "early"]).ok();
    engine.stop();
    engine.restart();
    engine.corten(&["volume", "rm", "early"]).ok();
    // What is being gathered is lost with a killed engine, what is in the journal is not.
    let journal = engine.data_root().join("events");
    eventually("it is in the journal", || {
        let segments = std::fs::read_dir(&journal).expect("a journal").flatten();
        let mut texts = segments.map(|segment| std::fs::read_to_string(segment.path()).expect("a segment"));
        texts.any(|text| text.contains("\"destroy\""))
    });
    engine.kill();
    engine.restart();
    let path = format!("/events?since=0&until={}&filters=%7B%22volume%22:%5B%22early%22%5D%7D", now_s() + 1);
    assert_eq!(actions(&past(&engine, &[], &path)), ["create", "destroy"]);
}

#[test]
fn a_life_is_told_with_its_attributes() {
    let engine = TestEngine::with_busybox();
    let since = now_s().to_string();
    engine
        .corten(&[
            "run", "--rm", "--name", "told", "--label", "a=b", "-v", "told:/v", "busybox", "sh", "-c",
            "exit 3",
        ])
        .fails(3);
    engine.corten(&["volume", "rm", "told"]).ok();
    let events = past(&engine, &[], &format!("/events?since={since}&until={}", now_s() + 1));
    let of = |kind: &str, action: &str| {
        let found = events.iter().find(|event| event["Type"] == kind && event["Action"] == action);
        found.unwrap_or_else(|| panic!("{kind} {action} in {events:#?}"))["Actor"]["Attributes"].clone()
    };
    let die = of("container", "die");
    assert!(die["exitCode"] == "3" && die["name"] == "told" && die["image"] == "busybox" && die["a"] == "b");
    assert!(die["execDuration"].is_string());
    let mount = of("volume", "mount");
    assert!(mount["destination"] == "/v" && mount["read/write"] == "true" && mount["driver"] == "local");
    assert_eq!(of("volume", "unmount")["container"], mount["container"]);
    assert_eq!(of("network", "connect")["container"], mount["container"]);
    of("volume", "destroy");
}

#[test]
fn each_version_gets_its_stream() {
    let engine = TestEngine::with_busybox();
    engine.background("shown", &[], "exec sleep 1000");
    let path = |version: &str| {
        format!("{version}/events?since=0&until={}&filters=%7B%22event%22:%5B%22start%22%5D%7D", now_s() + 1)
    };
    let old = past(&engine, &[], &path("/v1.51"));
    assert!(
        old[0]["status"] == "start" && old[0]["from"] == "busybox" && old[0]["id"] == old[0]["Actor"]["ID"]
    );
    let new = past(&engine, &[], &path("/v1.52"));
    assert!(new[0].get("status").is_none() && new[0]["Action"] == "start");
    let head = |accept: &str, version: &str| {
        let accept = format!("Accept: {accept}");
        engine.curl(&["-D", "-", "-H", &accept], &path(version)).ok().to_lowercase()
    };
    assert!(head("*/*", "/v1.51").contains("content-type: application/json\r"));
    assert!(head("*/*", "/v1.52").contains("content-type: application/jsonl\r"));
    let sequence = head("application/json-seq", "/v1.55");
    assert!(sequence.contains("content-type: application/json-seq\r") && sequence.contains("\u{1e}{"));
    let refused = engine.curl(&[], "/events?since=20&until=10").ok();
    assert!(refused.contains("cannot be after `until` time"), "{refused}");
}

/// `events` of a client, until it is dropped.
struct Listener {
    client: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Listener {
    fn start(mut command: Command) -> Self {
        let mut client =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("start the listener");
        let lines = BufReader::new(client.stdout.take().expect("its output"));
        Self { client, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

#[test]
fn a_listener_that_reads_late_loses_nothing() {
    let engine = TestEngine::with_busybox();
    let filters = ["events", "--filter", "type=volume", "--format", "{{.Action}} {{.Actor.ID}}"];
    let mut slow = Listener::start(engine.command(&filters));
    eventually("it listens", || engine.corten(&["info", "--format", "{{.NEventsListener}}"]).ok() == "1");
    // More than pipes, sockets and memory hold; curl makes them over one connection.
    let (count, label, socket) = (4_000, "x".repeat(200), engine.socket().display().to_string());
    let requests: Vec<String> = (0..count)
        .map(|number| {
            let body = format!(r#"{{\"Name\": \"v{number}\", \"Labels\": {{\"l\": \"{label}\"}}}}"#);
            format!(
                "unix-socket = {socket}\nurl = \"http://localhost/volumes/create\"\ndata = \"{body}\"\n\
                 header = \"Content-Type: application/json\"\noutput = /dev/null\nsilent\n"
            )
        })
        .collect();
    let file = engine.data_root().join("requests");
    std::fs::write(&file, requests.join("next\n")).expect("write the requests");
    run(Command::new("curl").arg("-K").arg(&file)).ok();
    for number in 0..count {
        assert_eq!(slow.line(), format!("create v{number}"));
    }
    drop(slow);
    std::fs::remove_file(file).expect("remove the requests");
    engine.curl(&["-X", "POST"], "/v1.41/volumes/prune").ok();
}

#[test]
fn settings_are_read_again_on_sighup() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), r#"{"labels": ["tier=old"]}"#).expect("write the settings");
    let path = file.path().display().to_string();
    let engine = TestEngine::start_with(&["--config-file", &path]);
    let labels = || engine.corten(&["info", "--format", "{{json .Labels}} {{.Debug}}"]).ok();
    assert_eq!(labels(), r#"["tier=old"] false"#);
    let mut listener = Listener::start(engine.docker_command(&["events", "--filter", "type=daemon"]));
    eventually("it listens", || engine.corten(&["info", "--format", "{{.NEventsListener}}"]).ok() == "1");

    let pid = engine.pid().expect("a running engine").to_string();
    let hangup = || assert!(Command::new("kill").args(["-HUP", &pid]).status().expect("kill").success());
    std::fs::write(file.path(), r#"{"labels": ["tier=new"], "debug": true}"#).expect("write the settings");
    hangup();
    let event = listener.line();
    assert!(event.contains("daemon reload") && event.contains(r#"labels=["tier=new"]"#), "{event}");
    assert_eq!(labels(), r#"["tier=new"] true"#);
    eventually("the level has changed", || engine.log().contains("DEBUG"));

    std::fs::write(file.path(), r#"{"labels": "#).expect("write the settings");
    hangup();
    eventually("the failure is told", || engine.log().contains("the settings stay as they are"));
    assert_eq!(labels(), r#"["tier=new"] true"#);
}

fn json(engine: &TestEngine, path: &str) -> Value {
    serde_json::from_str(&engine.curl(&[], path).ok()).expect(path)
}

#[test]
fn disk_usage_adds_up() {
    let engine = TestEngine::with_busybox();
    engine.corten(&["tag", "busybox", "second:name"]).ok();
    engine
        .corten(&[
            "run",
            "--name",
            "writer",
            "-v",
            "data:/v",
            "busybox",
            "sh",
            "-c",
            "head -c 70000 /dev/zero >/f; head -c 5000 /dev/zero >/v/f; echo said",
        ])
        .ok();
    engine.background("idle", &[], "exec sleep 1000");
    std::fs::write(engine.data_root().join("stray"), vec![1; 20_000]).expect("write a stray file");

    let table = engine.corten(&["system", "df"]).ok();
    assert_eq!(table, engine.docker(&["system", "df"]).ok(), "docker says the same");
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1][..3], ["Images", "1", "1"], "{table}");
    assert_eq!(rows[2], ["Containers", "2", "1", "70kB", "70kB", "(100%)"], "{table}");
    assert_eq!(rows[3], ["Local", "Volumes", "1", "1", "5kB", "0B", "(0%)"], "{table}");

    let volumes = json(&engine, "/system/df?type=volume&verbose=1");
    assert!(volumes["VolumeUsage"]["Items"][0]["UsageData"]["Size"] == 5_000, "{volumes}");
    assert!(volumes.get("ImageUsage").is_none() && volumes.get("Volumes").is_none());
    let old = json(&engine, "/v1.51/system/df");
    assert!(old["Containers"].as_array().is_some_and(|list| list.len() == 2) && old["BuildCache"].is_array());
    assert_eq!(old["LayersSize"], old["Images"][0]["Size"]);
    let refused = engine.curl(&[], "/system/df?type=nonsense").ok();
    assert!(refused.contains("unknown object type: nonsense"), "{refused}");

    // Every byte, once: what du finds without the root directory itself.
    let root = json(&engine, "/corten/system/df");
    let du = run(Command::new("du")
        .args(["-s", "--block-size=1", "--exclude=engine.log"])
        .arg(engine.data_root()))
    .ok();
    let du: i64 = du.split_whitespace().next().expect("a number").parse().expect("a number");
    let log =
        root["Parts"].as_array().expect("parts").iter().find(|part| part["Name"] == "other").expect("other");
    let paths = log["Paths"].to_string();
    assert!(paths.contains("/stray") && paths.contains("/engine.log"), "{root}");
    let total = root["Total"].as_i64().expect("a total");
    assert!((total - du).abs() < 200_000, "{total} and du's {du}: {root}");
    engine.corten(&["tag", "busybox", "another:name"]).ok();
    let (mut details, mut dockers) = (String::new(), String::new());
    // Ages are told to the second.
    eventually("a second in which both are asked", || {
        dockers = engine.docker(&["system", "df", "-v"]).ok();
        details = engine.corten(&["system", "df", "-v"]).ok();
        engine.docker(&["system", "df", "-v"]).ok() == dockers
    });
    let images = |text: &str| {
        text.lines()
            .skip_while(|line| !line.starts_with("REPOSITORY"))
            .skip(1)
            .take_while(|line| !line.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(images(&details), images(&dockers), "one row for an image, whatever it is called");
    let full =
        "{{range .Images}}{{.ID}} {{.SharedSize}}{{end}} {{range .Containers}}{{.ID}}{{.Command}}{{end}}";
    let df = ["system", "df", "-v", "--format", full];
    assert_eq!(engine.corten(&df).ok(), engine.docker(&df).ok(), "nothing is cut short");
    for words in ["SHARED SIZE", "writer", "Data root usage:", "container logs", "stray"] {
        assert!(details.contains(words), "{words}: {details}");
    }
    engine.corten(&["rm", "-f", "writer", "idle"]).ok();
    engine.corten(&["volume", "rm", "data"]).ok();
}

#[test]
fn the_doctor_finds_a_host_that_runs_containers_fit() {
    let engine = TestEngine::start();
    let links = || run(Command::new("ip").args(["-o", "link"])).ok();
    let before = links();
    let text = engine.corten(&["doctor", "--format", "json"]).ok();
    let findings: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    for what in ["file system overlay", "nftables", "veth interfaces", "seccomp filters", "disk space"] {
        let finding = findings
            .iter()
            .find(|finding| finding["What"] == what)
            .unwrap_or_else(|| panic!("{what}: {text}"));
        assert!(finding["Verdict"] != "fatal", "{finding}");
    }
    assert!(!before.contains("try-veth") && !links().contains("try-veth"), "what it tries out is gone");
    // No container runs where there is no room for one.
    let proc = engine.corten(&["doctor", "--quiet", "--data-root", "/proc/corten"]);
    assert!(
        proc.code == 1 && proc.stdout.contains("FATAL") && proc.stdout.contains("corten system prune"),
        "{proc:?}"
    );
    engine.corten(&["doctor", "--format", "xml"]).fails(125);
}

#[test]
fn gpus_and_cdi_devices_are_refused_as_docker_does_without_drivers() {
    let engine = TestEngine::with_busybox();
    let refused = engine.docker(&["run", "--rm", "--gpus", "all", "busybox", "true"]).fails(125);
    assert!(refused.contains(r#"could not select device driver "" with capabilities: [[gpu]]"#), "{refused}");
    let refused =
        engine.docker(&["run", "--rm", "--device", "vendor.com/class=one", "busybox", "true"]).fails(125);
    assert!(refused.contains(r#"could not select device driver "cdi" with capabilities: []"#), "{refused}");
    let info = json(&engine, "/info");
    assert!(
        info["CDISpecDirs"] == serde_json::json!([]) && info.get("DiscoveredDevices").is_none(),
        "{info}"
    );
    assert_eq!(info["FirewallBackend"]["Driver"], "nftables");
    let version = engine.docker(&["version"]).ok();
    let server = version.split_once("Server:").expect("a server").1;
    assert!(
        server.lines().skip(1).all(|line| line.ends_with("Engine:")
            || line.split_once(':').is_some_and(|(_, v)| !v.trim().is_empty())),
        "{server}"
    );
}

#[test]
fn a_system_prune_removes_what_nobody_uses() {
    let engine = TestEngine::with_busybox();
    engine.corten(&["run", "--name", "old", "--label", "go=1", "-v", "/anonymous", "busybox", "true"]).ok();
    engine.corten(&["run", "--name", "kept", "busybox", "true"]).ok();
    engine.corten(&["network", "create", "--label", "go=1", "lonely"]).ok();
    let refused = engine.corten(&["system", "prune"]);
    assert!(refused.code != 0 && refused.stderr.contains("all dangling images"), "{refused:?}");
    engine.corten(&["system", "prune", "-f", "--volumes", "--filter", "until=1h"]).fails(1);
    let text = engine.corten(&["system", "prune", "-f", "--filter", "label=go=1"]).ok();
    assert!(text.contains("Deleted Containers:") && text.contains("Deleted Networks:\nlonely"), "{text}");
    assert!(text.lines().last().expect("a line").starts_with("Total reclaimed space: "), "{text}");
    assert_eq!(engine.corten(&["ps", "-a", "--format", "{{.Names}}"]).ok(), "kept");
    let text = engine.corten(&["system", "prune", "-af", "--volumes"]).ok();
    assert!(text.contains("Deleted Volumes:") && text.contains("deleted: sha256:"), "{text}");
    assert_eq!(engine.corten(&["images", "-q"]).ok(), "");
}

#[test]
fn what_is_declined_to_everybody_is_no_error_of_the_engine() {
    let engine = TestEngine::start();
    assert_eq!(engine.curl(&["-o", "/dev/null", "-w", "%{http_code}"], "/swarm").ok(), "503");
    assert!(!engine.log().contains("ERROR"), "{}", engine.log());
}
