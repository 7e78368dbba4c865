//! Further processes, pausing, limits, statistics, signals for all.

use std::process::Stdio;

use serde_json::Value;

use crate::bundle::{Bundle, eventually};

#[test]
fn exec_takes_its_flags() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.start();
    let said = bundle.run(&["exec", "%", "sh", "-c", "echo here; exit 5"]);
    assert_eq!((said.status.code(), said.stdout.as_slice()), (Some(5), &b"here\n"[..]));
    let out = bundle.ok(&[
        "exec",
        "-e",
        "A=1",
        "--env=B=2",
        "--cwd",
        "/tmp",
        "-u",
        "5:6",
        "-g",
        "7",
        "%",
        "sh",
        "-c",
        "echo $A$B; pwd; id",
    ]);
    assert_eq!(out, "12\n/tmp\nuid=5 gid=6 groups=7\n");
    assert!(bundle.fails(&["exec", "%", "missing"]).contains("executable file not found in $PATH"));
    let process = serde_json::json!({"args": ["cat", "/proc/self/status"], "cwd": "/", "noNewPrivileges": true,
                                     "env": ["PATH=/bin"]});
    std::fs::write(bundle.path("process.json"), process.to_string()).unwrap();
    assert!(bundle.ok(&["exec", "-p", "process.json", "%"]).contains("NoNewPrivs:\t1"));
    assert!(bundle.fails(&["exec", "%"]).contains("needs a command"));

    // What stays would hold a pipe open.
    let mut detached = bundle.command(&["exec", "--detach", "--pid-file", "exec-pid", "%", "sleep", "1000"]);
    assert!(detached.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let pid: i32 = std::fs::read_to_string(bundle.path("exec-pid")).unwrap().parse().unwrap();
    let pids: Vec<i32> = serde_json::from_str(&bundle.ok(&["ps", "--format", "json", "%"])).unwrap();
    assert!(pids.contains(&pid) && pids.len() == 2, "{pids:?}");
    assert_eq!(bundle.ok(&["ps", "%"]).lines().count(), 3);
}

#[test]
fn descriptors_are_passed_on() {
    let Some(bundle) = Bundle::new("cat <&3") else { return };
    std::fs::write(bundle.path("passed"), "by descriptor\n").unwrap();
    // A shell puts the descriptor where the program expects it.
    let own = bundle.command(&["run", "--preserve-fds", "1", "%"]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", r#"exec "$0" "$@" 3<passed"#]).arg(own.get_program()).args(own.get_args());
    let output = shell.current_dir(bundle.dir.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "by descriptor\n", "{output:?}");
}

#[test]
fn a_paused_container_stands_still() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.start();
    bundle.ok(&["pause", "%"]);
    assert_eq!(bundle.status(), "paused");
    assert!(bundle.fails(&["exec", "%", "true"]).contains("paused"));
    assert!(bundle.fails(&["pause", "%"]).contains("paused"));
    bundle.ok(&["resume", "%"]);
    assert_eq!(bundle.status(), "running");
    assert!(bundle.fails(&["resume", "%"]).contains("not paused"));
    bundle.ok(&["pause", "%"]);
    bundle.ok(&["delete", "--force", "%"]);
}

#[test]
fn limits_change_and_statistics_show_them() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.start();
    let stats = || -> Value { serde_json::from_str(&bundle.ok(&["events", "--stats", "%"])).unwrap() };
    bundle.ok(&["update", "--memory", "64m", "--pids-limit", "77", "%"]);
    let event = stats();
    assert_eq!((&event["type"], &event["id"]), (&"stats".into(), &bundle.id.as_str().into()));
    assert_eq!(event["data"]["memory"]["usage"]["limit"], 64 << 20);
    assert_eq!(event["data"]["pids"]["limit"], 77);
    std::fs::write(bundle.path("limits.json"), r#"{"pids": {"limit": 55}}"#).unwrap();
    bundle.ok(&["update", "-r", "limits.json", "%"]);
    assert_eq!(stats()["data"]["pids"]["limit"], 55);
    assert!(bundle.fails(&["update", "--memory", "much", "%"]).contains("--memory"));
}

#[test]
fn a_signal_for_all_reaches_all() {
    let Some(mut bundle) = Bundle::new("sleep 1000 & sleep 1000 & echo up; exec sleep 1000") else { return };
    bundle.config["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}]);
    bundle.start();
    eventually("it is up", || bundle.output() == "up\n");
    bundle.ok(&["kill", "--all", "%", "KILL"]);
    eventually("all are gone", || bundle.ok(&["ps", "--format", "json", "%"]) == "[]\n");
}

#[test]
fn hooks_see_the_state() {
    let Some(mut bundle) = Bundle::new("true") else { return };
    let hook = |name: &str| {
        let file = bundle.path(name);
        serde_json::json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("cat > {}", file.display())]}])
    };
    bundle.config["hooks"] = serde_json::json!({
        "createRuntime": hook("created"), "poststart": hook("started"), "poststop": hook("stopped"),
    });
    bundle.ok(&["run", "%"]);
    for (name, status) in [("created", "creating"), ("started", "running"), ("stopped", "stopped")] {
        let state: Value =
            serde_json::from_str(&std::fs::read_to_string(bundle.path(name)).unwrap()).unwrap();
        assert_eq!((&state["id"], &state["status"]), (&bundle.id.as_str().into(), &status.into()), "{name}");
    }
}
