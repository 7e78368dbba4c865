//! Standard output is data: a closed pipe is its end, not a failure. Standard error is talk, which nobody has to hear.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Writes text; a reader that went away ends the program quietly.
pub fn print(text: &str) -> io::Result<()> {
    write(text.as_bytes())
}

/// Writes a line.
pub fn line(text: &str) -> io::Result<()> {
    write(format!("{text}\n").as_bytes())
}

/// Writes bytes as they are.
pub fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(failed)
}

/// Standard output for much that has no lines: nothing is looked at or copied on the way.
pub struct Pour(File);

impl Pour {
    pub fn open() -> io::Result<Pour> {
        Ok(Pour(io::stdout().as_fd().try_clone_to_owned()?.into()))
    }

    /// As [`write`].
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.0).write_all(bytes).map_err(failed)
    }
}

/// Completes when nobody reads standard output any more, a pipe that is: whoever waits for what is yet to come would not find out
/// before it comes.
pub async fn unread() {
    let (told, hears) = tokio::sync::oneshot::channel();
    let watcher = thread::Builder::new().name("output-watch".to_owned()).spawn(move || {
        let stdout = io::stdout();
        // Nothing is asked for, so only what is always told wakes us up.
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        while poll(&mut watched, None) == Err(Errno::INTR) {}
        if watched[0].revents().contains(PollFlags::ERR) {
            let _ = told.send(());
        }
    });
    if watcher.is_err() || hears.await.is_err() {
        std::future::pending().await
    }
}

fn failed(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => std::process::exit(0),
        kind => io::Error::new(kind, format!("writing to standard output: {error}")),
    }
}

/// Says something on standard error. That it may be closed or full is nobody's business, so `eprint!` with its panic is
/// not used in this program.
pub fn talk(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Says a line, formatted as by `eprintln!`.
macro_rules! say {
    ($($arguments:tt)*) => { $crate::output::talk(&format!("{}\n", format_args!($($arguments)*))) };
}
pub(crate) use say;
