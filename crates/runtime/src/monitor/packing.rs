//! Compressing rotated log files: in a child process, which is gone with its memory when it is done. One at a time.

use std::os::fd::{AsFd, OwnedFd};

use corten_sys::fd::close_from;
use corten_sys::process::{self, CloneArgs, Ended};

use super::poll::{Ready, Token};
use super::run::Monitor;
use crate::log::PackJob;

const SIGCHLD: i32 = 17;
const SIGKILL: i32 = 9;
/// Behind everything else that wants the processor.
const NICE: i32 = 19;

/// A file that is being compressed.
pub(super) struct Packing {
    job: PackJob,
    pid: i32,
    pidfd: OwnedFd,
}

impl Monitor {
    /// Begins with the next rotated file, if there is one and none is being compressed.
    pub(super) fn pack(&mut self) {
        if self.packing.is_some() {
            return;
        }
        let Some(log) = &mut self.log else { return };
        let Some(job) = log.next_to_pack() else { return };
        let args = CloneArgs { exit_signal: SIGCHLD, ..CloneArgs::default() };
        let cloned = process::clone3(&args, || {
            // Alone it would be nobody's: the next monitor begins anew. A copy of a pipe would keep the container's output open.
            let dies = process::set_parent_death_signal(SIGKILL);
            if dies.is_err() || close_from(3).is_err() {
                return 1;
            }
            let _ = rustix::process::nice(NICE);
            i32::from(job.run().is_err())
        });
        let watched = cloned.map_err(std::io::Error::from).and_then(|child| {
            self.poll.add(child.pidfd.as_fd(), Token::Packing, Ready::IN)?;
            Ok(child)
        });
        match watched {
            Ok(child) => {
                self.packing = Some(Box::new(Packing { job, pid: child.pid, pidfd: child.pidfd }));
            }
            Err(error) => {
                let _ = log.packed(&job, false);
                self.complain("compress the log", &error);
            }
        }
    }

    /// The child has ended.
    pub(super) fn packed(&mut self) {
        let Some(packing) = self.packing.take() else { return };
        self.poll.remove(&packing.pidfd);
        let success = matches!(process::wait(packing.pid, false), Ok(Some((_, Ended::Exited(0)))));
        if let Some(log) = &mut self.log
            && let Err(error) = log.packed(&packing.job, success)
            && error.kind() != std::io::ErrorKind::NotFound
            && !self.ending.is_over()
        {
            self.complain("compress the log", &error);
        }
        if !self.ending.is_over() {
            self.pack();
        }
    }
}
