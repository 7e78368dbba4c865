//! Runs the probes of a container's health, and acts on what they come to: a container that has become unhealthy is ended here, as
//! the engine may not be there. Its decisions are those of `health`.

use std::time::Instant;

use super::execs::Wish;
use super::health::{self, Checkup, Next, Probe};
use super::poll::Id;
use super::process_tree;
use super::protocol::{Cause, Event, HealthCheck, ProbeResult, Remedy, Stdio, StepError, Timestamp};
use super::run::{CONTAINER, Monitor};
use super::streams::Session;

const SIGKILL: i32 = 9;

impl Monitor {
    /// The container runs: its probes begin.
    pub(super) fn check_health(&mut self, check: HealthCheck) {
        self.checkup = Some(Box::new(Checkup::new(check, Instant::now())));
    }

    /// Does what is due.
    pub(super) fn mind_health(&mut self, now: Instant) {
        let Some(checkup) = &mut self.checkup else { return };
        if checkup.kill_at.take_if(|at| *at <= now).is_some() {
            self.end_unhealthy(SIGKILL);
        }
        let Some(checkup) = &self.checkup else { return };
        match &checkup.next {
            Next::Probe { at } if *at <= now => self.begin_probe(now),
            Next::Result { probe, until: Some(until) } if *until <= now => {
                let probe = probe.clone();
                self.give_up_probe(probe);
            }
            _ => {}
        }
    }

    fn begin_probe(&mut self, now: Instant) {
        let frozen = self.is_frozen();
        let Some(checkup) = &mut self.checkup else { return };
        if frozen {
            return checkup.schedule(now);
        }
        let exec = match random_id() {
            Ok(exec) => exec,
            Err(error) => {
                checkup.schedule(now);
                return self.complain("name a health check", &error);
            }
        };
        let check = &checkup.check;
        let wish = Wish {
            seq: 0,
            line: NOBODY,
            exec: exec.clone(),
            process: check.process.clone(),
            user: check.user.clone(),
            groups: check.groups.clone(),
            stdio: Stdio::default(),
            attach: None,
            capture: true,
        };
        let (start, age) = (Timestamp::now(), checkup.age(now));
        self.broadcast(&Event::ProbeStarted { exec: exec.clone() });
        let begun = self.begin_exec(wish, Vec::new());
        let session = begun.as_ref().map_or(NOBODY, |session| *session);
        let probe = Probe { session, exec, start, age };
        match begun {
            Ok(_) => self.await_result(Next::Result { probe, until: None }),
            Err(Event::ExecFailed { error, .. } | Event::Refused { error, .. }) => {
                self.probe_unable(&probe, &error);
            }
            Err(_) => self.await_result(Next::Never),
        }
    }

    fn await_result(&mut self, next: Next) {
        if let Some(checkup) = &mut self.checkup {
            checkup.next = next;
        }
    }

    /// A probe has reached its program: from now on its time runs.
    pub(super) fn probe_runs(&mut self, session: Id) {
        let Some(checkup) = &mut self.checkup else { return };
        let late = checkup.late_at(Instant::now());
        if let Next::Result { probe, until } = &mut checkup.next
            && probe.session == session
        {
            *until = Some(late);
        }
    }

    /// A probe did not get to its program.
    pub(super) fn probe_failed(&mut self, session: Id, error: &StepError) {
        let probe = self.checkup.as_ref().and_then(|checkup| checkup.probe(session)).cloned();
        if let Some(probe) = probe {
            self.probe_unable(&probe, error);
        }
    }

    fn probe_unable(&mut self, probe: &Probe, error: &StepError) {
        // Paused on its way, it says nothing about the container.
        if !self.is_frozen() {
            let output = format!("OCI runtime exec failed: exec failed: {error}");
            self.probe_result(probe, None, -1, output);
        }
        self.schedule_probe();
    }

    /// A session has ended; false where it was no probe's.
    pub(super) fn probe_ended(&mut self, session: &mut Session) -> bool {
        let Some(checkup) = &self.checkup else { return false };
        match &checkup.next {
            Next::Result { probe, .. } if probe.session == session.id => {
                let probe = probe.clone();
                let code = session.code.unwrap_or(255);
                let output = health::text(session.captured.as_mut().map(std::mem::take).unwrap_or_default());
                self.probe_result(&probe, Some(code), code, output);
            }
            Next::Reaped { session: late } if *late == session.id => {}
            _ => return false,
        }
        self.schedule_probe();
        true
    }

    /// A probe has run for too long: it is killed with all that it has begotten, and what it came to is settled at once.
    fn give_up_probe(&mut self, probe: Probe) {
        let frozen = self.is_frozen();
        self.await_result(Next::Reaped { session: probe.session });
        let Some(session) = self.session_mut(probe.session) else { return self.schedule_probe() };
        let output = session.captured.as_mut().map(std::mem::take).unwrap_or_default();
        let pid = session.pid;
        if let Err(error) = process_tree::kill(&self.cgroup, pid) {
            self.complain("end a health check", &error);
        }
        let timeout_ns = self.checkup.as_ref().map_or(0, |checkup| checkup.check.timeout_ns);
        if !frozen {
            self.probe_result(&probe, Some(128 + SIGKILL), -1, health::overrun(timeout_ns, output));
        }
    }

    /// `exit`: how the probe's process ended, if there was one. `code`: what counts.
    fn probe_result(&mut self, probe: &Probe, exit: Option<i32>, code: i32, output: String) {
        let Some(checkup) = &mut self.checkup else { return };
        let result = ProbeResult { start: probe.start, end: Timestamp::now(), code, output };
        let unhealthy = checkup.judge(result.clone(), probe.age);
        let (status, failing_streak) = (checkup.health.status, checkup.health.failing_streak);
        let remedy = checkup.check.remedy;
        self.broadcast(&Event::Probed { exec: probe.exec.clone(), exit, status, failing_streak, result });
        if let Some(remedy) = remedy.filter(|_| unhealthy) {
            self.remedy(remedy);
        }
    }

    /// Ends a container that has become unhealthy, as it was asked for.
    fn remedy(&mut self, remedy: Remedy) {
        if self.ending.code.is_some() {
            return;
        }
        let Some(checkup) = &mut self.checkup else { return };
        match remedy {
            Remedy::Kill => {
                self.ending.cause = Some(Cause::Unhealthy { again: None });
                self.end_unhealthy(SIGKILL);
            }
            Remedy::Stop { signal, patience_s, again } => {
                let patience = u64::try_from(patience_s).ok().map(std::time::Duration::from_secs);
                checkup.kill_at = patience.and_then(|patience| Instant::now().checked_add(patience));
                self.ending.cause = Some(Cause::Unhealthy { again: Some(again) });
                self.end_unhealthy(signal);
            }
        }
    }

    fn end_unhealthy(&mut self, signal: i32) {
        self.signal_container(signal);
        self.broadcast(&Event::Remedied { signal });
    }

    fn schedule_probe(&mut self) {
        // Once it is told to end its health is of no interest.
        let ends = self.ending.cause.is_some();
        if let Some(checkup) = &mut self.checkup {
            checkup.schedule(Instant::now());
            if ends {
                checkup.next = Next::Never;
            }
        }
    }

    fn is_frozen(&self) -> bool {
        self.cgroup.is_frozen().unwrap_or(false)
    }

    fn signal_container(&self, signal: i32) {
        if let Some(pidfd) = self.session(CONTAINER).and_then(|session| session.process.as_ref()) {
            // One that has ended in this moment is what was wanted.
            let _ = corten_sys::process::pidfd_send_signal(std::os::fd::AsFd::as_fd(pidfd), signal);
        }
    }
}

/// No line and no session has this number.
const NOBODY: Id = Id::MAX;

/// 64 hexadecimal digits, as of any exec.
fn random_id() -> std::io::Result<String> {
    use std::fmt::Write;
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes.iter().fold(String::with_capacity(64), |mut id, byte| {
        // Into a string: cannot fail.
        let _ = write!(id, "{byte:02x}");
        id
    }))
}
