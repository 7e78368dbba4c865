//! Real programs in a real Debian: a database server with a volume and a published port, used from outside.
//!
//! Needs the host's package sources.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use corten_tests::{TestEngine, eventually};

/// One command of the Redis protocol, and the first line of its answer.
fn redis(address: &str, command: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).ok()?;
    stream.write_all(format!("{command}\r\n").as_bytes()).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    if line.starts_with('$') {
        line.clear();
        reader.read_line(&mut line).ok()?;
    }
    Some(line.trim_end().to_owned())
}

#[test]
fn redis_in_debian_keeps_its_data_in_a_volume() {
    let engine = TestEngine::start();
    engine.corten(&["image", "create-base", "debian:base"]).ok();
    let install = "apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null && exec redis-server --bind 0.0.0.0 --protected-mode no --dir /data --appendonly yes --daemonize no";
    let start = |name: &str| {
        engine
            .corten(&[
                "run",
                "-d",
                "--name",
                name,
                "-p",
                "127.0.0.1::6379",
                "-v",
                "store:/data",
                "--memory",
                "512m",
                "debian:base",
                "sh",
                "-c",
                install,
            ])
            .ok();
        let address = engine.corten(&["port", name, "6379"]).ok();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(600);
        while redis(&address, "PING").as_deref() != Some("+PONG") {
            let running = engine.corten(&["inspect", "-f", "{{.State.Running}}", name]).ok();
            assert!(
                running == "true" && std::time::Instant::now() < deadline,
                "{}",
                engine.corten(&["logs", name]).stderr
            );
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        address
    };
    let address = start("first");
    assert_eq!(redis(&address, "SET colour rust").as_deref(), Some("+OK"));
    engine.docker(&["rm", "-f", "first"]).ok();
    let address = start("second");
    eventually("the data is there again", || redis(&address, "GET colour").as_deref() == Some("rust"));
    assert!(engine.docker(&["exec", "second", "redis-cli", "INFO", "server"]).ok().contains("redis_version"));
}
