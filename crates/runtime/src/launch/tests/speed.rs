//! How long a start takes; printed by `cargo test --release -- --ignored --nocapture speed`, never judged.

use std::time::{Duration, Instant};

use super::*;
use crate::seccomp;

/// What Docker's engine asks for, but for the network.
fn typical(bundle: &mut Bundle) -> Filter {
    let base = bundle.dir.path().to_owned();
    for name in ["hosts", "hostname", "resolv.conf"] {
        std::fs::write(base.join(name), "x\n").unwrap();
        std::fs::write(bundle.path("etc").join(name), "").unwrap();
        bundle.spec.mounts.push(Mount {
            destination: format!("/etc/{name}"),
            kind: Some("bind".into()),
            source: Some(base.join(name).display().to_string()),
            options: vec!["rbind".into(), "rprivate".into()],
            ..Mount::default()
        });
    }
    let linux = bundle.linux();
    linux.masked_paths = [
        "/proc/asound",
        "/proc/acpi",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ]
    .map(String::from)
    .to_vec();
    linux.readonly_paths =
        ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"].map(String::from).to_vec();
    let capabilities = CAPABILITIES.iter().map(|c| (*c).to_owned()).collect();
    let program = seccomp::compile(&seccomp::default_profile(&capabilities)).unwrap();
    Filter {
        instructions: program.instructions.iter().map(|i| (i.code, i.jump_true, i.jump_false, i.k)).collect(),
        flags: program.flags.0,
        listener: None,
    }
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort();
    println!(
        "{name}: median {:?}, least {:?}, most {:?}",
        times[times.len() / 2],
        times[0],
        times[times.len() - 1]
    );
}

#[test]
#[ignore = "a measurement"]
fn speed_of_starts_and_execs() {
    let Some(mut bundle) = bundle("") else { return };
    bundle.process().args = vec!["true".into()];
    let filter = typical(&mut bundle);
    let base = bundle.dir.path().to_owned();
    std::fs::create_dir(base.join("place")).unwrap();
    let network = bundle.linux().namespaces.iter().position(|n| n.kind == NamespaceKind::Network).unwrap();
    let (mut prepare, mut clone, mut exec, mut whole) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for with_network in [true, false] {
        if !with_network {
            bundle.linux().namespaces.remove(network);
            // sysfs belongs to a network namespace.
            bundle.spec.mounts.retain(|m| m.destination != "/sys");
        }
        for round in 0..100 {
            let upper = base.join(format!("upper{with_network}{round}"));
            let work = base.join(format!("work{with_network}{round}"));
            std::fs::create_dir(&upper).unwrap();
            std::fs::create_dir(&work).unwrap();
            let mount_point = base.join("place");
            let rootfs = Rootfs::Overlay {
                lower: vec![base.join("rootfs")],
                upper,
                work,
                volatile: true,
                mount_point,
            };
            let begin = Instant::now();
            let mut request = Request::new("speed", &base, &bundle.spec, &rootfs);
            request.seccomp = Some(filter.clone());
            let prepared = Prepared::new(request).unwrap();
            prepare.push(begin.elapsed());
            let mut child = prepared.spawn().unwrap();
            clone.push(begin.elapsed());
            child.wait().unwrap();
            exec.push(begin.elapsed());
            process::wait(child.pid, true).unwrap();
            whole.push(begin.elapsed());
        }
        let what = if with_network { "with a network namespace" } else { "without one" };
        report(&format!("{what}: prepared"), std::mem::take(&mut prepare));
        report(&format!("{what}: cloned"), std::mem::take(&mut clone));
        report(&format!("{what}: exec done"), std::mem::take(&mut exec));
        report(&format!("{what}: true has ended"), std::mem::take(&mut whole));
    }

    bundle.process().args = vec!["sleep".into(), "1000".into()];
    let container = bundle.start();
    let process = Process { args: vec!["true".into()], ..bundle.spec.process.clone().unwrap() };
    for _ in 0..100 {
        let begin = Instant::now();
        let mut request = crate::exec::Request::new(container.0.pid, container.0.pidfd.as_fd(), &process);
        request.seccomp = Some(filter.clone());
        let mut child = crate::exec::Prepared::new(request).unwrap().spawn().unwrap();
        child.wait().unwrap();
        exec.push(begin.elapsed());
        process::wait(child.pid, true).unwrap();
        whole.push(begin.elapsed());
    }
    report("exec: exec done", exec);
    report("exec: true has ended", whole);
}
