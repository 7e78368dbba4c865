//! Notice of a group's want of memory, at the moment when the kernel ends one of its processes for it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::layout::{Controller, Group, Version};
use super::{Cgroup, Error, file};

/// A descriptor to wait for with epoll, and what it told last.
pub struct OutOfMemory {
    notice: OwnedFd,
    version: Version,
    /// Processes that were ended so far.
    kills: u64,
}

impl Cgroup {
    /// Begins to watch; `None` where memory is not controlled.
    pub fn watch_memory(&self) -> Result<Option<OutOfMemory>, Error> {
        let Some(group) = self.holder(Controller::Memory) else { return Ok(None) };
        let (name, watch): (_, fn(&Group) -> rustix::io::Result<OutOfMemory>) = match group.version {
            Version::V1 => (EVENT_CONTROL, by_eventfd),
            Version::V2 => (EVENTS, by_events),
        };
        let watched = watch(group);
        watched.map(Some).map_err(|source| Error::Read { path: group.path.join(name), source })
    }
}

/// The file that takes `<eventfd> <what to tell of>` (cgroup-v1/memory.rst, "OOM Control").
const EVENT_CONTROL: &str = "cgroup.event_control";
/// The file that is "modified" with each event, which poll(2) tells (cgroup-v2.rst, "memory.events").
const EVENTS: &str = "memory.events";

fn open(directory: &Path, name: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(directory.join(name), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn by_eventfd(group: &Group) -> rustix::io::Result<OutOfMemory> {
    use std::os::fd::AsRawFd;
    let notice = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let control = open(&group.path, "memory.oom_control")?;
    let wish = format!("{} {}", notice.as_raw_fd(), control.as_raw_fd());
    file::write(&group.path, EVENT_CONTROL, &wish)?;
    Ok(OutOfMemory { notice, version: Version::V1, kills: 0 })
}

fn by_events(group: &Group) -> rustix::io::Result<OutOfMemory> {
    let mut watch = OutOfMemory { notice: open(&group.path, EVENTS)?, version: Version::V2, kills: 0 };
    // It tells what is new since it was read last.
    watch.kills = watch.read_kills()?;
    Ok(watch)
}

impl OutOfMemory {
    /// Whether it is ready when it is "readable"; else when it has something "urgent".
    pub fn is_readable(&self) -> bool {
        self.version == Version::V1
    }

    /// Takes a notice; whether it is one: groups tell of other things, too. After an error nothing more will come.
    pub fn take(&mut self) -> rustix::io::Result<bool> {
        match self.version {
            // The number of notices, which the kernel gives before it ends a process.
            Version::V1 => match rustix::io::read(&self.notice, &mut [0; 8]) {
                Err(Errno::AGAIN) => Ok(false),
                read => read.map(|_| true),
            },
            Version::V2 => {
                let kills = self.read_kills()?;
                Ok(std::mem::replace(&mut self.kills, kills) < kills)
            }
        }
    }

    fn read_kills(&self) -> rustix::io::Result<u64> {
        let mut text = [0; 512];
        let length = rustix::io::retry_on_intr(|| rustix::io::pread(&self.notice, &mut text, 0))?;
        let text = std::str::from_utf8(&text[..length]).map_err(|_| Errno::ILSEQ)?;
        Ok(file::pairs(text).find(|(name, _)| *name == "oom_kill").map_or(0, |(_, kills)| kills))
    }
}

impl AsFd for OutOfMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notice.as_fd()
    }
}
