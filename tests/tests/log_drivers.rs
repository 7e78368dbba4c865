//! Log drivers that send output elsewhere, against receivers of our own; options, attributes, and the copy that `logs` reads.

use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use corten_tests::{TestEngine, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

fn udp() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let address = format!("udp://{}", socket.local_addr().expect("an address"));
    (socket, address)
}

fn packet(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let read = socket.recv(&mut buffer).expect("a packet");
    buffer.truncate(read);
    buffer
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

/// Everything that the next connection brings.
fn received(listener: TcpListener) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("a connection");
        connection.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let mut bytes = Vec::new();
        connection.read_to_end(&mut bytes).expect("the end");
        bytes
    })
}

/// `--log-opt` for each option.
fn options<'a>(driver: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["--log-driver", driver];
    options.iter().for_each(|option| all.extend(["--log-opt", option]));
    all
}

fn run(engine: &TestEngine, flags: &[&str], script: &str) -> String {
    engine.corten(&[&["run", "-d"], flags, &["busybox", "sh", "-c", script]].concat()).ok()
}

#[test]
fn syslog_over_every_transport() {
    let engine = TestEngine::with_busybox();
    let (socket, address) = udp();
    let flags =
        [format!("syslog-address={address}"), "syslog-facility=local1".into(), "tag={{.Name}}/x".into()];
    let mut flags = options("syslog", &flags.each_ref().map(String::as_str));
    flags.extend(["--name", "web"]);
    run(&engine, &flags, "echo hello; echo; echo oops >&2");
    let mut messages = [text(packet(&socket)), text(packet(&socket))];
    messages.sort();
    let ends_well = |message: &str, head: &str, tail: &str| {
        message.starts_with(head) && message.contains(" web/x[") && message.ends_with(tail)
    };
    assert!(ends_well(&messages[0], "<139>", "]: oops\n"), "{messages:?}");
    assert!(ends_well(&messages[1], "<142>", "]: hello\n"), "{messages:?}");

    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = format!("syslog-address=tcp://{}", listener.local_addr().expect("an address"));
    let receiver = received(listener);
    let id =
        run(&engine, &options("syslog", &[&address, "syslog-format=rfc5424micro"]), "echo one; echo two");
    let lines = text(receiver.join().expect("a receiver"));
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].starts_with("<30>1 2") && lines[0].ends_with(&format!(" {} - one", &id[..12])),
        "{lines:?}"
    );
    // What was sent elsewhere can be read here, too.
    assert_eq!(engine.corten(&["logs", &id]).ok(), "one\ntwo");
    assert_eq!(engine.docker(&["logs", "--tail", "1", &id]).ok(), "two");

    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let listener = UnixListener::bind(&path).expect("a listener");
    let address = format!("syslog-address=unix://{}", path.display());
    let id = run(&engine, &options("syslog", &[&address, "cache-disabled=true"]), "echo local");
    let mut line = String::new();
    listener.accept().expect("a connection").0.read_to_string(&mut line).expect("a line");
    assert!(line.ends_with(": local\n"), "{line}");
    let refused = engine.corten(&["logs", &id]).fails(1);
    assert!(refused.contains("configured logging driver does not support reading"), "{refused}");
}

#[test]
fn gelf_over_udp_and_tcp() {
    let engine = TestEngine::with_busybox();
    let (socket, address) = udp();
    let address = format!("gelf-address={address}");
    let mut flags = options("gelf", &[&address, "labels=tier", "env=STAGE"]);
    flags.extend(["--label", "tier=front", "-e", "STAGE=test"]);
    let id = run(&engine, &flags, "echo hello");
    let packed = packet(&socket);
    assert_eq!(packed[..2], [0x1f, 0x8b]);
    let message = unpack(&packed);
    assert_eq!(message["short_message"], "hello");
    assert_eq!((&message["version"], &message["level"]), (&"1.1".into(), &6.into()));
    assert_eq!((&message["_tier"], &message["_STAGE"]), (&"front".into(), &"test".into()));
    assert_eq!(
        (&message["_container_id"], &message["_image_name"]),
        (&id.as_str().into(), &"busybox".into())
    );
    assert_eq!(message["_tag"], &id[..12]);

    // A line longer than one packet, in chunks.
    let flags = options("gelf", &[&address, "gelf-compression-type=none"]);
    run(&engine, &flags, "head -c 9000 /dev/zero | tr '\\0' x; echo");
    let mut whole = Vec::new();
    let chunks = loop {
        let chunk = packet(&socket);
        assert_eq!(chunk[..2], [0x1e, 0x0f]);
        whole.extend_from_slice(&chunk[12..]);
        if chunk[10] + 1 == chunk[11] {
            break chunk[11];
        }
    };
    assert!(chunks > 6 && text(whole).contains(&"x".repeat(9000)));

    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = format!("gelf-address=tcp://{}", listener.local_addr().expect("an address"));
    let receiver = received(listener);
    run(&engine, &options("gelf", &[&address]), "echo one; echo two >&2");
    let bytes = receiver.join().expect("a receiver");
    let mut messages: Vec<(String, i64)> = bytes
        .split(|byte| *byte == 0)
        .filter(|object| !object.is_empty())
        .map(|object| serde_json::from_slice::<serde_json::Value>(object).expect("JSON"))
        .map(|m| {
            (m["short_message"].as_str().unwrap_or_default().to_owned(), m["level"].as_i64().unwrap_or(0))
        })
        .collect();
    messages.sort();
    assert_eq!(messages, [("one".to_owned(), 6), ("two".to_owned(), 3)]);
}

/// A gzipped JSON object, unpacked by a program that is not ours.
fn unpack(packed: &[u8]) -> serde_json::Value {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("message.gz");
    std::fs::write(&path, packed).expect("a file");
    let output = std::process::Command::new("gzip").arg("-dc").arg(&path).output().expect("gzip");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Reads one MessagePack value: what of the format a log message has.
fn message_pack(bytes: &mut &[u8]) -> serde_json::Value {
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(count);
        *bytes = rest;
        taken
    }
    let number =
        |bytes: &mut &[u8], count| take(bytes, count).iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
    let kind = take(bytes, 1)[0];
    let string = |bytes: &mut &[u8], len: u64| text(take(bytes, len as usize).to_vec()).into();
    match kind {
        0x80..=0x8f => (0..kind & 15)
            .map(|_| (message_pack(bytes).as_str().expect("a key").to_owned(), message_pack(bytes)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        0x90..=0x9f => (0..kind & 15).map(|_| message_pack(bytes)).collect::<Vec<_>>().into(),
        0xa0..=0xbf => string(bytes, u64::from(kind & 31)),
        0xd9 => {
            let len = number(bytes, 1);
            string(bytes, len)
        }
        0xd3 => number(bytes, 8).into(),
        0xd7 => {
            assert_eq!(number(bytes, 1), 0, "EventTime");
            serde_json::json!([number(bytes, 4), number(bytes, 4)])
        }
        other => panic!("{other:#x}"),
    }
}

#[test]
fn fluentd_by_the_forward_protocol() {
    let engine = TestEngine::with_busybox();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = format!("fluentd-address={}", listener.local_addr().expect("an address"));
    let receiver = received(listener);
    let flags = options("fluentd", &[&address, "tag=app.{{.Name}}", "fluentd-sub-second-precision=true"]);
    let id = run(&engine, &[&flags[..], &["--name", "one"]].concat(), "echo hello");
    let bytes = receiver.join().expect("a receiver");
    let message = message_pack(&mut bytes.as_slice());
    assert_eq!(message[0], "app.one");
    assert!(message[1][0].as_u64() > Some(1_700_000_000) && message[1][1].as_u64() < Some(1_000_000_000));
    let expected =
        serde_json::json!({"container_id": id, "container_name": "/one", "source": "stdout", "log": "hello"});
    assert_eq!((&message[2], &message[3]), (&expected, &serde_json::json!({})));

    // Asynchronous: the container runs before anybody listens, and nothing is lost.
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("fluentd");
    let address = format!("fluentd-address=unix://{}", path.display());
    let flags = options("fluentd", &[&address, "fluentd-async=true", "fluentd-retry-wait=50ms"]);
    let id = run(&engine, &[&flags[..], &["-i"]].concat(), "echo early; cat");
    eventually("the line is logged", || engine.corten(&["logs", &id]).stdout == "early\n");
    let listener = UnixListener::bind(&path).expect("a listener");
    let (mut connection, _) = listener.accept().expect("a connection");
    connection.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let mut buffer = [0; 4096];
    let read = connection.read(&mut buffer).expect("a message");
    assert_eq!(message_pack(&mut &buffer[..read])[2]["log"], "early");
    // Synchronous: a container that can't log does not start.
    let flags = options("fluentd", &["fluentd-address=127.0.0.1:1"]);
    let refused = engine.corten(&[&["run"], &flags[..], &["busybox", "true"]].concat());
    let text = "failed to initialize logging driver: dial tcp 127.0.0.1:";
    assert!(
        refused.stderr.contains(text) && refused.stderr.contains("connect: connection refused"),
        "{refused:?}"
    );
}

/// The journal's socket has a fixed place, so there must be no journal.
#[test]
fn journald_by_its_own_protocol() {
    let directory = Path::new("/run/systemd/journal");
    if directory.exists() {
        eprintln!("skipped: this host has a journal");
        return;
    }
    let made: Vec<&Path> = directory.ancestors().take_while(|path| !path.exists()).collect();
    std::fs::create_dir_all(directory).expect("a directory");
    let socket = directory.join("socket");
    let journal = std::os::unix::net::UnixDatagram::bind(&socket).expect("a journal");
    journal.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let outcome = std::panic::catch_unwind(|| {
        let engine = TestEngine::with_busybox();
        let flags = options("journald", &["labels=com.example.tier", "tag={{.ImageName}}"]);
        let more = ["--name", "web", "--label", "com.example.tier=front"];
        let id = run(&engine, &[&flags[..], &more].concat(), "echo oops >&2");
        let mut buffer = [0; 4096];
        let read = journal.recv(&mut buffer).expect("a message");
        let message = text(buffer[..read].to_vec());
        for field in [
            "PRIORITY=3\n",
            "MESSAGE=oops\n",
            &format!("CONTAINER_ID={}\n", &id[..12]),
            &format!("CONTAINER_ID_FULL={id}\n"),
            "CONTAINER_NAME=web\n",
            "CONTAINER_TAG=busybox\n",
            "SYSLOG_IDENTIFIER=busybox\n",
            "IMAGE_NAME=busybox\n",
            "COM_EXAMPLE_TIER=front\n",
            "SYSLOG_TIMESTAMP=2",
        ] {
            assert!(message.contains(field), "{field}: {message}");
        }
    });
    std::fs::remove_file(&socket).expect("remove the journal");
    for path in made {
        std::fs::remove_dir(path).expect("remove the directory");
    }
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    let engine = TestEngine::with_busybox();
    let refused = engine.corten(&["run", "--log-driver", "journald", "busybox", "true"]);
    assert!(refused.stderr.contains("journald is not enabled on this host"), "{refused:?}");
}

/// A receiver that takes the connection and nothing more.
#[test]
fn a_stuck_receiver_stops_nobody_in_non_blocking_mode() {
    let mut engine = TestEngine::with_busybox();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = format!("syslog-address=tcp://{}", listener.local_addr().expect("an address"));
    let flags =
        options("syslog", &[&address, "mode=non-blocking", "max-buffer-size=1m", "cache-max-size=1m"]);
    let script =
        "yes 0123456789012345678901234567890123456789 | head -c 60000000; echo; echo done; sleep 1000";
    let id = run(&engine, &flags, script);
    let stuck = listener.accept().expect("a connection");
    eventually("the container is through", || {
        engine.corten(&["logs", "--tail", "1", &id]).stdout == "done\n"
    });
    let monitor = monitor_of(&id);
    let private_kib = private_kib(monitor);
    assert!(private_kib < 2600, "{private_kib} KiB");
    // It goes on without the engine.
    engine.kill();
    engine.restart();
    drop(stuck);
    let mut again = listener.accept().expect("another connection").0;
    let mut head = [0; 64];
    again.read_exact(&mut head).expect("messages");
    assert!(head.starts_with(b"<30>"));
    engine.corten(&["rm", "-f", &id]).ok();
}

/// The process that watches over a container.
fn monitor_of(id: &str) -> u32 {
    let title = format!("corten-shim {}", &id[..12]);
    let processes = std::fs::read_dir("/proc").expect("processes").flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_monitor = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(&title))
    };
    numbers.find(is_monitor).expect("a monitor")
}

fn private_kib(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("memory");
    let lines = rollup.lines().filter(|line| line.starts_with("Private_"));
    lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

#[test]
fn a_stuck_receiver_stops_the_container_in_blocking_mode() {
    let engine = TestEngine::with_busybox();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = format!("gelf-address=tcp://{}", listener.local_addr().expect("an address"));
    let script = "yes 0123456789 | head -n 200000; echo done; sleep 1000";
    let id = run(&engine, &options("gelf", &[&address]), script);
    let (mut stuck, _) = listener.accept().expect("a connection");
    // It writes what fits, and no more.
    let written = || engine.corten(&["logs", &id]).stdout.len();
    let mut before = 0;
    eventually("the container waits", || {
        let now = written();
        let waits = now > 0 && now == std::mem::replace(&mut before, now);
        // Nothing tells that it waits but that no more comes.
        std::thread::sleep(Duration::from_millis(200));
        waits
    });
    assert!(before < 2_200_000, "{before}");
    assert!(private_kib(monitor_of(&id)) < 1200);
    stuck.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let reader = std::thread::spawn(move || {
        let (mut count, mut buffer) = (0, vec![0; 1 << 16]);
        while let Ok(read @ 1..) = stuck.read(&mut buffer) {
            count += buffer[..read].iter().filter(|byte| **byte == 0).count();
        }
        count
    });
    eventually("the container is through", || {
        engine.corten(&["logs", "--tail", "1", &id]).stdout == "done\n"
    });
    engine.corten(&["rm", "-f", &id]).ok();
    assert_eq!(reader.join().expect("a reader"), 200_001);
}

#[test]
fn options_attributes_and_defaults() {
    let engine = TestEngine::start_with(&["--log-driver", "local", "--log-opt", "max-size=5m"]);
    engine.add_busybox();
    let info = engine.docker(&["info", "--format", "{{.LoggingDriver}} {{.Plugins.Log}}"]).ok();
    assert_eq!(info, "local [fluentd gelf journald json-file local syslog]");
    let inspect =
        |id: &str| engine.corten(&["inspect", "--format", "{{json .HostConfig.LogConfig}}", id]).ok();
    let attributes =
        ["--label", "a=1 2", "-e", "B=x&y", "--log-opt", "labels=a", "--log-opt", "env-regex=^B$"];
    let id = run(&engine, &attributes, "echo hi");
    assert!(inspect(&id).contains("\"max-size\":\"5m\""));
    engine.corten(&["wait", &id]).ok();
    assert_eq!(engine.docker(&["logs", "--details", &id]).ok(), "B=x%26y,a=1+2 hi");
    assert_eq!(engine.corten(&["logs", "--details", &id]).ok(), "B=x%26y,a=1+2 hi");
    let flags =
        [&attributes[..], &["--log-driver", "json-file", "--log-opt", "tag={{.Name}}", "--name", "jay"]]
            .concat();
    let id = run(&engine, &flags, "echo hi");
    assert_eq!(inspect(&id).matches("max-size").count(), 0);
    engine.corten(&["wait", &id]).ok();
    let path = engine.corten(&["inspect", "--format", "{{.LogPath}}", &id]).ok();
    let line = std::fs::read_to_string(path).expect("a log");
    let head = "{\"log\":\"hi\\n\",\"stream\":\"stdout\",\"attrs\":{\"B\":\"x\\u0026y\",\"a\":\"1 2\",\"tag\":\"jay\"},\"time\":\"2";
    assert!(line.starts_with(head), "{line}");
    assert_eq!(engine.docker(&["logs", "--details", &id]).ok(), "B=x%26y,a=1+2,tag=jay hi");
    for (flags, text) in [
        (options("json-file", &["x=1"]), "unknown log opt 'x' for json-file log driver"),
        (options("awslogs", &[]), "logger: no log driver named 'awslogs' is registered"),
        (options("gelf", &[]), "gelf-address is a required parameter"),
    ] {
        let refused = engine.docker(&[&["create"], &flags[..], &["busybox", "true"]].concat());
        assert!(refused.stderr.contains(text), "{refused:?}");
    }
}

#[test]
fn rotated_files_are_compressed_and_read_from_where_it_is_asked() {
    let engine = TestEngine::with_busybox();
    for driver in ["local", "json-file"] {
        let flags = options(driver, &["max-size=1m", "max-file=4", "compress=true"]);
        let script = "i=0; while [ $i -lt 8 ]; do seq 1 30000 | sed \"s/^/$i some words to fill a line /\"; i=$((i+1)); done; echo end; sleep 1000";
        let id = run(&engine, &flags, script);
        eventually("all is logged", || engine.corten(&["logs", "--tail", "1", &id]).stdout == "end\n");
        let path = engine.corten(&["inspect", "--format", "{{.LogPath}}", &id]).ok();
        let there = |suffix: &str| Path::new(&format!("{path}{suffix}")).exists();
        // By processes that leave every other one the processor.
        for count in 1..=3 {
            eventually("three files are compressed", || {
                let compressed = |n: &i32| there(&format!(".{n}.gz")) && !there(&format!(".{n}"));
                (1..4).filter(compressed).count() >= count
            });
        }
        eventually("nothing is half-made", || !there(".gz.new"));
        let all = engine.corten(&["logs", &id]).ok();
        let lines: Vec<&str> = all.lines().collect();
        assert!(
            lines.len() > 30_000 && lines.ends_with(&["7 some words to fill a line 30000", "end"]),
            "{}",
            lines.len()
        );
        let zcat = std::process::Command::new("zcat").arg(format!("{path}.3.gz")).output().expect("zcat");
        assert!(zcat.status.success() && zcat.stdout.len() > 900_000);
        let middle = lines[lines.len() - 20_000];
        let tail = engine.docker(&["logs", "--tail", "20000", "-t", &id]).ok();
        let (time, first) = tail.lines().next().and_then(|line| line.split_once(' ')).expect("a time");
        assert_eq!(first, middle);
        let since = engine.docker(&["logs", "--since", time, &id]).ok();
        assert!(since.lines().any(|line| line == middle) && since.lines().count() < 30_000);
        engine.corten(&["rm", "-f", &id]).ok();
    }
}
