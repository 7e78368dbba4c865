//! Waiting for a log to grow: inotify on the file and its directory, and a descriptor that ends the wait.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify;

use super::LogError;

const FINISH: u8 = 1;
const CANCEL: u8 = 2;

/// Ends a reader that follows, from another thread.
#[derive(Clone)]
pub struct Stop(Arc<Shared>);

struct Shared {
    wake: OwnedFd,
    state: AtomicU8,
}

impl Stop {
    pub fn new() -> Result<Self, LogError> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| LogError::Watch { source: e.into() })?;
        Ok(Self(Arc::new(Shared { wake, state: AtomicU8::new(0) })))
    }

    /// The container has ended: the reader gives out what is there and then the end.
    pub fn finish(&self) {
        self.set(FINISH);
    }

    /// Nobody wants more of it: the reader ends at once.
    pub fn cancel(&self) {
        self.set(CANCEL);
    }

    pub(super) fn is_finished(&self) -> bool {
        self.0.state.load(Ordering::Acquire) != 0
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == CANCEL
    }

    fn set(&self, state: u8) {
        self.0.state.fetch_max(state, Ordering::AcqRel);
        // Can only fail when the counter is at its maximum, and then the reader is awake.
        let _ = rustix::io::write(&self.0.wake, &1_u64.to_ne_bytes());
    }
}

/// Watches one log.
pub(super) struct Watch {
    inotify: OwnedFd,
    stop: Stop,
}

impl Watch {
    pub(super) fn new(path: &Path, stop: Stop) -> Result<Self, LogError> {
        let error = |e: rustix::io::Errno| LogError::Watch { source: e.into() };
        let inotify =
            inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).map_err(error)?;
        // The directory's watch sees both the writes and the rotation of the files in it.
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let events =
            inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&inotify, directory, events).map_err(error)?;
        Ok(Self { inotify, stop })
    }

    pub(super) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Forgets what happened until now; to be called before looking whether there is something new.
    pub(super) fn drain(&self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        while matches!(rustix::io::read(&self.inotify, &mut buffer), Ok((read, _)) if !read.is_empty()) {}
    }

    /// Blocks until something happened since [`Watch::drain`].
    pub(super) fn wait(&self) -> Result<(), LogError> {
        let mut fds = [
            PollFd::from_borrowed_fd(self.inotify.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.stop.0.wake.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(LogError::Watch { source: io::Error::from(e) }),
        }
    }
}
