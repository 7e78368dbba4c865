//! One process and its standard streams: the container's own, or an exec's.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::termios::Winsize;

use super::poll::Id;
use super::protocol::{Stdio, Step, StepError};
use crate::launch;
use crate::log::Stream;

/// Reads below this are worth joining,
const SMALL_READ: usize = 16 * 1024;
/// when they are no further apart than this,
const CLOSE: Duration = Duration::from_millis(1);
/// by waiting so long: the pipe does not fill in this time.
const JOIN_PAUSE: Duration = Duration::from_micros(200);

/// The most that a terminal holds back.
const TERMINAL_BYTES: usize = 64 * 1024;

/// A process that the monitor is the parent of.
pub(super) struct Session {
    pub id: Id,
    /// `None`: the container's first process.
    pub exec: Option<String>,
    pub pid: i32,
    /// `None` once it has ended (or before it runs).
    pub process: Option<OwnedFd>,
    pub tty: bool,
    /// The process's stdin is closed when the client that fed it is done.
    pub stdin_once: bool,
    /// Stdout (or the terminal) and stderr; `None` once they have ended.
    pub outputs: [Option<OwnedFd>; 2],
    /// Whether epoll watches the outputs; not while a client is full.
    pub paused: bool,
    /// Nobody has the terminal open.
    pub deserted: bool,
    pub input: Input,
    pub code: Option<i32>,
    /// When to stop waiting for the end of output after the process has ended.
    pub drain_until: Option<Instant>,
    /// The beginning of its output, for who asks after the container's health.
    pub captured: Option<Vec<u8>>,
    /// When output was read last, and that it was little: for joining small reads.
    pub last_small_read: Option<Instant>,
}

impl Session {
    pub(super) fn new(id: Id, exec: Option<String>, stdio: &Stdio, ends: Ends) -> Self {
        Self {
            id,
            exec,
            pid: 0,
            process: None,
            tty: stdio.tty,
            stdin_once: stdio.stdin_once,
            outputs: ends.outputs,
            paused: false,
            deserted: false,
            input: Input { fd: ends.input, awaited: stdio.tty, ..Input::default() },
            code: None,
            drain_until: None,
            captured: None,
            last_small_read: None,
        }
    }

    /// Takes the terminal's master once it exists.
    pub(super) fn set_console(&mut self, console: OwnedFd) -> Result<(), Errno> {
        rustix::io::ioctl_fionbio(&console, true)?;
        self.input.fd = Some(rustix::io::fcntl_dupfd_cloexec(&console, 3)?);
        self.outputs[0] = Some(console);
        self.input.set_awaited(false);
        Ok(())
    }

    pub(super) fn resize(&self, rows: u16, columns: u16) -> Result<(), Errno> {
        let Some(terminal) = self.outputs[0].as_ref().filter(|_| self.tty) else { return Err(Errno::NOTTY) };
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(terminal, size)
    }

    /// A program that writes line by line would cost one wake-up and one record per line. When small reads follow each other
    /// closely, and nobody but the log waits for them, a short pause lets the next one find more.
    pub(super) fn join_small_reads(&mut self, read: usize, watched: bool) {
        if watched || read >= SMALL_READ {
            self.last_small_read = None;
            return;
        }
        if self.last_small_read.is_some_and(|at| at.elapsed() < CLOSE) {
            std::thread::sleep(JOIN_PAUSE);
        }
        self.last_small_read = Some(Instant::now());
    }

    /// Both ended and all their output read.
    pub(super) fn is_over(&self) -> bool {
        self.code.is_some() && self.outputs.iter().all(Option::is_none)
    }

    /// How many bytes of output wait to be read, at least.
    pub(super) fn unread(&self, stream: Stream) -> usize {
        let waiting = |fd| rustix::io::ioctl_fionread(fd).map_or(0, |bytes| bytes as usize);
        // What is on its way through a terminal is not counted.
        self.outputs[stream.index()].as_ref().map_or(0, |fd| waiting(fd).max(TERMINAL_BYTES))
    }

    /// Reads output; `Ok(0)` at its end.
    pub(super) fn read(&self, stream: Stream, buffer: &mut [u8]) -> Result<usize, Errno> {
        let Some(fd) = &self.outputs[stream.index()] else { return Ok(0) };
        match rustix::io::read(fd, buffer) {
            // A terminal whose other end nobody has open.
            Err(Errno::IO) => Ok(0),
            other => other,
        }
    }
}

/// The process's stdin.
#[derive(Default)]
pub(super) struct Input {
    pub fd: Option<OwnedFd>,
    queue: VecDeque<u8>,
    /// Whether epoll tells when the process takes more.
    pub watched: bool,
    close_when_drained: bool,
    awaited: bool,
    /// Nothing will be written any more; `fd` is to be closed.
    ended: bool,
}

impl Input {
    /// Whether clients have to wait.
    pub(super) fn is_blocked(&self) -> bool {
        !self.queue.is_empty()
    }

    /// A terminal will be there once the process runs: input is queued until then.
    pub(super) fn set_awaited(&mut self, awaited: bool) {
        self.awaited = awaited;
        if !awaited {
            self.flush();
        }
    }

    /// Hands input on; what is not taken yet is queued. Input that nobody will read is dropped.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.fd.is_none() && !self.awaited || self.close_when_drained || self.ended {
            return;
        }
        self.queue.extend(bytes);
        self.flush();
    }

    /// Writes from the queue what the process takes.
    pub(super) fn flush(&mut self) {
        while let Some(fd) = self.fd.as_ref().filter(|_| !self.queue.is_empty() && !self.ended) {
            match rustix::io::write(fd, self.queue.as_slices().0) {
                Ok(n) => drop(self.queue.drain(..n)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // A terminal that nobody has open, for now: what is typed then is for nobody.
                Err(Errno::IO) => self.queue.clear(),
                // The process has closed its stdin.
                Err(_) => self.ended = true,
            }
        }
        if self.fd.is_none() && self.awaited {
            return;
        }
        self.queue = VecDeque::new();
        self.ended |= self.close_when_drained;
    }

    /// Ends stdin behind what is queued; the descriptor is closed by whoever takes it by [`Input::take_ended`].
    pub(super) fn close(&mut self) {
        self.close_when_drained = true;
        self.flush();
    }

    /// Ends stdin, whatever is queued.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.queue = VecDeque::new();
    }

    /// The descriptor, once nothing will be written any more.
    pub(super) fn take_ended(&mut self) -> Option<OwnedFd> {
        self.fd.take_if(|_| self.ended)
    }
}

/// The monitor's ends of a process's streams.
#[derive(Default)]
pub(super) struct Ends {
    outputs: [Option<OwnedFd>; 2],
    input: Option<OwnedFd>,
}

/// Makes the streams that a process will be started with; of those that nobody wants, `/dev/null`.
pub(super) fn open(stdio: &Stdio, stdin: bool, outputs: bool) -> Result<(launch::Stdio, Ends), StepError> {
    if stdio.tty {
        let (rows, columns) = stdio.size;
        return Ok((launch::Stdio::Terminal { rows, columns }, Ends::default()));
    }
    let failed = |e: Errno| StepError::of(Step::Console, "standard streams", e);
    let mut ends = Ends::default();
    let (stdin, input) = pair(stdin).map_err(failed)?;
    ends.input = input;
    let (out, stdout) = pair(outputs).map_err(failed)?;
    let (err, stderr) = pair(outputs).map_err(failed)?;
    ends.outputs = [out.filter_pipe(outputs), err.filter_pipe(outputs)];
    let stdout = stdout.map_or_else(null, Ok).map_err(failed)?;
    let stderr = stderr.map_or_else(null, Ok).map_err(failed)?;
    for end in ends.outputs.iter().chain([&ends.input]).flatten() {
        rustix::io::ioctl_fionbio(end.as_fd(), true).map_err(failed)?;
    }
    Ok((launch::Stdio::Files { stdin: stdin.0, stdout, stderr }, ends))
}

/// The reading end of a pipe, or `/dev/null`.
struct Source(OwnedFd);

impl Source {
    fn filter_pipe(self, is_pipe: bool) -> Option<OwnedFd> {
        is_pipe.then_some(self.0)
    }
}

fn pair(pipe: bool) -> Result<(Source, Option<OwnedFd>), Errno> {
    if !pipe {
        return Ok((Source(null()?), None));
    }
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Source(read), Some(write)))
}

fn null() -> Result<OwnedFd, Errno> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}
