//! The zygote: a small process that forks a monitor per container, and the engine's handle to it.
//!
//! A monitor is forked and not executed: it shares the zygote's pages, and nothing has to be loaded or relocated again. What all
//! monitors need is looked up before.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use corten_sys::fd::{self, FDS_MAX};
use corten_sys::memory;
use corten_sys::process::{self, CloneArgs};
use corten_sys::signal;
use corten_sys::title::Title;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::beginning;
use super::connection::Connection;
use super::protocol::Launch;
use crate::cgroup::Layout;

/// The one request: launch a container, with the descriptors that come along.
const LAUNCH: &[u8] = b"L";
/// Makes room for a monitor's title.
const PADDING: &str = "------------------------";

const SIGCHLD: i32 = 17;

/// The engine's handle. Dropping it ends the zygote; the monitors stay.
#[derive(Debug)]
pub struct Zygote {
    socket: Option<OwnedFd>,
    process: Child,
}

impl Zygote {
    /// Starts the zygote from the program `shim`, in the caller's namespaces. Its complaints go to the caller's stderr.
    pub fn start(shim: &Path) -> io::Result<Self> {
        let (own, its) = pair()?;
        let process = Command::new(shim)
            .args(["zygote", PADDING])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(its))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { socket: Some(own), process })
    }

    /// Has a monitor forked that launches a container; `fds` are those that [`Launch::fds`] names, in their order.
    pub fn launch(&self, launch: &Launch, fds: &[BorrowedFd<'_>]) -> io::Result<Connection> {
        if fds.len() > FDS_MAX - 2 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one launch"));
        }
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let document = rustix::fs::memfd_create("launch", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut document = std::fs::File::from(document);
        document.write_all(&serde_json::to_vec(launch)?)?;
        let (own, its) = pair()?;
        let mut all = Vec::with_capacity(fds.len() + 2);
        all.extend([document.as_fd(), its.as_fd()]);
        all.extend(fds);
        fd::send(socket.as_fd(), LAUNCH, &all)?;
        Ok(Connection::new(own))
    }

    /// The zygote's process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        drop(self.socket.take());
        // It ends at once, having nothing to wait for.
        let _ = self.process.wait();
    }
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// The zygote's life: forks monitors until the engine has gone. Its socket is stdin. Returns the exit code, in the zygote
/// and, much later, in each monitor.
pub fn serve_zygote() -> i32 {
    let Ok(socket) = take_stdin() else { return 1 };
    let mut socket = Some(socket);
    // Monitors are nobody's business once they run: the kernel reaps them.
    let _ = signal::set_ignored(SIGCHLD, true);
    let _ = rustix::process::setsid();
    let title = Title::find().ok();
    // Found once for all monitors; one without control groups says so itself.
    let _ = Layout::host();
    // Costs nothing but page tables: the sealed copy is in memory anyway.
    let _ = memory::populate_program();
    let mut packet = [0; 16];
    while let Some(own) = &socket {
        let mut fds = Vec::with_capacity(FDS_MAX);
        match fd::receive(own.as_fd(), &mut packet, &mut fds) {
            Ok(0) => return 0,
            Ok(n) if packet[..n] == *LAUNCH && fds.len() >= 2 => fork(&mut socket, fds, title.as_ref()),
            Ok(_) => eprintln!("corten-shim: a packet that is no launch"),
            Err(error) => {
                eprintln!("corten-shim: {error}");
                return 1;
            }
        }
    }
    1
}

fn fork(socket: &mut Option<OwnedFd>, fds: Vec<OwnedFd>, title: Option<&Title>) {
    let args = CloneArgs { exit_signal: SIGCHLD, ..CloneArgs::default() };
    let forked = process::clone3(&args, move || {
        // In the monitor's copy only: the engine must see the end of the zygote although monitors live on.
        drop(socket.take());
        let mut fds = fds.into_iter();
        match (fds.next(), fds.next()) {
            (Some(document), Some(line)) => beginning::monitor(document, line, fds.collect(), title),
            _ => 1,
        }
    });
    if let Err(error) = forked {
        // The line to the engine closes here, which tells it.
        eprintln!("corten-shim: fork a monitor: {error}");
    }
}

/// Moves the socket away from descriptor 0, where `/dev/null` belongs.
fn take_stdin() -> io::Result<OwnedFd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(socket)
}
