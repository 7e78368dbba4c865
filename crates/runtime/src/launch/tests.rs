//! Starts real processes; needs root, and says so where it is missing.

mod errors;
mod execs;
mod isolation;
mod mounting;
mod speed;
mod two_phases;
mod user_namespaces;

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use corten_sys::process::{self, Ended};
use tempfile::TempDir;

use super::*;
use crate::monitor::protocol::StepError;
use crate::monitor::protocol::{Rootfs, Step};
use crate::spec::{Capabilities, Linux, Mount, Namespace, Process, Root, Spec};

/// Docker's default set.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

static ALONE: Mutex<()> = Mutex::new(());

/// A bundle of busybox in a directory that goes away with it.
struct Bundle {
    /// A child of one test would inherit, until its exec, what another one has open for writing: ETXTBSY.
    _alone: MutexGuard<'static, ()>,
    dir: TempDir,
    spec: Spec,
}

/// What a run has left.
#[derive(Debug)]
struct Outcome {
    ended: Ended,
    output: String,
    warnings: Vec<String>,
}

/// `None`, with a word about it, where the test cannot run.
fn bundle(script: &str) -> Option<Bundle> {
    if !rustix::process::geteuid().is_root() || !Path::new("/bin/busybox").exists() {
        eprintln!("skipped: needs root and /bin/busybox");
        return None;
    }
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("rootfs");
    for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "root", "home/ann"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for name in [
        "sh", "cat", "id", "ls", "true", "mount", "touch", "sleep", "stat", "hostname", "readlink", "kill",
        "tty",
    ] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001:Ann:/home/ann:/bin/sh\n",
    )
    .unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:root\nann:x:1001:\nwheel:x:10:ann,bob\n").unwrap();
    Some(Bundle { _alone: alone, dir, spec: spec(&["sh", "-c", script]) })
}

fn spec(arguments: &[&str]) -> Spec {
    let all: Vec<String> = CAPABILITIES.iter().map(|c| (*c).to_owned()).collect();
    let mount = |destination: &str, kind: &str, options: &[&str]| Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some(kind.into()),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
        ..Mount::default()
    };
    Spec {
        oci_version: "1.2.0".into(),
        process: Some(Process {
            args: arguments.iter().map(|a| (*a).to_owned()).collect(),
            env: vec!["PATH=/bin".into()],
            cwd: "/".into(),
            capabilities: Some(Capabilities {
                bounding: all.clone(),
                effective: all.clone(),
                permitted: all,
                ..Capabilities::default()
            }),
            ..Process::default()
        }),
        root: Some(Root { path: "rootfs".into(), readonly: false }),
        hostname: Some("box".into()),
        mounts: vec![
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount(
                "/dev/pts",
                "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            ),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]),
        ],
        linux: Some(Linux {
            namespaces: [
                NamespaceKind::Mount,
                NamespaceKind::Pid,
                NamespaceKind::Network,
                NamespaceKind::Uts,
                NamespaceKind::Ipc,
                NamespaceKind::Cgroup,
            ]
            .into_iter()
            .map(|kind| Namespace { kind, path: None })
            .collect(),
            masked_paths: ["/proc/kcore", "/proc/keys", "/proc/acpi", "/sys/firmware", "/proc/nothing"]
                .map(String::from)
                .to_vec(),
            readonly_paths: ["/proc/sys", "/proc/irq", "/proc/bus"].map(String::from).to_vec(),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

impl Bundle {
    fn process(&mut self) -> &mut Process {
        self.spec.process.as_mut().unwrap()
    }

    fn linux(&mut self) -> &mut Linux {
        self.spec.linux.as_mut().unwrap()
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join("rootfs").join(inside)
    }

    fn run(&self) -> Result<Outcome, StepError> {
        self.run_with(|_| {})
    }

    /// Runs to the end and collects what it writes.
    fn run_with(&self, change: impl FnOnce(&mut Request<'_>)) -> Result<Outcome, StepError> {
        let rootfs = Rootfs::Directory;
        let mut request = Request::new("test", self.dir.path(), &self.spec, &rootfs);
        let (stdio, reader) = streams();
        request.stdio = stdio;
        change(&mut request);
        let prepared = Prepared::new(request)?;
        let mut warnings = prepared.warnings().to_vec();
        let mut child = prepared.spawn()?;
        assert_eq!(child.wait()?, Stage::Running);
        warnings.append(&mut child.warnings);
        let output = read_all(reader);
        let (_, ended) = process::wait(child.pid, true).unwrap().unwrap();
        Ok(Outcome { ended, output, warnings })
    }

    /// What the script has written, which must have ended well.
    fn output(&self) -> String {
        let outcome = self.run().unwrap();
        assert_eq!(outcome.ended, Ended::Exited(0), "{outcome:?}");
        outcome.output
    }

    /// Starts a container that sleeps.
    fn start(&self) -> Running {
        let rootfs = Rootfs::Directory;
        let mut request = Request::new("test", self.dir.path(), &self.spec, &rootfs);
        request.stdio = streams().0;
        let mut child = Prepared::new(request).unwrap().spawn().unwrap();
        child.wait().unwrap();
        Running(child)
    }
}

/// A running container, which ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = process::pidfd_send_signal(self.0.pidfd.as_fd(), 9);
        let _ = process::wait(self.0.pid, true);
    }
}

/// Empty input, and one pipe for both outputs.
fn streams() -> (Stdio, OwnedFd) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let stdin = std::fs::File::open("/dev/null").unwrap().into();
    let stderr = writer.try_clone().unwrap();
    (Stdio::Files { stdin, stdout: writer, stderr }, reader)
}

fn read_all(reader: OwnedFd) -> String {
    let mut bytes = Vec::new();
    std::fs::File::from(reader).read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
