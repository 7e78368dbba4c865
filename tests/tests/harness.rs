//! The tests' own harness: whatever state a failing test leaves its engine in, nothing of it stays on the host.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Duration;

use corten_tests::TestEngine;
use corten_tests::leaks::Marks;
use rustix::process::{Pid, Signal, kill_process};

/// A test with containers of all kinds that fails after `spoil`.
fn failing_test(spoil: fn(&mut TestEngine)) -> Marks {
    let marks = Mutex::new(None);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut engine = TestEngine::with_busybox();
        *marks.lock().unwrap() = Some(engine.marks());
        engine.corten(&["network", "create", "lan"]).ok();
        engine.corten(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "fast"]).ok();
        let options = ["--network", "lan", "-p", "127.0.0.1::80", "-v", "fast:/fast", "--restart", "always"];
        engine.background("runs", &options, "trap '' TERM; sleep 1000 & sleep 1000");
        engine.background("stands-still", &[], "sleep 1000");
        engine.corten(&["pause", "stands-still"]).ok();
        engine.background("crashes", &["--restart", "always"], "exit 1");
        spoil(&mut engine);
        panic!("as it should");
    }));
    assert!(outcome.is_err());
    marks.into_inner().unwrap().expect("an engine")
}

fn leaves_nothing(spoil: fn(&mut TestEngine)) {
    let marks = failing_test(spoil);
    let left = marks.traces_after(Duration::from_secs(60));
    assert!(left.is_empty(), "{left:#?}");
    assert!(marks.roots.iter().all(|root| !root.exists()), "{:?}", marks.roots);
}

fn engine_pid(engine: &TestEngine) -> Pid {
    Pid::from_raw(engine.pid().expect("an engine") as i32).expect("a process")
}

#[test]
fn a_panic_with_a_running_engine() {
    leaves_nothing(|_| ());
}

#[test]
fn a_panic_with_a_killed_engine() {
    leaves_nothing(TestEngine::kill);
}

#[test]
fn a_panic_with_an_engine_that_has_crashed_and_cannot_start_again() {
    leaves_nothing(|engine| {
        kill_process(engine_pid(engine), Signal::KILL).unwrap();
        std::fs::write(engine.data_root().join("engine.db"), "no database".repeat(1000)).unwrap();
    });
}

#[test]
fn a_panic_with_an_engine_that_hangs() {
    leaves_nothing(|engine| kill_process(engine_pid(engine), Signal::STOP).unwrap());
}

/// What the other tests rely on: a monitor that nobody ended is found, and so the test that left it fails.
#[test]
fn traces_name_what_is_there() {
    let engine = TestEngine::with_busybox();
    engine.background("box", &["--log-driver", "none"], "sleep 1000");
    let left = engine.marks().traces();
    for kind in
        ["interface: corten-", "control group: /sys/fs/cgroup/", "rules: table inet corten-", "process: "]
    {
        assert!(left.iter().any(|trace| trace.starts_with(kind)), "{kind}: {left:#?}");
    }
    let monitors = left.iter().filter(|trace| trace.contains(" corten-shim ") && !trace.contains("zygote"));
    assert_eq!(monitors.count(), 1, "{left:#?}");
}
