//! Thousands of containers that live and die, and everything that is told of them: nothing lost, nothing twice, in order; to who
//! listens, to who listens slowly, and to who asks afterwards.
//!
//! `CORTEN_LIVES` says how many there are (10,000 for the whole test, 300 by default).

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use corten_tests::http::{Connection, Lines};
use corten_tests::{TestEngine, eventually};
use serde_json::Value;

/// As many as there are processors here, and as many again, so that lives overlap.
const WORKERS: usize = 4;
/// How long an answer, or the next event, may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the engine may need, however many containers have lived.
const MEMORY_KIB_MAX: u64 = 96 << 10;
/// What happens to each container, in this order.
const LIFE: [&str; 6] = ["create", "connect", "start", "disconnect", "die", "destroy"];

fn lives() -> usize {
    std::env::var("CORTEN_LIVES").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

/// One worker: makes containers until there are enough.
fn work(socket: &Path, next: &AtomicUsize, lives: usize) {
    let mut connection = Connection::open(socket, PATIENCE).expect("connect");
    let mut ask = |method: &str, path: &str, body: &str, wanted: u16| {
        let answer = connection.request(method, path, body).expect("an answer");
        assert_eq!(answer.status, wanted, "{method} {path}: {}", answer.text());
        answer.text()
    };
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= lives {
            return;
        }
        let name = format!("life-{number}");
        ask("POST", &format!("/containers/create?name={name}"), r#"{"Image":"busybox","Cmd":["true"]}"#, 201);
        ask("POST", &format!("/containers/{name}/start"), "", 204);
        assert!(ask("POST", &format!("/containers/{name}/wait"), "", 200).contains("\"StatusCode\":0"));
        ask("DELETE", &format!("/containers/{name}"), "", 204);
    }
}

/// An event in short: when, what, of which container.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    at: i64,
    action: String,
    container: String,
}

/// Reads until all of that many lives are over.
fn read(lines: Lines, lives: usize) -> Vec<Told> {
    let mut told = Vec::new();
    let mut over = 0;
    for line in lines {
        let event: Value = serde_json::from_slice(&line.expect("an event in time")).expect("JSON");
        let action = event["Action"].as_str().expect("an action").to_owned();
        let of = if event["Type"] == "network" {
            &event["Actor"]["Attributes"]["container"]
        } else {
            &event["Actor"]["ID"]
        };
        let container = of.as_str().expect("a container").to_owned();
        over += usize::from(action == "destroy");
        told.push(Told { at: event["timeNano"].as_i64().expect("a time"), action, container });
        if over == lives {
            break;
        }
    }
    told
}

fn memory_kib(engine: &TestEngine, field: &str) -> u64 {
    let path = format!("/proc/{}/status", engine.pid().expect("an engine"));
    let status = std::fs::read_to_string(path).expect("the engine's status");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn every_event_of_every_life_is_told_once_and_in_order() {
    let engine = TestEngine::with_busybox();
    let (socket, lives) = (engine.socket(), lives());
    let open =
        |path: &str| Connection::open(&socket, PATIENCE).expect("connect").lines(path).expect("a stream");
    let kinds = "filters=%7B%22type%22%3A%5B%22container%22%2C%22network%22%5D%7D";
    let (quick, slow) = (open(&format!("/events?{kinds}")), open(&format!("/events?{kinds}")));
    eventually("both listen", || engine.corten(&["info", "--format", "{{.NEventsListener}}"]).ok() == "2");
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    let (quickly, took) = std::thread::scope(|scope| {
        let quick = scope.spawn(|| read(quick, lives));
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(|| work(&socket, &next, lives))).collect();
        workers.into_iter().for_each(|worker| worker.join().expect("a worker"));
        let took = begun.elapsed();
        (quick.join().expect("a listener"), took)
    });
    let peak = memory_kib(&engine, "VmHWM:");
    // It has read nothing until now: what it missed is on the disk.
    let slowly = read(slow, lives);
    let afterwards = read(open(&format!("/events?since=1&{kinds}")), lives);
    println!(
        "{lives} lives in {took:.1?}, {} events; the engine's memory: {peak} KiB at most, {} KiB now",
        quickly.len(),
        memory_kib(&engine, "VmRSS:")
    );

    assert_eq!(quickly.len(), lives * LIFE.len());
    assert!(quickly.windows(2).all(|pair| pair[0].at < pair[1].at), "times tell the order");
    let mut by_container: HashMap<&str, Vec<&str>> = HashMap::new();
    for told in &quickly {
        by_container.entry(&told.container).or_default().push(&told.action);
    }
    assert_eq!(by_container.len(), lives);
    for (container, actions) in by_container {
        assert_eq!(actions, LIFE, "{container}");
    }
    assert!(slowly == quickly, "who reads late is told the same");
    assert!(afterwards == quickly, "so is who asks afterwards");
    assert!(peak < MEMORY_KIB_MAX, "the engine needed {peak} KiB");
}
