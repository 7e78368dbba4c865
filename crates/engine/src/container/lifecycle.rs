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
    Remove,
}

impl Phase {
    /// The phase after `change`; `None` where it makes no sense.
    pub fn after(self, change: Change) -> Option<Self> {
        match (self, change) {
            (Self::Created | Self::Exited, Change::Start) => Some(Self::Running),
            (Self::Running, Change::Pause) => Some(Self::Paused),
            (Self::Paused, Change::Unpause) => Some(Self::Running),
            (Self::Running | Self::Paused, Change::Exit) => Some(Self::Exited),
            (Self::Created | Self::Exited | Self::Removing, Change::Remove) => Some(Self::Removing),
            _ => None,
        }
    }

    /// A process of the container exists.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }

    /// Docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
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
    fn what_makes_no_sense_is_refused() {
        assert_eq!(Phase::Running.after(Change::Start), None);
        assert_eq!(Phase::Running.after(Change::Remove), None);
        assert_eq!(Phase::Created.after(Change::Pause), None);
        assert_eq!(Phase::Exited.after(Change::Exit), None);
    }
}
