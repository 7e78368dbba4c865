//! Taking a group away, once its processes are gone.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::processes::{children, wait_for_line};
use super::{Cgroup, Error};

/// How long the last processes may take to die.
const DEADLINE: Duration = Duration::from_secs(10);

impl Cgroup {
    /// Removes the group and the groups below it from every hierarchy, and waits for processes that are dying. Does not
    /// kill. A group that is gone already is no error; all hierarchies are tried before the first error is returned.
    pub fn remove(&self) -> Result<(), Error> {
        self.remove_within(DEADLINE)
    }

    /// Like [`Self::remove`], with a deadline.
    pub fn remove_within(&self, time: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + time;
        let mut first_error = None;
        for group in &self.groups {
            let result = self.remove_waiting(&group.path, deadline);
            first_error = first_error.or(result.err());
        }
        first_error.map_or(Ok(()), Err)
    }

    fn remove_waiting(&self, dir: &Path, deadline: Instant) -> Result<(), Error> {
        let mut pause = Duration::from_micros(100);
        loop {
            let source = match remove_tree(dir) {
                Ok(()) => return Ok(()),
                Err(errno) => errno,
            };
            let pids = self.all_pids().unwrap_or_default();
            if source != Errno::BUSY || Instant::now() >= deadline {
                return Err(Error::Remove { path: dir.to_owned(), pids: pids.into_iter().collect(), source });
            }
            let before = Instant::now();
            if !self.wait_until_less(&pids, deadline)? || before.elapsed() < pause {
                // A process that has ended but still lies about counts, and nothing tells when it goes.
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(5));
            }
        }
    }

    /// Waits for the group to be empty, or for one of its processes to end. `false`: there was nothing to wait for.
    fn wait_until_less(&self, pids: &BTreeSet<i32>, deadline: Instant) -> Result<bool, Error> {
        if let Some(pid) = pids.first() {
            return Ok(wait_for_end(*pid, deadline));
        }
        match self.unified() {
            Some(group) if self.is_unified() => {
                let events = group.path.join("cgroup.events");
                let populated = super::file::keyed(&group.path, "cgroup.events", "populated")? == Some(1);
                Ok(populated && wait_for_line(&events, "populated 0", deadline)?)
            }
            _ => Ok(false),
        }
    }
}

/// Deepest first.
fn remove_tree(dir: &Path) -> Result<(), Errno> {
    match rustix::fs::rmdir(dir) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::BUSY | Errno::NOTEMPTY) => {}
        Err(errno) => return Err(errno),
    }
    for child in children(dir).map_err(|error| error.errno().unwrap_or(Errno::IO))? {
        remove_tree(&child)?;
    }
    match rustix::fs::rmdir(dir) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn wait_for_end(pid: i32, deadline: Instant) -> bool {
    let Some(pid) = Pid::from_raw(pid) else { return false };
    let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout =
        rustix::time::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0)
}
