//! Staying with a process in the foreground: signals and, with a terminal, bytes are carried to it until it ends.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_runtime::launch::Child;
use corten_sys::process::{self, Ended};
use corten_sys::signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::failure::{Failure, Outcome};

const SIGCHLD: i32 = 17;
const SIGWINCH: i32 = 28;
const SIGURG: i32 = 23;

/// All signals, held back so that none is lost between the clone and the wait.
pub struct Signals {
    queue: OwnedFd,
}

impl Signals {
    pub fn block() -> Outcome<Self> {
        signal::set_mask(u64::MAX).map_err(Failure::during("block signals"))?;
        Ok(Self { queue: signal::queue(u64::MAX).map_err(Failure::during("signalfd"))? })
    }
}

/// Waits for the process's end; returns its exit code.
pub fn until_end(child: &Child, signals: Signals) -> Outcome<u8> {
    let terminal = child.console.as_ref().map(Relay::new);
    loop {
        let mut fds = vec![PollFd::new(&signals.queue, PollFlags::IN)];
        if let Some(relay) = &terminal {
            fds.extend(relay.watched());
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(Failure::during("poll")(e)),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if let Some(relay) = &terminal {
            relay.carry(ready[1..].iter().copied());
        }
        if ready[0]
            && let Some(ended) = take_signals(child, &signals, terminal.as_ref())?
        {
            if let Some(relay) = &terminal {
                while relay.output() {}
            }
            return Ok(match ended {
                Ended::Exited(code) => code as u8,
                Ended::Signaled(signal, _) => (128 + signal) as u8,
            });
        }
    }
}

fn take_signals(child: &Child, signals: &Signals, terminal: Option<&Relay<'_>>) -> Outcome<Option<Ended>> {
    while let Some(number) = signal::take(signals.queue.as_fd()).map_err(Failure::during("signalfd"))? {
        match number {
            SIGCHLD => match process::wait(child.pid, false) {
                Ok(Some((_, ended))) => return Ok(Some(ended)),
                Ok(None) => {}
                Err(e) => return Err(Failure::during("wait")(e)),
            },
            SIGWINCH => {
                if let Some(relay) = terminal {
                    relay.resize();
                }
            }
            // Go programs send this one to themselves.
            SIGURG => {}
            // It may be ending just now.
            number => drop(process::pidfd_send_signal(child.pidfd.as_fd(), number)),
        }
    }
    Ok(None)
}

/// Between the caller's terminal (or pipes) and the process's terminal.
struct Relay<'a> {
    master: &'a OwnedFd,
    /// The mode of the caller's terminal, to be put back.
    saved: Option<Termios>,
    stdin_ended: Cell<bool>,
    output_ended: Cell<bool>,
}

impl<'a> Relay<'a> {
    fn new(master: &'a OwnedFd) -> Self {
        let stdin = rustix::stdio::stdin();
        let saved = isatty(stdin).then(|| tcgetattr(stdin).ok()).flatten();
        if let Some(mut raw) = saved.clone() {
            raw.make_raw();
            let _ = tcsetattr(stdin, OptionalActions::Now, &raw);
        }
        // For the last bytes: they are read until there are none, whoever still holds the terminal.
        let _ = rustix::io::ioctl_fionbio(master, true);
        let relay = Self { master, saved, stdin_ended: false.into(), output_ended: false.into() };
        relay.resize();
        relay
    }

    fn resize(&self) {
        if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
            let _ = tcsetwinsize(self.master, size);
        }
    }

    /// The terminal's output and the caller's input, each until it ends: an ended one would be ready for ever.
    fn watched(&self) -> impl Iterator<Item = PollFd<'_>> {
        let output = (!self.output_ended.get()).then_some(self.master.as_fd());
        let input = (!self.stdin_ended.get()).then_some(rustix::stdio::stdin());
        output.into_iter().chain(input).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
    }

    /// `ready`: which of [`Relay::watched`] have something.
    fn carry(&self, mut ready: impl Iterator<Item = bool>) {
        let output = !self.output_ended.get() && ready.next() == Some(true);
        let input = !self.stdin_ended.get() && ready.next() == Some(true);
        if output && !self.output() {
            self.output_ended.set(true);
        }
        if input {
            let mut buffer = [0; 4096];
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
                Ok(n) if n > 0 => write_all(self.master.as_fd(), &buffer[..n]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                _ => self.stdin_ended.set(true),
            }
        }
    }

    /// Hands on what the process wrote; false when nothing more will come.
    fn output(&self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match rustix::io::read(self.master, &mut buffer) {
            Ok(n) if n > 0 => {
                write_all(rustix::stdio::stdout(), &buffer[..n]);
                true
            }
            Err(Errno::INTR) => true,
            _ => false,
        }
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, saved);
        }
    }
}

/// What the other side does not take is lost, as with a terminal that is gone.
fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
