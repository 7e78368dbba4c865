//! One task per running container: it hears what the monitor says and keeps the record true.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use corten_api::Timestamp;
use corten_runtime::monitor::protocol::{Cause, Event, Exit, HealthStatus, StepError};
use corten_runtime::monitor::read_exit;
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::reason::{self, Lost};
use super::{Change, Container, Phase, Places, lock};
use crate::Engine;
use crate::link::MonitorLink;

/// How a launch ended.
pub(super) enum Launched {
    Created,
    Started,
    Failed(StepError),
    /// The line broke before an answer came.
    Lost,
}

/// How listening ended.
enum Listened {
    /// With the container.
    Ended,
    /// With the line.
    Lost,
}

/// Where the first answers of a new monitor go.
pub(super) type LaunchSender = oneshot::Sender<Launched>;

impl Engine {
    /// Listens until the container has ended. `launch` hears of its start.
    pub(super) fn watch(&self, container: Arc<Container>, link: MonitorLink, launch: Option<LaunchSender>) {
        let engine = self.clone();
        container.monitored.send_replace(true);
        self.monitors.send_modify(|count| *count += 1);
        tokio::spawn(async move {
            let (mut link, mut launch) = (link, launch);
            if launch.is_none() {
                engine.ask_for_health(&container, &link);
            }
            // A line can break without its monitor: then there is another one to be had.
            while let Listened::Lost = engine.listen(&container, &link, &mut launch).await {
                let Some(another) = engine.reconnect(&container).await else {
                    if container.phase().is_alive() {
                        engine.settle_ended(&container).await;
                    }
                    break;
                };
                warn!(container = container.id, "the line to a monitor broke, and was made anew");
                *lock(&container.link) = Some(another.clone());
                link = another;
                engine.ask_for_health(&container, &link);
            }
            if let Some(sender) = launch {
                let _ = sender.send(Launched::Lost);
            }
            // The line's end is the monitor's: until then it removes files, and a control group with all that is in it.
            while link.next().await.is_some() {}
            container.monitored.send_replace(false);
            engine.monitors.send_modify(|count| *count -= 1);
        });
    }

    async fn listen(
        &self,
        container: &Arc<Container>,
        link: &MonitorLink,
        launch: &mut Option<LaunchSender>,
    ) -> Listened {
        let mut tell = |outcome| {
            if let Some(sender) = launch.take() {
                // A client that gave up waiting does not undo the start.
                let _ = sender.send(outcome);
            }
        };
        while let Some(event) = link.next().await {
            match event {
                Event::Created { pid } => {
                    container.write().state.pid = pid;
                    tell(Launched::Created);
                }
                Event::Started { pid, at } => {
                    self.started(container, pid, Timestamp::from_unix_nanos(at.0));
                    tell(Launched::Started);
                }
                Event::Failed { error } => {
                    tell(Launched::Failed(error));
                    return Listened::Ended;
                }
                Event::Exited { exit } => {
                    tell(Launched::Started);
                    self.ended(container, &exit, None).await;
                    return Listened::Ended;
                }
                Event::ExecExited { exec, code } => self.exec_ended(container, &exec, code),
                Event::OutOfMemory => self.out_of_memory(container),
                event => {
                    let Some(answer) = self.hear_of_health(container, event) else { continue };
                    debug!(?answer, "an answer that nobody waits for");
                }
            }
        }
        Listened::Lost
    }

    /// The container's monitor is gone: takes its exit record, or ends what it left running.
    pub(super) async fn settle_ended(&self, container: &Arc<Container>) {
        let (exit, lost) = match self.exit_record(container) {
            Some(exit) => (exit, None),
            None if self.rebooted && !self.restarts.is_open() => {
                // Docker's code for what it does not know the end of.
                (Exit { code: 255, signal: None, ..killed_monitor(container) }, Some(Lost::Host))
            }
            None => (killed_monitor(container), Some(Lost::Monitor)),
        };
        let path = self.cgroups_path(&container.read());
        // Without its parent nobody would reap, log or limit what still runs.
        let swept = crate::image::blocking(move || super::leftovers::end_group(&path));
        if let Err(error) = swept.await {
            warn!(container = container.id, %error, "what a killed monitor left behind");
        }
        self.ended(container, &exit, lost).await;
    }

    fn started(&self, container: &Container, pid: i32, at: Timestamp) {
        {
            let mut record = container.write();
            let Some(phase) = record.state.phase.after(Change::Start) else { return };
            record.state.phase = phase;
            record.state.pid = pid;
            record.state.started = at;
            record.state.finished = Timestamp::ZERO;
            record.state.exit_code = 0;
            record.state.oom_killed = false;
            record.state.error.clear();
            record.state.stopped_by_user = false;
            record.state.asked = None;
            record.state.exit_reason = None;
            let last = record.state.health.take();
            record.state.health = super::health::begin(&record.config, last);
        }
        container.progress.send_modify(|progress| {
            (progress.alive, progress.restarting) = (true, false);
            progress.health = HealthStatus::Starting;
        });
    }

    /// The kernel ends a process of the container for want of memory; the container may go on.
    fn out_of_memory(&self, container: &Container) {
        {
            let state = &mut container.write().state;
            if !state.phase.is_alive() {
                return;
            }
            state.oom_killed = true;
        }
        self.save(container);
        self.container_event(container, "oom", &[]);
    }

    /// The container is over: settles its record, its network, and who waits.
    pub(super) async fn ended(&self, container: &Arc<Container>, exit: &Exit, lost: Option<Lost>) {
        // Or a start that comes in between would lose its network and its monitor to this end.
        let turn = container.operation.lock().await;
        let restarting = container.restarting.load(Ordering::Acquire);
        let (auto_remove, again, ran, kind, oom) = {
            let mut guard = container.write();
            let record = &mut *guard;
            if !record.state.phase.is_alive() {
                return;
            }
            record.state.pid = 0;
            record.state.exit_code = exit.code;
            // An engine that was not there when it happened tells of it now.
            let oom = exit.oom_killed && !record.state.oom_killed;
            record.state.oom_killed |= exit.oom_killed;
            record.state.finished = Timestamp::from_unix_nanos(exit.finished.0);
            if record.state.started.is_zero() {
                record.state.started = Timestamp::from_unix_nanos(exit.started.0);
            }
            if let Some(health) = &mut record.state.health {
                // Docker's word for one that is not asked any more.
                HealthStatus::Unhealthy.name().clone_into(&mut health.status);
            }
            let limit = record.host_config.memory;
            let reason = reason::explain(exit, record.state.asked, lost, limit);
            let kind = reason.kind.clone();
            record.state.exit_reason = Some(reason);
            let again = match exit.cause {
                Some(Cause::Unhealthy { again }) => again,
                None => None,
            };
            // A wish of its user's, as if by `stop`.
            record.state.stopped_by_user |= again == Some(false);
            let ran = record.state.finished.since(record.state.started);
            let again = if restarting {
                record.state.phase = Phase::Exited;
                None
            } else {
                record.state.end(&record.host_config, &mut lock(&container.backoff), ran, again == Some(true))
            };
            (record.host_config.auto_remove && !restarting, again, ran, kind, oom)
        };
        *lock(&container.link) = None;
        self.release_network(container);
        self.release_memory(container);
        self.mount_events(container, false);
        lock(&container.execs).container_ended();
        if oom {
            self.container_event(container, "oom", &[]);
        }
        let (code, seconds) = (exit.code.to_string(), ran.as_secs().to_string());
        self.container_event(
            container,
            "die",
            &[("exitCode", &code), ("execDuration", &seconds), ("exitReason", &kind)],
        );
        self.release_volumes(container).await;
        if !auto_remove {
            self.save(container);
        }
        container.progress.send_modify(|progress| {
            progress.alive = false;
            progress.restarting = again.is_some();
            progress.exits += 1;
            progress.exit_code = exit.code;
        });
        drop(turn);
        if let Some(pause) = again {
            self.restart_after(container, pause);
        }
        if auto_remove && let Err(error) = self.discard(container, true).await {
            warn!(container = container.id, %error, "automatic removal");
        }
    }

    /// What the monitor has left on the disk or, when that was full, beside its socket, if it is of this run.
    pub(super) fn exit_record(&self, container: &Container) -> Option<Exit> {
        let places = self.places(&container.id);
        let exit = read_exit(&places.directory).or_else(|_| read_exit(&places.run)).ok()?;
        let started = container.read().state.started;
        (exit.started.0 >= started.unix_nanos() || started.is_zero()).then_some(exit)
    }

    pub(crate) fn places(&self, id: &str) -> Places {
        Places::of(&self.options.data_root, &self.options.exec_root, id)
    }

    /// Writes the record to the database; a failure is the operator's to mend, not the container's.
    pub(crate) fn save(&self, container: &Container) {
        let record = container.read();
        if let Err(error) = self.store.put_container(&container.id, &*record) {
            warn!(container = container.id, %error, "a container's state could not be saved");
        }
    }
}

/// Nobody knows how it ended: as if by SIGKILL, now.
pub(super) fn killed_monitor(container: &Container) -> Exit {
    let state = container.read().state.clone();
    let stamp = |time: Timestamp| corten_runtime::monitor::protocol::Timestamp(time.unix_nanos());
    debug_assert!(state.phase != Phase::Created);
    Exit {
        code: 137,
        signal: Some(9),
        started: stamp(state.started),
        finished: stamp(Timestamp::now()),
        ..Exit::default()
    }
}
