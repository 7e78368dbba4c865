//! Held containers, and hooks.

use super::*;
use crate::spec::{Hook, Hooks, State};

fn hook(script: String) -> Hook {
    Hook { path: "/bin/sh".into(), args: vec!["sh".into(), "-c".into(), script], ..Hook::default() }
}

#[test]
fn a_held_container_waits_for_its_caller() {
    let Some(bundle) = bundle("echo done") else { return };
    let rootfs = Rootfs::Directory;
    let mut request = Request::new("test", bundle.dir.path(), &bundle.spec, &rootfs);
    let (stdio, reader) = streams();
    request.stdio = stdio;
    request.hold = Hold::Channel;
    let mut child = Prepared::new(request).unwrap().spawn().unwrap();
    assert_eq!(child.wait().unwrap(), Stage::Held);
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", child.pid)).unwrap();
    assert_ne!(comm, "sh\n");
    child.release().unwrap();
    assert_eq!(read_all(reader), "done\n");
    process::wait(child.pid, true).unwrap();
}

#[test]
fn another_process_can_start_a_held_container() {
    let Some(mut bundle) = bundle("echo done") else { return };
    let trace = bundle.dir.path().join("trace");
    // The hook's path is the container's, and so is what it writes.
    bundle.spec.hooks =
        Some(Hooks { start_container: vec![hook("cat > /tmp/state".into())], ..Hooks::default() });
    let path = bundle
        .dir
        .path()
        .join("a-directory-with-a-name-that-is-longer-than-what-an-address-of-a-unix-socket-holds-by-itself");
    std::fs::create_dir(&path).unwrap();
    let path = path.join("start.sock");
    let rootfs = Rootfs::Directory;
    let mut request = Request::new("test", bundle.dir.path(), &bundle.spec, &rootfs);
    let (stdio, reader) = streams();
    request.stdio = stdio;
    request.hold = Hold::Socket(hold_socket(&path).unwrap());
    let mut child = Prepared::new(request).unwrap().spawn().unwrap();
    assert_eq!(child.wait().unwrap(), Stage::Held);
    let state = State { id: "test".into(), pid: Some(child.pid), ..State::default() };
    start_held(&path, &bundle.spec, &state).unwrap();
    assert_eq!(read_all(reader), "done\n");
    process::wait(child.pid, true).unwrap();
    assert!(std::fs::read_to_string(bundle.path("tmp/state")).unwrap().contains(r#""id":"test""#));
    let error = start_held(&path, &bundle.spec, &state).unwrap_err();
    assert!(error.message.contains("does not wait"), "{error}");
    assert!(!trace.exists());
}

#[test]
fn a_create_fails_already_when_the_program_is_missing() {
    let Some(mut bundle) = bundle("") else { return };
    bundle.process().args = vec!["nothing".into()];
    let error = bundle.run_with(|r| r.hold = Hold::Channel).unwrap_err();
    assert_eq!((error.step, error.message.as_str()), (Step::Exec, "executable file not found in $PATH"));
}

#[test]
fn hooks_run_in_their_namespaces_and_order() {
    let Some(mut bundle) = bundle("cat /tmp/inside") else { return };
    let trace = bundle.dir.path().join("trace");
    let note = |word: &str| hook(format!("echo {word} $(readlink /proc/self/ns/mnt) >> {}", trace.display()));
    bundle.spec.hooks = Some(Hooks {
        prestart: vec![note("prestart")],
        create_runtime: vec![note("createRuntime")],
        create_container: vec![note("createContainer")],
        start_container: vec![hook("readlink /proc/self/ns/mnt > /tmp/inside".into())],
        ..Hooks::default()
    });
    let output = bundle.output();
    let trace = std::fs::read_to_string(trace).unwrap();
    let host = std::fs::read_link("/proc/self/ns/mnt").unwrap().display().to_string();
    assert_eq!(trace, format!("prestart {host}\ncreateRuntime {host}\ncreateContainer {output}"),);
    assert_ne!(output.trim(), host);
}

#[test]
fn a_hook_that_fails_or_hangs_ends_the_start() {
    let Some(mut bundle) = bundle("true") else { return };
    bundle.spec.hooks =
        Some(Hooks { create_runtime: vec![hook("echo no luck; exit 3".into())], ..Hooks::default() });
    let error = bundle.run().unwrap_err();
    assert_eq!((error.step, error.message.as_str()), (Step::Hook, "exited with 3: no luck"));
    let mut slow = hook("exec sleep 100".into());
    slow.timeout = Some(1);
    bundle.spec.hooks = Some(Hooks { create_container: vec![slow], ..Hooks::default() });
    assert_eq!(bundle.run().unwrap_err().message, "did not end within 1 s");
}
