//! One connection to a container's streams, from taking it over to its end.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;

use corten_api::client::Hijacked;
use tokio::sync::oneshot;

use super::{DetachKeys, Split};

/// Which of our streams take part.
pub struct Wiring {
    pub stdin: bool,
    /// Raw bytes instead of frames.
    pub tty: bool,
    /// Watched for on a terminal only.
    pub detach_keys: Option<DetachKeys>,
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The container closed its output.
    Closed,
    /// The user typed the detach sequence.
    Detached,
    /// Whoever read our output has gone.
    Unread,
}

/// A running copy in both directions.
pub struct Session {
    closed: oneshot::Receiver<io::Result<()>>,
    detached: oneshot::Receiver<()>,
}

/// Large enough that a busy log costs few system calls.
const PIECE: usize = 128 * 1024;

impl Session {
    /// Starts to copy. The threads end with the connection; the one that reads our input may outlive the session,
    /// since a read from a terminal can't be called off.
    pub fn start(hijacked: Hijacked, wiring: Wiring) -> io::Result<Session> {
        let head = hijacked.head;
        let socket: OwnedFd = hijacked.socket.into_fd()?;
        rustix::io::ioctl_fionbio(&socket, false)?;
        // Of the stream types only the calls matter here: read, write and shutdown are the same for TCP.
        let socket = UnixStream::from(socket);
        let (closed_sender, closed) = oneshot::channel();
        let (detached_sender, detached) = oneshot::channel();
        if wiring.stdin {
            let towards = socket.try_clone()?;
            let keys = wiring.detach_keys;
            thread::Builder::new().name("stdin".to_owned()).spawn(move || {
                if send_input(towards, keys) {
                    // The receiver is gone when the session ended otherwise.
                    let _ = detached_sender.send(());
                }
            })?;
        }
        let multiplexed = !wiring.tty;
        thread::Builder::new().name("output".to_owned()).spawn(move || {
            let _ = closed_sender.send(receive_output(&socket, &head, multiplexed));
        })?;
        Ok(Session { closed, detached })
    }

    /// Waits for the end of the output or the detach sequence.
    pub async fn end(self) -> io::Result<End> {
        let Session { mut closed, mut detached } = self;
        let finished = |result: Result<io::Result<()>, _>| match result.unwrap_or(Ok(())) {
            Ok(()) => Ok(End::Closed),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(End::Unread),
            Err(error) => Err(error),
        };
        tokio::select! {
            result = &mut closed => finished(result),
            told = &mut detached => match told {
                Ok(()) => Ok(End::Detached),
                // Our input ended; the container's output goes on.
                Err(_) => finished(closed.await),
            },
        }
    }
}

/// Copies our input to the container, then closes that direction. True when the user detached.
fn send_input(mut socket: UnixStream, mut keys: Option<DetachKeys>) -> bool {
    let mut buffer = vec![0; PIECE];
    let mut typed = Vec::new();
    let mut stdin = io::stdin().lock();
    loop {
        let read = match stdin.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        let bytes = match &mut keys {
            None => &buffer[..read],
            Some(keys) => {
                typed.clear();
                if keys.filter(&buffer[..read], &mut typed) {
                    // What was typed before the sequence still counts.
                    let _ = socket.write_all(&typed);
                    return true;
                }
                &typed[..]
            }
        };
        if socket.write_all(bytes).is_err() {
            return false;
        }
    }
    // An error means that the other side has gone already.
    let _ = socket.shutdown(Shutdown::Write);
    false
}

fn receive_output(mut socket: &UnixStream, head: &[u8], multiplexed: bool) -> io::Result<()> {
    let mut split = Split::to_stdio(multiplexed);
    if !head.is_empty() {
        split.write(head)?;
    }
    let mut buffer = vec![0; PIECE];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => split.write(&buffer[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A container that dies with unread input resets the connection: its output was complete.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
