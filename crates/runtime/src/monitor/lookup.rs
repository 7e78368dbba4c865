//! Looking the log's receiver up by its name again, in a child process: the C library's resolver blocks.

use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};

use corten_sys::fd::close_from;
use corten_sys::process::{self, CloneArgs};
use rustix::pipe::PipeFlags;

use super::poll::{Ready, Token};
use super::protocol::RemoteAddress;
use super::run::Monitor;

const SIGCHLD: i32 = 17;
const SIGKILL: i32 = 9;
/// So many addresses fit into the pipe, so that the child never waits for us.
const ADDRESSES_MAX: usize = 16;
const ANSWER_BYTES_MAX: usize = 64 * ADDRESSES_MAX;

/// A name that is being looked up.
pub(super) struct Lookup {
    pid: i32,
    pidfd: OwnedFd,
    answer: OwnedFd,
}

impl Monitor {
    /// Begins, if the receiver's addresses have all failed and it has a name.
    pub(super) fn look_up_receiver(&mut self) {
        let wanted = match &mut self.shipping {
            Some(shipping) if self.lookup.is_none() => shipping.take_lookup(),
            _ => None,
        };
        let Some(host) = wanted else { return };
        match start(host).and_then(|lookup| {
            self.poll.add(lookup.pidfd.as_fd(), Token::Lookup, Ready::IN)?;
            Ok(lookup)
        }) {
            Ok(lookup) => self.lookup = Some(Box::new(lookup)),
            // The known addresses are tried on.
            Err(error) => self.complain("look the log's receiver up", &error),
        }
    }

    /// The child has ended.
    pub(super) fn looked_up(&mut self) {
        let Some(lookup) = self.lookup.take() else { return };
        self.poll.remove(&lookup.pidfd);
        // Ready to be reaped; what it has found is in the pipe, or nothing is.
        let _ = process::wait(lookup.pid, false);
        let mut bytes = [0; ANSWER_BYTES_MAX];
        let read = rustix::io::read(&lookup.answer, &mut bytes[..]).unwrap_or(0);
        let text = std::str::from_utf8(&bytes[..read]).unwrap_or_default();
        let found: Vec<SocketAddr> = text.lines().filter_map(|line| line.parse().ok()).collect();
        if let Some(shipping) = self.shipping.as_mut().filter(|_| !found.is_empty()) {
            shipping.set_addresses(found.into_iter().map(RemoteAddress::Ip).collect());
        }
    }
}

fn start(host: (String, u16)) -> std::io::Result<Lookup> {
    let (answer, question) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let args = CloneArgs { exit_signal: SIGCHLD, ..CloneArgs::default() };
    let child = process::clone3(&args, || {
        // A copy of a pipe would keep the container's output open.
        let dies = process::set_parent_death_signal(SIGKILL);
        let told = rustix::stdio::dup2_stdout(&question);
        if dies.is_err() || told.is_err() || close_from(3).is_err() {
            return 1;
        }
        let found = (host.0.as_str(), host.1).to_socket_addrs();
        let lines = found.into_iter().flatten().take(ADDRESSES_MAX).map(|address| format!("{address}\n"));
        let text: String = lines.collect();
        i32::from(rustix::io::write(rustix::stdio::stdout(), text.as_bytes()).is_err())
    })?;
    Ok(Lookup { pid: child.pid, pidfd: child.pidfd, answer })
}
