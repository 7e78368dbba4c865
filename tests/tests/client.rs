//! Our command line towards its surroundings: closed pipes, full disks, terminals, the client's configuration, older engines.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use corten_tests::{Output, TestEngine, binary, eventually, run};

/// More output than a pipe holds.
const MANY_LINES: &str = "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done";

fn shell(engine: &TestEngine, script: &str) -> Output {
    let corten = binary("corten");
    let mut command = Command::new("bash");
    command.args(["-c", script]).env("C", corten).env("DOCKER_HOST", engine.host());
    run(command.env("MANY_LINES", MANY_LINES))
}

#[test]
fn who_waits_for_what_is_to_come_ends_with_its_reader() {
    let engine = TestEngine::with_busybox();
    engine.background("web", &[], "echo ready; exec sleep 1000");
    eventually("the log is there", || engine.corten(&["logs", "web"]).stdout == "ready\n");
    // Nothing happens meanwhile, so that nothing is written that could fail.
    for line in ["events --filter event=pause", "events --since 1h --filter event=start", "logs -f web"] {
        let seen = shell(&engine, &format!("timeout 60 $C {line} | true; echo ${{PIPESTATUS[0]}}"));
        assert_eq!((seen.stdout.as_str(), seen.stderr.as_str()), ("0\n", ""), "{line}");
    }
    engine.corten(&["rm", "-f", "web"]).ok();
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let engine = TestEngine::with_busybox();
    engine.background("web", &[], &format!("{MANY_LINES}; exec sleep 1000"));
    eventually("the log is there", || engine.corten(&["logs", "-n", "1", "web"]).stdout == "line 29999\n");
    for line in [
        "logs web",
        "logs -f web",
        "exec web sh -c \"$MANY_LINES\"",
        "run --rm busybox sh -c \"$MANY_LINES\"",
        "export web",
        "save busybox",
        "cp web:/bin/busybox -",
        "inspect web web web web web web web web web web web web web web web web web web",
        "events --since 1h",
    ] {
        let seen = shell(&engine, &format!("$C {line} | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}"));
        assert_eq!((seen.stdout.as_str(), seen.stderr.as_str()), ("0\n", ""), "{line}");
    }
    // What can't be said changes nothing.
    assert_eq!(shell(&engine, "$C inspect nosuch 2>/dev/full").code, 1);
    assert_eq!(shell(&engine, "$C run --nosuch 2>/dev/full").code, 125);
    for line in ["ps", "logs web", "save busybox", "exec web echo hello"] {
        let full = shell(&engine, &format!("$C {line} >/dev/full")).fails(1);
        assert!(full.contains("writing to standard output: No space left"), "{line}: {full}");
        assert!(full.contains("standard output goes to"), "{line}: {full}");
    }
    // Bytes that are no text go through as they are.
    assert_eq!(shell(&engine, "$C exec web printf '\\377\\0\\376' | od -An -tx1").ok().trim(), "ff 00 fe");
    engine.corten(&["rm", "-f", "web"]).ok();
}

/// Runs a client on a terminal of its own until `sh` there has said its word, ends it by a signal and tells how that was.
const ON_A_TERMINAL: &str = r#"
import os, pty, signal, sys, termios
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
seen = b""
while b"ready" not in seen:
    seen += os.read(fd, 1000)
raw = not termios.tcgetattr(fd)[3] & termios.ECHO
os.kill(pid, signal.SIGTERM)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
echo = bool(termios.tcgetattr(fd)[3] & termios.ECHO)
print(raw, status, echo)
"#;

#[test]
fn a_client_that_is_ended_gives_its_terminal_back() {
    let engine = TestEngine::with_busybox();
    engine.background("web", &[], "exec sleep 1000");
    engine
        .corten(&[
            "run",
            "-dit",
            "--name",
            "shell",
            "busybox",
            "sh",
            "-c",
            "while :; do echo ready; sleep 1; done",
        ])
        .ok();
    let corten = binary("corten").display().to_string();
    for line in ["exec -it web sh -c 'echo ready; sleep 1000'", "attach shell"] {
        let mut python = Command::new("python3");
        python.args(["-c", ON_A_TERMINAL, &corten, "-H", &engine.host()]);
        let words = line.split('\'').enumerate().flat_map(|(index, part)| match index % 2 {
            0 => part.split_whitespace().collect(),
            _ => vec![part],
        });
        assert_eq!(run(python.args(words)).ok(), "True 143 True", "{line}");
    }
    engine.corten(&["rm", "-f", "web", "shell"]).ok();
}

fn with_config(engine: &TestEngine, program: &Path, config: &Path, line: &str) -> Output {
    let mut command = Command::new(program);
    command.args(["-H", &engine.host(), "--config"]).arg(config).args(line.split(' '));
    run(command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT"))
}

#[test]
fn settings_of_docker_s_client_are_ours() {
    let engine = TestEngine::with_busybox();
    engine.background("web", &["-v", "vol:/data"], "exec sleep 1000");
    let config = tempfile::tempdir().expect("a directory");
    let settings = r#"{
        "proxies": {"default": {"httpProxy": "http://proxy:3128", "noProxy": "localhost", "allProxy": "socks5://s"}},
        "HttpHeaders": {"X-Kind": "test"},
        "psFormat": "{{.Names}} p", "imagesFormat": "{{.Repository}} i", "networksFormat": "{{.Name}} n",
        "volumesFormat": "{{.Name}} v", "statsFormat": "{{.Name}} s"
    }"#;
    std::fs::write(config.path().join("config.json"), settings).expect("the configuration");
    for line in [
        "ps",
        "ps -q",
        "ps --format {{.Image}}",
        "images",
        "images -q",
        "network ls",
        "volume ls",
        "stats --no-stream",
        "run --rm busybox env",
        "run --rm -e http_proxy=mine -e NO_PROXY busybox env",
        "run --rm -e HOSTNAME busybox env",
    ] {
        let seen = |program: &Path| {
            let output = with_config(&engine, program, config.path(), line);
            let mut lines: Vec<String> = output.stdout.lines().map(str::to_owned).collect();
            lines.retain(|line| !line.starts_with("HOSTNAME="));
            lines.sort();
            (output.code, lines)
        };
        assert_eq!(seen(&binary("corten")), seen(Path::new("docker")), "{line}");
    }
    let corten = |line: &str| with_config(&engine, &binary("corten"), config.path(), line);
    assert!(corten("run --rm busybox env").ok().contains("http_proxy=http://proxy:3128"));
    corten("create --name made busybox").ok();
    assert!(engine.corten(&["inspect", "made"]).ok().contains("ALL_PROXY=socks5://s"));
    // A file of variables counts as said, unlike with docker.
    let file = config.path().join("env");
    std::fs::write(&file, "HTTP_PROXY=filed\n").expect("a file");
    let env = corten(&format!("run --rm --env-file {} busybox env", file.display())).ok();
    assert!(env.contains("HTTP_PROXY=filed\n") && env.contains("http_proxy=http://proxy"), "{env}");
    // What is no JSON is told of once, and does no harm.
    std::fs::write(config.path().join("config.json"), "{").expect("the configuration");
    let broken = corten("ps -q");
    assert_eq!(
        (broken.code, broken.stderr.matches("Error loading config file").count()),
        (0, 1),
        "{broken:?}"
    );
    engine.corten(&["rm", "-f", "web", "made"]).ok();
    engine.corten(&["volume", "rm", "vol"]).ok();
}

#[test]
fn the_platform_of_the_environment_is_the_default() {
    let engine = TestEngine::with_busybox();
    let foreign = |args: &[&str]| run(engine.command(args).env("DOCKER_DEFAULT_PLATFORM", "linux/arm64"));
    let refused = foreign(&["run", "--rm", "busybox", "true"]).fails(125);
    assert!(refused.contains("does not match the specified platform (linux/arm64)"), "{refused}");
    foreign(&["run", "--rm", "--platform", "linux/amd64", "busybox", "true"]).ok();
}

/// An engine that knows version 1.41 at most, for as many requests as there are; the paths that were asked for.
fn older_engine(socket: &Path, requests: usize) -> std::thread::JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(socket).expect("a socket");
    std::thread::spawn(move || {
        let mut asked = Vec::new();
        while asked.len() < requests {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
            let mut first = String::new();
            while asked.len() < requests && reader.read_line(&mut first).expect("a request") > 0 {
                let path = first.split(' ').nth(1).expect("a path").to_owned();
                let mut line = String::new();
                while reader.read_line(&mut line).expect("a header") > 2 {
                    line.clear();
                }
                let (status, body) = match path.starts_with("/v1.41/") {
                    true => ("200 OK", "[]"),
                    false => (
                        "400 Bad Request",
                        r#"{"message":"client version 1.55 is too new. Maximum supported API version is 1.41"}"#,
                    ),
                };
                write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
                .expect("an answer");
                asked.push(path);
                first.clear();
            }
        }
        asked
    })
}

#[test]
fn an_older_engine_is_asked_again_in_its_own_version() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("old.sock");
    let engine = older_engine(&socket, 2);
    let corten = || {
        let mut command = Command::new(binary("corten"));
        command.args(["-H", &format!("unix://{}", socket.display())]);
        command
    };
    assert_eq!(run(corten().args(["images", "-q"])).ok(), "");
    assert_eq!(engine.join().expect("requests"), ["/v1.55/images/json", "/v1.41/images/json"]);
    std::fs::remove_file(&socket).expect("the socket");
    let engine = older_engine(&socket, 1);
    assert_eq!(run(corten().args(["images", "-q"]).env("DOCKER_API_VERSION", "1.41")).ok(), "");
    assert_eq!(engine.join().expect("requests"), ["/v1.41/images/json"]);
    // What is read or asked is so once.
    std::fs::remove_file(&socket).expect("the socket");
    let engine = older_engine(&socket, 2);
    let script =
        format!("echo y | {} -H unix://{} network prune", binary("corten").display(), socket.display());
    let pruned = run(Command::new("sh").args(["-c", &script]));
    assert_eq!(pruned.stderr.matches("[y/N]").count(), 1, "{}", pruned.stderr);
    assert_eq!(engine.join().expect("requests"), ["/v1.55/_ping", "/v1.41/networks/prune"]);
    std::fs::remove_file(&socket).expect("the socket");
    let engine = older_engine(&socket, 2);
    let archive = dir.path().join("archive");
    std::fs::write(&archive, vec![b'x'; 1 << 20]).expect("an archive");
    let loaded = run(corten().args(["load", "-q"]).stdin(std::fs::File::open(archive).expect("an archive")));
    assert!(!loaded.stderr.contains("too new"), "{}", loaded.stderr);
    assert_eq!(engine.join().expect("requests"), ["/v1.55/_ping", "/v1.41/images/load?quiet=1"]);
}
