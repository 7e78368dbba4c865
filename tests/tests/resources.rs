//! Limits that change, what containers use, and prune.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use corten_tests::{TestEngine, eventually};
use serde_json::Value;

/// What a file of the container's control group says, whichever version has it.
fn group_file(engine: &TestEngine, container: &str, names: &[&str]) -> String {
    let id = engine.corten(&["inspect", "-f", "{{.Id}}", container]).ok();
    let group = format!("corten-{}/{id}", engine.instance());
    let root = std::path::Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).unwrap().flatten().map(|entry| entry.path());
    std::iter::once(root.to_owned())
        .chain(hierarchies)
        .flat_map(|hierarchy| names.iter().map(move |name| hierarchy.join(name)))
        .map(|path| path.parent().unwrap().join(&group).join(path.file_name().unwrap()))
        .find_map(|path| std::fs::read_to_string(path).ok())
        .unwrap_or_else(|| panic!("{names:?} of {container}"))
        .trim()
        .to_owned()
}

fn memory_limit(engine: &TestEngine, container: &str) -> String {
    group_file(engine, container, &["memory.limit_in_bytes", "memory.max"])
}

fn inspect(engine: &TestEngine, container: &str, field: &str) -> String {
    engine.corten(&["inspect", "-f", &format!("{{{{.HostConfig.{field}}}}}"), container]).ok()
}

#[test]
fn limits_change_while_a_container_runs_and_stay() {
    let mut engine = TestEngine::with_busybox();
    engine.background("web", &["-m", "64m", "--memory-swap", "128m"], "sleep 1000");
    let update =
        ["update", "-m", "96m", "--memory-swap", "256m", "--pids-limit", "50", "--cpu-shares", "700"];
    assert_eq!(engine.corten(&[&update[..], &["--cpuset-cpus", "0", "web"]].concat()).ok(), "web");
    let check = |engine: &TestEngine| {
        assert_eq!(memory_limit(engine, "web"), (96 << 20).to_string());
        assert_eq!(group_file(engine, "web", &["pids.max"]), "50");
        assert_eq!(group_file(engine, "web", &["cpuset.cpus"]), "0");
        assert_eq!(inspect(engine, "web", "Memory"), (96 << 20).to_string());
        assert_eq!(inspect(engine, "web", "CpuShares"), "700");
    };
    check(&engine);
    engine.kill();
    engine.restart();
    check(&engine);
    engine.corten(&["restart", "-t", "0", "web"]).ok();
    check(&engine);
    engine.docker(&["update", "--pids-limit", "-1", "--cpus", "0.5", "web"]).ok();
    assert_eq!(group_file(&engine, "web", &["pids.max"]), "max");
    assert_eq!(inspect(&engine, "web", "PidsLimit"), "0");
    assert_eq!(inspect(&engine, "web", "NanoCpus"), "500000000");
}

#[test]
fn a_stopped_container_gets_new_limits_at_its_start() {
    let engine = TestEngine::with_busybox();
    engine.corten(&["create", "--name", "box", "busybox", "sleep", "1000"]).ok();
    engine.corten(&["update", "-m", "32m", "--memory-swap", "64m", "--restart", "on-failure:3", "box"]).ok();
    assert_eq!(inspect(&engine, "box", "RestartPolicy.Name"), "on-failure");
    engine.corten(&["start", "box"]).ok();
    assert_eq!(memory_limit(&engine, "box"), (32 << 20).to_string());
}

#[test]
fn a_refused_update_changes_nothing() {
    let engine = TestEngine::with_busybox();
    engine.background("web", &["-m", "64m", "--memory-swap", "64m"], "sleep 1000");
    let refused = |args: &[&str], text: &str| {
        let output = engine.docker(&[&["update"], args, &["web"]].concat());
        assert!(output.code != 0 && output.stderr.contains(text), "{args:?}: {}", output.stderr);
        assert_eq!(memory_limit(&engine, "web"), (64 << 20).to_string(), "{args:?}");
        assert_eq!(inspect(&engine, "web", "Memory"), (64 << 20).to_string(), "{args:?}");
        assert_eq!(inspect(&engine, "web", "CpuShares"), "0", "{args:?}");
    };
    refused(&["-m", "1m"], "Minimum memory limit allowed is 6MB");
    refused(&["-m", "128m"], "update the memoryswap at the same time");
    refused(&["-m", "32m", "--memory-swap", "16m"], "Minimum memoryswap limit should be larger");
    refused(&["--cpuset-cpus", "4000"], "Requested CPUs are not available");
    refused(&["--restart", "sometimes"], "invalid restart policy");
    // The kernel takes the first ones and refuses the last.
    let wishes = ["-m", "32m", "--cpu-shares", "900", "--pids-limit", "9223372036854775807"];
    refused(&wishes, "pids.limit");
    let missing = engine.docker(&["update", "-m", "64m", "nobody"]);
    assert!(missing.stderr.contains("No such container: nobody"), "{}", missing.stderr);
}

fn stats(engine: &TestEngine, path: &str) -> Value {
    serde_json::from_str(&engine.curl(&[], path).ok()).unwrap()
}

#[test]
fn statistics_say_what_a_container_uses() {
    let engine = TestEngine::with_busybox();
    engine.background("web", &["-m", "64m", "--pids-limit", "20"], "while :; do :; done");
    let now = stats(&engine, "/containers/web/stats?stream=false");
    let used = |of: &str| now[of]["cpu_usage"]["total_usage"].as_u64().unwrap();
    assert!(used("cpu_stats") > used("precpu_stats"), "{now}");
    assert_ne!(now["preread"], "0001-01-01T00:00:00Z");
    let host = |of: &str| now[of]["system_cpu_usage"].as_u64().unwrap();
    assert!(host("cpu_stats") > host("precpu_stats"), "{now}");
    assert!(now["cpu_stats"]["online_cpus"].as_u64().unwrap() > 0);
    assert_eq!(now["memory_stats"]["limit"], 64 << 20);
    assert!(now["memory_stats"]["usage"].as_u64().unwrap() > 0);
    assert!(!now["memory_stats"]["stats"].as_object().unwrap().is_empty());
    assert_eq!((&now["pids_stats"]["current"], &now["pids_stats"]["limit"]), (&1.into(), &20.into()));
    assert_eq!(now["name"], "/web");
    engine.corten(&["exec", "web", "ping", "-c", "3", "-i", "0.1", &gateway(&engine)]).ok();
    let shot = stats(&engine, "/containers/web/stats?stream=false&one-shot=true");
    assert_eq!(shot["precpu_stats"]["cpu_usage"]["total_usage"], 0);
    assert_eq!(shot["preread"], "0001-01-01T00:00:00Z");
    let eth0 = &shot["networks"]["eth0"];
    assert!(eth0["tx_packets"].as_u64().unwrap() >= 3 && eth0["rx_bytes"].as_u64().unwrap() > 0, "{shot}");
    assert!(shot["networks"]["lo"].is_null());
    assert!(shot["os_type"].is_null() || shot["os_type"] == "linux");
    engine.corten(&["run", "-d", "--name", "bare", "--network", "none", "busybox", "sleep", "100"]).ok();
    let bare = stats(&engine, "/containers/bare/stats?stream=false&one-shot=1");
    assert!(bare.get("networks").is_none(), "{bare}");
}

fn gateway(engine: &TestEngine) -> String {
    engine.corten(&["inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", "web"]).ok()
}

#[test]
fn statistics_of_what_does_not_run_are_zeros() {
    let engine = TestEngine::with_busybox();
    engine.corten(&["create", "--name", "box", "busybox", "true"]).ok();
    let still = stats(&engine, "/containers/box/stats?stream=false");
    assert_eq!(still["read"], "0001-01-01T00:00:00Z");
    assert_eq!(still["cpu_stats"]["cpu_usage"]["total_usage"], 0);
    assert_eq!(still["memory_stats"], serde_json::json!({}));
    let missing = engine.curl(&["-w", "%{http_code}"], "/containers/nobody/stats");
    assert!(missing.stdout.contains("No such container: nobody") && missing.stdout.ends_with("404"));
}

#[test]
fn a_stream_of_statistics_ends_with_its_container() {
    let engine = TestEngine::with_busybox();
    engine.background("web", &[], "sleep 1000");
    let path = engine.socket().display().to_string();
    let mut curl = Command::new("curl");
    curl.args(["-sN", "--max-time", "120", "--unix-socket", &path, "http://localhost/containers/web/stats"]);
    let mut curl = curl.stdout(Stdio::piped()).spawn().unwrap();
    let mut stream = BufReader::new(curl.stdout.take().unwrap()).lines();
    let lines: Vec<Value> =
        stream.by_ref().take(2).map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    engine.corten(&["rm", "-f", "web"]).ok();
    // Until the end, which curl would not have seen if it was its deadline.
    stream.for_each(|line| drop(line.unwrap()));
    assert!(curl.wait().unwrap().success());
    assert_eq!(lines[0]["precpu_stats"]["cpu_usage"]["total_usage"], 0);
    assert_eq!(lines[1]["preread"], lines[0]["read"]);
}

#[test]
fn the_table_of_statistics_is_dockers() {
    let engine = TestEngine::with_busybox();
    engine.background("web", &["-m", "64m"], "sleep 1000");
    engine.corten(&["create", "--name", "box", "busybox", "true"]).ok();
    let format = "{{.Name}} {{.MemUsage}} {{.PIDs}} {{.NetIO}}";
    for args in [&["stats", "--no-stream", "--all", "--format", format][..], &["stats", "--no-stream", "web"]]
    {
        let (ours, theirs) = (engine.corten(args).ok(), engine.docker(args).ok());
        // Memory in use, and packets, differ from one moment to the next.
        let without_numbers =
            |text: &str| text.replace(|c: char| c.is_ascii_digit() || ".kBMi".contains(c), "");
        let words = |text: &str| {
            let mut lines: Vec<String> = text
                .lines()
                .map(|line| without_numbers(line).split_whitespace().collect::<Vec<_>>().join(" "))
                .collect();
            lines.sort();
            lines
        };
        assert_eq!(words(&ours), words(&theirs), "{ours}\n{theirs}");
    }
    let missing = engine.corten(&["stats", "--no-stream", "nobody"]);
    assert!(missing.code == 1 && missing.stderr.contains("No such container: nobody"), "{}", missing.stderr);
}

#[test]
fn prune_takes_what_is_stopped_and_wanted() {
    let engine = TestEngine::with_busybox();
    engine.background("web", &[], "sleep 1000");
    engine
        .corten(&["run", "--name", "big", "busybox", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=3"])
        .ok();
    engine.corten(&["create", "--name", "kept", "--label", "keep=1", "busybox"]).ok();
    engine.corten(&["create", "--name", "fresh", "busybox"]).ok();
    let report = engine.docker(&["container", "prune", "-f", "--filter", "until=1h"]).ok();
    assert_eq!(report, "Total reclaimed space: 0B");
    let report = engine.docker(&["container", "prune", "-f", "--filter", "label!=keep"]).ok();
    assert!(
        report.starts_with("Deleted Containers:\n") && report.ends_with("reclaimed space: 3.146MB"),
        "{report}"
    );
    let left = |engine: &TestEngine| engine.corten(&["ps", "-a", "--format", "{{.Names}}"]).ok();
    assert_eq!(left(&engine), "kept\nweb");
    let report = engine.corten(&["container", "prune", "-f"]).ok();
    assert!(report.starts_with("Deleted Containers:\n"), "{report}");
    assert_eq!(left(&engine), "web");
    let nothing = engine.curl(&["-X", "POST"], "/containers/prune").ok();
    assert_eq!(nothing, r#"{"ContainersDeleted":null,"SpaceReclaimed":0}"#);
    let refused =
        engine.curl(&["-X", "POST"], "/containers/prune?filters=%7B%22colour%22%3A%5B%22red%22%5D%7D").ok();
    assert!(refused.contains("invalid filter 'colour'"), "{refused}");
}

#[test]
fn top_shows_processes_as_dockers_does() {
    let engine = TestEngine::with_busybox();
    engine.background("web", &[], "sleep 1000 & sleep 2000");
    let shows = |top: &str, command: &str| top.lines().any(|line| line.ends_with(&format!(" {command}")));
    eventually("both have begun", || {
        let top = engine.corten(&["top", "web"]).ok();
        !shows(&top, "sh -c sleep 1000 & sleep 2000")
            && shows(&top, "sleep 1000")
            && shows(&top, "sleep 2000")
    });
    // What they used of a processor in their first moments becomes nothing.
    eventually("both clients show the same", || {
        engine.corten(&["top", "web"]).ok() == engine.docker(&["top", "web"]).ok()
    });
    let few = engine.docker(&["top", "web", "-o", "pid,comm"]).ok();
    assert!(few.starts_with("PID") && few.contains("sleep"), "{few}");
    // Options that do not go with a list of processes.
    assert!(engine.docker(&["top", "web", "axf"]).ok().contains("sleep 2000"));
    let refused = engine.docker(&["top", "web", "-eo", "pid,ppid=PID"]);
    assert!(refused.stderr.contains("specifying \"ppid=PID\" is not allowed"), "{}", refused.stderr);
    engine.corten(&["stop", "-t", "0", "web"]).ok();
    assert!(engine.docker(&["top", "web"]).stderr.contains("is not running"));
}

#[test]
fn want_of_memory_is_told_when_it_happens() {
    let mut engine = TestEngine::with_busybox();
    let since = engine.curl(&[], "/info").ok();
    let since: Value = serde_json::from_str(&since).unwrap();
    let since = since["SystemTime"].as_str().unwrap().to_owned();
    let told = |engine: &TestEngine, name: &str| {
        let filter = format!("container={name}");
        let events = ["events", "--since", &since, "--until", "0s", "-f", &filter, "--format", "{{.Action}}"];
        let events = engine.corten(&events).ok();
        events.lines().filter(|line| matches!(*line, "oom" | "die")).map(str::to_owned).collect::<Vec<_>>()
    };
    let killed = |engine: &TestEngine, name: &str| {
        engine.corten(&["inspect", "-f", "{{.State.OOMKilled}}", name]).ok()
    };
    let limits = ["-m", "16m", "--memory-swap", "16m"];
    // A child is the victim, its parent goes on.
    let script = "tail /dev/zero; touch /survived; sleep 1000";
    engine.background("web", &limits, script);
    eventually("something is told", || !told(&engine, "web").is_empty());
    assert_eq!(told(&engine, "web"), ["oom"]);
    assert_eq!(killed(&engine, "web"), "true");
    eventually("its parent goes on", || engine.corten(&["exec", "web", "test", "-e", "/survived"]).code == 0);
    engine.corten(&["kill", "web"]).ok();
    eventually("its end is told", || told(&engine, "web").contains(&"die".to_owned()));
    assert_eq!(told(&engine, "web"), ["oom", "die"], "once");
    assert_eq!(killed(&engine, "web"), "true");
    // One that gets its limit later.
    engine.background("late", &[], "while ! test -e /go; do sleep 0.05; done; tail /dev/zero; sleep 1000");
    engine.corten(&[&["update"], &limits[..], &["late"]].concat()).ok();
    engine.corten(&["exec", "late", "touch", "/go"]).ok();
    eventually("something is told", || !told(&engine, "late").is_empty());
    assert_eq!(told(&engine, "late"), ["oom"]);
    // While no engine runs: told with the end.
    let gate = tempfile::tempdir().unwrap();
    let volume = format!("{}:/gate", gate.path().display());
    let script = "until test -e /gate/go; do sleep 0.05; done; tail /dev/zero; touch /gate/survived; \
        until test -e /gate/end; do sleep 0.05; done; exit 3";
    engine.background("alone", &[&limits[..], &["-v", &volume]].concat(), script);
    engine.kill();
    std::fs::write(gate.path().join("go"), "").unwrap();
    eventually("its child is the victim", || gate.path().join("survived").exists());
    engine.restart();
    std::fs::write(gate.path().join("end"), "").unwrap();
    engine.corten(&["wait", "alone"]).ok();
    eventually("its end is told", || told(&engine, "alone").contains(&"die".to_owned()));
    assert_eq!(told(&engine, "alone"), ["oom", "die"]);
}
