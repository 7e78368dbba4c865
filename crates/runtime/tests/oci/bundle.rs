//! A bundle with busybox, a state directory, and the program.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use corten_runtime::cgroup::Cgroup;
use serde_json::{Value, json};

pub struct Bundle {
    pub dir: tempfile::TempDir,
    pub id: String,
    pub config: Value,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Bundle {
    /// `None`, with a word, where the tests can't run.
    pub fn new(script: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            std::fs::create_dir_all(dir.path().join("rootfs").join(name)).unwrap();
        }
        std::fs::copy("/bin/busybox", dir.path().join("rootfs/bin/busybox")).unwrap();
        for applet in ["sh", "echo", "sleep", "cat", "id", "stty", "true", "kill", "tail"] {
            std::os::unix::fs::symlink("busybox", dir.path().join("rootfs/bin").join(applet)).unwrap();
        }
        let id = format!("oci-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let capabilities = ["CAP_KILL", "CAP_SETUID", "CAP_SETGID"];
        let config = json!({
            "ociVersion": "1.2.1",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["/bin/sh", "-c", script],
                "env": ["PATH=/bin"],
                "cwd": "/",
                "capabilities": {"bounding": capabilities, "permitted": capabilities, "effective": capabilities},
            },
            "root": {"path": "rootfs"},
            "annotations": {"org.example": "yes"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["newinstance", "ptmxmode=0666", "mode=0620"]},
            ],
            "linux": {
                "cgroupsPath": format!("/{id}"),
                "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}],
            },
        });
        Some(Self { dir, id, config })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `corten-oci --root … <command> <flags> <id> <words>`; a `%` among the arguments is the id.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let file = self.path("config.json");
        std::fs::write(&file, serde_json::to_vec(&self.config).unwrap()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_corten-oci"));
        command.arg("--root").arg(self.path("state")).current_dir(self.dir.path()).stdin(Stdio::null());
        command.args(arguments.iter().map(|a| if *a == "%" { self.id.as_str() } else { a }));
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that has to succeed; gives its stdout.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that has to fail with 1; gives its stderr.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stderr).unwrap()
    }

    /// Creates the container with its output in the file `output`.
    pub fn create(&self) {
        let output = std::fs::File::create(self.path("output")).unwrap();
        let errors = self.path("errors");
        let status = self
            .command(&["create", "--pid-file", "pid", "%"])
            .stdout(output)
            .stderr(std::fs::File::create(&errors).unwrap())
            .status()
            .unwrap();
        assert!(status.success(), "{}", std::fs::read_to_string(errors).unwrap());
    }

    pub fn start(&self) {
        self.create();
        self.ok(&["start", "%"]);
    }

    pub fn output(&self) -> String {
        std::fs::read_to_string(self.path("output")).unwrap()
    }

    pub fn state(&self) -> Value {
        serde_json::from_str(&self.ok(&["state", "%"])).unwrap()
    }

    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.run(&["delete", "--force", "%"]);
        let group = PathBuf::from(format!("/{}", self.id));
        if Cgroup::open(&group).is_ok_and(|cgroup| cgroup.remove().is_ok()) && !std::thread::panicking() {
            panic!("the control group {} was left", group.display());
        }
    }
}

/// Looks until `what` is so.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
