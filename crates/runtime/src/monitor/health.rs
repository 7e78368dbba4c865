//! The health of the container: when it is probed, and what the results make of it. Pure but for the clock that it is given;
//! `probes` does what is decided here.

use std::time::{Duration, Instant};

use super::poll::Id;
use super::protocol::{Health, HealthCheck, HealthStatus, ProbeResult, Timestamp};

/// Results that are kept.
const LOG_MAX: usize = 5;
/// Bytes that are kept of a probe's output.
pub(super) const OUTPUT_MAX: usize = 4096;

/// The pause before an eager check's first probe; each further one is twice as long.
const EAGER_NS: u64 = 100_000_000;

/// The check of a running container.
pub(super) struct Checkup {
    pub check: HealthCheck,
    pub health: Health,
    started: Instant,
    pub next: Next,
    /// Probes of the start period so far.
    quick: u32,
    /// When a container that was told to end for being unhealthy is killed.
    pub kill_at: Option<Instant>,
}

/// What there is to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Probe {
        at: Instant,
    },
    /// A probe is on its way to its program, which has a patience of its own, or runs.
    Result {
        probe: Probe,
        until: Option<Instant>,
    },
    /// A probe that was given up is to be reaped: no other begins before.
    Reaped {
        session: Id,
    },
    /// The container ends; nobody asks for its health any more.
    Never,
}

/// One probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub session: Id,
    pub exec: String,
    pub start: Timestamp,
    /// From the container's start to the probe's.
    pub age: Duration,
}

impl Checkup {
    pub(super) fn new(check: HealthCheck, now: Instant) -> Self {
        let mut checkup = Self {
            check,
            health: Health::default(),
            started: now,
            next: Next::Never,
            quick: 0,
            kill_at: None,
        };
        checkup.schedule(now);
        checkup
    }

    /// The next probe comes an interval after this one has ended, however long it took.
    pub(super) fn schedule(&mut self, now: Instant) {
        let check = &self.check;
        let in_start_period =
            now.saturating_duration_since(self.started).as_nanos() < check.start_period_ns.into();
        let quick = in_start_period && self.health.status == HealthStatus::Starting;
        let pause = match quick {
            false => check.interval_ns,
            true if check.eager && self.quick < 32 => check.start_interval_ns.min(EAGER_NS << self.quick),
            true => check.start_interval_ns,
        };
        self.quick += u32::from(quick);
        self.next = Next::Probe { at: later(now, pause) };
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// When a running probe has taken too long.
    pub(super) fn late_at(&self, now: Instant) -> Instant {
        later(now, self.check.timeout_ns)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let next = match &self.next {
            Next::Probe { at } => Some(*at),
            Next::Result { until, .. } => *until,
            Next::Reaped { .. } | Next::Never => None,
        };
        next.into_iter().chain(self.kill_at).min()
    }

    /// The probe that runs as this session.
    pub(super) fn probe(&self, session: Id) -> Option<&Probe> {
        match &self.next {
            Next::Result { probe, .. } if probe.session == session => Some(probe),
            _ => None,
        }
    }

    /// Takes a result down; whether the container has become unhealthy by it.
    pub(super) fn judge(&mut self, result: ProbeResult, age: Duration) -> bool {
        let before = self.health.status;
        if result.code == 0 {
            self.health.failing_streak = 0;
            self.health.status = HealthStatus::Healthy;
        } else if before != HealthStatus::Starting || age.as_nanos() >= self.check.start_period_ns.into() {
            self.health.failing_streak += 1;
            if self.health.failing_streak >= u64::from(self.check.retries) {
                self.health.status = HealthStatus::Unhealthy;
            }
        }
        if self.health.log.len() == LOG_MAX {
            self.health.log.remove(0);
        }
        self.health.log.push(result);
        self.health.status == HealthStatus::Unhealthy && before != HealthStatus::Unhealthy
    }
}

/// Of an interval beyond all clocks: in a hundred years.
fn later(now: Instant, nanos: u64) -> Instant {
    const LONG: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    now + Duration::from_nanos(nanos).min(LONG)
}

/// What a probe has printed, as text.
pub(super) fn text(mut output: Vec<u8>) -> String {
    let cut = output.len() > OUTPUT_MAX;
    output.truncate(OUTPUT_MAX);
    let mut text = String::from_utf8_lossy(&output).into_owned();
    if cut {
        text.push_str("...");
    }
    text
}

/// The result of a probe that ran for longer than it may.
pub(super) fn overrun(timeout_ns: u64, output: Vec<u8>) -> String {
    let output = text(output);
    let colon = if output.is_empty() { "" } else { ": " };
    format!("Health check exceeded timeout ({}){colon}{output}", go_duration(timeout_ns))
}

/// As Go prints a duration: `1m30s`, `1.5s`, `250ms`.
fn go_duration(nanos: u64) -> String {
    let fraction = |value: f64, unit: &str| format!("{value}{unit}");
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => fraction(nanos as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => fraction(nanos as f64 / 1e6, "ms"),
        _ => {
            let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
            let seconds = fraction(rest as f64 / 1e9, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Process;

    const SECOND: u64 = 1_000_000_000;

    fn checkup(start_period_s: u64, now: Instant) -> Checkup {
        let check = HealthCheck {
            process: Box::<Process>::default(),
            user: None,
            groups: Vec::new(),
            interval_ns: 30 * SECOND,
            start_interval_ns: 5 * SECOND,
            eager: false,
            timeout_ns: SECOND,
            start_period_ns: start_period_s * SECOND,
            retries: 3,
            remedy: None,
        };
        Checkup::new(check, now)
    }

    fn result(code: i32) -> ProbeResult {
        ProbeResult { start: Timestamp(1), end: Timestamp(2), code, output: String::new() }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn three_failures_in_a_row_are_unhealthy_and_one_success_is_healthy() {
        let mut checkup = checkup(0, Instant::now());
        let mut codes = |codes: &[i32]| -> Vec<bool> {
            codes.iter().map(|&code| checkup.judge(result(code), seconds(1))).collect()
        };
        assert_eq!(codes(&[1, 1, 0, 1, 1]), [false; 5]);
        assert_eq!(codes(&[-1, 1]), [true, false], "it becomes unhealthy once");
        assert_eq!(checkup.health.failing_streak, 4);
        checkup.judge(result(0), seconds(1));
        assert_eq!((checkup.health.status, checkup.health.failing_streak), (HealthStatus::Healthy, 0));
        assert_eq!(checkup.health.log.len(), LOG_MAX);
        assert_eq!(checkup.health.log.iter().map(|r| r.code).collect::<Vec<_>>(), [1, 1, -1, 1, 0]);
    }

    #[test]
    fn failures_of_the_start_period_do_not_count_until_it_was_healthy_once() {
        let mut checkup = checkup(10, Instant::now());
        for _ in 0..9 {
            assert!(!checkup.judge(result(1), seconds(9)));
        }
        assert_eq!(checkup.health.failing_streak, 0);
        checkup.judge(result(1), seconds(10));
        assert_eq!(checkup.health.failing_streak, 1);
        checkup.judge(result(0), seconds(11));
        checkup.judge(result(1), seconds(5));
        assert_eq!(checkup.health.failing_streak, 1, "once healthy, each failure counts");
    }

    #[test]
    fn an_eager_check_begins_soon_and_slows_down() {
        let mut now = Instant::now();
        let mut one = checkup(60, now);
        one.check.eager = true;
        one.quick = 0;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            one.schedule(now);
            let at = one.deadline().unwrap();
            pauses.push(at.duration_since(now).as_millis());
            now = at;
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn while_it_starts_it_is_probed_more_often() {
        let now = Instant::now();
        let at = |checkup: &Checkup| checkup.deadline().unwrap().duration_since(now).as_secs();
        let mut one = checkup(10, now);
        assert_eq!(at(&one), 5);
        one.schedule(now + seconds(10));
        assert_eq!(at(&one), 40);
        one.schedule(now + seconds(4));
        assert_eq!(at(&one), 9);
        one.judge(result(0), seconds(4));
        one.schedule(now + seconds(4));
        assert_eq!(at(&one), 34);
        assert_eq!(at(&checkup(0, now)), 30);
    }

    #[test]
    fn output_is_cut_and_times_are_written_as_go_does() {
        assert_eq!(text(vec![b'a'; OUTPUT_MAX]).len(), OUTPUT_MAX);
        assert!(text(vec![b'a'; OUTPUT_MAX + 1]).ends_with("a..."));
        assert_eq!(text(vec![0xff]), "\u{fffd}");
        assert_eq!(overrun(90 * SECOND, Vec::new()), "Health check exceeded timeout (1m30s)");
        assert_eq!(overrun(SECOND / 2, b"hm".to_vec()), "Health check exceeded timeout (500ms): hm");
        let written = [3600 * SECOND, 1_500_000_000, 1_000_000, 60 * SECOND].map(go_duration);
        assert_eq!(written, ["1h0m0s", "1.5s", "1ms", "1m0s"]);
    }
}
