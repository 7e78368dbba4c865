//! Starting containers again: after their end, as [`policy`] says, and all that belong together when an engine begins, in the
//! order of what depends on what. A container that waits for its next start is in the phase `Restarting`, which is written
//! down: an engine that is killed meanwhile is followed by one that goes on from there.

mod policy;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corten_api::container::HostConfig;
use corten_api::dependencies::{self, Labels, Node, Wanted};
use corten_runtime::monitor::protocol::HealthStatus;
use tokio::sync::Semaphore;
use tracing::{info, warn};

pub use policy::{Backoff, Policy, Situation};

use super::{Change, Container, Phase, State, lock};
use crate::Engine;

/// How many containers the engine starts at once of its own accord.
const AT_ONCE: u32 = 8;
/// How long a container waits for those that it depends on when all start together. Then it is started all the same.
const DEPENDENCY_PATIENCE: Duration = Duration::from_secs(120);
/// How long an engine that ends waits for the starts that are under way.
const CLOSING_DEADLINE: Duration = Duration::from_secs(10);

/// The starts that nobody asked for.
pub struct Restarts {
    permits: Semaphore,
    /// Everything has been found; before, what ends is only noted as to be started.
    open: AtomicBool,
}

impl Default for Restarts {
    fn default() -> Self {
        Self { permits: Semaphore::new(AT_ONCE as usize), open: AtomicBool::new(false) }
    }
}

impl Restarts {
    /// Whether everything has been found.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Waits for the starts that are under way, and lets no other begin. What is due stays noted for the next engine.
    pub async fn close(&self) {
        self.open.store(false, Ordering::Release);
        let all = tokio::time::timeout(CLOSING_DEADLINE, self.permits.acquire_many(AT_ONCE)).await;
        self.permits.close();
        drop(all);
    }
}

impl State {
    /// Takes note of an end: the phase that follows, and after which pause it is to be started again. `again`: it is to be, whatever
    /// its policy says, unless a user does not want it.
    pub(super) fn end(
        &mut self,
        host: &HostConfig,
        backoff: &mut Backoff,
        ran: Duration,
        again: bool,
    ) -> Option<Duration> {
        let now = Situation {
            exit_code: self.exit_code,
            restarts: self.restart_count,
            stopped_by_user: self.stopped_by_user,
        };
        let again = again && !self.stopped_by_user || Policy::of(&host.restart_policy).restarts(now);
        let change = if again { Change::AwaitRestart } else { Change::Exit };
        self.phase = self.phase.after(change)?;
        again.then(|| {
            self.restart_count += 1;
            backoff.next(ran)
        })
    }
}

impl Engine {
    /// Starts a container that is `Restarting` after a pause; until its policy or its user has had enough.
    pub(super) fn restart_after(&self, container: &Arc<Container>, pause: Duration) {
        if !self.restarts.is_open() {
            return;
        }
        let (engine, container) = (self.clone(), container.clone());
        let end = container.progress.borrow().exits;
        tokio::spawn(async move { engine.keep_restarting(&container, end, pause).await });
    }

    /// `end`: the number of the end that this follows; after another one this is somebody else's business.
    async fn keep_restarting(&self, container: &Arc<Container>, end: u64, mut pause: Duration) {
        let mut progress = container.progress.subscribe();
        loop {
            let called_off = progress.wait_for(|now| !now.restarting || now.exits != end || now.removed);
            if tokio::time::timeout(pause, called_off).await.is_ok() {
                return;
            }
            match self.start_again(container, end).await {
                Some(next) => pause = next,
                None => return,
            }
        }
    }

    /// One more start; the pause before the next one when it failed.
    async fn start_again(&self, container: &Arc<Container>, end: u64) -> Option<Duration> {
        // An engine that ends gives no more of these.
        let _permit = self.restarts.permits.acquire().await.ok()?;
        let turn = container.operation.lock().await;
        if container.phase() != Phase::Restarting || container.progress.borrow().exits != end {
            return None;
        }
        let error = self.attempt(container).await.err()?;
        warn!(container = container.id, %error, "a container could not be started again");
        if container.phase().is_alive() {
            // It runs, could not be written down, and is being ended for that: its end says what follows.
            return None;
        }
        let pause = {
            let mut guard = container.write();
            let record = &mut *guard;
            let mut backoff = lock(&container.backoff);
            let pause = record.state.end(&record.host_config, &mut backoff, Duration::ZERO, false);
            if pause.is_none() {
                record.state.phase = Phase::Exited;
            }
            pause
        };
        self.save(container);
        if pause.is_none() {
            container.came_to_rest();
        }
        drop(turn);
        pause
    }

    /// A user wants a container that is `Restarting` to stay where it is; whether it was.
    pub(super) async fn call_off_restart(&self, container: &Container) -> bool {
        if container.phase() != Phase::Restarting {
            return false;
        }
        let _turn = container.operation.lock().await;
        {
            let mut record = container.write();
            let Some(phase) = record.state.phase.after(Change::GiveUp) else { return false };
            record.state.phase = phase;
            record.state.stopped_by_user = true;
        }
        self.save(container);
        container.came_to_rest();
        true
    }

    /// A container's policy was changed, in whose turn this is: one that waits for a start which its policy no longer wants stays at
    /// rest.
    pub(super) fn restart_policy_changed(&self, container: &Container) {
        {
            let mut record = container.write();
            let unwanted = Policy::of(&record.host_config.restart_policy) == Policy::No;
            match record.state.phase.after(Change::GiveUp) {
                Some(phase) if unwanted => record.state.phase = phase,
                _ => return,
            }
        }
        self.save(container);
        container.came_to_rest();
    }

    /// Everything has been found: starts what is due, and what comes with the engine, in the order of what depends on what.
    pub(super) fn begin_restarts(&self) {
        let all = self.containers.all();
        for container in &all {
            container.come_with_engine();
        }
        self.restarts.open.store(true, Ordering::Release);
        let due = all.iter().filter(|container| container.phase() == Phase::Restarting).count();
        if due == 0 {
            return;
        }
        info!(containers = due, "containers are started again");
        for (number, before) in dependencies_among(&all).into_iter().enumerate() {
            let container = all[number].clone();
            if container.phase() != Phase::Restarting {
                continue;
            }
            let before: Vec<_> = before.into_iter().map(|(on, wanted)| (all[on].clone(), wanted)).collect();
            let (engine, end) = (self.clone(), container.progress.borrow().exits);
            tokio::spawn(async move {
                let ready = async {
                    for (dependency, wanted) in &before {
                        dependency.is_there(*wanted).await;
                    }
                };
                if tokio::time::timeout(DEPENDENCY_PATIENCE, ready).await.is_err() {
                    warn!(container = container.id, "started without all that it depends on");
                }
                engine.keep_restarting(&container, end, Duration::ZERO).await;
            });
        }
    }
}

impl Container {
    /// Nothing of it will happen any more: those who wait for its end have waited long enough.
    fn came_to_rest(&self) {
        self.progress.send_modify(|progress| {
            progress.restarting = false;
            progress.exits += 1;
        });
    }

    /// Notes one at rest as to be started, if its policy wants that of every engine's beginning.
    fn come_with_engine(&self) {
        {
            let mut record = self.write();
            let policy = Policy::of(&record.host_config.restart_policy);
            let state = &mut record.state;
            let rests = state.phase == Phase::Exited && !state.started.is_zero();
            if !rests || !policy.starts_with_engine(state.stopped_by_user) {
                return;
            }
            let Some(phase) = state.phase.after(Change::AwaitRestart) else { return };
            (state.phase, state.restart_count, state.stopped_by_user) = (phase, 0, false);
        }
        self.progress.send_modify(|progress| progress.restarting = true);
    }

    /// Waits until it has been started, or will not be.
    async fn is_there(&self, wanted: Wanted) {
        let mut progress = self.progress.subscribe();
        let before = progress.borrow().exits;
        let settled = progress.wait_for(|now| now.alive || !now.restarting || now.exits != before);
        let _ = settled.await;
        let probed = self.read().state.health.is_some();
        if wanted == Wanted::Healthy && probed {
            let _ = progress.wait_for(|now| !now.alive || now.health != HealthStatus::Starting).await;
        }
    }
}

/// For each container the numbers of those that come before it.
fn dependencies_among(all: &[Arc<Container>]) -> Vec<Vec<(usize, Wanted)>> {
    let records: Vec<_> = all.iter().map(|container| container.read()).collect();
    let nodes: Vec<Node<'_>> = records
        .iter()
        .map(|record| {
            let host = &record.host_config;
            let modes = [&host.network_mode, &host.ipc_mode, &host.pid_mode];
            Node {
                names: [&record.id, &record.name],
                label: Labels::read(|name| record.config.labels.get(name).map(String::as_str)),
                partners: modes.iter().filter_map(|mode| mode.strip_prefix("container:")).collect(),
            }
        })
        .collect();
    dependencies::among(&nodes)
}
