//! Ending, pausing and renaming: everything that acts on a container that is there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use corten_api::Timestamp;
use corten_api::container::StopOptions;
use corten_runtime::monitor::protocol::{Event, Request};

use super::reason::{Asked, By};
use super::restart::Policy;
use super::{Change, Container, Phase, signal_number, stop_signal};
use crate::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::id;
use crate::link::done;

/// After SIGKILL a container is gone in no time, unless the kernel is stuck on its disk.
const KILL_DEADLINE: Duration = Duration::from_secs(20);
/// Behind the end of a monitor's line comes its container's, unless another line is made to it.
const END_DEADLINE: Duration = Duration::from_secs(10);

impl Engine {
    pub async fn container_stop(&self, key: &str, options: &StopOptions) -> Result<()> {
        let container = self.containers.find(key)?;
        if !self.call_off_restart(&container).await {
            if !container.phase().is_alive() {
                return Err(Error::not_modified(""));
            }
            self.stop(&container, options).await?;
        }
        self.container_event(&container, "stop", &[]);
        Ok(())
    }

    pub async fn container_restart(&self, key: &str, options: &StopOptions) -> Result<()> {
        let container = self.containers.find(key)?;
        if !self.call_off_restart(&container).await && container.phase().is_alive() {
            container.restarting.store(true, Ordering::Release);
            let stopped = self.stop(&container, options).await;
            container.restarting.store(false, Ordering::Release);
            stopped?;
            self.container_event(&container, "stop", &[]);
        }
        match self.start(&container).await {
            // Somebody was faster with the start.
            Err(error) if error.kind == ErrorKind::NotModified => {}
            started => started?,
        }
        self.container_event(&container, "restart", &[]);
        Ok(())
    }

    /// The stop signal, a time to react, then SIGKILL.
    async fn stop(&self, container: &Arc<Container>, options: &StopOptions) -> Result<()> {
        let (signal, timeout_s) = {
            let record = container.read();
            let signal = match options.signal.as_deref().filter(|text| !text.is_empty()) {
                Some(text) => signal_number(text)?,
                None => stop_signal(&record.config.stop_signal),
            };
            let timeout = options.timeout_s.or(record.config.stop_timeout);
            (signal, timeout.unwrap_or(self.options.defaults.stop_timeout_s))
        };
        container.note_asked(By::Stop, signal);
        self.note_stop(container);
        let ended = self.end(container, signal, timeout_s).await;
        // Had it ended by itself a moment before, its policy would bring it back.
        self.call_off_restart(container).await;
        ended
    }

    /// A user wants it to end. Written down first where that matters: an engine that is killed now is followed by one that respects it.
    pub(super) fn note_stop(&self, container: &Container) {
        let matters = {
            let mut record = container.write();
            record.state.stopped_by_user = true;
            Policy::of(&record.host_config.restart_policy) != Policy::No
        };
        if matters {
            self.save(container);
        }
    }

    async fn end(&self, container: &Arc<Container>, signal: i32, timeout_s: i64) -> Result<()> {
        // With no time to react there is no point in asking first.
        if timeout_s != 0 {
            self.signal(container, signal).await?;
            if container.phase() == Phase::Paused {
                self.thaw(container).await?;
            }
            // Negative: for ever.
            let patience = u64::try_from(timeout_s).ok().map(Duration::from_secs);
            if wait_end(container, patience).await {
                return Ok(());
            }
        }
        let by = if timeout_s == 0 { By::Stop } else { By::StopByForce };
        container.note_asked(by, if timeout_s == 0 { SIGKILL } else { signal });
        self.signal(container, SIGKILL).await?;
        if wait_end(container, Some(KILL_DEADLINE)).await {
            return Ok(());
        }
        Err(Error::internal(format!(
            "container {} did not end within {} s of SIGKILL; a process of it may hang in the kernel (state D in ps)",
            id::short(&container.id),
            KILL_DEADLINE.as_secs()
        )))
    }

    pub async fn container_kill(&self, key: &str, signal: &str) -> Result<()> {
        let container = self.containers.find(key)?;
        let number = if signal.is_empty() { SIGKILL } else { signal_number(signal)? };
        let ends = self.means_the_end(&container, number);
        if ends && self.call_off_restart(&container).await {
            return Ok(());
        }
        if !container.settled_phase().await.is_alive() {
            return Err(not_running(&container).within(format!("cannot kill container: {key}")));
        }
        container.note_asked(By::Kill, number);
        if ends {
            self.note_stop(&container);
        }
        self.signal(&container, number).await?;
        if number == SIGKILL {
            wait_end(&container, Some(KILL_DEADLINE)).await;
            self.call_off_restart(&container).await;
        }
        Ok(())
    }

    /// Whether who sends this signal wants the container to be over. Others, such as HUP, tell its program something.
    fn means_the_end(&self, container: &Container, number: i32) -> bool {
        let own = signal_number(&container.read().config.stop_signal).ok();
        [SIGINT, SIGQUIT, SIGKILL, SIGTERM].contains(&number) || own == Some(number)
    }

    /// Sends a signal to the first process. A frozen one only hears SIGKILL once thawed.
    pub(super) async fn signal(&self, container: &Arc<Container>, number: i32) -> Result<()> {
        let Some(link) = container.link() else {
            return if wait_end(container, Some(END_DEADLINE)).await {
                Ok(())
            } else {
                Err(not_running(container))
            };
        };
        let (engine, signalled) = (self.clone(), container.clone());
        // Before the end that comes of it is told.
        let tell = move |answer: &Event| {
            if matches!(answer, Event::Done { .. }) {
                engine.container_event(&signalled, "kill", &[("signal", &number.to_string())]);
            }
        };
        match link.ask_first(|seq| Request::Signal { seq, signal: number }, &[], tell).await {
            Ok(event) => {
                done(event)?;
                if container.phase() == Phase::Paused && number == SIGKILL {
                    // Sent first and thawed then: it hears nothing else in between. With version 1 a frozen one does not even die.
                    self.thaw(container).await?;
                }
                Ok(())
            }
            // It ended in this very moment, which may be about to be known: the wish is fulfilled.
            Err(_) if wait_end(container, Some(END_DEADLINE)).await => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub async fn container_pause(&self, key: &str) -> Result<()> {
        let container = self.containers.find(key)?;
        let _turn = container.operation.lock().await;
        let phase = container.phase();
        let Some(paused) = phase.after(Change::Pause) else {
            return Err(match phase {
                Phase::Paused => Error::conflict(format!("Container {} is already paused", container.id)),
                _ => not_running(&container),
            });
        };
        let group = self.cgroup(&container)?;
        let frozen =
            crate::image::blocking(move || group.freeze().map_err(|e| Error::internal(e.to_string())));
        frozen.await.map_err(|e| Error::internal(format!("Cannot pause container {key}: {e}")))?;
        container.write().state.phase = paused;
        self.save(&container);
        self.container_event(&container, "pause", &[]);
        Ok(())
    }

    pub async fn container_unpause(&self, key: &str) -> Result<()> {
        let container = self.containers.find(key)?;
        let _turn = container.operation.lock().await;
        if container.phase() != Phase::Paused {
            return Err(Error::conflict(format!("Container {} is not paused", container.id)));
        }
        self.thaw(&container).await?;
        self.save(&container);
        self.container_event(&container, "unpause", &[]);
        Ok(())
    }

    pub(super) async fn thaw(&self, container: &Container) -> Result<()> {
        let group = self.cgroup(container)?;
        // The freezer of version 1 has to be asked until it is done.
        let thawed = crate::image::blocking(move || group.thaw().map_err(|e| Error::internal(e.to_string())));
        thawed
            .await
            .map_err(|e| Error::internal(format!("Cannot unpause container {}: {e}", container.id)))?;
        let mut record = container.write();
        if let Some(running) = record.state.phase.after(Change::Unpause) {
            record.state.phase = running;
        }
        Ok(())
    }

    pub async fn container_rename(&self, key: &str, new: &str) -> Result<()> {
        let container = self.containers.find(key)?;
        let new = new.strip_prefix('/').unwrap_or(new);
        if new.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let unusable = |error: Error| error.within("Error when allocating new name");
        id::check_name("container", new).map_err(unusable)?;
        let _turn = container.operation.lock().await;
        if container.progress.borrow().removed {
            return Err(Error::no_such_container(key));
        }
        let old = container.name();
        if old == new {
            return Err(Error::invalid("Renaming a container with the same name as its current name"));
        }
        self.containers.add_name(&container.id, new).map_err(unusable)?;
        container.write().name = new.to_owned();
        let saved = self.store.put_container(&container.id, &*container.read());
        if let Err(error) = saved {
            container.write().name = old;
            self.containers.give_up_name(new);
            return Err(error);
        }
        self.containers.give_up_name(&old);
        self.container_names_changed(&container);
        self.container_event(&container, "rename", &[("oldName", &format!("/{old}"))]);
        Ok(())
    }

    /// The pseudo terminal's new size.
    pub async fn container_resize(&self, key: &str, height: u16, width: u16) -> Result<()> {
        let container = self.containers.find(key)?;
        let link = container.link().ok_or_else(|| not_running(&container))?;
        let request = |seq| Request::Resize { seq, exec: None, rows: height, columns: width };
        done(link.ask(request, &[]).await?)?;
        let size = (height.to_string(), width.to_string());
        self.container_event(&container, "resize", &[("height", &size.0), ("width", &size.1)]);
        Ok(())
    }
}

const SIGINT: i32 = 2;

const SIGQUIT: i32 = 3;

pub(super) const SIGKILL: i32 = 9;

pub(super) const SIGTERM: i32 = 15;

impl Container {
    /// Somebody is about to end it: that will be why it ended.
    pub(super) fn note_asked(&self, by: By, signal: i32) {
        self.write().state.asked = Some(Asked { by, signal, at: Timestamp::now() });
    }
}

/// Why nothing can be done with its processes: it has none.
pub(crate) fn not_running(container: &Container) -> Error {
    if container.phase() == Phase::Restarting {
        return Error::conflict(format!(
            "Container {} is restarting, wait until the container is running",
            container.id
        ));
    }
    Error::conflict(format!("container {} is not running", container.id))
}

/// Whether it has ended before the time is over; no time means for ever.
pub(super) async fn wait_end(container: &Container, patience: Option<Duration>) -> bool {
    let mut progress = container.progress.subscribe();
    let ended = progress.wait_for(|now| !now.alive || now.removed);
    match patience {
        None => ended.await.is_ok(),
        Some(patience) => tokio::time::timeout(patience, ended).await.is_ok_and(|result| result.is_ok()),
    }
}
