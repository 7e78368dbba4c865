//! Registries that mean no good: what they cost an engine is bounded, and it goes on.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use corten_tests::registry::{MANIFEST, TestRegistry, digest};
use corten_tests::{TestEngine, run};
use serde_json::json;
use tempfile::TempDir;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// What an engine may need for such a registry beyond what it needs for others.
const MEMORY_MIB: u64 = 80;

/// What is answered at a path.
#[derive(Clone)]
enum Answer {
    Bytes {
        media_type: &'static str,
        body: Arc<Vec<u8>>,
    },
    /// A body that never ends.
    Endless,
    /// Head and body as they are.
    Raw(String),
}

/// A server that answers what it is told to.
struct Hostile {
    address: SocketAddr,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    asked: Arc<AtomicUsize>,
}

impl Hostile {
    fn start() -> Hostile {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (answers, asked) = (Arc::<Mutex<HashMap<String, Answer>>>::default(), Arc::default());
        let (known, count) = (answers.clone(), Arc::<AtomicUsize>::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (known, count) = (known.clone(), count.clone());
                // A client that hangs up ends it.
                std::thread::spawn(move || serve(stream, &known, &count).is_ok());
            }
        });
        Hostile { address, answers, asked }
    }

    fn answer(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    fn bytes(&self, path: &str, media_type: &'static str, body: &[u8]) {
        self.answer(path, Answer::Bytes { media_type, body: Arc::new(body.to_vec()) });
    }

    fn blob(&self, body: &[u8]) -> String {
        let digest = digest(body);
        self.bytes(&format!("/v2/x/blobs/{digest}"), "application/octet-stream", body);
        digest
    }

    /// An image with one layer, of which the manifest says what `size` says.
    fn image(&self, tag: &str, layer: &str, size: usize) {
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "7".repeat(64))]},
        });
        let config = config.to_string();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": self.blob(config.as_bytes()), "size": config.len()},
            "layers": [{"mediaType": LAYER, "digest": layer, "size": size}],
        });
        self.bytes(&format!("/v2/x/manifests/{tag}"), MANIFEST, manifest.to_string().as_bytes());
    }
}

fn serve(
    stream: TcpStream,
    answers: &Mutex<HashMap<String, Answer>>,
    asked: &AtomicUsize,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut stream = stream;
    loop {
        let Some(first) = lines.next() else { return Ok(()) };
        let first = first?;
        while !lines.next().transpose()?.unwrap_or_default().is_empty() {}
        asked.fetch_add(1, Ordering::Relaxed);
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let answer = answers.lock().unwrap().get(path).cloned();
        match answer {
            None if path == "/v2/" => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")?,
            None => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?,
            Some(Answer::Raw(text)) => stream.write_all(text.as_bytes())?,
            Some(Answer::Bytes { media_type, body }) => {
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n"
                );
                stream.write_all(head.as_bytes())?;
                if method != "HEAD" {
                    stream.write_all(&body)?;
                }
            }
            Some(Answer::Endless) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                let chunk = [&b"10000\r\n"[..], &[b' '; 0x10000], b"\r\n"].concat();
                loop {
                    stream.write_all(&chunk)?;
                }
            }
        }
    }
}

/// What a program prints, given some input by Python, which is quick to say things in.
fn made(script: &str) -> Vec<u8> {
    let output = Command::new("python3").args(["-c", script]).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn memory_peak_mib(engine: &TestEngine) -> u64 {
    let pid = engine.pid().expect("an engine that runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}

fn used_bytes(directory: &Path) -> u64 {
    let output = run(Command::new("du").args(["-s", "-B1", "--"]).arg(directory)).ok();
    output.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn what_they_cost_is_bounded() {
    let server = Hostile::start();
    let engine = TestEngine::with_busybox();
    let own = TempDir::new().unwrap();
    let own = TestRegistry::start(&own.path().join("registry"), &[]);
    let good = format!("{}/busybox:1", own.address());
    engine.corten(&["tag", "busybox", &good]).ok();
    engine.corten(&["push", &good]).ok();
    engine.corten(&["rmi", &good]).ok();
    let images = engine.data_root().join("image");
    let (memory, disk) = (memory_peak_mib(&engine), used_bytes(&images));

    // Manifests that never end, or that nobody needs as large.
    server.answer("/v2/x/manifests/endless", Answer::Endless);
    server.bytes("/v2/x/manifests/large", MANIFEST, &vec![b' '; 64 << 20]);
    let deep = ["[".repeat(200_000), "]".repeat(200_000)].concat();
    let nested = format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","x":{deep}}}"#);
    server.bytes("/v2/x/manifests/nested", MANIFEST, nested.as_bytes());
    let many = json!({"mediaType": MANIFEST, "digest": digest(b"none"), "size": 9, "platform": {"os": "linux", "architecture": "amd64"}});
    let many = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": vec![many; 20_000]});
    server.bytes("/v2/x/manifests/many", INDEX, many.to_string().as_bytes());
    // An index of itself can't be made; one that leads to the next is.
    let (mut next, mut length) = (digest(b"nothing"), 7);
    for depth in 0..50 {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "annotations": {"depth": depth.to_string()},
            "manifests": [{"mediaType": INDEX, "digest": next, "size": length, "platform": {"os": "linux", "architecture": "amd64"}}]});
        let index = index.to_string();
        (next, length) = (digest(index.as_bytes()), index.len());
        server.bytes(&format!("/v2/x/manifests/{next}"), INDEX, index.as_bytes());
        server.bytes("/v2/x/manifests/chain", INDEX, index.as_bytes());
    }
    // Layers that are none, other ones, longer, shorter, or more than they should be.
    let zeros = made(
        "import sys,zlib,tarfile\nt=tarfile.TarInfo('zeros'); t.size=2<<30\nc=zlib.compressobj(9,8,31); z=bytes(1<<20)\n\
         o=sys.stdout.buffer; o.write(c.compress(t.tobuf()))\nfor _ in range(2048): o.write(c.compress(z))\n\
         o.write(c.compress(bytes(1024))); o.write(c.flush())",
    );
    server.image("zeros", &server.blob(&zeros), zeros.len());
    let names = made(
        "import sys,zlib,tarfile\nc=zlib.compressobj(1,8,31); o=sys.stdout.buffer\nfor n in range(400000):\n \
         t=tarfile.TarInfo('%06d'%n); o.write(c.compress(t.tobuf()))\no.write(c.compress(bytes(1024))); o.write(c.flush())",
    );
    server.image("names", &server.blob(&names), names.len());
    let noise = corten_tests::registry::bytes_of(1, 1 << 20);
    server.image("noise", &server.blob(&noise), noise.len());
    let other = digest(b"other");
    server.bytes(&format!("/v2/x/blobs/{other}"), "application/octet-stream", &zeros);
    server.image("other", &other, zeros.len());
    let endless = digest(b"endless");
    server.answer(&format!("/v2/x/blobs/{endless}"), Answer::Endless);
    server.image("longer", &endless, 100_000);
    server.image("half", &server.blob(&zeros), zeros.len() / 2);
    server.image("shorter", &server.blob(&noise), noise.len() * 2);
    server.image("petabytes", &endless, 1 << 50);
    // Answers that lead nowhere.
    let loop_ =
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: /v2/x/manifests/loop\r\nContent-Length: 0\r\n\r\n";
    server.answer("/v2/x/manifests/loop", Answer::Raw(loop_.to_owned()));
    let token = format!(
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"s\"\r\nContent-Length: 0\r\n\r\n",
        server.address
    );
    server.answer("/v2/x/manifests/token", Answer::Raw(token));
    server.bytes("/token?service=s&scope=repository%3Ax%3Apull", "application/json", br#"{"token":"t"}"#);
    for status in
        ["429 Too Many Requests", "503 Service Unavailable", "500 Internal Server Error", "999 What"]
    {
        let path = format!("/v2/x/manifests/s{}", &status[..3]);
        server.answer(&path, Answer::Raw(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")));
    }
    let nothing = "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n";
    server.answer("/v2/x/manifests/nonsense", Answer::Raw(nothing.to_owned()));

    let cases = [
        ("endless", "its answer is larger"),
        ("large", ""),
        ("nested", ""),
        ("many", ""),
        ("chain", ""),
        ("zeros", ""),
        ("names", "entries"),
        ("noise", "neither a tar archive nor compressed"),
        ("other", ""),
        ("longer", ""),
        ("half", ""),
        ("shorter", ""),
        ("loop", ""),
        ("token", ""),
        ("s429", ""),
        ("s503", ""),
        ("s500", "500"),
        ("s999", "999"),
        ("nonsense", ""),
    ];
    for (tag, said) in cases {
        let (begun, asked) = (Instant::now(), server.asked.load(Ordering::Relaxed));
        let refused = engine.corten(&["pull", &format!("{}/x:{tag}", server.address)]).fails(1);
        let (took, asked) = (begun.elapsed(), server.asked.load(Ordering::Relaxed) - asked);
        let memory = memory_peak_mib(&engine) - memory;
        eprintln!(
            "{tag}: {took:.1?}, {asked} requests, {memory} MiB: {}",
            refused.lines().next().unwrap_or_default()
        );
        assert!(refused.contains(said), "{tag}: {refused}");
        assert!(took < Duration::from_secs(300) && asked < 50, "{tag}: {took:?}, {asked} requests");
        assert!(memory < MEMORY_MIB, "{tag}: {memory} MiB");
    }
    // Nobody waits for a petabyte, but who did may stop.
    let mut waiting = engine.command(&["pull", &format!("{}/x:petabytes", server.address)]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    corten_tests::eventually("what came of it is gone", || used_bytes(&images) < disk + (4 << 20));
    assert_eq!(engine.corten(&["run", "-q", "--rm", &good, "echo", "well"]).ok(), "well");
}
