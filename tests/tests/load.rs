//! Many clients at once, some of which do not read what they asked for: no error, no standstill, bounded memory.
//!
//! `CORTEN_LOAD_SECONDS` says how long it lasts (60 for the whole test, 8 by default); there are 200 clients either way.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use corten_tests::http::Connection;
use corten_tests::{TestEngine, eventually, now_s};

const CLIENTS: usize = 200;
/// How long a request may take, with all the others beside it.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the engine may need for all of them.
const MEMORY_KIB_MAX: u64 = 256 << 10;

fn seconds() -> u64 {
    std::env::var("CORTEN_LOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

/// One client: what it asks for, and what must come back.
struct Client {
    number: usize,
    socket: PathBuf,
    connection: Connection,
}

impl Client {
    fn new(number: usize, socket: &Path) -> Self {
        let connection = Connection::open(socket, PATIENCE).expect("connect");
        Self { number, socket: socket.to_owned(), connection }
    }

    fn ask(&mut self, method: &str, path: &str, body: &str, wanted: u16) -> Result<String, String> {
        let answer =
            self.connection.request(method, path, body).map_err(|e| format!("{method} {path}: {e}"))?;
        if answer.status == wanted {
            return Ok(answer.text());
        }
        Err(format!("{method} {path}: {} {}", answer.status, answer.text()))
    }

    /// One round of what this client does.
    fn work(&mut self, round: usize) -> Result<(), String> {
        match self.number % 8 {
            0 => self.ask("GET", "/containers/json?all=1", "", 200).map(drop),
            1 => self.ask("GET", "/containers/chatty/json", "", 200).map(drop),
            2 => self.ask("GET", "/containers/chatty/stats?stream=false&one-shot=1", "", 200).map(drop),
            3 => self.ask("GET", "/containers/chatty/logs?stdout=1&tail=20", "", 200).map(drop),
            4 => self
                .ask("GET", &format!("/events?since={}&until={}", now_s() - 1, now_s()), "", 200)
                .map(drop),
            5 => self.exec(round),
            _ => self.life(round),
        }
    }

    fn exec(&mut self, round: usize) -> Result<(), String> {
        let wish = format!(r#"{{"AttachStdout":true,"Cmd":["echo","{round}"]}}"#);
        let created = self.ask("POST", "/containers/chatty/exec", &wish, 201)?;
        let id = field(&created, "Id");
        let said = self.ask("POST", &format!("/exec/{id}/start"), r#"{"Detach":false}"#, 200)?;
        // The body of a connection that is not upgraded ends with it.
        self.connection = Connection::open(&self.socket, PATIENCE).map_err(|e| format!("connect: {e}"))?;
        if said.contains(&round.to_string()) { Ok(()) } else { Err(format!("exec said {said:?}")) }
    }

    fn life(&mut self, round: usize) -> Result<(), String> {
        let name = format!("life-{}-{round}", self.number);
        let wish = r#"{"Image":"busybox","Cmd":["true"],"HostConfig":{"NetworkMode":"none"}}"#;
        self.ask("POST", &format!("/containers/create?name={name}"), wish, 201)?;
        self.ask("POST", &format!("/containers/{name}/start"), "", 204)?;
        let ended = self.ask("POST", &format!("/containers/{name}/wait"), "", 200)?;
        if !ended.contains("\"StatusCode\":0") {
            return Err(format!("{name} ended with {ended}"));
        }
        self.ask("DELETE", &format!("/containers/{name}"), "", 204).map(drop)
    }
}

/// The text of a field that comes once.
fn field(json: &str, name: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).expect("JSON");
    value[name].as_str().expect("a text").to_owned()
}

/// Clients that ask for streams and read nothing.
fn sleepers(engine: &TestEngine) -> Vec<Connection> {
    let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
    let mut sleepers = Vec::new();
    for (method, path, headers) in [
        ("GET", "/containers/chatty/logs?stdout=1&follow=1", ""),
        ("GET", "/containers/chatty/stats", ""),
        ("GET", "/events?since=1", ""),
        ("GET", "/corten/stats?stream=1", ""),
        ("POST", "/containers/chatty/attach?stream=1&stdout=1", upgrade),
    ] {
        for _ in 0..3 {
            let mut connection = Connection::open(&engine.socket(), PATIENCE).expect("connect");
            connection.send(method, path, "", headers).expect("ask");
            sleepers.push(connection);
        }
    }
    sleepers
}

/// The peak of the engine's resident memory.
fn memory_kib(engine: &TestEngine) -> u64 {
    let path = format!("/proc/{}/status", engine.pid().expect("an engine"));
    let status = std::fs::read_to_string(path).expect("the engine's status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    peak.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// The number of the last line that the chatty container has written.
fn last_line(engine: &TestEngine) -> u64 {
    let line = engine.corten(&["logs", "--tail", "1", "chatty"]).ok();
    line.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[test]
fn two_hundred_clients_and_some_that_sleep() {
    let engine = TestEngine::with_busybox();
    // Some 160 KB per second, so that what nobody reads piles up.
    let script = "x=x; n=0; while [ $n -lt 13 ]; do x=$x$x; n=$((n+1)); done; \
        i=0; while :; do i=$((i+1)); echo $i $x; sleep 0.05; done";
    engine.background("chatty", &[], script);
    eventually("the first line", || last_line(&engine) > 0);
    let sleepers = sleepers(&engine);
    let end = Instant::now() + Duration::from_secs(seconds());
    let failures = Mutex::new(Vec::new());
    let rounds: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (socket, failures) = (engine.socket(), &failures);
                let work = move || {
                    let mut client = Client::new(number, &socket);
                    let mut round = 0;
                    while Instant::now() < end {
                        if let Err(failure) = client.work(round) {
                            failures
                                .lock()
                                .unwrap()
                                .push(format!("client {number}, round {round}: {failure}"));
                            return round;
                        }
                        round += 1;
                    }
                    round
                };
                std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, work).expect("a thread")
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("a client")).sum()
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} failures: {:#?}", failures.len(), &failures[..failures.len().min(10)]);
    assert!(rounds > CLIENTS, "only {rounds} rounds");
    let peak = memory_kib(&engine);
    println!("{rounds} rounds in {} s, the engine's memory at most {peak} KiB", seconds());
    assert!(peak < MEMORY_KIB_MAX, "the engine needed {peak} KiB");
    // Nobody who sleeps has stopped the container, or anybody else who asks for the same.
    let line = last_line(&engine);
    eventually("another line", || last_line(&engine) > line);
    drop(sleepers);
    assert_eq!(engine.corten(&["ps", "-a", "--format", "{{.Names}}"]).ok(), "chatty");
    eventually("streams are given up", || {
        let info = engine.corten(&["info", "--format", "{{.NEventsListener}}"]).ok();
        info == "0"
    });
}
