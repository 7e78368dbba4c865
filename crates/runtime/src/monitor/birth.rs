//! A process on its way to its program: a child of this process's own making, or one that another runtime makes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use corten_sys::process;

use super::protocol::StepError;
use crate::foreign::{Made, Making};
use crate::launch::{Child, Stage};

pub(super) enum Birth {
    Own(Child),
    /// On its way, by another runtime.
    Foreign(Making),
    /// There already.
    Made(Made),
}

impl Birth {
    pub fn pid(&self) -> i32 {
        match self {
            Self::Own(child) => child.pid,
            Self::Foreign(making) => making.pid(),
            Self::Made(made) => made.pid,
        }
    }

    /// Waits until it holds or runs, and no longer than `patience` for one step.
    pub fn wait(&mut self, patience: Duration) -> Result<Stage, StepError> {
        match self {
            Self::Own(child) => {
                child.patience = Some(patience);
                child.wait()
            }
            Self::Foreign(_) | Self::Made(_) => Ok(Stage::Running),
        }
    }

    /// Lets a held one run.
    pub fn release(&mut self) -> Result<(), StepError> {
        match self {
            Self::Own(child) => child.release(),
            Self::Foreign(_) | Self::Made(_) => Ok(()),
        }
    }

    /// Readable when [`Birth::advance`] has something to do.
    pub fn channel(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(child) => child.channel(),
            Self::Foreign(making) => making.channel(),
            Self::Made(made) => made.pidfd.as_fd(),
        }
    }

    pub fn advance(&mut self) -> Result<Option<Stage>, StepError> {
        match self {
            Self::Own(child) => child.advance(),
            Self::Foreign(making) => making.advance(),
            Self::Made(_) => Ok(Some(Stage::Running)),
        }
    }

    /// What is told when it comes no further.
    pub fn is_late(&self) -> StepError {
        match self {
            Self::Own(child) => child.is_late(),
            Self::Foreign(making) => making.is_late(),
            Self::Made(made) => Making::late(made.pid),
        }
    }

    /// Kills it without waiting for its end.
    pub fn kill(&self) {
        // It may have ended by itself.
        let _ = process::pidfd_send_signal(self.pidfd(), 9);
    }

    /// The terminal's master, once it runs.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        match self {
            Self::Own(child) => child.console.take(),
            Self::Foreign(making) => making.take_console(),
            Self::Made(made) => made.console.take(),
        }
    }

    pub fn take_warnings(&mut self) -> Vec<String> {
        match self {
            Self::Own(child) => std::mem::take(&mut child.warnings),
            Self::Foreign(_) => Vec::new(),
            Self::Made(made) => std::mem::take(&mut made.warnings),
        }
    }

    pub fn pidfd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(child) => child.pidfd.as_fd(),
            Self::Foreign(making) => making.pidfd(),
            Self::Made(made) => made.pidfd.as_fd(),
        }
    }

    pub fn into_pidfd(self) -> OwnedFd {
        match self {
            Self::Own(child) => child.pidfd,
            Self::Foreign(making) => making.into_pidfd(),
            Self::Made(made) => made.pidfd,
        }
    }
}
