//! `RUN --mount=type=ssh`: a step talks to the agent of who builds, by our own client and by Docker's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use corten_tests::ssh::Agent;
use corten_tests::{Output, TestEngine, eventually, run};
use tempfile::TempDir;

/// A context with OpenSSH's `ssh-add` and its libraries, as a step may run them.
fn context(dockerfile: &str) -> TempDir {
    let context = tempfile::tempdir().unwrap();
    fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    let tools = context.path().join("tools");
    fs::create_dir(&tools).unwrap();
    let program = "/usr/bin/ssh-add";
    let libraries = run(Command::new("ldd").arg(program)).ok();
    let paths = libraries.split_whitespace().filter(|word| word.starts_with('/')).chain([program]);
    let mut loader = String::new();
    for path in paths {
        let name = path.rsplit('/').next().unwrap();
        if name.starts_with("ld-") {
            loader = name.to_owned();
        }
        fs::copy(path, tools.join(name)).unwrap();
    }
    let script = format!("#!/bin/sh\nexec /tools/{loader} --library-path /tools /tools/ssh-add -l\n");
    fs::write(tools.join("list"), script).unwrap();
    fs::set_permissions(tools.join("list"), fs::Permissions::from_mode(0o755)).unwrap();
    context
}

fn build(engine: &TestEngine, context: &Path, agent: Option<&Agent>, flags: &[&str]) -> Output {
    let mut corten = Command::new(corten_tests::binary("corten"));
    corten
        .args(["-H", &engine.host(), "build", "-t", "test", "--progress", "plain"])
        .args(flags)
        .arg(context);
    match agent {
        Some(agent) => corten.env("SSH_AUTH_SOCK", agent.socket()),
        None => corten.env_remove("SSH_AUTH_SOCK"),
    };
    run(&mut corten)
}

const LISTS: &str = "FROM busybox
COPY tools /tools/
RUN --mount=type=ssh /tools/list > /keys && echo $SSH_AUTH_SOCK >> /keys && stat -c '%a %u' $SSH_AUTH_SOCK >> /keys
RUN --mount=type=ssh,id=deploy,target=/agent,mode=666,uid=5,required /tools/list >> /keys && stat -c '%a %u' /agent >> /keys
RUN ls -d /run/buildkit /agent >> /keys 2>/dev/null; env | grep SSH >> /keys; true
";

#[test]
fn a_step_has_the_agent_and_nothing_keeps_it() {
    let engine = TestEngine::with_busybox();
    let (users, deploy) = (Agent::new(), Agent::new());
    let context = context(LISTS);
    let named = format!("deploy={}", deploy.socket().display());
    let told = build(&engine, context.path(), Some(&users), &["--ssh", "default", "--ssh", &named]);
    assert_eq!(told.code, 0, "{}", told.stderr);
    let keys = engine.corten(&["run", "--rm", "test", "cat", "/keys"]).ok();
    let lines: Vec<&str> = keys.lines().collect();
    assert!(lines[0].contains(users.fingerprint()), "{keys}");
    assert_eq!(lines[1..3], ["/run/buildkit/ssh_agent.0", "600 0"], "{keys}");
    assert!(lines[3].contains(deploy.fingerprint()), "{keys}");
    assert_eq!(lines[4..], ["666 5"], "nothing but the steps themselves sees a socket: {keys}");
    let inspected = engine.corten(&["inspect", "test"]).ok();
    assert!(!inspected.contains("SSH_AUTH_SOCK="), "{inspected}");
    eventually("the memory of the steps goes", || {
        let mounts = fs::read_dir(engine.exec_root().join("containers")).map_or(0, Iterator::count);
        mounts == 0
    });
}

#[test]
fn a_key_is_enough_and_its_agent_ends_with_the_build() {
    let engine = TestEngine::with_busybox();
    let agent = Agent::new();
    let context = context("FROM busybox\nCOPY tools /tools/\nRUN --mount=type=ssh /tools/list && exit 7\n");
    let key = format!("default={}", agent.key().display());
    let temporary = tempfile::tempdir().unwrap();
    let mut corten = Command::new(corten_tests::binary("corten"));
    corten.args(["-H", &engine.host(), "build", "--progress", "plain", "--ssh", &key]).arg(context.path());
    let told = run(corten.env_remove("SSH_AUTH_SOCK").env("TMPDIR", temporary.path())).fails(1);
    assert!(told.contains(agent.fingerprint()) && told.contains("exit code: 7"), "{told}");
    eventually("the client's own agent is gone", || fs::read_dir(temporary.path()).unwrap().count() == 0);
}

#[test]
fn an_agent_that_is_not_there_is_told_of() {
    let engine = TestEngine::with_busybox();
    let context = context(
        "FROM busybox\nRUN --mount=type=ssh test -z \"$SSH_AUTH_SOCK\"\nRUN --mount=type=ssh,id=deploy,required true\n",
    );
    let told = build(&engine, context.path(), None, &[]).fails(1);
    assert!(told.contains("Dockerfile:3") && told.contains("--ssh deploy"), "{told}");
    let told = build(&engine, context.path(), None, &["--ssh", "default"]).fails(1);
    assert!(told.contains("there is no SSH agent"), "{told}");
    let told = build(&engine, context.path(), None, &["--ssh", "a=/nowhere"]).fails(1);
    assert!(told.contains("/nowhere"), "{told}");
    // An agent that has gone since: the step sees one that hangs up.
    fs::write(
        context.path().join("Dockerfile"),
        "FROM busybox\nCOPY tools /tools/\nRUN --mount=type=ssh ! /tools/list\n",
    )
    .unwrap();
    let dead = tempfile::tempdir().unwrap();
    let socket = dead.path().join("agent");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let named = format!("default={}", socket.display());
    let told = build(&engine, context.path(), None, &["--ssh", &named]);
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert!(told.stderr.contains("Connection refused"), "{}", told.stderr);
}

#[test]
fn buildkits_clients_bring_their_agent() {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/docker-plugins");
    run(Command::new(script).arg(&plugins)).ok();
    let engine = TestEngine::with_busybox();
    let agent = Agent::new();
    let context = context(
        "FROM busybox\nCOPY tools /tools/\nRUN --mount=type=ssh /tools/list > /keys; /tools/list >> /keys\n",
    );
    let mut docker = engine.docker_command(&["build", "-t", "test", "--ssh", "default"]);
    docker.arg(context.path()).env("DOCKER_CONFIG", &plugins).env("SSH_AUTH_SOCK", agent.socket());
    run(&mut docker).ok();
    let keys = engine.corten(&["run", "--rm", "test", "cat", "/keys"]).ok();
    assert_eq!(keys.matches(agent.fingerprint()).count(), 2, "{keys}");
}

/// The processes that have this text among their arguments.
fn processes(with: &str) -> usize {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter(|entry| {
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(with)
    })
    .count()
}

#[test]
fn agents_end_with_whoever_is_killed() {
    let mut engine = TestEngine::with_busybox();
    let agent = Agent::new();
    let context = context(
        "FROM busybox\nCOPY tools /tools/\nRUN --mount=type=ssh /tools/list && echo begun && sleep 600\n",
    );
    let key = format!("default={}", agent.key().display());
    let temporary = tempfile::tempdir().unwrap();
    let containers = engine.exec_root().join("containers");
    let mounts = || fs::read_dir(&containers).map_or(0, Iterator::count);
    let begun = |engine: &TestEngine| {
        let told = tempfile::NamedTempFile::new().unwrap();
        let mut corten = engine.command(&["build", "--progress", "plain", "--ssh", &key]);
        corten.arg(context.path()).env_remove("SSH_AUTH_SOCK").env("TMPDIR", temporary.path());
        let client = corten.stdout(Stdio::null()).stderr(told.reopen().unwrap()).spawn().unwrap();
        eventually("the step runs", || fs::read_to_string(told.path()).unwrap().contains(" begun"));
        client
    };
    let own = temporary.path().display().to_string();
    let mut client = begun(&engine);
    assert!(processes(&own) > 0, "the client has an agent of its own");
    client.kill().unwrap();
    client.wait().unwrap();
    eventually("the step is gone with its socket", || mounts() == 0);
    eventually("the client's own agent is gone", || processes(&own) == 0);
    let mut client = begun(&engine);
    engine.kill();
    assert!(!client.wait().unwrap().success());
    engine.restart();
    eventually("the step is gone with its socket", || mounts() == 0);
    eventually("the client's own agent is gone", || processes(&own) == 0);
}
