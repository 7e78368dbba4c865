//! The name server in a thread, in a network namespace of the test's own, and servers that play the rest of the world.

use std::ffi::CString;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use corten_runtime::dns::names::Builder;
use corten_runtime::dns::{NetworkNames, Resolver, Server};
use corten_sys::mount::mount;
use corten_sys::netns;
use corten_sys::process::{self, namespace};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// False, with a word, where namespaces can't be had.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// Moves the calling thread, and those that it starts from now on, into a network of its own.
pub fn own_network() {
    netns::unshare().unwrap();
    netns::loopback_up().unwrap();
}

const CLONE_FS: u64 = 0x200;
const MS_BIND: u64 = 1 << 12;
const MS_REC: u64 = 1 << 14;
const MS_PRIVATE: u64 = 1 << 18;

/// Gives the calling thread a host's resolver file of its own.
pub fn own_resolver_file(text: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let source = CString::new(file.path().as_os_str().as_bytes()).unwrap();
    process::unshare(namespace::MOUNT | CLONE_FS).unwrap();
    let private = MS_PRIVATE | MS_REC;
    mount(None, c"/", None, private, None).unwrap();
    mount(Some(&source), c"/etc/resolv.conf", None, MS_BIND, None).unwrap();
}

pub struct Stage {
    pub server: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<Server>>,
}

impl Stage {
    /// A server with `resolver`'s settings, whose sockets are in the caller's namespace. It runs in another when `elsewhere`.
    pub fn new(resolver: Resolver, elsewhere: bool) -> Self {
        Self::with_host(resolver, move || {
            if elsewhere {
                own_network();
            }
        })
    }

    /// A server whose thread makes itself a host to run on.
    pub fn with_host(resolver: Resolver, host: impl FnOnce() + Send + 'static) -> Self {
        let (udp, tcp) = sockets();
        let address = udp.local_addr().unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let ended = ended.clone();
            move || {
                host();
                let server = Server::new(OwnedFd::from(udp), OwnedFd::from(tcp), resolver).unwrap();
                run(server, &ended)
            }
        });
        Self { server: address, ended, thread: Some(thread) }
    }

    /// Ends it; what it still had to do can be seen.
    pub fn end(mut self) -> Server {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// A port that is free over UDP may be some connection's over TCP: the next one is tried then.
fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        match TcpListener::bind(udp.local_addr().unwrap()) {
            Ok(tcp) => return (udp, tcp),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}"),
        }
    }
}

/// What a monitor's loop does with it.
fn run(mut server: Server, ended: &AtomicBool) -> Server {
    let mut buffer = vec![0; 64 * 1024];
    while !ended.load(Ordering::Relaxed) {
        let now = Instant::now();
        let wait = server.deadline().map_or(Duration::from_millis(20), |at| {
            at.saturating_duration_since(now).min(Duration::from_millis(20))
        });
        let timeout = Timespec { tv_sec: 0, tv_nsec: wait.as_nanos() as i64 };
        let mut fds = [PollFd::from_borrowed_fd(server.as_fd(), PollFlags::IN)];
        if poll(&mut fds, Some(&timeout)).unwrap() > 0 {
            server.ready(&mut buffer);
        }
        server.expire();
    }
    server
}

/// A network's file of names.
pub fn network(directory: &Path, name: &str, fill: impl FnOnce(&mut Builder)) -> NetworkNames {
    let mut names = Builder::default();
    fill(&mut names);
    let file: PathBuf = directory.join(name);
    std::fs::write(&file, names.build(name)).unwrap();
    NetworkNames { file, links: Vec::new() }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A server at port 53 of a loopback address of this namespace, over UDP and TCP; counts the questions.
pub fn upstream(
    address: &str,
    respond: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let udp = UdpSocket::bind((address, 53)).unwrap();
    let tcp = TcpListener::bind((address, 53)).unwrap();
    let respond = Arc::new(respond);
    std::thread::spawn({
        let (respond, count) = (respond.clone(), count.clone());
        move || {
            let mut buffer = [0; 65_535];
            while let Ok((read, client)) = udp.recv_from(&mut buffer) {
                count.fetch_add(1, Ordering::Relaxed);
                if let Some(answer) = respond(&buffer[..read]) {
                    udp.send_to(&answer, client).unwrap();
                }
            }
        }
    });
    std::thread::spawn({
        let count = count.clone();
        move || {
            while let Ok((mut stream, _)) = tcp.accept() {
                let message = crate::client::receive(&mut stream);
                count.fetch_add(1, Ordering::Relaxed);
                if let Some(answer) = respond(&message) {
                    std::io::Write::write_all(&mut stream, &crate::client::framed(&answer)).unwrap();
                }
            }
        }
    });
    count
}

/// The question turned into an answer with these addresses.
pub fn addresses(query: &[u8], list: &[[u8; 4]]) -> Vec<u8> {
    let mut answer = code(query, 0);
    answer[6..8].copy_from_slice(&(list.len() as u16).to_be_bytes());
    for address in list {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address);
    }
    answer
}

/// The question turned into an answer that says only this.
pub fn code(query: &[u8], code: u8) -> Vec<u8> {
    let mut end = 12;
    while query[end] != 0 {
        end += 1 + usize::from(query[end]);
    }
    let mut answer = query[..end + 5].to_vec();
    answer[2] |= 0x80;
    answer[3] = 0x80 | code;
    answer[6..12].fill(0);
    answer
}
