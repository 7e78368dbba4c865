//! Beginning and end: exit records, signals, reconnecting, what remains.

use std::path::{Path, PathBuf};

use corten_runtime::cgroup::Cgroup;
use corten_runtime::monitor::protocol::{Event, Request, Step};
use corten_runtime::monitor::{Connection, read_exit, read_state};

use crate::fixture::{Host, ask, eventually, is_root, process};

#[test]
fn the_exit_code_is_told_and_written_down() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let container = host.run("echo hello; echo trouble >&2; exit 7");
    container.started();
    let exit = container.exited();
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (7, None, false));
    assert!(exit.started <= exit.finished);
    container.gone();
    assert_eq!(read_exit(&container.launch.state_dir).unwrap(), exit);
    assert_eq!(container.log(), "hello\ntrouble\n");
    assert_eq!(std::fs::read_dir(&container.launch.run_dir).unwrap().count(), 0);
}

#[test]
fn who_hears_of_the_start_finds_the_process() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    for _ in 0..20 {
        let mut container = host.run("exec sleep 1000");
        let pid = container.started();
        assert_eq!(read_state(&container.launch.run_dir).unwrap().pid, pid);
        container.signal(9);
        container.gone();
    }
}

#[test]
fn a_signal_ends_the_container_with_128_and_its_number() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut container = host.run("exec sleep 1000");
    container.started();
    container.signal(9);
    let exit = container.exited();
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    container.gone();
}

#[test]
fn a_missing_program_is_an_error_that_names_it() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut launch = host.launch("");
    launch.spec.process.as_mut().unwrap().args = vec!["no-such-program".into()];
    let container = host.start(launch, Vec::new());
    let error = container.until(|event| match event {
        Event::Failed { error } => Some(error),
        _ => None,
    });
    assert_eq!((error.step, error.errno), (Step::Exec, 2));
    assert_eq!(error.object, "no-such-program");
    container.gone();
}

#[test]
fn a_held_container_runs_when_told() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut launch = host.launch("echo ran");
    launch.hold = true;
    let container = host.start(launch, Vec::new());
    container.until(|event| matches!(event, Event::Created { .. }).then_some(()));
    assert_eq!(container.log(), "");
    container.connection.send(&Request::Start, &[]).unwrap();
    container.started();
    assert_eq!(container.exited().code, 0);
    assert_eq!(container.log(), "ran\n");
    container.gone();
}

#[test]
fn a_held_container_can_be_killed() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut launch = host.launch("echo ran");
    launch.hold = true;
    let mut container = host.start(launch, Vec::new());
    container.until(|event| matches!(event, Event::Created { .. }).then_some(()));
    container.signal(9);
    assert_eq!(container.exited().code, 137);
    container.gone();
}

#[test]
fn a_container_outlives_engine_and_zygote_and_is_found_again() {
    if !is_root() {
        return;
    }
    let mut host = Host::new();
    let mut container = host.run("trap 'echo term; exit 3' TERM; echo up; while :; do sleep 0.05; done");
    let pid = container.started();
    let answer = container.exec("early", "exit 4", None, false);
    assert!(matches!(answer, Event::ExecStarted { .. }), "{answer:?}");
    assert_eq!(container.exec_code("early"), 4);

    // The engine goes, and its zygote with it.
    drop(host.zygote.take());
    let (connection, other) = Connection::open(&container.launch.run_dir)
        .and_then(|one| Ok((one, Connection::open(&container.launch.run_dir)?)))
        .unwrap();
    container.connection = connection;
    let state = read_state(&container.launch.run_dir).unwrap();
    assert_eq!(state.pid, pid);
    assert!(Path::new(&format!("/proc/{}", state.monitor_pid)).exists());

    match ask(&container.connection, Request::Status { seq: 5 }, &[]) {
        Event::Status { seq: 5, pid: told, execs, started } => {
            assert_eq!(told, pid);
            assert_eq!(Some(started), state.started);
            let codes: Vec<_> = execs.iter().map(|e| (e.exec.as_str(), e.code)).collect();
            assert_eq!(codes, [("early", Some(4))]);
        }
        answer => panic!("{answer:?}"),
    }
    eventually("the trap is set", || container.log().contains("up"));
    container.signal(15);
    assert_eq!(container.exited().code, 3);
    // Every engine hears it.
    crate::fixture::until(&other, |event| matches!(event, Event::Exited { .. }).then_some(()));
    assert!(container.log().ends_with("term\n"));
    container.gone();
}

#[test]
fn a_container_dies_with_its_monitor() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let container = host.run("sleep 1000");
    let pid = container.started();
    eventually("state.json is there", || read_state(&container.launch.run_dir).is_ok());
    let monitor = read_state(&container.launch.run_dir).unwrap().monitor_pid;
    corten_sys::process::kill(monitor, 9).unwrap();
    eventually("the container is gone", || !Path::new(&format!("/proc/{pid}")).exists());
    let group = corten_runtime::cgroup::Cgroup::open(Path::new(
        container.launch.spec.linux.as_ref().unwrap().cgroups_path.as_ref().unwrap(),
    ))
    .unwrap();
    group.remove().unwrap();
}

#[test]
fn execs_run_fail_and_get_signals() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut container = host.run("sleep 1000");
    container.started();
    assert!(matches!(container.exec("one", "exit 9", None, false), Event::ExecStarted { .. }));
    assert_eq!(container.exec_code("one"), 9);

    let mut missing = process("");
    missing.args = vec!["/bin/missing".into()];
    let answer = container.ask(
        |seq| Request::Exec {
            seq,
            exec: "two".into(),
            process: Box::new(missing),
            user: None,
            groups: vec![],
            stdio: Default::default(),
            attach: None,
        },
        &[],
    );
    match answer {
        Event::ExecFailed { error, .. } => assert_eq!((error.step, error.errno), (Step::Exec, 2)),
        answer => panic!("{answer:?}"),
    }

    assert!(matches!(container.exec("three", "exec sleep 1000", None, false), Event::ExecStarted { .. }));
    let answer = container.ask(|seq| Request::SignalExec { seq, exec: "three".into(), signal: 9 }, &[]);
    assert!(matches!(answer, Event::Done { .. }));
    assert_eq!(container.exec_code("three"), 137);

    // An exec does not keep a container from ending.
    assert!(matches!(container.exec("four", "exec sleep 1000", None, false), Event::ExecStarted { .. }));
    container.signal(9);
    assert_eq!(container.exited().code, 137);
    container.gone();
}

#[test]
fn an_exec_that_is_stopped_on_its_way_holds_up_nobody() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut container = host.run("sleep 1000");
    container.started();
    let path = container.launch.spec.linux.as_ref().unwrap().cgroups_path.clone().unwrap();
    let group = Cgroup::open(Path::new(&path)).unwrap();
    group.freeze().unwrap();
    let request = Request::Exec {
        seq: 77,
        exec: "late".into(),
        process: Box::new(process("exit 3")),
        user: None,
        groups: vec![],
        stdio: Default::default(),
        attach: None,
    };
    container.connection.send(&request, &[]).unwrap();
    let status = container.ask(|seq| Request::Status { seq }, &[]);
    assert!(matches!(status, Event::Status { .. }), "{status:?}");
    group.thaw().unwrap();
    container.until(|event| matches!(event, Event::ExecStarted { seq: 77, .. }).then_some(()));
    assert_eq!(container.exec_code("late"), 3);
    container.signal(9);
    container.exited();
    container.gone();
}

#[test]
fn a_full_disk_does_not_cost_the_exit_code() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut launch = host.launch("sleep 0.3; exit 7");
    let run_dir = launch.run_dir.clone();
    launch.log.path = host.dir.path().join("container.log");
    let disk = SmallDisk::mount(&launch.state_dir);
    let container = host.start(launch, Vec::new());
    container.started();
    disk.fill();
    let exit = container.exited();
    assert_eq!(exit.code, 7);
    container.gone();
    assert!(read_exit(&disk.0).is_err());
    assert_eq!(read_exit(&run_dir).unwrap(), exit);
    assert!(!disk.0.join(".exit.json.new").exists(), "nothing half-written");
}

/// A file system of 16 KiB.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(directory: &Path) -> Self {
        rustix::mount::mount(
            "small",
            directory,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            Some(c"size=16k"),
        )
        .unwrap();
        Self(directory.to_owned())
    }

    fn fill(&self) {
        let full = std::fs::write(self.0.join("filling"), [0; 1 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn init_forwards_signals_reaps_orphans_and_passes_the_code_on() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut launch = host.launch(
        "trap 'exit 5' TERM; (sleep 0 & exec true); sleep 0.1; \
         echo zombies: $(grep -l '^State:.Z' /proc/[0-9]*/status | wc -l); echo pid $$; while :; do sleep 0.05; done",
    );
    launch.init = true;
    let mut container = host.start(launch, Vec::new());
    container.started();
    eventually("the program says its number", || container.log().contains("pid"));
    assert!(container.log().contains("zombies: 0\n"), "{}", container.log());
    assert!(!container.log().contains("pid 1\n"), "{}", container.log());
    container.signal(15);
    assert_eq!(container.exited().code, 5);
    container.gone();
}

#[test]
fn running_out_of_memory_is_told() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut launch = host.launch("exec tail /dev/zero");
    let resources = serde_json::json!({"memory": {"limit": 16 << 20}});
    launch.spec.linux.as_mut().unwrap().resources = Some(serde_json::from_value(resources).unwrap());
    let container = host.start(launch, Vec::new());
    let exit = container.exited();
    assert_eq!((exit.code, exit.oom_killed), (137, true));
    container.gone();
}

#[test]
fn without_a_pid_namespace_nothing_outlives_the_first_process() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut launch = host.launch("sleep 1000 & echo begun");
    launch
        .spec
        .linux
        .as_mut()
        .unwrap()
        .namespaces
        .retain(|n| n.kind != corten_runtime::spec::NamespaceKind::Pid);
    let container = host.start(launch, Vec::new());
    assert_eq!(container.exited().code, 0);
    container.gone();
    assert_eq!(container.log(), "begun\n");
}
