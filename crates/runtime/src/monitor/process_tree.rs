//! Ends a process of the container together with what it has begotten, and leaves the others alone.
//!
//! Whose child somebody is can't be told any more once the parent has ended and init has taken the child in; but it is still of the
//! session that every exec begins. So both count: children of those found, and members of the session. Who has made a session of its
//! own *and* has lost its parent is a daemon, and stays.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags};

use crate::cgroup::{Cgroup, Error};

const SIGKILL: i32 = 9;
const SIGSTOP: i32 = 19;
/// Who begets faster than this finds is left with some.
const ROUNDS: usize = 16;

/// Stops the whole tree first: what does not run has no children that nobody has seen.
pub(super) fn kill(cgroup: &Cgroup, root: i32) -> Result<(), Error> {
    let mut found: BTreeMap<i32, OwnedFd> = BTreeMap::new();
    let mut outcome = Ok(());
    for _ in 0..ROUNDS {
        let pids = match cgroup.pids() {
            Ok(pids) => pids,
            Err(error) => {
                outcome = Err(error);
                break;
            }
        };
        let news = newcomers(&pids, root, &mut found);
        if news == 0 {
            break;
        }
    }
    for pidfd in found.values() {
        signal(pidfd, SIGKILL);
    }
    // Whatever could be found out about the others: this one has run for too long.
    if found.is_empty()
        && let Some(pidfd) = open(root)
    {
        signal(&pidfd, SIGKILL);
    }
    outcome
}

/// Stops those that belong to the tree and were not known; how many.
fn newcomers(pids: &[i32], root: i32, found: &mut BTreeMap<i32, OwnedFd>) -> usize {
    let before = found.len();
    loop {
        let known = found.len();
        for &pid in pids {
            if found.contains_key(&pid) {
                continue;
            }
            // Opened before it is looked at, so that both are about the same process.
            let Some(pidfd) = open(pid) else { continue };
            let Some(relations) = Relations::of(pid) else { continue };
            let belongs = pid == root || relations.session == root || found.contains_key(&relations.parent);
            if belongs {
                signal(&pidfd, SIGSTOP);
                found.insert(pid, pidfd);
            }
        }
        if found.len() == known {
            return known - before;
        }
    }
}

fn open(pid: i32) -> Option<OwnedFd> {
    rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

fn signal(pidfd: &OwnedFd, number: i32) {
    // One that has ended meanwhile is what is wanted.
    let _ = corten_sys::process::pidfd_send_signal(pidfd.as_fd(), number);
}

struct Relations {
    parent: i32,
    session: i32,
}

impl Relations {
    /// Fields 4 and 6 of `/proc/<pid>/stat`.
    fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may contain anything.
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split_ascii_whitespace();
        Some(Self { parent: fields.nth(1)?.parse().ok()?, session: fields.nth(1)?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_s_parent_and_session() {
        // A session of the child's own: that of the tests may lie outside of their PID namespace, where it reads as 0.
        let mut child = Command::new("setsid")
            .args(["sh", "-c", "echo; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let pid = child.id() as i32;
        let relations = Relations::of(pid).unwrap();
        assert_eq!((relations.parent, relations.session), (std::process::id() as i32, pid));
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
