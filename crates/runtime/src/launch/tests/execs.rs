//! Further processes in a running container.

use super::*;
use crate::exec;

fn run(
    container: &Running,
    process: &Process,
    change: impl FnOnce(&mut exec::Request<'_>),
) -> Result<Outcome, StepError> {
    let mut request = exec::Request::new(container.0.pid, container.0.pidfd.as_fd(), process);
    let (stdio, reader) = streams();
    request.stdio = stdio;
    change(&mut request);
    let mut child = exec::Prepared::new(request)?.spawn()?;
    child.wait()?;
    let output = read_all(reader);
    let (_, ended) = process::wait(child.pid, true).unwrap().unwrap();
    Ok(Outcome { ended, output, warnings: child.warnings })
}

fn script(bundle: &Bundle, text: &str) -> Process {
    Process { args: ["sh", "-c", text].map(String::from).to_vec(), ..bundle.spec.process.clone().unwrap() }
}

#[test]
fn an_exec_is_inside_in_every_respect() {
    let Some(bundle) = bundle("sleep 1000") else { return };
    let container = bundle.start();
    let process = script(
        &bundle,
        "for n in mnt pid net uts ipc cgroup; do readlink /proc/self/ns/$n; done; ls /proc/self/fd; hostname; cat /proc/1/comm; exit 3",
    );
    let outcome = run(&container, &process, |_| {}).unwrap();
    let expected: String = ["mnt", "pid", "net", "uts", "ipc", "cgroup"]
        .map(|n| {
            format!(
                "{}\n",
                std::fs::read_link(format!("/proc/{}/ns/{n}", container.0.pid)).unwrap().display()
            )
        })
        .concat();
    assert_eq!(outcome.output, format!("{expected}0\n1\n2\n3\nbox\nsleep\n"));
    assert_eq!(outcome.ended, Ended::Exited(3));
    // The caller's own next children are where they always were.
    assert_eq!(
        std::fs::read_link("/proc/self/ns/pid").unwrap(),
        std::fs::read_link("/proc/self/ns/pid_for_children").unwrap()
    );
}

#[test]
fn an_exec_has_settings_of_its_own() {
    let Some(bundle) = bundle("sleep 1000") else { return };
    let container = bundle.start();
    let mut process = script(&bundle, "id; echo $HOME; pwd; ulimit -n; cat /proc/self/oom_score_adj");
    process.cwd = "/tmp".into();
    process.rlimits = vec![crate::spec::Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 33, hard: 44 }];
    process.oom_score_adj = Some(77);
    let outcome = run(&container, &process, |r| r.user = Some("ann")).unwrap();
    assert_eq!(
        outcome.output,
        "uid=1000(ann) gid=1001(ann) groups=10(wheel),1001(ann)\n/home/ann\n/tmp\n33\n77\n"
    );
}

#[test]
fn an_exec_gets_a_terminal() {
    let Some(bundle) = bundle("sleep 1000") else { return };
    let container = bundle.start();
    let mut process = script(&bundle, "tty");
    process.terminal = true;
    let mut request = exec::Request::new(container.0.pid, container.0.pidfd.as_fd(), &process);
    request.stdio = Stdio::Terminal { rows: 3, columns: 4 };
    let mut child = exec::Prepared::new(request).unwrap().spawn().unwrap();
    child.wait().unwrap();
    let mut buffer = [0; 64];
    let n = rustix::io::read(child.console.as_ref().unwrap(), &mut buffer[..]).unwrap();
    process::wait(child.pid, true).unwrap();
    assert_eq!(&buffer[..n], b"/dev/pts/0\r\n");
}

#[test]
fn failures_of_an_exec_are_told_apart() {
    let Some(bundle) = bundle("sleep 1000") else { return };
    let container = bundle.start();
    let mut process = script(&bundle, "true");
    process.args = vec!["nothing".into()];
    let error = run(&container, &process, |_| {}).unwrap_err();
    assert_eq!((error.step, error.message.as_str()), (Step::Exec, "executable file not found in $PATH"));
    process.args = vec!["true".into()];
    process.cwd = "/nowhere".into();
    assert_eq!(run(&container, &process, |_| {}).unwrap_err().step, Step::WorkingDirectory);
    drop(container);
}
