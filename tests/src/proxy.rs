//! What stands before a server and can be told to misbehave.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

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
    /// Says nothing more after so many bytes from the store; [`Proxy::has_stalled`] tells.
    StallDown(usize),
    /// Passes on so many bytes a second to the store, on each connection.
    Slow(usize),
}

#[derive(Debug)]
struct State {
    mood: Mood,
    /// How many more connections that is for; then they pass.
    left: usize,
}

/// Stands before a server. New connections get the mood of their time; `set` ends those that are there.
pub struct Proxy {
    address: SocketAddr,
    has_stalled: Arc<AtomicBool>,
    state: Arc<Mutex<State>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    is_over: Arc<AtomicBool>,
}

impl Proxy {
    pub fn before(store: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(Mutex::new(State { mood: Mood::Pass, left: usize::MAX }));
        let has_stalled = Arc::new(AtomicBool::new(false));
        let stalled = has_stalled.clone();
        let (open, is_over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let proxy =
            Self { address, has_stalled, state: state.clone(), open: open.clone(), is_over: is_over.clone() };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                let mood = next_mood(&state);
                lock(&open).extend(client.try_clone());
                let (open, stalled) = (open.clone(), stalled.clone());
                thread::spawn(move || treat(client, store, mood, &open, &stalled));
            }
        });
        proxy
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a connection has come to the bytes of [`Mood::StallDown`].
    pub fn has_stalled(&self) -> bool {
        self.has_stalled.load(Ordering::Acquire)
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

fn treat(
    client: TcpStream,
    store: SocketAddr,
    mood: Mood,
    open: &Mutex<Vec<TcpStream>>,
    stalled: &AtomicBool,
) {
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
        Mood::StallDown(bytes) | Mood::BreakDown(bytes) => (usize::MAX, bytes, usize::MAX),
        Mood::Slow(pace) => (usize::MAX, usize::MAX, pace),
    };
    let Ok(server) = TcpStream::connect(store) else { return };
    lock(open).extend(server.try_clone());
    let [to, from] = [&client, &server].map(|stream| stream.try_clone().expect("a socket"));
    let stalls = matches!(mood, Mood::StallDown(_));
    thread::scope(|both| {
        both.spawn(|| {
            let all = pass(&server, &to, down, usize::MAX);
            if stalls && all == down {
                // The client's side ends it.
                stalled.store(true, Ordering::Release);
                return;
            }
            let _ = (server.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        });
        pass(&client, &from, up, pace);
        let _ = (client.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
    });
}

/// Passes bytes on, up to so many, and so many a second; gives how many.
fn pass(mut from: &TcpStream, mut to: &TcpStream, most: usize, pace: usize) -> usize {
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
    most - left
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
