//! An S3 server of a test's own (s3s-fs), and what stands before it and can be told to misbehave.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::eventually;

pub const ACCESS_KEY: &str = "test-key";
pub const SECRET_KEY: &str = "test-secret";
pub const BUCKET: &str = "hub";

/// The S3 server's program: what `$CORTEN_S3_SERVER` says, or what `scripts/s3-server target/clients` has built. None where it
/// can't be had; a test says so then.
pub fn s3_server() -> Option<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a parent");
    let built = repository.join("target/clients/bin/s3s-fs");
    let found = std::env::var_os("CORTEN_S3_SERVER").map_or(built, PathBuf::from);
    if !found.is_file() {
        eprintln!("no s3s-fs: scripts/s3-server target/clients builds it; not tested");
        return None;
    }
    Some(found)
}

/// A server with one bucket, on a directory.
pub struct Store {
    process: Child,
    address: SocketAddr,
    root: PathBuf,
}

impl Store {
    pub fn start(program: &Path, root: &Path) -> Self {
        fs::create_dir_all(root.join(BUCKET)).expect("a bucket");
        // It takes no port of the system's choice. Somebody else may be quicker to take the one that was just free.
        for _ in 0..20 {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let address = free.expect("a free port");
            let mut process = Command::new(program)
                .args(["--host", "127.0.0.1", "--port", &address.port().to_string()])
                .args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY])
                .arg(root)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("start s3s-fs");
            let mut has_ended = false;
            eventually("the S3 server listens", || {
                has_ended = process.try_wait().expect("its state").is_some();
                has_ended || TcpStream::connect(address).is_ok()
            });
            if !has_ended {
                return Self { process, address, root: root.to_owned() };
            }
        }
        panic!("s3s-fs does not start");
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the bucket's objects lie as files.
    pub fn bucket(&self) -> PathBuf {
        self.root.join(BUCKET)
    }

    /// Names of the objects in the bucket, in order.
    pub fn objects(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.bucket(), &self.bucket(), &mut found);
        found.sort();
        found
    }

    /// Of uploads in parts that nobody has ended, what lies about.
    pub fn unfinished(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.root).expect("root").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(".upload") && !name.contains("internal")).collect()
    }
}

fn walk(root: &Path, directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(root, &path, found);
        } else if let Ok(name) = path.strip_prefix(root) {
            found.push(name.display().to_string());
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a [`Proxy`] does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Pass,
    /// Closes them at once.
    Away,
    /// Takes requests and says nothing.
    Silent,
    /// Answers 503 with S3's `SlowDown`.
    SlowDown,
    /// Answers 507, as a store whose disk is full.
    Full,
    /// Breaks off after so many bytes to the store.
    BreakUp(usize),
    /// Breaks off after so many bytes from the store.
    BreakDown(usize),
    /// Passes on so many bytes a second to the store, on each connection.
    Slow(usize),
}

#[derive(Debug)]
struct State {
    mood: Mood,
    /// How many more connections that is for; then they pass.
    left: usize,
}

/// Stands before a store. New connections get the mood of their time; `set` ends those that are there.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    is_over: Arc<AtomicBool>,
}

impl Proxy {
    pub fn before(store: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(Mutex::new(State { mood: Mood::Pass, left: usize::MAX }));
        let (open, is_over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let proxy = Self { address, state: state.clone(), open: open.clone(), is_over: is_over.clone() };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                let mood = next_mood(&state);
                lock(&open).extend(client.try_clone());
                let open = open.clone();
                thread::spawn(move || treat(client, store, mood, &open));
            }
        });
        proxy
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn set(&self, mood: Mood) {
        self.set_for(mood, usize::MAX);
    }

    /// For the next connections only.
    pub fn set_for(&self, mood: Mood, connections: usize) {
        *lock(&self.state) = State { mood, left: connections };
        for stream in lock(&self.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        self.set(Mood::Away);
    }
}

fn next_mood(state: &Mutex<State>) -> Mood {
    let mut state = lock(state);
    if state.left == 0 {
        return Mood::Pass;
    }
    state.left -= 1;
    state.mood
}

fn treat(client: TcpStream, store: SocketAddr, mood: Mood, open: &Mutex<Vec<TcpStream>>) {
    let (up, down, pace) = match mood {
        Mood::Away => {
            let _ = client.shutdown(Shutdown::Both);
            return;
        }
        Mood::Silent => {
            let _ = io::copy(&mut &client, &mut io::sink());
            return;
        }
        Mood::SlowDown => return refuse(&client, "503 Slow Down", "SlowDown"),
        Mood::Full => return refuse(&client, "507 Insufficient Storage", "XMinioStorageFull"),
        Mood::Pass => (usize::MAX, usize::MAX, usize::MAX),
        Mood::BreakUp(bytes) => (bytes, usize::MAX, usize::MAX),
        Mood::BreakDown(bytes) => (usize::MAX, bytes, usize::MAX),
        Mood::Slow(pace) => (usize::MAX, usize::MAX, pace),
    };
    let Ok(server) = TcpStream::connect(store) else { return };
    lock(open).extend(server.try_clone());
    let [to, from] = [&client, &server].map(|stream| stream.try_clone().expect("a socket"));
    let back = thread::spawn(move || pass(&server, &to, down, usize::MAX));
    pass(&client, &from, up, pace);
    let _ = back.join();
}

/// Passes bytes on, up to so many, and so many a second; both sides are over then.
fn pass(mut from: &TcpStream, mut to: &TcpStream, most: usize, pace: usize) {
    let mut piece = [0; 16 << 10];
    let mut left = most;
    while let Ok(count @ 1..) = from.read(&mut piece) {
        let count = count.min(left);
        left -= count;
        if to.write_all(&piece[..count]).is_err() || left == 0 {
            break;
        }
        if pace != usize::MAX {
            thread::sleep(Duration::from_secs_f64(count as f64 / pace as f64));
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// Answers one request after the other so.
fn refuse(mut client: &TcpStream, status: &str, code: &str) {
    let _ = client.set_read_timeout(Some(Duration::from_secs(30)));
    loop {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match client.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let length =
            text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
        let _ = io::copy(&mut client.take(length.unwrap_or(0)), &mut io::sink());
        let body = format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>said the test</Message></Error>"
        );
        let body = if text.starts_with("head") { String::new() } else { body };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if client.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
