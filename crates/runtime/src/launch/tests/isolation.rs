//! Namespaces, identity, rights, limits.

use super::*;
use crate::spec::{Rlimit, TimeOffset, TimeOffsets};

#[test]
fn a_container_is_alone() {
    let Some(bundle) = bundle("echo $$; hostname; ls /proc/self/fd; ls -d /proc/[0-9]*; ls /sys/class/net")
    else {
        return;
    };
    // 3 is the directory that ls reads; 2 is ls itself.
    let output = bundle.output();
    let (start, rest) = output.split_at(output.find("/proc/").unwrap());
    assert_eq!(start, "1\nbox\n0\n1\n2\n3\n");
    assert_eq!(rest, "/proc/1\nlo\n");
}

#[test]
fn nothing_of_the_host_is_mounted() {
    let Some(bundle) = bundle("cat /proc/mounts") else { return };
    let output = bundle.output();
    let places: Vec<&str> = output.lines().filter_map(|l| l.split(' ').nth(1)).collect();
    let first = ["/", "/proc", "/dev", "/dev/pts", "/sys", "/dev/mqueue", "/dev/shm"];
    assert_eq!(places[..7], first, "{output}");
}

#[test]
fn capabilities_are_as_asked() {
    let Some(mut bundle) = bundle("") else { return };
    bundle.process().args = ["cat", "/proc/self/status"].map(String::from).to_vec();
    let value = |output: &str, name: &str| {
        output.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned()).unwrap()
    };
    let output = bundle.output();
    for (name, mask) in
        [("CapInh:", 0), ("CapPrm:", 0xa804_25fb_u64), ("CapEff:", 0xa804_25fb), ("CapBnd:", 0xa804_25fb)]
    {
        assert_eq!(value(&output, name), format!("{mask:016x}"), "{name}");
    }
    assert_eq!(value(&output, "NoNewPrivs:"), "0");
    assert_eq!(value(&output, "SigIgn:"), "0000000000000000");
    assert_eq!(value(&output, "SigBlk:"), "0000000000000000");

    // A user without name keeps ambient capabilities only.
    let process = bundle.process();
    process.user.uid = 1234;
    process.no_new_privileges = true;
    let sets = process.capabilities.as_mut().unwrap();
    sets.inheritable = vec!["CAP_NET_BIND_SERVICE".into()];
    sets.ambient = sets.inheritable.clone();
    let output = bundle.output();
    assert_eq!(value(&output, "CapEff:"), format!("{:016x}", 1 << 10));
    assert_eq!(value(&output, "CapAmb:"), format!("{:016x}", 1 << 10));
    assert_eq!(value(&output, "NoNewPrivs:"), "1");

    bundle.process().capabilities = None;
    assert_eq!(value(&bundle.output(), "CapBnd:"), format!("{:016x}", 0));
}

#[test]
fn users_are_found_in_the_containers_files() {
    let Some(bundle) = bundle("id; echo $HOME; umask") else { return };
    let run = |user: Option<&str>, groups: &[&str]| {
        let groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        // The request outlives neither.
        let (user, groups): (Option<String>, Vec<String>) = (user.map(str::to_owned), groups);
        let user = user.map(|u| &*u.leak());
        let groups = &*groups.leak();
        bundle.run_with(|request| {
            request.user = user;
            request.groups = groups;
        })
    };
    for (user, groups, expected) in [
        (None, &[][..], "uid=0(root) gid=0(root)\n/root\n0022\n"),
        (Some("ann"), &[], "uid=1000(ann) gid=1001(ann) groups=10(wheel),1001(ann)\n/home/ann\n0022\n"),
        (
            Some("1000"),
            &["root"],
            "uid=1000(ann) gid=1001(ann) groups=0(root),10(wheel),1001(ann)\n/home/ann\n0022\n",
        ),
        (Some("ann:root"), &[], "uid=1000(ann) gid=0(root) groups=0(root)\n/home/ann\n0022\n"),
        (Some("77:88"), &["99"], "uid=77 gid=88 groups=88,99\n/\n0022\n"),
        (Some("77"), &[], "uid=77 gid=0(root) groups=0(root)\n/\n0022\n"),
    ] {
        assert_eq!(run(user, groups).unwrap().output, expected, "{user:?}");
    }
    let error = run(Some("eve"), &[]).unwrap_err();
    assert_eq!((error.step, error.object.as_str()), (Step::User, "eve"));
    assert_eq!(error.message, "no matching entries in passwd file");
    assert_eq!(run(Some("ann:club"), &[]).unwrap_err().message, "no matching entries in group file");
    assert_eq!(run(None, &["club"]).unwrap_err().step, Step::User);
}

#[test]
fn limits_are_set_and_clamped_with_a_warning() {
    let Some(mut bundle) = bundle("ulimit -n; ulimit -c; cat /proc/self/oom_score_adj") else { return };
    let limit = |kind: &str, soft: u64, hard: u64| Rlimit { kind: kind.into(), soft, hard };
    bundle.process().rlimits = vec![limit("RLIMIT_NOFILE", 64, 128), limit("RLIMIT_CORE", 0, 0)];
    bundle.process().oom_score_adj = Some(500);
    assert_eq!(bundle.output(), "64\n0\n500\n");

    bundle.process().rlimits = vec![limit("RLIMIT_NOFILE", 1 << 40, 1 << 40)];
    bundle.process().oom_score_adj = None;
    let outcome = bundle.run().unwrap();
    assert_eq!(outcome.ended, Ended::Exited(0));
    assert!(outcome.warnings.iter().any(|w| w.contains("RLIMIT_NOFILE")), "{outcome:?}");
    let strict = vec!["RLIMIT_NOFILE".to_owned()].leak();
    let error = bundle.run_with(|request| request.strict = strict).unwrap_err();
    assert_eq!((error.step, error.object.as_str(), error.errno), (Step::Rlimit, "RLIMIT_NOFILE", 1));
}

#[test]
fn sysctls_reach_the_namespace_and_not_the_host() {
    let Some(mut bundle) = bundle("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax") else {
        return;
    };
    let before = std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap();
    bundle.linux().sysctl =
        [("net.ipv4.ip_forward", "1"), ("kernel.msgmax", "4321")].map(|(k, v)| (k.into(), v.into())).into();
    assert_eq!(bundle.output(), "1\n4321\n");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap(), before);
    bundle.linux().sysctl = [("vm.swappiness".to_owned(), "1".to_owned())].into();
    assert!(bundle.run().unwrap_err().message.contains("would change the host"));
}

#[test]
fn clocks_are_moved_in_a_time_namespace() {
    let Some(mut bundle) = bundle("cat /proc/uptime") else { return };
    bundle.linux().namespaces.push(Namespace { kind: NamespaceKind::Time, path: None });
    bundle.linux().time_offsets = Some(TimeOffsets {
        boottime: Some(TimeOffset { secs: 1_000_000_000, nanosecs: 0 }),
        monotonic: None,
    });
    let output = bundle.output();
    let seconds: f64 = output.split(' ').next().unwrap().parse().unwrap();
    assert!(seconds > 1e9, "{output}");
}

#[test]
fn namespaces_are_joined_by_path_and_by_descriptor() {
    let Some(mut bundle) = bundle("sleep 1000") else { return };
    let first = bundle.start();
    bundle.process().args =
        ["sh", "-c", "echo $$; readlink /proc/self/ns/net; hostname"].map(String::from).to_vec();
    for namespace in &mut bundle.linux().namespaces {
        if matches!(namespace.kind, NamespaceKind::Pid | NamespaceKind::Network) {
            let name = if namespace.kind == NamespaceKind::Pid { "pid" } else { "net" };
            namespace.path = Some(format!("/proc/{}/ns/{name}", first.0.pid));
        }
    }
    let network = std::fs::read_link(format!("/proc/{}/ns/net", first.0.pid)).unwrap();
    let output = bundle.output();
    // The intermediate process was 2.
    assert!(output.ends_with(&format!("\n{}\nbox\n", network.display())), "{output}");
    assert!(!output.starts_with("1\n"), "{output}");

    let fd = std::fs::File::open(format!("/proc/{}/ns/net", first.0.pid)).unwrap();
    bundle.linux().namespaces.retain(|n| n.kind != NamespaceKind::Pid);
    bundle.linux().namespaces.push(Namespace { kind: NamespaceKind::Pid, path: None });
    let outcome = bundle.run_with(|r| r.namespaces = vec![(NamespaceKind::Network, fd.into())]).unwrap();
    assert_eq!(outcome.output, format!("1\n{}\nbox\n", network.display()));
}

#[test]
fn a_terminal_is_the_containers_own() {
    let Some(mut bundle) = bundle("tty; stat -c %t /dev/console; echo word; read line; echo got $line")
    else {
        return;
    };
    bundle.process().terminal = true;
    let rootfs = Rootfs::Directory;
    let mut request = Request::new("test", bundle.dir.path(), &bundle.spec, &rootfs);
    request.stdio = Stdio::Terminal { rows: 7, columns: 9 };
    let mut child = Prepared::new(request).unwrap().spawn().unwrap();
    child.wait().unwrap();
    let master = child.console.take().unwrap();
    let size = rustix::termios::tcgetwinsize(&master).unwrap();
    assert_eq!((size.ws_row, size.ws_col), (7, 9));
    rustix::io::write(&master, b"line\n").unwrap();
    let mut output = Vec::new();
    let mut buffer = [0; 512];
    // EIO: the other side has closed.
    while let Ok(n @ 1..) = rustix::io::read(&master, &mut buffer[..]) {
        output.extend_from_slice(&buffer[..n]);
    }
    process::wait(child.pid, true).unwrap();
    let output = String::from_utf8_lossy(&output).replace('\r', "");
    for expected in ["/dev/pts/0\n", "88\n", "word\n", "got line\n"] {
        assert!(output.contains(expected), "{output:?}");
    }
}

#[test]
fn an_init_reaps_and_forwards() {
    let Some(bundle) =
        bundle("echo $$; (sh -c 'sleep 0.01 & exit' &); sleep 0.05; ls -d /proc/[0-9]*; exit 7")
    else {
        return;
    };
    let outcome = bundle.run_with(|r| r.init = true).unwrap();
    assert_eq!(outcome.ended, Ended::Exited(7));
    assert_eq!(outcome.output, "2\n/proc/1\n/proc/2\n");

    drop(bundle);
    let Some(bundle) = super::bundle("trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done") else {
        return;
    };
    let rootfs = Rootfs::Directory;
    let mut request = Request::new("test", bundle.dir.path(), &bundle.spec, &rootfs);
    let (stdio, reader) = streams();
    request.stdio = stdio;
    request.init = true;
    let mut child = Prepared::new(request).unwrap().spawn().unwrap();
    child.wait().unwrap();
    let mut word = [0; 6];
    rustix::io::read(&reader, &mut word[..]).unwrap();
    process::pidfd_send_signal(child.pidfd.as_fd(), 15).unwrap();
    assert_eq!(process::wait(child.pid, true).unwrap().unwrap().1, Ended::Exited(9));
}

#[test]
fn a_filter_confines_the_program() {
    use crate::seccomp;
    use crate::spec::{Seccomp, SeccompAction, SyscallRule};
    let Some(bundle) = bundle("hostname other || echo no") else { return };
    // The least that the runtime itself needs is not more than what a program needs: sethostname alone is refused.
    let profile = Seccomp {
        default_action: SeccompAction::Allow,
        syscalls: vec![SyscallRule {
            names: vec![
                "sethostname".into(),
                "seccomp".into(),
                "setresuid".into(),
                "setgroups".into(),
                "pivot_root".into(),
                "prctl".into(),
            ],
            action: SeccompAction::Errno,
            errno_ret: Some(1),
            args: Vec::new(),
        }],
        ..Seccomp::default()
    };
    let program = seccomp::compile(&profile).unwrap();
    let filter = Filter {
        instructions: program.instructions.iter().map(|i| (i.code, i.jump_true, i.jump_false, i.k)).collect(),
        flags: program.flags.0,
        listener: None,
    };
    let outcome = bundle.run_with(|r| r.seccomp = Some(filter)).unwrap();
    assert!(outcome.output.ends_with("no\n"), "{outcome:?}");
}

#[test]
fn a_supervisor_gets_the_filters_listener() {
    use crate::seccomp;
    use crate::spec::{Seccomp, SeccompAction, SyscallRule};
    let Some(bundle) = bundle("hostname other || echo no") else { return };
    let path = bundle.dir.path().join("listener.sock");
    let supervisor = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let profile = Seccomp {
        default_action: SeccompAction::Allow,
        syscalls: vec![SyscallRule {
            names: vec!["sethostname".into()],
            action: SeccompAction::Notify,
            errno_ret: None,
            args: Vec::new(),
        }],
        ..Seccomp::default()
    };
    let program = seccomp::compile(&profile).unwrap();
    let filter = Filter {
        instructions: program.instructions.iter().map(|i| (i.code, i.jump_true, i.jump_false, i.k)).collect(),
        flags: program.flags.0,
        listener: Some(Listener { path, metadata: Some("meta".into()) }),
    };
    let received = std::thread::spawn(move || {
        let (connection, _) = supervisor.accept().unwrap();
        let mut message = [0; 4096];
        let mut fds = Vec::new();
        let length = corten_sys::fd::receive(connection.as_fd(), &mut message, &mut fds).unwrap();
        // Gone without an answer: the call fails with ENOSYS.
        (String::from_utf8_lossy(&message[..length]).into_owned(), fds.len())
    });
    let outcome = bundle.run_with(|r| r.seccomp = Some(filter)).unwrap();
    assert!(outcome.output.ends_with("no\n"), "{outcome:?}");
    let (message, fds) = received.join().unwrap();
    assert_eq!(fds, 1);
    assert!(
        message.contains(r#""fds":["seccompFd"]"#) && message.contains(r#""metadata":"meta""#),
        "{message}"
    );
}

#[test]
fn only_the_descriptors_that_are_wanted_are_inherited() {
    let Some(bundle) = bundle("ls /proc/self/fd") else { return };
    let file = std::fs::File::open("/dev/null").unwrap();
    let high = rustix::io::fcntl_dupfd_cloexec(&file, 200).unwrap();
    rustix::io::fcntl_setfd(&high, rustix::io::FdFlags::empty()).unwrap();
    assert_eq!(bundle.output(), "0\n1\n2\n3\n");
    let outcome = bundle.run_with(|r| r.preserve_fds = 300).unwrap();
    assert!(outcome.output.contains("\n200\n"), "{outcome:?}");
}
