//! Whether a container that has ended is started again, and after which pause. Pure: no clock, no engine.

use std::time::Duration;

use corten_api::container::RestartPolicy;

/// The pause before the first of several starts in a row.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A run of this length is no failure at the start: the next pause is a short one again.
const STABLE: Duration = Duration::from_secs(10);

/// `--restart`, parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    No,
    /// With the number of starts after which it is left alone; none is no bound.
    OnFailure(Option<u64>),
    Always,
    UnlessStopped,
}

/// What a policy looks at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Situation {
    pub exit_code: i32,
    /// How often it has been started again since a user last started it.
    pub restarts: u64,
    pub stopped_by_user: bool,
}

impl Policy {
    /// A name that `create` would refuse is none.
    pub fn of(policy: &RestartPolicy) -> Self {
        match policy.name.as_str() {
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            "on-failure" => {
                Self::OnFailure(u64::try_from(policy.maximum_retry_count).ok().filter(|&n| n > 0))
            }
            _ => Self::No,
        }
    }

    /// At its end: who was stopped stays so.
    pub fn restarts(self, now: Situation) -> bool {
        match self {
            _ if now.stopped_by_user => false,
            Self::No => false,
            Self::OnFailure(max) => now.exit_code != 0 && max.is_none_or(|max| now.restarts < max),
            Self::Always | Self::UnlessStopped => true,
        }
    }

    /// When an engine begins and finds it at rest, having run before: `always` forgets who stopped it.
    pub fn starts_with_engine(self, stopped_by_user: bool) -> bool {
        match self {
            Self::No | Self::OnFailure(_) => false,
            Self::Always => true,
            Self::UnlessStopped => !stopped_by_user,
        }
    }
}

/// The pauses between starts in a row, each twice the one before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// The pause after a run of the length `ran`.
    pub fn next(&mut self, ran: Duration) -> Duration {
        let pause = match self.last {
            Some(last) if ran < STABLE => (last * 2).min(PAUSE_MAX),
            _ => PAUSE_MIN,
        };
        self.last = Some(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, maximum_retry_count: i64) -> Policy {
        Policy::of(&RestartPolicy { name: name.into(), maximum_retry_count })
    }

    fn ended(exit_code: i32, restarts: u64) -> Situation {
        Situation { exit_code, restarts, stopped_by_user: false }
    }

    #[test]
    fn each_policy_at_an_end() {
        assert!(!policy("no", 0).restarts(ended(1, 0)) && !policy("", 0).restarts(ended(1, 0)));
        assert!(policy("always", 0).restarts(ended(0, 99)));
        assert!(policy("unless-stopped", 0).restarts(ended(0, 99)));
        assert!(policy("on-failure", 0).restarts(ended(1, 99)));
        assert!(!policy("on-failure", 0).restarts(ended(0, 0)));
        assert!(policy("on-failure", 3).restarts(ended(1, 2)));
        assert!(!policy("on-failure", 3).restarts(ended(1, 3)));
        for name in ["always", "unless-stopped", "on-failure"] {
            let stopped = Situation { stopped_by_user: true, ..ended(137, 0) };
            assert!(!policy(name, 0).restarts(stopped), "{name}");
        }
    }

    #[test]
    fn with_the_engine_come_those_that_were_not_stopped_and_always() {
        assert!(policy("always", 0).starts_with_engine(true));
        assert!(policy("unless-stopped", 0).starts_with_engine(false));
        assert!(!policy("unless-stopped", 0).starts_with_engine(true));
        assert!(!policy("on-failure", 0).starts_with_engine(false));
        assert!(!policy("no", 0).starts_with_engine(false));
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_a_long_run_ends_the_row() {
        let mut backoff = Backoff::default();
        let row: Vec<u64> =
            (0..12).map(|_| backoff.next(Duration::from_secs(1)).as_millis() as u64).collect();
        assert_eq!(row, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        assert_eq!(backoff.next(Duration::from_secs(10)), PAUSE_MIN);
        assert_eq!(backoff.next(Duration::from_secs(9)), PAUSE_MIN * 2);
    }
}
