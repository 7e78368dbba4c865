//! What an engine tells of itself: metrics and its log.

use std::process::Command;

use corten_tests::{TestEngine, run};
use serde_json::Value;

/// The value of one series; the labels are those that matter.
fn series(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let line = text.lines().find(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn metrics_of_the_engine_and_its_containers() {
    let engine = TestEngine::start_with(&["--metrics-addr", "127.0.0.1:0"]);
    let address = engine.listens_on_tcp("metrics API");
    engine.add_busybox();
    engine.background("web", &["-m", "64m"], "while :; do :; done");
    engine.corten(&["run", "--name", "done", "busybox", "true"]).ok();
    let url = format!("http://{address}/metrics");
    let plain = run(Command::new("curl").args(["-s", &url])).ok();
    let count = |state: &str| series(&plain, "engine_daemon_container_states_containers", &[state]);
    assert_eq!(
        [count("running"), count("stopped"), count("paused")],
        [Some(1.0), Some(1.0), Some(0.0)],
        "{plain}"
    );
    let starts = series(&plain, "engine_daemon_container_actions_seconds_count", &["action=\"start\""]);
    assert_eq!(starts, Some(2.0), "{plain}");
    assert!(plain.contains("# TYPE engine_daemon_events_total counter"), "{plain}");
    assert!(series(&plain, "engine_daemon_events_total", &[]) >= Some(4.0), "{plain}");
    assert_eq!(series(&plain, "engine_daemon_engine_info", &["os_type=\"linux\""]), Some(1.0), "{plain}");
    assert!(series(&plain, "process_resident_memory_bytes", &[]) > Some(1e6), "{plain}");
    let web = |name: &str| series(&plain, &format!("corten_container_{name}"), &["name=\"web\""]);
    assert!(web("cpu_usage_seconds_total").is_some(), "{plain}");
    assert_eq!(web("memory_limit_bytes"), Some(f64::from(64 << 20)), "{plain}");
    assert_eq!(web("processes"), Some(1.0), "{plain}");
    assert_eq!(web("restarts_total"), Some(0.0), "{plain}");
    assert!(web("network_receive_bytes_total").is_some(), "{plain}");
    assert_eq!(series(&plain, "corten_container_processes", &["name=\"done\""]), None);
    // The listener of metrics serves nothing else.
    assert!(
        run(Command::new("curl").args(["-s", &format!("http://{address}/info")])).ok().contains("not found")
    );

    let open = engine.curl(&["-H", "Accept: application/openmetrics-text"], "/corten/metrics").ok();
    assert!(open.ends_with("# EOF") && open.contains("# TYPE engine_daemon_events counter"), "{open}");
}

/// Whether Debian's Python has Prometheus' own parser.
#[test]
fn a_prometheus_reads_the_metrics() {
    let has_parser = run(Command::new("/usr/bin/python3").args(["-c", "import prometheus_client"])).code == 0;
    if !has_parser {
        eprintln!("skipped: python3-prometheus-client is not installed");
        return;
    }
    let engine = TestEngine::with_busybox();
    engine.background("web", &[], "sleep 1000");
    let script = "import sys\n\
        from prometheus_client.parser import text_string_to_metric_families as plain\n\
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_\n\
        print(sum(1 for _ in (open_ if sys.argv[1] == 'open' else plain)(open(sys.argv[2]).read())))";
    for (kind, accept) in [("open", "Accept: application/openmetrics-text"), ("plain", "Accept: */*")] {
        let text = engine.curl(&["-H", accept], "/corten/metrics").ok() + "\n";
        let file = engine.data_root().join("metrics.txt");
        std::fs::write(&file, text).unwrap();
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", script, kind]).arg(&file);
        assert!(run(&mut python).ok().parse::<u32>().unwrap() > 20);
    }
}

#[test]
fn the_log_as_json_tells_every_request() {
    let engine = TestEngine::start_with(&["--log-format", "json", "--log-level", "debug"]);
    assert!(engine.curl(&[], "/containers/nobody/json").ok().contains("No such container"));
    let lines: Vec<Value> = engine.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_path = |message: &str| {
        lines.iter().find(|line| line["msg"] == message && line["path"] == "/containers/nobody/json").unwrap()
    };
    let answered = of_path("request answered");
    assert_eq!((&answered["method"], &answered["status"]), (&"GET".into(), &404.into()));
    assert!(answered["level"] == "debug" && answered["took"].is_string() && answered["time"].is_string());
    assert_eq!(of_path("request refused")["request_id"], answered["request_id"]);
    assert!(answered["request_id"].as_u64().unwrap() > 0);
}

#[test]
fn wrong_settings_of_the_log_and_the_metrics_are_refused() {
    for (flag, value, text) in [
        ("--log-format", "poem", "invalid log format: poem"),
        ("--log-level", "loud", "invalid logging level: loud"),
        ("--metrics-addr", "nowhere", "nowhere"),
    ] {
        let mut daemon = Command::new(corten_tests::binary("corten"));
        let output = run(daemon.args(["daemon", "--exec-root", "/nonexistent/corten", flag, value]));
        assert!(output.code != 0 && output.stderr.contains(text), "{}", output.stderr);
    }
}
