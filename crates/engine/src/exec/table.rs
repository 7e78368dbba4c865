//! The execs of one container, and for how long they can be asked about. Bounded, as a probe every few seconds, or a client that
//! makes thousands, must not fill the memory of an engine that runs for years; and no call looks at all of them.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use corten_api::exec::ExecCreateRequest;

/// How long an ended exec can be asked about, as in Docker.
const KEPT: Duration = Duration::from_secs(300);
/// How many that have ended are kept at most; who wants to know how one ended asks at once.
const ENDED_MAX: usize = 2 << 10;
/// How many that nobody has started.
const UNSTARTED_MAX: usize = 16 << 10;

/// One exec, from its creation until it is forgotten.
#[derive(Clone, Debug)]
pub struct Exec {
    pub request: ExecCreateRequest,
    pub phase: ExecPhase,
    pub pid: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecPhase {
    Created,
    Running,
    /// With its exit code.
    Ended(i32),
}

#[derive(Default)]
pub struct Execs {
    by_id: HashMap<String, Exec>,
    /// Those that nobody had started when they came; some have been since.
    unstarted: VecDeque<String>,
    /// Those that have ended, in that order.
    ended: VecDeque<(Instant, String)>,
}

impl Execs {
    /// Takes a new one; gives the ids of those that are forgotten for it.
    pub fn create(&mut self, id: String, request: ExecCreateRequest) -> Vec<String> {
        self.by_id.insert(id.clone(), Exec { request, phase: ExecPhase::Created, pid: 0 });
        self.unstarted.push_back(id);
        self.forget_old(Instant::now())
    }

    /// Takes one that an earlier engine started: what was asked for is not known any more.
    pub fn find_again(&mut self, id: String, pid: i32, code: Option<i32>) {
        let unknown = Exec { request: ExecCreateRequest::default(), phase: ExecPhase::Created, pid: 0 };
        let exec = self.by_id.entry(id.clone()).or_insert(unknown);
        match code {
            Some(code) => self.end(&id, code),
            None => (exec.phase, exec.pid) = (ExecPhase::Running, pid),
        }
    }

    pub fn get(&self, id: &str) -> Option<&Exec> {
        self.by_id.get(id)
    }

    /// Marks one as started, once; gives what was asked for.
    pub fn begin(&mut self, id: &str) -> Option<Result<ExecCreateRequest, ExecPhase>> {
        let exec = self.by_id.get_mut(id)?;
        if exec.phase != ExecPhase::Created {
            return Some(Err(exec.phase));
        }
        exec.phase = ExecPhase::Running;
        Some(Ok(exec.request.clone()))
    }

    /// Its process is there, unless it has ended already.
    pub fn set_pid(&mut self, id: &str, pid: i32) {
        if let Some(exec) = self.by_id.get_mut(id).filter(|exec| exec.phase == ExecPhase::Running) {
            exec.pid = pid;
        }
    }

    pub fn end(&mut self, id: &str, code: i32) {
        let Some(exec) = self.by_id.get_mut(id) else { return };
        let ended_before = matches!(exec.phase, ExecPhase::Ended(_));
        (exec.phase, exec.pid) = (ExecPhase::Ended(code), 0);
        if !ended_before {
            self.ended.push_back((Instant::now(), id.to_owned()));
        }
    }

    /// What was running when the container ended was killed with it.
    pub fn container_ended(&mut self) {
        for id in self.running() {
            self.end(&id, 137);
        }
    }

    pub fn running(&self) -> Vec<String> {
        let running = self.by_id.iter().filter(|(_, exec)| exec.phase == ExecPhase::Running);
        running.map(|(id, _)| id.clone()).collect()
    }

    /// Forgets all of them.
    pub fn drain(&mut self) -> Vec<String> {
        let ids = std::mem::take(&mut self.by_id).into_keys().collect();
        *self = Self::default();
        ids
    }

    /// Looks at no more than what goes, and one of each kind that stays.
    fn forget_old(&mut self, now: Instant) -> Vec<String> {
        let mut gone = Vec::new();
        while let Some((at, _)) = self.ended.front()
            && (self.ended.len() > ENDED_MAX || now.duration_since(*at) > KEPT)
        {
            gone.extend(self.ended.pop_front().map(|(_, id)| id));
        }
        while let Some(id) = self.unstarted.front() {
            let waits = self.by_id.get(id).is_some_and(|exec| exec.phase == ExecPhase::Created);
            if waits && self.unstarted.len() <= UNSTARTED_MAX {
                break;
            }
            gone.extend(self.unstarted.pop_front().filter(|_| waits));
        }
        gone.iter().for_each(|id| drop(self.by_id.remove(id)));
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(execs: &mut Execs, id: usize) -> Vec<String> {
        execs.create(id.to_string(), ExecCreateRequest::default())
    }

    #[test]
    fn however_many_there_were_few_are_kept() {
        let mut execs = Execs::default();
        let mut gone = Vec::new();
        for id in 0..10_000 {
            gone.extend(create(&mut execs, id));
            execs.begin(&id.to_string()).unwrap().unwrap();
            execs.end(&id.to_string(), 0);
        }
        assert!(execs.by_id.len() <= ENDED_MAX + 1 && execs.unstarted.len() <= 2);
        assert_eq!(gone.len(), 10_000 - execs.by_id.len());
        assert_eq!(execs.get("9999").unwrap().phase, ExecPhase::Ended(0));
        for id in 10_000..10_000 + 2 * UNSTARTED_MAX {
            create(&mut execs, id);
        }
        assert!(execs.by_id.len() <= UNSTARTED_MAX + ENDED_MAX + 1, "{}", execs.by_id.len());
    }

    #[test]
    fn one_is_forgotten_some_time_after_its_end_and_not_before() {
        let mut execs = Execs::default();
        (0..3).for_each(|id| drop(create(&mut execs, id)));
        execs.begin("1").unwrap().unwrap();
        execs.set_pid("1", 7);
        execs.end("1", 3);
        execs.end("1", 3);
        let later = Instant::now() + KEPT + Duration::from_secs(1);
        assert_eq!(execs.forget_old(later), ["1"]);
        assert_eq!(execs.forget_old(later), [""; 0]);
        assert!(execs.begin("2").unwrap().is_ok());
        assert_eq!(execs.begin("2").unwrap().unwrap_err(), ExecPhase::Running);
        execs.container_ended();
        assert_eq!(execs.get("2").unwrap().phase, ExecPhase::Ended(137));
        assert_eq!(execs.drain().len(), 2);
    }
}
