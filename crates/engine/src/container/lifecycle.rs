//! The life of a container as an enum with one transition function.

use serde::{Deserialize, Serialize};

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Made, never started.
    #[default]
    Created,
    Running,
    Paused,
    /// Ended, and to be started again by the engine.
    Restarting,
    Exited,
    /// Being removed, or left so by a removal that failed half-way.
    Removing,
}

/// What can happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Start,
    Pause,
    Unpause,
    Exit,
    /// The end, or being at rest, when a start is to follow by itself.
    AwaitRestart,
    /// That start is not wanted any more.
    GiveUp,
    Remove,
}

impl Phase {
    /// The phase after `change`; `None` where it makes no sense.
    pub fn after(self, change: Change) -> Option<Self> {
        match (self, change) {
            (Self::Created | Self::Exited | Self::Restarting, Change::Start) => Some(Self::Running),
            (Self::Running, Change::Pause) => Some(Self::Paused),
            (Self::Paused, Change::Unpause) => Some(Self::Running),
            (Self::Running | Self::Paused, Change::Exit) => Some(Self::Exited),
            (Self::Running | Self::Paused | Self::Exited | Self::Restarting, Change::AwaitRestart) => {
                Some(Self::Restarting)
            }
            (Self::Restarting, Change::GiveUp) => Some(Self::Exited),
            (Self::Created | Self::Exited | Self::Removing, Change::Remove) => Some(Self::Removing),
            _ => None,
        }
    }

    /// A process of the container exists.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }

    /// What Docker calls running: it has to be stopped before it can be removed.
    pub fn is_up(self) -> bool {
        self.is_alive() || self == Self::Restarting
    }

    /// Nothing of it runs, or is to run by itself: `prune` may take it.
    pub fn is_at_rest(self) -> bool {
        matches!(self, Self::Created | Self::Exited)
    }

    /// Docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Removing => "removing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_from_birth_to_removal() {
        let path = [
            Change::Start,
            Change::Pause,
            Change::Unpause,
            Change::Exit,
            Change::Start,
            Change::Exit,
            Change::Remove,
        ];
        let end = path.iter().try_fold(Phase::Created, |phase, &change| phase.after(change));
        assert_eq!(end, Some(Phase::Removing));
    }

    #[test]
    fn one_that_waits_for_its_next_start_is_up_without_a_process() {
        let waiting = Phase::Running.after(Change::AwaitRestart).unwrap();
        assert!(waiting.is_up() && !waiting.is_alive());
        assert_eq!(waiting.after(Change::Start), Some(Phase::Running));
        assert_eq!(waiting.after(Change::GiveUp), Some(Phase::Exited));
        assert_eq!(waiting.after(Change::Remove), None);
        assert_eq!(waiting.after(Change::Pause), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(Phase::Running.after(Change::Start), None);
        assert_eq!(Phase::Running.after(Change::Remove), None);
        assert_eq!(Phase::Created.after(Change::Pause), None);
        assert_eq!(Phase::Exited.after(Change::Exit), None);
    }
}
