//! Engines, zygotes, monitors, clients and first processes that are killed.

use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use corten_tests::{TestEngine, eventually, free_port};

use super::{descriptors, first_pid, id, interfaces, kill, layers_in, start, state};

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
            vec!["run", "--rm", "-v", "/anonymous", "busybox", "true"],
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
        assert_eq!(engine.corten(&["volume", "ls", "-q"]).ok(), "", "round {round}: volumes of nobody");
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
        // Each round a little later on their way.
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
fn engine_killed_while_containers_change() {
    let mut engine = TestEngine::with_busybox();
    for network in ["one", "two"] {
        engine.corten(&["network", "create", network]).ok();
    }
    engine.background("moved", &["--network", "one", "-m", "64m"], "sleep 1000");
    engine.background("named", &[], "sleep 1000");
    engine.background("frozen", &[], "sleep 1000");
    let (mut name, mut inside, mut asleep) = ("named", false, false);
    for round in 0..16u64 {
        let other = if name == "named" { "renamed" } else { "named" };
        let memory = format!("{}m", 64 + round);
        let clients: Vec<Child> = [
            vec!["network", if inside { "disconnect" } else { "connect" }, "two", "moved"],
            vec!["rename", name, other],
            vec![if asleep { "unpause" } else { "pause" }, "frozen"],
            vec!["update", "-m", &memory, "--memory-swap", "-1", "moved"],
        ]
        .iter()
        .map(|args| start(engine.command(args)))
        .collect();
        thread::sleep(Duration::from_micros(round * 1_100));
        engine.kill();
        let done: Vec<bool> = clients
            .into_iter()
            .map(|mut client| client.wait().expect("the client's end").success())
            .collect();
        engine.restart();
        // What was promised is so, and what was not is one way or the other.
        let (seen, told) = interfaces(&engine, "moved");
        assert_eq!(seen, told, "round {round}: interfaces");
        assert!(!done[0] || (told == 2) != inside, "round {round}: {told} networks");
        inside = told == 2;
        let names = engine.corten(&["ps", "-a", "--format", "{{.Names}}"]).ok();
        let renamed = names.lines().any(|known| known == other);
        assert_ne!(renamed, names.lines().any(|known| known == name), "round {round}: {names}");
        assert!(renamed || !done[1], "round {round}: {names}");
        if renamed {
            name = other;
        }
        let paused = state(&engine, "frozen") == "paused 0";
        assert!(!done[2] || paused != asleep, "round {round}: paused {paused}");
        asleep = paused;
        let ran = engine.corten(&["exec", "frozen", "true"]).code == 0;
        assert_eq!(ran, !paused, "round {round}: it is what it is said to be");
        let limit = engine.corten(&["inspect", "-f", "{{.HostConfig.Memory}}", "moved"]).ok();
        let limit: u64 = limit.parse().expect("a number");
        assert!(!done[3] || limit == (64 + round) << 20, "round {round}: {limit}");
        let group = engine.corten(&[
            "exec",
            "moved",
            "sh",
            "-c",
            "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null",
        ]);
        assert_eq!(group.stdout.trim(), limit.to_string(), "round {round}: what the kernel has");
    }
    if asleep {
        engine.corten(&["unpause", "frozen"]).ok();
    }
    engine.corten(&["rm", "-f", "moved", name, "frozen"]).ok();
    engine.corten(&["network", "rm", "one", "two"]).ok();
}

#[test]
fn zygote_killed() {
    let engine = TestEngine::with_busybox();
    engine.corten(&["run", "-d", "--name", "before", "busybox", "sleep", "1000"]).ok();
    for _ in 0..3 {
        let mut zygotes = Vec::new();
        eventually("the zygote is the only child", || {
            zygotes = children_of(engine.pid().expect("a running engine"));
            zygotes.len() == 1
        });
        kill(zygotes[0]);
        assert_eq!(engine.corten(&["run", "--rm", "busybox", "echo", "next"]).ok(), "next");
    }
    assert_eq!(engine.corten(&["exec", "before", "echo", "unaffected"]).ok(), "unaffected");
}

#[test]
fn monitor_killed() {
    let mut engine = TestEngine::with_busybox();
    let publish = format!("127.0.0.1:{}:80", free_port());
    for engine_alive in [true, false] {
        engine
            .corten(&[
                "run",
                "-d",
                "--name",
                "orphan",
                "-p",
                &publish,
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
        eventually("the container's process is gone with its control group", || {
            !Path::new(&format!("/proc/{pid}")).exists() && !groups(&engine).contains(&id)
        });
        // The port is free again.
        engine.corten(&["run", "--rm", "-p", &publish, "busybox", "true"]).ok();
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

#[test]
fn engine_killed_during_commits_and_copies() {
    let mut engine = TestEngine::with_busybox();
    let file = engine.data_root().join("file");
    std::fs::write(&file, vec![7; 64 << 20]).expect("file");
    let file = file.display().to_string();
    engine.background("box", &[], "while :; do echo x; sleep 0.01; done");
    let script =
        "mkdir /n; for f in $(seq 3000); do echo $f > /n/$f; done; dd if=/dev/urandom of=/b bs=1M count=20";
    engine.corten(&["exec", "box", "sh", "-c", script]).ok();
    let back = engine.data_root().join("back").display().to_string();
    let before = layers_in(engine.data_root());
    let mut made = 0;
    for round in 0..10u64 {
        let name = format!("made:{round}");
        let mut clients: Vec<Child> =
            [vec!["commit", "box", &name], vec!["cp", &file, "box:/in"], vec!["cp", "box:/n", &back]]
                .iter()
                .map(|args| start(engine.command(args)))
                .collect();
        // Each round a little later on their way.
        thread::sleep(Duration::from_millis(round * 23));
        engine.kill();
        let committed = clients[0].wait().expect("the client's end").success();
        for client in &mut clients[1..] {
            let _ = client.wait();
        }
        engine.restart();
        // It goes on, and what can be reached of it is not frozen.
        assert_eq!(state(&engine, "box"), "running 0", "round {round}");
        assert_eq!(engine.corten(&["exec", "box", "echo", "on"]).ok(), "on");
        let there = engine.corten(&["image", "inspect", &name]).code == 0;
        assert!(there || !committed, "round {round}: an image that was promised is gone");
        if there {
            made += 1;
            assert_eq!(engine.corten(&["run", "--rm", &name, "cat", "/n/3000"]).ok(), "3000");
        }
        let _ = std::fs::remove_dir_all(&back);
    }
    // All commits that came to their end are of the same changes but for /in: at most one layer each.
    eventually("no half-made layers are left", || layers_in(engine.data_root()) <= before + made);
    engine.corten(&["rm", "-f", "box"]).ok();
    std::fs::remove_file(&file).expect("file");
}
