//! `ADD URL`: files of web servers on loopback, which are what each test makes them.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corten_tests::{Output, TestEngine, eventually, run, run_with_input};
use tempfile::TempDir;

/// What is at a path: a head without its status line's `HTTP/1.1` and without the length, and a body.
#[derive(Clone)]
struct Reply {
    head: String,
    body: Vec<u8>,
}

/// A web server that remembers what it was asked.
struct Web {
    port: u16,
    replies: Arc<Mutex<HashMap<String, Reply>>>,
    /// Whole heads.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Web {
    fn new() -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let web = Web {
            port: listener.local_addr().unwrap().port(),
            replies: Arc::default(),
            asked: Arc::default(),
        };
        let (replies, asked) = (web.replies.clone(), web.asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (replies, asked) = (replies.clone(), asked.clone());
                let (sender, ended) = std::sync::mpsc::channel();
                std::thread::spawn(move || {
                    let _ = sender.send(serve(stream, &replies, &asked).is_none());
                });
                // A last visit ends it; one that is not answered whole is not waited for.
                if ended.recv_timeout(Duration::from_millis(200)) == Ok(true) {
                    return;
                }
            }
        });
        web
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn put(&self, path: &str, head: &str, body: &[u8]) {
        let reply = Reply { head: head.to_owned(), body: body.to_vec() };
        self.replies.lock().unwrap().insert(path.to_owned(), reply);
    }

    /// What it was asked since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = stream.write_all(b"END\r\n\r\n");
        }
    }
}

fn serve(
    stream: TcpStream,
    replies: &Mutex<HashMap<String, Reply>>,
    asked: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head).is_ok_and(|count| count > 2) {}
    if head.starts_with("END") {
        return None;
    }
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    asked.lock().unwrap().push(head.to_lowercase());
    let reply = replies.lock().unwrap().get(&path).cloned();
    let reply = reply.unwrap_or(Reply { head: "404 Not Found\r\n".to_owned(), body: Vec::new() });
    let etag = reply.head.lines().find_map(|line| line.strip_prefix("ETag: "));
    let is_same = etag.is_some_and(|etag| head.to_lowercase().contains(&format!("if-none-match: {etag}")));
    let (first, body) = match is_same {
        true => ("304 Not Modified\r\n", &b""[..]),
        false => (reply.head.as_str(), &reply.body[..]),
    };
    let length = match first.contains("Content-Length") {
        true => String::new(),
        false => format!("Content-Length: {}\r\n", body.len()),
    };
    let mut stream = reader.into_inner();
    let is_half = reply.head.contains("X-Half");
    let _ = stream.write_all(format!("HTTP/1.1 {first}Connection: close\r\n{length}\r\n").as_bytes());
    let _ = stream.write_all(body);
    if is_half {
        // Until the other side gives up.
        let _ = stream.read(&mut [0]);
    }
    Some(())
}

fn context(dockerfile: &str) -> TempDir {
    let context = tempfile::tempdir().unwrap();
    fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    context
}

fn build(engine: &TestEngine, context: &Path) -> Output {
    let context = context.display().to_string();
    engine.corten(&["build", "-t", "test", "--progress", "plain", &context])
}

fn runs(engine: &TestEngine, script: &str) -> String {
    engine.corten(&["run", "--rm", "test", "sh", "-c", script]).ok()
}

/// SHA-256, as `--checksum` takes it.
fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

const DATED: &str = "200 OK\r\nETag: \"one\"\r\nLast-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\n";

#[test]
fn a_file_is_fetched_once_and_asked_for_then() {
    let engine = TestEngine::with_busybox();
    let web = Web::new();
    web.put("/a/some%20file?x=1", DATED, b"text");
    let url = web.url("/a/some%20file?x=1");
    let context =
        context(&format!("FROM busybox\nADD {url} /into/\nADD --chmod=644 --chown=7:8 {url} /name\n"));
    build(&engine, context.path()).ok();
    let facts = "cd /into; cat *; stat -c ' %n %a %u %Y' *; stat -c '%a %u:%g' /name";
    assert_eq!(runs(&engine, facts), "text some file 600 0 1000000000\n644 7:8");
    let asked = web.asked();
    assert!(
        asked[0].starts_with("get /a/some%20file?x=1 ") && !asked[0].contains("if-none-match"),
        "{asked:?}"
    );
    let id = engine.corten(&["inspect", "-f", "{{.Id}}", "test"]).ok();
    let told = build(&engine, context.path()).stderr;
    assert!(told.contains("CACHED"), "{told}");
    let asked = web.asked();
    assert!(
        asked.len() == 2 && asked.iter().all(|head| head.contains("if-none-match: \"one\"")),
        "{asked:?}"
    );
    assert_eq!(engine.corten(&["inspect", "-f", "{{.Id}}", "test"]).ok(), id);
    // Beneath it something else: the file is needed again. And then another file.
    let text = fs::read_to_string(context.path().join("Dockerfile"))
        .unwrap()
        .replace("ADD --chmod", "RUN touch /x\nADD --chmod");
    fs::write(context.path().join("Dockerfile"), text).unwrap();
    build(&engine, context.path()).ok();
    assert_eq!(runs(&engine, facts), "text some file 600 0 1000000000\n644 7:8");
    web.put("/a/some%20file?x=1", &DATED.replace("one", "two"), b"other");
    build(&engine, context.path()).ok();
    assert_eq!(runs(&engine, "cat /into/* /name"), "otherother");
}

#[test]
fn a_checksum_is_believed_and_held_to() {
    let engine = TestEngine::with_busybox();
    let web = Web::new();
    web.put("/f", "200 OK\r\n", b"text");
    let line = |digest: &str| {
        format!("ARG SUM={digest}\nFROM busybox\nARG SUM\nADD --checksum=$SUM {} /f\n", web.url("/f"))
    };
    let context = context(&line(&digest(b"text")));
    build(&engine, context.path()).ok();
    assert_eq!((runs(&engine, "cat /f"), web.asked().len()), ("text".to_owned(), 1));
    build(&engine, context.path()).ok();
    assert_eq!(web.asked(), Vec::<String>::new());
    fs::write(context.path().join("Dockerfile"), line(&digest(b"other"))).unwrap();
    let told = build(&engine, context.path()).fails(1);
    assert!(
        told.contains(&digest(b"text")) && told.contains(&digest(b"other")) && told.contains("Dockerfile:4"),
        "{told}"
    );
    fs::write(context.path().join("Dockerfile"), line("md5:1")).unwrap();
    let told = build(&engine, context.path()).fails(1);
    assert!(told.contains("invalid checksum \"md5:1\""), "{told}");
}

#[test]
fn archives_are_unpacked_on_wish() {
    let engine = TestEngine::with_busybox();
    let web = Web::new();
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("inner"), "deep").unwrap();
    let archive = Command::new("tar").args(["-czC"]).arg(tree.path()).arg("inner").output().unwrap().stdout;
    web.put("/a.tar.gz", "200 OK\r\n", &archive);
    let url = web.url("/a.tar.gz");
    // No context is needed for that.
    let text = format!("FROM busybox\nADD {url} /kept/\nADD --unpack=true {url} /open/\n");
    let mut corten = Command::new(corten_tests::binary("corten"));
    corten.args(["-H", &engine.host(), "build", "-t", "test", "-"]);
    run_with_input(&mut corten, &text).ok();
    assert_eq!(runs(&engine, "ls /kept; cat /open/inner"), "a.tar.gz\ndeep");
}

#[test]
fn redirects_lead_no_password_away_and_end() {
    let engine = TestEngine::with_busybox();
    let (first, second) = (Web::new(), Web::new());
    second.put("/there", "200 OK\r\n", b"text");
    first.put("/here", &format!("302 Found\r\nLocation: {}\r\n", second.url("/there")), b"");
    first.put("/round", "302 Found\r\nLocation: /round\r\n", b"");
    let url = first.url("/here").replace("http://", "http://joe:hush@");
    let context = context(&format!("FROM busybox\nADD {url} /f\n"));
    build(&engine, context.path()).ok();
    assert_eq!(runs(&engine, "cat /f"), "text");
    assert!(first.asked()[0].contains("authorization: basic "), "shown where it belongs");
    assert!(!second.asked()[0].contains("authorization"), "and nowhere else");
    let records = run(Command::new("grep").args(["-rl", "hush"]).arg(engine.data_root().join("build")));
    assert_eq!(records.stdout, "");
    for (path, wanted) in [("/round", "redirects"), ("/missing", "404 Not Found: check the URL")] {
        let url = first.url(path);
        fs::write(context.path().join("Dockerfile"), format!("FROM busybox\nADD {url} /f\n")).unwrap();
        let told = build(&engine, context.path()).fails(1);
        assert!(told.contains(&url) && told.contains(wanted) && told.contains("Dockerfile:2"), "{told}");
    }
}

#[test]
fn servers_that_lie_are_found_out() {
    let engine = TestEngine::with_busybox();
    let web = Web::new();
    web.put("/huge", "200 OK\r\nContent-Length: 99999999999999\r\n", b"x");
    web.put("/short", "200 OK\r\nContent-Length: 10\r\n", b"x");
    web.put("/failing", "503 Service Unavailable\r\n", b"");
    for (path, wanted) in
        [("/huge", "larger than 32 GiB"), ("/short", "/short"), ("/failing", "503 Service Unavailable")]
    {
        let context = context(&format!("FROM busybox\nADD {} /f\n", web.url(path)));
        let told = build(&engine, context.path()).fails(1);
        assert!(told.contains(wanted), "{path}: {told}");
    }
    eventually("nothing of it is left", || {
        fs::read_dir(engine.data_root().join("build/archives")).map_or(0, Iterator::count) == 0
    });
}

#[test]
fn a_half_of_a_file_goes_with_whoever_wanted_it() {
    let mut engine = TestEngine::with_busybox();
    let web = Web::new();
    let half = vec![b'x'; 3 << 20];
    web.put("/f", "200 OK\r\nX-Half: yes\r\nContent-Length: 9437184\r\n", &half);
    let context = context(&format!("FROM busybox\nADD {} /f\n", web.url("/f")));
    let archives = engine.data_root().join("build/archives");
    let kept = |least: u64| {
        let found = run(Command::new("du").args(["-sb", "--"]).arg(&archives)).stdout;
        found.split_whitespace().next().and_then(|size| size.parse().ok()).unwrap_or(0_u64) > least
    };
    let begun = |engine: &TestEngine| {
        let mut corten = engine.command(&["build"]);
        let client = corten.arg(context.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("a half is there", || kept(2 << 20));
        client
    };
    let mut client = begun(&engine);
    client.kill().unwrap();
    client.wait().unwrap();
    eventually("it is gone with the client", || fs::read_dir(&archives).map_or(0, Iterator::count) == 0);
    let mut client = begun(&engine);
    engine.kill();
    client.wait().unwrap();
    engine.restart();
    eventually("it is gone with the next engine", || fs::read_dir(&archives).map_or(0, Iterator::count) == 0);
    web.put("/f", "200 OK\r\n", b"whole");
    build(&engine, context.path()).ok();
    assert_eq!(runs(&engine, "cat /f"), "whole");
}
