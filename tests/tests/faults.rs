//! What breaks: killed engines, zygotes, monitors and clients, full disks, races. Nothing may be lost that was promised,
//! and nothing may be left behind; the engine's own check at its end looks for that.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use corten_tests::{TestEngine, eventually, run};
use rustix::mount::{MountFlags, UnmountFlags};
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

/// The monitor of a container, as it has written it down.
fn monitor_pid(engine: &TestEngine, name: &str) -> i32 {
    let path = engine.exec_root().join("containers").join(id(engine, name)).join("state.json");
    let text = std::fs::read_to_string(path).expect("state.json");
    let state: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    state["monitor_pid"].as_i64().expect("monitor_pid") as i32
}

fn children_of(pid: u32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let of_threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let all: String = of_threads
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .fold(text, |all, one| all + " " + &one);
    all.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start a client")
}

/// Disturbs the disk as long as it lives, so that syncs take their time.
struct BusyDisk(Child);

impl BusyDisk {
    fn new(directory: &Path) -> Self {
        let file = directory.join("busy");
        let script = format!(
            "while :; do dd if=/dev/zero of={0} bs=1M count=100 conv=fsync 2>/dev/null; done",
            file.display()
        );
        Self(Command::new("sh").args(["-c", &script]).spawn().expect("sh"))
    }
}

impl Drop for BusyDisk {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A small file system of its own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(parent: &Path, size: &str) -> Self {
        let path = parent.join("small");
        std::fs::create_dir(&path).expect("mount point");
        let options = std::ffi::CString::new(format!("size={size}")).expect("options");
        rustix::mount::mount("tmpfs", &path, "tmpfs", MountFlags::empty(), Some(options.as_c_str()))
            .expect("mount");
        Self(path)
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }

    fn fill(&self) {
        let _ = Command::new("dd")
            .arg("if=/dev/zero")
            .arg(format!("of={}/filler", self.path()))
            .args(["bs=64k"])
            .stderr(Stdio::null())
            .status();
        let _ = Command::new("sh")
            .args(["-c", &format!("cat /dev/zero >> {}/filler", self.path())])
            .stderr(Stdio::null())
            .status();
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("filler");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_restart_does_not_meet_the_monitor_of_the_last_run() {
    let engine = TestEngine::with_busybox();
    engine.corten(&["run", "-d", "--name", "again", "busybox", "sleep", "1000"]).ok();
    let busy = BusyDisk::new(engine.data_root());
    for round in 0..25 {
        engine.corten(&["restart", "-t", "0", "again"]).ok();
        // As long as a late word of the last run's monitor may take to do harm.
        thread::sleep(Duration::from_millis(80));
        assert_eq!(state(&engine, "again"), "running 0", "round {round}");
    }
    drop(busy);
    assert_eq!(engine.corten(&["exec", "again", "echo", "reachable"]).ok(), "reachable");
    let _ = std::fs::remove_file(engine.data_root().join("busy"));
}

#[test]
fn engine_killed_in_the_middle_of_anything() {
    let mut engine = TestEngine::with_busybox();
    let archive = engine.data_root().join("image.tar");
    engine.corten(&["save", "-o", &archive.display().to_string(), "busybox"]).ok();
    engine.corten(&["run", "-d", "--name", "steady", "-p", "127.0.0.1::80", "busybox", "sleep", "1000"]).ok();
    let steady = first_pid(&engine, "steady");
    for round in 0..24u64 {
        let archive = archive.display().to_string();
        let work: Vec<Child> = [
            vec!["run", "-d", "busybox", "sleep", "1000"],
            vec!["run", "--rm", "-p", "127.0.0.1::81", "busybox", "true"],
            vec!["create", "-v", "/anonymous", "busybox"],
            vec!["load", "-i", &archive],
        ]
        .iter()
        .map(|args| start(engine.command(args)))
        .collect();
        // Different every time: the pieces of a start take some milliseconds each.
        thread::sleep(Duration::from_micros(round * 1_300 % 29_000));
        engine.kill();
        for mut client in work {
            let _ = client.wait();
        }
        engine.restart();
        assert_eq!(first_pid(&engine, "steady"), steady);
        let running = engine.corten(&["ps", "-q", "--no-trunc"]).ok();
        let groups = groups(&engine);
        for group in &groups {
            assert!(running.contains(group), "round {round}: {group} is no running container: {running}");
        }
        let known = engine.corten(&["ps", "-aq", "--no-trunc"]).ok();
        eventually("no directory without a container", || {
            ["containers", "snapshots"].iter().all(|parent| {
                let entries = std::fs::read_dir(engine.data_root().join(parent)).expect("directory");
                entries.flatten().all(|entry| known.contains(&*entry.file_name().to_string_lossy()))
            })
        });
        let others: Vec<&str> = known.lines().filter(|id| *id != self::id(&engine, "steady")).collect();
        if !others.is_empty() {
            engine.corten(&[&["rm", "-f", "-v"], others.as_slice()].concat()).ok();
        }
    }
    assert_eq!(engine.corten(&["run", "--rm", "busybox", "echo", "fine"]).ok(), "fine");
}

/// The names of the control groups of the engine's containers.
fn groups(engine: &TestEngine) -> Vec<String> {
    let name = format!("corten-{}", engine.instance());
    let hierarchies =
        std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten().map(|entry| entry.path().join(&name));
    let mut found: Vec<String> = hierarchies
        .chain([Path::new("/sys/fs/cgroup").join(&name)])
        .filter_map(|path| std::fs::read_dir(path).ok())
        .flat_map(|entries| entries.flatten())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn engine_killed_while_containers_end() {
    let mut engine = TestEngine::with_busybox();
    for round in 0..8u64 {
        engine.corten(&["run", "-d", "--name", "stopped", "busybox", "sleep", "1000"]).ok();
        engine.corten(&["run", "-d", "--name", "removed", "--rm", "busybox", "sleep", "1000"]).ok();
        let clients = [
            start(engine.command(&["stop", "-t", "0", "stopped"])),
            start(engine.command(&["rm", "-f", "removed"])),
        ];
        thread::sleep(Duration::from_micros(round * 1_700));
        engine.kill();
        for mut client in clients {
            let _ = client.wait();
        }
        engine.restart();
        for name in ["stopped", "removed"] {
            if engine.corten(&["inspect", name]).code == 0 {
                engine.corten(&["rm", "-f", name]).ok();
            }
        }
    }
}

#[test]
fn zygote_killed() {
    let engine = TestEngine::with_busybox();
    engine.corten(&["run", "-d", "--name", "before", "busybox", "sleep", "1000"]).ok();
    for _ in 0..3 {
        let zygotes = children_of(engine.pid().expect("a running engine"));
        assert_eq!(zygotes.len(), 1, "{zygotes:?}");
        kill(zygotes[0]);
        assert_eq!(engine.corten(&["run", "--rm", "busybox", "echo", "next"]).ok(), "next");
    }
    assert_eq!(engine.corten(&["exec", "before", "echo", "unaffected"]).ok(), "unaffected");
}

#[test]
fn monitor_killed() {
    let mut engine = TestEngine::with_busybox();
    for engine_alive in [true, false] {
        engine
            .corten(&[
                "run",
                "-d",
                "--name",
                "orphan",
                "-p",
                "127.0.0.1:47113:80",
                "busybox",
                "sh",
                "-c",
                "sleep 1000 & sleep 1000",
            ])
            .ok();
        engine.corten(&["exec", "-d", "orphan", "sleep", "2000"]).ok();
        let (monitor, pid, id) =
            (monitor_pid(&engine, "orphan"), first_pid(&engine, "orphan"), id(&engine, "orphan"));
        if engine_alive {
            kill(monitor);
            assert_eq!(engine.corten(&["wait", "orphan"]).ok(), "137");
        } else {
            engine.kill();
            kill(monitor);
            engine.restart();
        }
        assert_eq!(state(&engine, "orphan"), "exited 137");
        // Process 1 of the host reaps it when it gets round to it.
        eventually("the container's process is gone", || !Path::new(&format!("/proc/{pid}")).exists());
        assert!(!groups(&engine).contains(&id), "the control group");
        // The port is free again.
        engine.corten(&["run", "--rm", "-p", "127.0.0.1:47113:80", "busybox", "true"]).ok();
        engine.corten(&["start", "orphan"]).ok();
        assert_eq!(state(&engine, "orphan"), "running 0");
        engine.corten(&["rm", "-f", "orphan"]).ok();
    }
}

#[test]
fn first_process_killed() {
    let engine = TestEngine::with_busybox();
    engine.corten(&["run", "-d", "--name", "victim", "busybox", "sh", "-c", "sleep 1000 & sleep 1000"]).ok();
    kill(first_pid(&engine, "victim"));
    assert_eq!(engine.corten(&["wait", "victim"]).ok(), "137");
    assert_eq!(engine.corten(&["inspect", "-f", "{{.State.OOMKilled}}", "victim"]).ok(), "false");
}

#[test]
fn clients_killed() {
    let engine = TestEngine::with_busybox();
    engine.background("talker", &[], "while :; do echo line; sleep 0.01; done");
    engine.corten(&["run", "-d", "-i", "--name", "listener", "busybox", "cat"]).ok();
    let before = descriptors(engine.pid().expect("a running engine"));
    for docker in [false, true] {
        let command = |args: &[&str]| if docker { engine.docker_command(args) } else { engine.command(args) };
        let clients: Vec<Child> = [
            &["run", "-i", "--rm", "--name", "fed", "busybox", "cat"][..],
            &["logs", "-f", "talker"],
            &["attach", "talker"],
            &["attach", "listener"],
            &["exec", "-i", "talker", "cat"],
            &["events"],
            &["wait", "talker"],
            &["load"],
        ]
        .iter()
        .map(|args| start(command(args)))
        .collect();
        eventually("the container of the first client runs", || {
            engine.corten(&["exec", "fed", "true"]).code == 0
        });
        // Nothing tells from outside that all of them wait; killed earlier they are a case, too.
        thread::sleep(Duration::from_millis(300));
        for mut client in clients {
            client.kill().expect("kill the client");
            client.wait().expect("the client's end");
        }
        eventually("the end of its input ends cat", || engine.corten(&["inspect", "fed"]).code != 0);
    }
    assert_eq!(state(&engine, "talker"), "running 0");
    assert_eq!(state(&engine, "listener"), "running 0");
    eventually("no descriptor of a client is left", || {
        descriptors(engine.pid().expect("running")) <= before + 2
    });
    assert_eq!(engine.corten(&["exec", "listener", "echo", "here"]).ok(), "here");
}

#[test]
fn many_at_once_and_the_engine_is_as_before() {
    let engine = TestEngine::with_busybox();
    let pid = engine.pid().expect("a running engine");
    engine.corten(&["run", "--rm", "busybox", "true"]).ok();
    let before = descriptors(pid);
    let deadline = Instant::now() + Duration::from_secs(8);
    thread::scope(|scope| {
        for worker in 0..16 {
            let engine = &engine;
            scope.spawn(move || {
                let mut rounds = 0;
                while Instant::now() < deadline {
                    let expected = format!("{worker} {rounds}");
                    assert_eq!(engine.corten(&["run", "--rm", "busybox", "echo", &expected]).ok(), expected);
                    rounds += 1;
                }
            });
        }
    });
    assert_eq!(engine.corten(&["ps", "-aq"]).ok(), "");
    eventually("the engine's descriptors are closed", || descriptors(pid) <= before + 20);
}

#[test]
fn two_hundred_containers() {
    let engine = TestEngine::with_busybox();
    let pid = engine.pid().expect("a running engine");
    engine.corten(&["run", "--rm", "busybox", "true"]).ok();
    let (before, memory) = (descriptors(pid), resident_kib(pid));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                (0..25).for_each(|_| drop(engine.corten(&["run", "-d", "busybox", "sleep", "1000"]).ok()))
            });
        }
    });
    let ids = engine.corten(&["ps", "-q"]).ok();
    let ids: Vec<&str> = ids.lines().collect();
    assert_eq!(ids.len(), 200);
    engine.corten(&[&["rm", "-f"], ids.as_slice()].concat()).ok();
    eventually("the engine's descriptors are closed", || descriptors(pid) <= before + 20);
    let grown = resident_kib(pid).saturating_sub(memory);
    assert!(grown < 24 << 10, "{grown} KiB more than before");
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn races_for_one_name_and_one_container() {
    let engine = TestEngine::with_busybox();
    let deadline = Instant::now() + Duration::from_secs(6);
    let commands: [&[&str]; 8] = [
        &["create", "--name", "prize", "busybox", "sleep", "1000"],
        &["create", "--name", "prize", "--rm", "busybox", "sleep", "1000"],
        &["start", "prize"],
        &["stop", "-t", "0", "prize"],
        &["rm", "-f", "prize"],
        &["rm", "prize"],
        &["exec", "prize", "true"],
        &["rename", "prize", "other"],
    ];
    thread::scope(|scope| {
        for args in commands {
            let engine = &engine;
            scope.spawn(move || {
                while Instant::now() < deadline {
                    let output = engine.corten(args);
                    assert!(
                        !output.stderr.contains("internal") && !output.stderr.contains("panic"),
                        "{args:?}: {}",
                        output.stderr
                    );
                    if args[0] == "rename" {
                        engine.corten(&["rm", "-f", "other"]);
                    }
                }
            });
        }
    });
    for name in ["prize", "other"] {
        engine.corten(&["rm", "-f", name]);
        let fresh = engine.corten(&["create", "--name", name, "busybox"]);
        assert_eq!(fresh.code, 0, "{name} is free again: {}", fresh.stderr);
    }
}

#[test]
fn images_and_volumes_removed_while_containers_are_made() {
    let engine = TestEngine::with_busybox();
    let deadline = Instant::now() + Duration::from_secs(4);
    thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < deadline {
                engine.corten(&["tag", "busybox", "copy"]);
                engine.corten(&["rmi", "-f", "copy"]);
            }
        });
        scope.spawn(|| {
            while Instant::now() < deadline {
                engine.corten(&["volume", "rm", "-f", "shared"]);
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while Instant::now() < deadline {
                    let output = engine.corten(&[
                        "run",
                        "--rm",
                        "-v",
                        "shared:/data",
                        "copy",
                        "sh",
                        "-c",
                        "echo x > /data/f",
                    ]);
                    let missing = output.stderr.contains("copy");
                    assert!(output.code == 0 || missing, "{}: {}", output.code, output.stderr);
                }
            });
        }
    });
    assert_eq!(engine.corten(&["run", "--rm", "busybox", "echo", "fine"]).ok(), "fine");
}

#[test]
fn full_disk() {
    let place = tempfile::tempdir_in("/var/tmp").expect("directory");
    let disk = SmallDisk::new(place.path(), "48m");
    let mut engine = TestEngine::start_with(&["--data-root", &disk.path()]);
    engine.add_busybox();
    let archive = place.path().join("image.tar");
    engine.corten(&["save", "-o", &archive.display().to_string(), "busybox"]).ok();
    let script = "while :; do echo a line of the log; sleep 0.005; done";
    engine.corten(&["run", "-d", "--name", "talker", "busybox", "sh", "-c", script]).ok();
    let writer =
        engine.corten(&["run", "--name", "writer", "busybox", "dd", "if=/dev/zero", "of=/big", "bs=1M"]);
    assert!(writer.stderr.contains("No space left on device"), "{}", writer.stderr);
    disk.fill();
    // Nothing new can be made, and it says why.
    let created = engine.corten(&["create", "busybox"]);
    assert!(created.code != 0 && created.stderr.to_lowercase().contains("no space"), "{}", created.stderr);
    let loaded = engine.corten(&["load", "-i", &archive.display().to_string()]);
    assert!(loaded.code == 0 || loaded.stderr.to_lowercase().contains("no space"), "{}", loaded.stderr);
    // What runs goes on, without its log: it writes in this time, and can't.
    thread::sleep(Duration::from_millis(500));
    assert_eq!(state(&engine, "talker"), "running 0");
    assert_eq!(engine.corten(&["exec", "talker", "echo", "alive"]).ok(), "alive");
    // An end is known although it can't be written, and removing makes room.
    engine.corten(&["kill", "talker"]).ok();
    assert_eq!(state(&engine, "talker"), "exited 137");
    engine.corten(&["rm", "writer"]).ok();
    disk.free();
    engine.corten(&["rm", "talker"]).ok();
    assert_eq!(engine.corten(&["run", "--rm", "busybox", "echo", "again"]).ok(), "again");
    engine.stop();
    engine.restart();
    assert_eq!(engine.corten(&["run", "--rm", "busybox", "echo", "still"]).ok(), "still");
    drop(engine);
}

#[test]
fn data_root_that_cannot_be_written() {
    let place = tempfile::tempdir().expect("directory");
    let disk = SmallDisk::new(place.path(), "1m");
    rustix::mount::mount_remount(&disk.0, MountFlags::RDONLY, "").expect("remount");
    let run_directory = tempfile::tempdir().expect("directory");
    let mut daemon = Command::new(corten_tests::binary("corten"));
    daemon.args(["daemon", "-H", &format!("unix://{}/corten.sock", run_directory.path().display())]);
    daemon.args([
        "--data-root",
        &disk.path(),
        "--exec-root",
        &run_directory.path().display().to_string(),
        "--bip",
        "10.63.255.1/24",
    ]);
    let output = run(&mut daemon);
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert!(
        output.stderr.contains(&disk.path()) && output.stderr.to_lowercase().contains("read-only"),
        "{}",
        output.stderr
    );
    assert!(!run_directory.path().join("corten.sock").exists());
}

#[test]
fn a_volume_named_like_garbage_survives_a_restart() {
    let mut engine = TestEngine::with_busybox();
    engine.corten(&["run", "--rm", "-v", "data.removed:/d", "busybox", "sh", "-c", "echo kept > /d/f"]).ok();
    engine.stop();
    engine.restart();
    assert_eq!(
        engine.corten(&["run", "--rm", "-v", "data.removed:/d", "busybox", "cat", "/d/f"]).ok(),
        "kept"
    );
    engine.corten(&["volume", "rm", "data.removed"]).ok();
}

#[test]
fn the_end_of_an_engine_right_after_containers() {
    for _ in 0..5 {
        let engine = TestEngine::with_busybox();
        engine.corten(&["run", "-d", "busybox", "sleep", "1000"]).ok();
        engine.corten(&["run", "--rm", "busybox", "true"]).ok();
        // Its end removes all and looks for traces.
        drop(engine);
    }
}
