//! Health: what the configuration asks of the monitor, and what the monitor tells, in the record, in events and to who waits.
//!
//! The monitor probes, counts and, where a container is to be ended for being unhealthy, ends it; the engine only listens, so that
//! nothing of this needs an engine.

use std::sync::Arc;

use corten_api::Timestamp;
use corten_api::container::{ContainerConfig, Health, HealthConfig, HealthcheckResult, HostConfig};
use corten_api::exec::ExecCreateRequest;
use corten_runtime::monitor::protocol::{
    self, Event, HealthCheck, HealthStatus, ProbeResult, Remedy, Request,
};

use super::{Container, stop_signal};
use crate::Engine;
use crate::error::{Error, Result};
use crate::link::MonitorLink;

/// What is done with a container that becomes unhealthy: none, restart, stop or kill. A label, so that Docker's command and
/// Compose can say it.
const REMEDY: &str = "com.corten.health-on-failure";

/// Docker's defaults, in nanoseconds.
const INTERVAL: i64 = 30_000_000_000;
const TIMEOUT: i64 = 30_000_000_000;
const START_INTERVAL: i64 = 5_000_000_000;
const RETRIES: i64 = 3;
/// The shortest that Docker takes, in nanoseconds.
const SHORTEST: i64 = 1_000_000;
/// Results that are kept, as by the monitor.
const LOG_MAX: usize = 5;

/// Refuses what makes no sense, in Docker's words.
pub(super) fn check(config: &ContainerConfig, host: &HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    if let Some(health) = &config.healthcheck {
        for (name, duration) in [
            ("Interval", health.interval),
            ("Timeout", health.timeout),
            ("StartPeriod", health.start_period),
            ("StartInterval", health.start_interval),
        ] {
            if duration != 0 && duration < SHORTEST {
                return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
            }
        }
        if health.retries < 0 {
            return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
        }
        if let Some(kind) = health.test.first()
            && !matches!(kind.as_str(), "NONE" | "CMD" | "CMD-SHELL")
        {
            warnings.push(format!("Unknown healthcheck type '{kind}' (expected 'CMD'): it is not run."));
        }
    }
    let wish = wish(config)?;
    if wish != Wish::None && command(config).is_none() {
        return Err(Error::invalid(format!(
            "{REMEDY}={} needs a health check, and the container has none",
            config.labels.get(REMEDY).map_or("", String::as_str)
        )));
    }
    if wish == Wish::Restart && host.auto_remove {
        return Err(Error::invalid(format!("can't create 'AutoRemove' container with {REMEDY}=restart")));
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    None,
    Restart,
    Stop,
    Kill,
}

fn wish(config: &ContainerConfig) -> Result<Wish> {
    match config.labels.get(REMEDY).map_or("", String::as_str) {
        "" | "none" => Ok(Wish::None),
        "restart" => Ok(Wish::Restart),
        "stop" => Ok(Wish::Stop),
        "kill" => Ok(Wish::Kill),
        other => Err(Error::invalid(format!(
            "invalid value for {REMEDY}: \"{other}\"; use one of none, restart, stop or kill"
        ))),
    }
}

/// The probe's program with its arguments; `None` where health is nobody's concern.
pub(super) fn command(config: &ContainerConfig) -> Option<Vec<String>> {
    let (kind, words) = config.healthcheck.as_ref()?.test.split_first()?;
    match kind.as_str() {
        "CMD" => Some(words.to_vec()),
        "CMD-SHELL" if config.shell.is_empty() => {
            Some(["/bin/sh", "-c"].into_iter().map(str::to_owned).chain(words.iter().cloned()).collect())
        }
        "CMD-SHELL" => Some(config.shell.iter().chain(words).cloned().collect()),
        _ => None,
    }
}

/// What a container begins its run with; the results of the last one are kept.
pub(super) fn begin(config: &ContainerConfig, last: Option<Health>) -> Option<Health> {
    command(config)?;
    let log = last.map(|health| health.log.into_vec()).unwrap_or_default();
    Some(Health { status: HealthStatus::Starting.name().to_owned(), failing_streak: 0, log: log.into() })
}

/// The check as the monitor wants it: with all its numbers.
fn numbers(health: &HealthConfig) -> [u64; 5] {
    let interval = if health.interval > 0 { health.interval } else { INTERVAL };
    let or = |value: i64, default: i64| u64::try_from(if value > 0 { value } else { default }).unwrap_or(0);
    [
        or(health.interval, INTERVAL),
        // Never less often than later: Docker's 5 s hold up a container whose interval is shorter.
        or(health.start_interval, START_INTERVAL.min(interval)),
        or(health.timeout, TIMEOUT),
        or(health.start_period, 0),
        or(health.retries, RETRIES),
    ]
}

fn result(result: ProbeResult) -> HealthcheckResult {
    let stamp = |time: protocol::Timestamp| Timestamp::from_unix_nanos(time.0);
    HealthcheckResult {
        start: stamp(result.start),
        end: stamp(result.end),
        exit_code: result.code,
        output: result.output,
    }
}

impl Engine {
    /// What the monitor is to do about a container's health.
    pub(super) fn health_check(&self, container: &Container) -> Result<Option<Box<HealthCheck>>> {
        let config = container.read().config.clone();
        let (Some(cmd), Some(health)) = (command(&config), &config.healthcheck) else { return Ok(None) };
        let request = ExecCreateRequest { cmd: cmd.into(), ..ExecCreateRequest::default() };
        let [interval_ns, start_interval_ns, timeout_ns, start_period_ns, retries] = numbers(health);
        Ok(Some(Box::new(HealthCheck {
            process: Box::new(self.exec_process(container, &request)?),
            user: Some(config.user.clone()).filter(|user| !user.is_empty()),
            groups: container.read().host_config.group_add.to_vec(),
            interval_ns,
            start_interval_ns,
            eager: health.start_interval == 0,
            timeout_ns,
            start_period_ns,
            retries: u32::try_from(retries).unwrap_or(u32::MAX),
            remedy: self.remedy(&config)?,
        })))
    }

    fn remedy(&self, config: &ContainerConfig) -> Result<Option<Remedy>> {
        let again = match wish(config)? {
            Wish::None => return Ok(None),
            Wish::Kill => return Ok(Some(Remedy::Kill)),
            Wish::Stop => false,
            Wish::Restart => true,
        };
        let signal = stop_signal(&config.stop_signal);
        let patience_s = config.stop_timeout.unwrap_or(self.options.defaults.stop_timeout_s);
        Ok(Some(Remedy::Stop { signal, patience_s, again }))
    }

    /// What a monitor tells of its container's health; gives back what is about something else.
    pub(super) fn hear_of_health(&self, container: &Arc<Container>, event: Event) -> Option<Event> {
        match event {
            Event::ProbeStarted { exec } => {
                let command = command(&container.read().config).unwrap_or_default().join(" ");
                for action in ["exec_create", "exec_start"] {
                    self.container_event(container, &format!("{action}: {command}"), &[("execID", &exec)]);
                }
            }
            Event::Probed { exec, exit, status, failing_streak, result } => {
                self.counted.health_check(result.code == 0);
                if let Some(code) = exit {
                    let code = code.to_string();
                    self.container_event(container, "exec_die", &[("execID", &exec), ("exitCode", &code)]);
                }
                self.note_health(container, status, |health| {
                    health.failing_streak = i64::try_from(failing_streak).unwrap_or(i64::MAX);
                    let mut log = std::mem::take(&mut health.log).into_vec();
                    log.push(self::result(result));
                    log.drain(..log.len().saturating_sub(LOG_MAX));
                    health.log = log.into();
                });
            }
            Event::Remedied { signal } => {
                self.container_event(container, "kill", &[("signal", &signal.to_string())]);
            }
            other => return Some(other),
        }
        None
    }

    /// Asks a monitor that was found again what it has learnt while nobody listened.
    pub(super) fn ask_for_health(&self, container: &Arc<Container>, link: &MonitorLink) {
        if container.read().state.health.is_none() {
            return;
        }
        let (engine, container, link) = (self.clone(), container.clone(), link.clone());
        tokio::spawn(async move {
            // A monitor of an older version refuses; its container ends now, or it is heard of with the next probe.
            let Ok(Event::Health { health: Some(found), .. }) =
                link.ask(|seq| Request::Health { seq }, &[]).await
            else {
                return;
            };
            engine.note_health(&container, found.status, |health| {
                health.failing_streak = i64::try_from(found.failing_streak).unwrap_or(i64::MAX);
                health.log = found.log.into_iter().map(result).collect::<Vec<_>>().into();
            });
        });
    }

    fn note_health(&self, container: &Container, status: HealthStatus, change: impl FnOnce(&mut Health)) {
        let turned = {
            let mut record = container.write();
            let alive = record.state.phase.is_alive();
            let Some(health) = record.state.health.as_mut().filter(|_| alive) else { return };
            change(health);
            let turned = health.status != status.name();
            status.name().clone_into(&mut health.status);
            turned
        };
        container.progress.send_modify(|progress| progress.health = status);
        if turned {
            self.save(container);
            self.container_event(container, &format!("health_status: {}", status.name()), &[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(test: &[&str], remedy: &str) -> ContainerConfig {
        let test = test.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>().into();
        let mut config = ContainerConfig {
            healthcheck: Some(HealthConfig { test, ..HealthConfig::default() }),
            ..ContainerConfig::default()
        };
        config.labels.insert(REMEDY.to_owned(), remedy.to_owned());
        config
    }

    fn refusal(config: &ContainerConfig, host: &HostConfig) -> String {
        check(config, host, &mut Vec::new()).unwrap_err().message
    }

    #[test]
    fn tests_and_what_is_run() {
        assert_eq!(command(&config(&["CMD", "a", "b c"], "")).unwrap(), ["a", "b c"]);
        assert_eq!(command(&config(&["CMD-SHELL", "a && b"], "")).unwrap(), ["/bin/sh", "-c", "a && b"]);
        let mut bash = config(&["CMD-SHELL", "a"], "");
        bash.shell = ["bash", "-ec"].map(str::to_owned).to_vec().into();
        assert_eq!(command(&bash).unwrap(), ["bash", "-ec", "a"]);
        for none in [&["NONE"][..], &[], &["HTTP", "x"]] {
            assert_eq!(command(&config(none, "")), None);
        }
        let mut warnings = Vec::new();
        check(&config(&["HTTP", "x"], ""), &HostConfig::default(), &mut warnings).unwrap();
        assert!(warnings[0].contains("Unknown healthcheck type 'HTTP'"));
    }

    #[test]
    fn numbers_that_are_not_given_are_dockers() {
        let second = 1_000_000_000;
        assert_eq!(numbers(&HealthConfig::default()), [30 * second, 5 * second, 30 * second, 0, 3]);
        let hasty = HealthConfig { interval: 1_000_000_000, ..HealthConfig::default() };
        assert_eq!(numbers(&hasty)[1], second, "probed as often while it starts as later");
        let given = HealthConfig {
            interval: 1,
            timeout: 2,
            start_period: 3,
            start_interval: 4,
            retries: 5,
            ..HealthConfig::default()
        };
        assert_eq!(numbers(&given), [1, 4, 2, 3, 5]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let host = HostConfig::default();
        let mut short = config(&["CMD", "x"], "");
        short.healthcheck.as_mut().unwrap().start_interval = 999_999;
        assert_eq!(refusal(&short, &host), "StartInterval in Healthcheck cannot be less than 1ms");
        let mut negative = config(&["CMD", "x"], "");
        negative.healthcheck.as_mut().unwrap().retries = -1;
        assert_eq!(refusal(&negative, &host), "Retries in Healthcheck cannot be negative");
        assert!(refusal(&config(&["CMD", "x"], "explode"), &host).contains("use one of none, restart"));
        assert!(refusal(&config(&["NONE"], "kill"), &host).contains("needs a health check"));
        let gone = HostConfig { auto_remove: true, ..HostConfig::default() };
        assert!(refusal(&config(&["CMD", "x"], "restart"), &gone).contains("AutoRemove"));
        check(&config(&["CMD", "x"], "kill"), &gone, &mut Vec::new()).unwrap();
    }
}
