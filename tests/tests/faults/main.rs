//! What breaks: killed engines, zygotes, monitors and clients, full disks, races. Nothing may be lost that was promised,
//! and nothing may be left behind; the engine's own check at its end looks for that.

mod crowds;
mod full_disks;
mod kills;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use corten_tests::TestEngine;
use rustix::process::{Pid, Signal, kill_process};

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).expect("a process id"), Signal::KILL).expect("kill");
}

/// `State.Status` and `State.ExitCode` of a container.
fn state(engine: &TestEngine, name: &str) -> String {
    engine.corten(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name]).ok()
}

fn first_pid(engine: &TestEngine, name: &str) -> i32 {
    engine.corten(&["inspect", "-f", "{{.State.Pid}}", name]).ok().parse().expect("a process id")
}

fn id(engine: &TestEngine, name: &str) -> String {
    engine.corten(&["inspect", "-f", "{{.Id}}", name]).ok()
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start a client")
}

/// The interfaces that a container has, and those that it is said to have.
fn interfaces(engine: &TestEngine, name: &str) -> (usize, usize) {
    let seen = engine.corten(&["exec", name, "sh", "-c", "ls /sys/class/net | grep -c eth"]);
    let told = engine.corten(&["inspect", "-f", "{{len .NetworkSettings.Networks}}", name]).ok();
    (seen.stdout.trim().parse().expect("a number"), told.parse().expect("a number"))
}

/// How many layers lie in the image store, half-made ones counted.
fn layers_in(data_root: &Path) -> usize {
    std::fs::read_dir(data_root.join("image/layers")).expect("layers").count()
}
