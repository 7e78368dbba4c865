//! Probes of a container's health, run and acted on without an engine.

use std::time::{Duration, Instant};

use corten_runtime::cgroup::Cgroup;
use corten_runtime::monitor::protocol::{
    Cause, Event, Health, HealthCheck, HealthStatus, ProbeResult, Remedy, Request,
};

use crate::fixture::{Container, Host, eventually, is_root, process};

const MILLISECOND: u64 = 1_000_000;

fn check(script: &str) -> HealthCheck {
    HealthCheck {
        process: Box::new(process(script)),
        user: None,
        groups: Vec::new(),
        interval_ns: 50 * MILLISECOND,
        start_interval_ns: 50 * MILLISECOND,
        eager: false,
        timeout_ns: 10_000 * MILLISECOND,
        start_period_ns: 0,
        retries: 2,
        remedy: None,
    }
}

fn start(host: &Host, script: &str, check: HealthCheck) -> Container {
    let mut launch = host.launch(script);
    launch.health = Some(Box::new(check));
    let container = host.start(launch, Vec::new());
    container.started();
    container
}

fn probed(container: &Container) -> (HealthStatus, ProbeResult) {
    container.until(|event| match event {
        Event::Probed { status, result, .. } => Some((status, result)),
        _ => None,
    })
}

fn end(mut container: Container) {
    container.signal(9);
    container.exited();
    container.gone();
}

#[test]
fn a_container_is_asked_after_its_health_and_who_comes_later_can_ask_too() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut container = start(&host, "sleep 1000", check("echo asked; echo twice >&2; test -e /tmp/well"));
    let (status, result) = probed(&container);
    assert_eq!((status, result.code), (HealthStatus::Starting, 1));
    assert_eq!(result.output, "asked\ntwice\n");
    assert!(result.start <= result.end);
    assert_eq!(probed(&container).0, HealthStatus::Unhealthy);
    container.exec("heal", "touch /tmp/well", None, false);
    eventually("it is well again", || probed(&container).0 == HealthStatus::Healthy);
    let seq = container.seq();
    container.connection.send(&Request::Health { seq }, &[]).unwrap();
    let health = container.until(|event| match event {
        Event::Health { health, .. } => Some(health),
        _ => None,
    });
    let Health { status, failing_streak, log } = health.unwrap();
    assert_eq!((status, failing_streak), (HealthStatus::Healthy, 0));
    assert!((1..=5).contains(&log.len()));
    end(container);
}

#[test]
fn a_probe_that_overruns_is_killed_with_all_that_it_has_begotten() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut slow = check("echo slow; (sleep 2000; echo) & sh -c '(sleep 2001 &)'; sleep 2002; true");
    slow.timeout_ns = 300 * MILLISECOND;
    slow.interval_ns = 100 * MILLISECOND;
    let container = start(&host, "sleep 1000", slow);
    let (status, result) = probed(&container);
    assert_eq!((status, result.code), (HealthStatus::Starting, -1));
    assert_eq!(result.output, "Health check exceeded timeout (300ms): slow\n");
    let path = container.launch.spec.linux.as_ref().unwrap().cgroups_path.clone().unwrap();
    let group = Cgroup::open(std::path::Path::new(&path)).unwrap();
    eventually("only the container's own process is left", || group.pids().unwrap().len() == 1);
    // And so it goes on.
    assert_eq!(probed(&container).0, HealthStatus::Unhealthy);
    end(container);
}

#[test]
fn one_that_cannot_be_run_is_a_failure_that_says_why() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut missing = check("");
    missing.process.args = vec!["/no/such/probe".into()];
    let container = start(&host, "sleep 1000", missing);
    let (_, result) = probed(&container);
    assert_eq!(result.code, -1);
    assert!(result.output.contains("/no/such/probe"), "{result:?}");
    end(container);
}

#[test]
fn long_output_is_cut() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let container = start(&host, "sleep 1000", check("head -c 300000 /dev/zero | tr '\\0' x"));
    let (status, result) = probed(&container);
    assert_eq!(status, HealthStatus::Healthy);
    assert_eq!(result.output.len(), 4096 + 3);
    assert!(result.output.ends_with("x..."));
    end(container);
}

#[test]
fn a_paused_container_is_left_alone() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut slow = check("sleep 0.2");
    slow.timeout_ns = 2000 * MILLISECOND;
    let mut container = start(&host, "sleep 1000", slow);
    assert_eq!(probed(&container).0, HealthStatus::Healthy);
    let path = container.launch.spec.linux.as_ref().unwrap().cgroups_path.clone().unwrap();
    let group = Cgroup::open(std::path::Path::new(&path)).unwrap();
    group.freeze().unwrap();
    // Longer than a probe and its patience.
    std::thread::sleep(Duration::from_millis(3000));
    let seq = container.seq();
    container.connection.send(&Request::Health { seq }, &[]).unwrap();
    // What ran before the pause may have been told of before the answer.
    let (failures, health) = {
        let failures = std::cell::Cell::new(0);
        let health = container.until(|event| match event {
            Event::Probed { result, .. } if result.code != 0 => {
                failures.set(failures.get() + 1);
                None
            }
            Event::Health { health, .. } => Some(health),
            _ => None,
        });
        (failures.get(), health.unwrap())
    };
    assert_eq!((failures, health.status), (0, HealthStatus::Healthy));
    group.thaw().unwrap();
    let (status, result) = probed(&container);
    assert_eq!((status, result.code), (HealthStatus::Healthy, 0));
    end(container);
}

#[test]
fn an_unhealthy_container_is_ended_by_its_monitor_alone() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let unhealthy = |remedy| HealthCheck { remedy: Some(remedy), ..check("exit 1") };
    let signals = |container: &Container| {
        let signals = std::cell::RefCell::new(Vec::new());
        let exit = container.until(|event| match event {
            Event::Remedied { signal } => {
                signals.borrow_mut().push(signal);
                None
            }
            Event::Exited { exit } => Some(exit),
            _ => None,
        });
        (signals.into_inner(), exit)
    };

    let killed = start(&host, "sleep 1000", unhealthy(Remedy::Kill));
    let (sent, exit) = signals(&killed);
    assert_eq!((sent, exit.code, exit.cause), (vec![9], 137, Some(Cause::Unhealthy { again: None })));
    killed.gone();

    let stop = Remedy::Stop { signal: 15, patience_s: 10, again: true };
    let stopped = start(&host, "trap 'exit 3' TERM; while :; do sleep 0.05; done", unhealthy(stop));
    let (sent, exit) = signals(&stopped);
    assert_eq!((sent, exit.code, exit.cause), (vec![15], 3, Some(Cause::Unhealthy { again: Some(true) })));
    stopped.gone();

    let begin = Instant::now();
    let stop = Remedy::Stop { signal: 15, patience_s: 1, again: false };
    let deaf = start(&host, "trap '' TERM; while :; do sleep 0.05; done", unhealthy(stop));
    let (sent, exit) = signals(&deaf);
    assert_eq!(
        (sent, exit.code, exit.cause),
        (vec![15, 9], 137, Some(Cause::Unhealthy { again: Some(false) }))
    );
    assert!(begin.elapsed() >= Duration::from_secs(1));
    deaf.gone();
}
