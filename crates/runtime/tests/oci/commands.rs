//! The life of a container by commands, and what is said when something is wrong.

use serde_json::Value;

use crate::bundle::{Bundle, eventually};

#[test]
fn a_container_is_created_started_killed_and_deleted() {
    let Some(bundle) = Bundle::new("echo up; exec sleep 1000") else { return };
    bundle.create();
    let state = bundle.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["id"], bundle.id.as_str());
    assert_eq!(state["ociVersion"], "1.2.1");
    assert_eq!(state["annotations"]["org.example"], "yes");
    assert_eq!(std::fs::read_to_string(bundle.path("pid")).unwrap(), state["pid"].to_string());
    assert_eq!(bundle.output(), "");
    assert!(bundle.fails(&["create", "%"]).contains("already exists"));

    bundle.ok(&["start", "%"]);
    eventually("it runs", || bundle.output() == "up\n");
    assert_eq!(bundle.status(), "running");
    assert!(bundle.fails(&["start", "%"]).contains("already running"));
    assert!(bundle.fails(&["delete", "%"]).contains("is not stopped"));

    bundle.ok(&["kill", "%", "KILL"]);
    eventually("it has stopped", || bundle.status() == "stopped");
    assert_eq!(bundle.state()["pid"], 0);
    assert!(bundle.fails(&["kill", "%", "9"]).contains("container not running"));
    bundle.ok(&["delete", "%"]);
    assert!(bundle.fails(&["state", "%"]).contains("container does not exist"));
    assert!(bundle.fails(&["delete", "%"]).contains("container does not exist"));
    bundle.ok(&["delete", "--force", "%"]);
}

#[test]
fn a_created_container_can_be_deleted_at_once() {
    let Some(bundle) = Bundle::new("true") else { return };
    bundle.create();
    bundle.ok(&["delete", "%"]);
    assert!(bundle.fails(&["state", "%"]).contains("does not exist"));
}

#[test]
fn run_waits_and_hands_the_exit_code_on() {
    let Some(bundle) = Bundle::new("cat; echo err >&2; exit 42") else { return };
    let mut command = bundle.command(&["run", "%"]);
    let input = bundle.path("input");
    std::fs::write(&input, "from stdin\n").unwrap();
    let output = command.stdin(std::fs::File::open(input).unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(42));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "from stdin\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
    assert!(bundle.fails(&["state", "%"]).contains("does not exist"));
}

#[test]
fn run_forwards_signals() {
    let Some(bundle) = Bundle::new("trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done") else {
        return;
    };
    let output = std::fs::File::create(bundle.path("output")).unwrap();
    let mut child = bundle.command(&["run", "--keep", "%"]).stdout(output).spawn().unwrap();
    eventually("the trap is set", || bundle.output() == "up\n");
    corten_sys::process::kill(child.id() as i32, 15).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert_eq!(bundle.status(), "stopped");
}

#[test]
fn what_is_missing_is_named_in_runc_s_words() {
    let Some(mut bundle) = Bundle::new("") else { return };
    bundle.config["process"]["args"] = serde_json::json!(["no-such-program"]);
    let said = bundle.fails(&["create", "%"]);
    assert!(said.contains(r#"exec: "no-such-program": executable file not found in $PATH"#), "{said}");
    bundle.fails(&["state", "%"]);
    assert!(bundle.fails(&["run", "--bundle", "/nonexistent", "%"]).contains("/nonexistent"));
    assert!(bundle.fails(&["create", "../escape"]).contains("invalid container ID"));
    assert!(bundle.fails(&["checkpoint", "%"]).contains("not supported"));
    assert!(bundle.fails(&["frobnicate"]).contains("no such command"));
    assert!(bundle.fails(&["kill", "--frob", "%"]).contains("unknown flag: --frob"));
}

#[test]
fn errors_go_to_the_log_in_the_form_that_callers_parse() {
    let Some(bundle) = Bundle::new("true") else { return };
    let run = |format| bundle.fails(&["--log", "log", "--log-format", format, "state", "%"]);
    run("json");
    let text = std::fs::read_to_string(bundle.path("log")).unwrap();
    let entry: Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!((&entry["level"], &entry["msg"]), (&"error".into(), &"container does not exist".into()));
    assert!(entry["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(run("text"), "container does not exist\n");
    let text = std::fs::read_to_string(bundle.path("log")).unwrap();
    assert!(text.lines().last().unwrap().contains(r#"level=error msg="container does not exist""#));
}

#[test]
fn containers_are_listed() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    assert_eq!(bundle.ok(&["list", "--format", "json"]), "null\n");
    bundle.start();
    assert_eq!(bundle.ok(&["list", "-q"]), format!("{}\n", bundle.id));
    let list: Value = serde_json::from_str(&bundle.ok(&["list", "-f", "json"])).unwrap();
    assert_eq!((&list[0]["id"], &list[0]["status"]), (&bundle.id.as_str().into(), &"running".into()));
    let table = bundle.ok(&["list"]);
    let words: Vec<_> = table.lines().map(|l| l.split_ascii_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(words[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!((words[1][0], words[1][2], words[1][5]), (bundle.id.as_str(), "running", "root"));
}

#[test]
fn what_is_written_is_read_again() {
    let Some(bundle) = Bundle::new("true") else { return };
    let dir = bundle.path("new");
    std::fs::create_dir(&dir).unwrap();
    bundle.ok(&["spec", "-b", "new"]);
    let text = std::fs::read(dir.join("config.json")).unwrap();
    let spec: corten_runtime::spec::Spec = serde_json::from_slice(&text).unwrap();
    assert_eq!(spec.process.unwrap().args, ["sh"]);
    assert!(bundle.fails(&["spec", "-b", "new"]).contains("exists"));
    let features: Value = serde_json::from_str(&bundle.ok(&["features"])).unwrap();
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
}

#[test]
fn every_command_has_help() {
    let Some(bundle) = Bundle::new("true") else { return };
    let overview = bundle.ok(&["--help"]);
    let commands = overview.lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| !l.is_empty());
    let names: Vec<_> = commands.map(|l| l.split_ascii_whitespace().next().unwrap()).collect();
    assert_eq!(names.len(), 17);
    for name in names {
        assert!(bundle.ok(&[name, "--help"]).contains(&format!("Usage: corten-oci {name}")));
    }
    assert!(bundle.ok(&["--version"]).contains("spec: 1.2"));
}
