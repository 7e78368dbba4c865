//! Attaching: a client's own connection goes to the monitor, which from then on speaks to the client directly.
//!
//! So an attached client survives a restart of the engine, and its bytes cost the engine nothing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_api::container::AttachOptions;
use corten_runtime::monitor::protocol::{Attach, Request};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::{Container, Phase, lock};
use crate::Engine;
use crate::error::{Error, Result};
use crate::link::done;

/// A hijacked client's socket.
pub struct Connection {
    pub fd: OwnedFd,
    /// What was read from it already: the beginning of stdin.
    pub head: Vec<u8>,
}

impl Connection {
    /// For a thread of its own.
    pub(super) fn into_blocking(self) -> io::Result<(OwnedFd, Vec<u8>)> {
        rustix::io::ioctl_fionbio(&self.fd, false)?;
        Ok((self.fd, self.head))
    }

    /// Waits until the client has read the answer's head. docker-py reads the head through a buffer that it then leaves behind:
    /// output that comes too soon after the head is lost with it.
    pub(crate) async fn head_read(&self) {
        let unread = || corten_sys::fd::is_unread(self.fd.as_fd()).is_ok_and(|unread| unread);
        // A client reads it within some microseconds of getting a processor; no timer is as short.
        let soon = Instant::now() + HEAD_SOON;
        while unread() && Instant::now() < soon {
            std::thread::yield_now();
            tokio::task::yield_now().await;
        }
        // Of a TCP socket this tells only what is on its way; and nobody waits for a client for long.
        for _ in 0..HEAD_PATIENCE_MS {
            if !unread() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

const HEAD_SOON: Duration = Duration::from_micros(300);
const HEAD_PATIENCE_MS: u32 = 100;

/// How many clients may wait for a container's start.
const EARLY_MAX: usize = 256;

/// A client that came before the container was started.
pub struct Early {
    pub attach: Attach,
    pub connection: OwnedFd,
}

/// Leave to attach; the connection is to follow.
pub struct AttachTicket {
    /// The stream is a terminal's: raw.
    pub tty: bool,
    engine: Engine,
    container: Arc<Container>,
    options: AttachOptions,
    detach_keys: Vec<u8>,
    expected: Expected,
}

/// A client that is about to attach. A start that comes in between waits for it, or its first output would be lost.
struct Expected(Arc<Container>);

impl Expected {
    fn new(container: &Arc<Container>) -> Self {
        container.expected.send_modify(|count| *count += 1);
        Self(container.clone())
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.0.expected.send_modify(|count| *count -= 1);
    }
}

/// How long a start waits for clients that said they would attach.
const ATTACH_DEADLINE: Duration = Duration::from_secs(2);

/// Waits until nobody is about to attach any more.
pub(super) async fn expected_clients(container: &Container) {
    let mut expected = container.expected.subscribe();
    let _ = tokio::time::timeout(ATTACH_DEADLINE, expected.wait_for(|count| *count == 0)).await;
}

impl Engine {
    pub async fn container_attach(&self, key: &str, options: AttachOptions) -> Result<AttachTicket> {
        let container = self.containers.find(key)?;
        if container.phase() == Phase::Paused {
            return Err(Error::conflict(format!(
                "container {key} is paused, unpause the container before attach"
            )));
        }
        if container.phase() == Phase::Restarting {
            return Err(Error::conflict(format!(
                "container {key} is restarting, wait until the container is running"
            )));
        }
        let detach_keys = detach_keys(&options.detach_keys)?;
        let tty = container.read().config.tty;
        let expected = Expected::new(&container);
        Ok(AttachTicket { tty, engine: self.clone(), container, options, detach_keys, expected })
    }
}

impl AttachTicket {
    /// Hands the client's connection over.
    pub async fn connect(self, connection: Connection) -> Result<()> {
        let Self { tty, engine, container, options, detach_keys, expected: _expected } = self;
        if options.logs || container.link().is_some() {
            connection.head_read().await;
        }
        let mut fd = connection.fd;
        if options.logs {
            fd = engine.replay(&container, &options, fd).await?;
        }
        if !options.stream {
            return Ok(());
        }
        let (stdin, framed) = {
            let record = container.read();
            (options.stdin && record.config.open_stdin, !tty)
        };
        let attach = Attach {
            stdin,
            stdout: options.stdout,
            stderr: options.stderr,
            raw: !framed,
            detach_keys: if tty { detach_keys } else { Vec::new() },
            stdin_head: connection.head,
            holds: false,
        };
        engine.container_event(&container, "attach", &[]);
        let link = {
            // A launch sets the link before it looks for latecomers: under this lock nobody falls in between.
            let mut early = lock(&container.early);
            match container.link() {
                Some(link) => link,
                None => {
                    // Until a start nobody would see that a client has gone.
                    early.retain(|early| !is_gone(early.connection.as_fd()));
                    if early.len() >= EARLY_MAX {
                        return Err(Error::conflict(format!(
                            "{EARLY_MAX} clients wait already for the start of container {}",
                            container.id
                        )));
                    }
                    let attach = Attach { holds: true, ..attach };
                    early.push(Early { attach, connection: fd });
                    return Ok(());
                }
            }
        };
        let fds = [fd.as_fd()];
        done(link.ask(|seq| Request::Attach { seq, exec: None, attach }, &fds).await?)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether a client has closed its connection altogether.
fn is_gone(connection: BorrowedFd<'_>) -> bool {
    let mut watched = [PollFd::from_borrowed_fd(connection, PollFlags::empty())];
    let found = rustix::event::poll(&mut watched, Some(&Timespec::default()));
    found.is_ok() && watched[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

/// The bytes of a sequence of keys that detaches a client.
pub(crate) fn detach_keys(text: &str) -> Result<Vec<u8>> {
    corten_api::stream::detach_keys(text).map_err(|key| {
        Error::invalid(format!("Invalid detach keys ({text}) provided: unknown character: '{key}'"))
    })
}
