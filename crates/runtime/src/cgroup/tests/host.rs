//! The running machine's control groups, in groups of our own. Needs root; says so otherwise.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::io::Errno;

use super::super::{Cgroup, Controller, Error, Layout};
use crate::spec::{Cpu, DeviceRule, Memory, Pids, Resources};

/// A path nobody else has; the parent goes with it.
struct Own(PathBuf);

impl Own {
    fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: making control groups needs root");
            return None;
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Some(Self(format!("/corten-test-{}-{count}", std::process::id()).into()))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Ok(cgroup) = Cgroup::open(&self.0) {
            cgroup.kill_all().and_then(|()| cgroup.remove()).unwrap();
        }
    }
}

fn limits() -> Resources {
    Resources {
        memory: Some(Memory { limit: Some(64 << 20), ..Memory::default() }),
        cpu: Some(Cpu { shares: Some(512), quota: Some(50_000), period: Some(100_000), ..Cpu::default() }),
        pids: Some(Pids { limit: 50 }),
        devices: vec![DeviceRule { allow: false, ..DeviceRule::default() }],
        ..Resources::default()
    }
}

fn sleeper() -> Child {
    Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap()
}

fn shell(script: &str) -> Child {
    Command::new("sh").args(["-c", script]).stdin(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_group_lives_from_create_to_remove() {
    let Some(own) = Own::new() else { return };
    let (cgroup, warnings) = Cgroup::create(&own.0.join("c"), &limits()).unwrap();
    assert_eq!(warnings, []);
    let mut child = sleeper();
    cgroup.add_process(child.id() as i32).unwrap();
    assert_eq!(cgroup.pids().unwrap(), [child.id() as i32]);
    let stats = cgroup.stats().unwrap();
    assert_eq!((stats.memory.limit, stats.pids.limit, stats.pids.current), (64 << 20, 50, 1));

    cgroup.freeze().unwrap();
    assert!(cgroup.is_frozen().unwrap());
    // What stands still dies nevertheless.
    cgroup.kill_all().unwrap();
    assert!(!child.wait().unwrap().success());
    cgroup.remove().unwrap();
    assert!(cgroup.paths().all(|(_, path)| !path.exists()));
    cgroup.remove().unwrap();
    assert!(matches!(Cgroup::open(&own.0.join("c")), Err(Error::Missing(_))));
}

#[test]
fn limits_change_in_any_order() {
    let Some(own) = Own::new() else { return };
    let memory = |limit: i64, swap: i64| Resources {
        memory: Some(Memory { limit: Some(limit), swap: Some(swap), ..Memory::default() }),
        ..Resources::default()
    };
    let (cgroup, _) = Cgroup::create(&own.0, &memory(32 << 20, 64 << 20)).unwrap();
    for (limit, swap) in [(128 << 20, 256 << 20), (16 << 20, 32 << 20), (64 << 20, 64 << 20), (-1, -1)] {
        cgroup.apply(&memory(limit, swap)).unwrap();
        let stats = cgroup.stats().unwrap().memory;
        let shown = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
        assert_eq!((stats.limit, stats.limit_with_swap), (shown(limit), shown(swap)));
    }
    let cpu = |quota: i64, period: u64| Resources {
        cpu: Some(Cpu { quota: Some(quota), period: Some(period), ..Cpu::default() }),
        ..Resources::default()
    };
    for (quota, period) in [(1000, 1_000_000), (1000, 1000), (500_000, 1_000_000), (-1, 100_000)] {
        cgroup.apply(&cpu(quota, period)).unwrap();
    }
    let error = cgroup.apply(&cpu(5, 100_000)).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::INVAL), "{error}");
}

#[test]
fn a_child_joins_from_inside() {
    let Some(own) = Own::new() else { return };
    let (cgroup, _) = Cgroup::create(&own.0, &Resources::default()).unwrap();
    let fds = cgroup.join_fds().unwrap();
    assert_eq!(fds.tasks.len() + usize::from(fds.into.is_some()), cgroup.paths().count());
    // A thread is a task as well as a process: it moves itself and nobody else.
    std::thread::scope(|scope| {
        let joined = scope.spawn(|| {
            for tasks in &fds.tasks {
                rustix::io::write(tasks, b"0").unwrap();
            }
            std::fs::read_to_string("/proc/thread-self/cgroup").unwrap()
        });
        let groups = joined.join().unwrap();
        let own = own.0.to_str().unwrap();
        assert_eq!(groups.lines().filter(|line| line.ends_with(own)).count(), fds.tasks.len(), "{groups}");
    });
    cgroup.remove().unwrap();
}

#[test]
fn signals_reach_everybody_and_below() {
    let Some(own) = Own::new() else { return };
    let (cgroup, _) = Cgroup::create(&own.0, &Resources::default()).unwrap();
    let (inner, _) = Cgroup::create(&own.0.join("inner/most"), &Resources::default()).unwrap();
    let (mut outer_child, mut inner_child) = (sleeper(), sleeper());
    cgroup.add_process(outer_child.id() as i32).unwrap();
    inner.add_process(inner_child.id() as i32).unwrap();
    assert_eq!(cgroup.pids().unwrap().len(), 2);
    let busy = cgroup.remove_within(Duration::ZERO).unwrap_err();
    assert!(matches!(&busy, Error::Remove { pids, source: Errno::BUSY, .. } if pids.len() == 2), "{busy}");
    cgroup.signal_all(15).unwrap();
    for child in [&mut outer_child, &mut inner_child] {
        assert!(!child.wait().unwrap().success());
    }
    cgroup.remove().unwrap();
}

#[test]
fn removal_waits_for_the_dying() {
    let Some(own) = Own::new() else { return };
    let (cgroup, _) = Cgroup::create(&own.0, &Resources::default()).unwrap();
    let mut child = shell("while :; do sleep 0.001; done");
    cgroup.add_process(child.id() as i32).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| child.wait().unwrap());
        cgroup.kill_all().unwrap();
        cgroup.remove().unwrap();
    });
}

#[test]
fn devices_are_denied_and_allowed_in_flight() {
    let Some(own) = Own::new() else { return };
    let (cgroup, _) = Cgroup::create(&own.0, &limits()).unwrap();
    // kmsg is not among the default devices; null is.
    let script = "read go; : < /dev/null && : < /dev/kmsg";
    let tries = |cgroup: &Cgroup| {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        cgroup.add_process(child.id() as i32).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap().success()
    };
    assert!(!tries(&cgroup));
    let allow = |access: &str| DeviceRule {
        allow: true,
        kind: Some("c".into()),
        major: Some(1),
        minor: Some(11),
        access: Some(access.into()),
    };
    let mut rules = super::super::default_device_rules();
    rules.push(allow("r"));
    cgroup.apply(&Resources { devices: rules, ..Resources::default() }).unwrap();
    assert!(tries(&cgroup));
    cgroup
        .apply(&Resources { devices: super::super::default_device_rules(), ..Resources::default() })
        .unwrap();
    assert!(!tries(&cgroup));
}

#[test]
fn what_the_machine_lacks_is_an_error_that_names_the_wish() {
    let Some(own) = Own::new() else { return };
    if Layout::host().unwrap().has(Controller::Rdma) {
        return;
    }
    let mut resources = limits();
    resources.rdma.insert("mlx5_0".into(), crate::spec::Rdma { hca_handles: Some(1), hca_objects: None });
    let error = Cgroup::create(&own.0.join("c"), &resources).unwrap_err();
    assert!(matches!(&error, Error::ControllerAbsent { field, .. } if field == "rdma"), "{error}");
    // What it had made is gone.
    assert!(matches!(Cgroup::open(&own.0), Err(Error::Missing(_))));
}

/// Version 2 by itself, on the hierarchy that hybrid machines mount beside version 1.
#[test]
fn version_2_filters_devices_by_program() {
    let Some(own) = Own::new() else { return };
    let Some(root) = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .into_iter()
        .find(|root| std::fs::exists(format!("{root}/cgroup.controllers")).unwrap())
    else {
        return eprintln!("skipped: no version 2 hierarchy");
    };
    // A group of ours is the root here: nothing is switched on for the host's own.
    let root = PathBuf::from(format!("{root}{}", own.0.display()));
    std::fs::create_dir(&root).unwrap();
    let layout = Layout::unified_at(&root);
    let resources = Resources { devices: limits().devices, ..Resources::default() };
    let (cgroup, _) = match Cgroup::create_in(&layout, "/c".as_ref(), &resources) {
        Err(Error::DeviceFilter { source: Errno::PERM | Errno::INVAL | Errno::NOSYS, .. }) => {
            return eprintln!("skipped: this kernel has no device programs");
        }
        made => made.unwrap(),
    };
    let reads = |device: &str| {
        let script = format!("read go; : < {device}");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        cgroup.add_process(child.id() as i32).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap().success()
    };
    assert!(reads("/dev/null") && !reads("/dev/kmsg"));
    let everything = DeviceRule { allow: true, ..DeviceRule::default() };
    cgroup.apply(&Resources { devices: vec![everything], ..Resources::default() }).unwrap();
    assert!(reads("/dev/kmsg"), "the first program was replaced");
    cgroup.remove().unwrap();
}

#[test]
fn limits_stay_when_one_is_refused() {
    let Some(own) = Own::new() else { return };
    let (cgroup, _) = Cgroup::create(&own.0, &limits()).unwrap();
    let before = cgroup.stats().unwrap();
    let shares =
        || cgroup.paths().find_map(|(_, path)| std::fs::read_to_string(path.join("cpu.shares")).ok());
    let (old_shares, mut broken) = (shares(), limits());
    broken.cpu = Some(Cpu { shares: Some(1000), quota: Some(70_000), ..Cpu::default() });
    broken.memory = Some(Memory { limit: Some(128 << 20), swap: Some(256 << 20), ..Memory::default() });
    // More than any kernel has.
    broken.pids = Some(Pids { limit: i64::MAX });
    let error = cgroup.apply(&broken).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::INVAL), "{error}");
    let after = cgroup.stats().unwrap();
    assert_eq!((shares(), after.memory.limit, after.pids.limit), (old_shares, before.memory.limit, 50));
    assert_eq!(after.memory.limit_with_swap, before.memory.limit_with_swap);
}
