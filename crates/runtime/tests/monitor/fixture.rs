//! A busybox root file system, a zygote, and what a container left behind.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use corten_runtime::cgroup::Cgroup;
use corten_runtime::log::{Reader, Selection};
use corten_runtime::monitor::protocol::{
    Attach, Event, Exit, Launch, LaunchFd, LogConfig, LogDriver, Request, Rootfs, Stdio,
};
use corten_runtime::monitor::{Connection, Zygote, read_state};
use corten_runtime::spec::{Process, Spec};
use serde_json::json;

/// Longer than anything here takes; a test that waits so long has failed.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// False, with a word, where the tests can't run.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// A zygote with a root file system of busybox.
pub struct Host {
    pub dir: tempfile::TempDir,
    pub zygote: Option<Zygote>,
    name: String,
}

/// Another build than the debug one can be measured by naming it.
fn shim() -> PathBuf {
    std::env::var_os("CORTEN_SHIM").unwrap_or_else(|| env!("CARGO_BIN_EXE_corten-shim").into()).into()
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Host {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rootfs = dir.path().join("rootfs");
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            std::fs::create_dir_all(rootfs.join(name)).unwrap();
        }
        std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
        let applets = Command::new("/bin/busybox").arg("--list").output().unwrap().stdout;
        for applet in String::from_utf8(applets).unwrap().lines().filter(|a| *a != "busybox") {
            std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        let zygote = Zygote::start(&shim()).unwrap();
        let name = format!("corten-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { dir, zygote: Some(zygote), name }
    }

    /// A container that runs `script` in a shell.
    pub fn launch(&self, script: &str) -> Launch {
        let id = format!("{:064x}", u64::from(NEXT.fetch_add(1, Ordering::Relaxed)) + 0xc0ffee00);
        let state_dir = self.dir.path().join("state").join(&id);
        let run_dir = self.dir.path().join("run").join(&id);
        std::fs::create_dir_all(&state_dir).unwrap();
        std::fs::create_dir_all(&run_dir).unwrap();
        Launch {
            spec: self.spec(&id, script),
            rootfs: Rootfs::Directory,
            user: None,
            groups: Vec::new(),
            strict: Vec::new(),
            create_cwd: false,
            init: false,
            stdio: Stdio::default(),
            log: LogConfig {
                driver: LogDriver::Local,
                path: state_dir.join("container.log"),
                bytes_max: 0,
                files_max: 1,
                compress: false,
                attributes: String::new(),
                remote: None,
            },
            fds: Vec::new(),
            hold: false,
            runtime: None,
            resolver: None,
            health: None,
            id,
            run_dir,
            state_dir,
        }
    }

    fn spec(&self, id: &str, script: &str) -> Spec {
        serde_json::from_value(json!({
            "ociVersion": "1.2.1",
            "process": process(script),
            "root": {"path": self.dir.path().join("rootfs"), "readonly": true},
            "hostname": "test",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["newinstance", "ptmxmode=0666", "mode=0620"]},
            ],
            "linux": {
                "cgroupsPath": format!("/{}/{id}", self.name),
                "namespaces": [
                    {"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"},
                ],
            },
        }))
        .unwrap()
    }

    /// Launches, with connections attached from the beginning.
    pub fn start(&self, mut launch: Launch, clients: Vec<(Attach, OwnedFd)>) -> Container {
        let mut fds = Vec::new();
        for (attach, fd) in clients {
            launch.fds.push(LaunchFd::Attach(attach));
            fds.push(fd);
        }
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let connection = self.zygote.as_ref().unwrap().launch(&launch, &borrowed).unwrap();
        Container { launch, connection, seq: 0 }
    }

    /// Launches in a network namespace, with the sockets of a name server there.
    pub fn start_with_names(
        &self,
        mut launch: Launch,
        network: &OwnedFd,
        sockets: &[OwnedFd; 2],
    ) -> Container {
        launch.fds = vec![LaunchFd::NetworkNamespace, LaunchFd::Resolver];
        let fds = [network.as_fd(), sockets[0].as_fd(), sockets[1].as_fd()];
        let connection = self.zygote.as_ref().unwrap().launch(&launch, &fds).unwrap();
        Container { launch, connection, seq: 0 }
    }

    pub fn run(&self, script: &str) -> Container {
        self.start(self.launch(script), Vec::new())
    }

    fn groups(&self) -> Vec<PathBuf> {
        let hierarchies =
            std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|e| e.path());
        hierarchies
            .chain([PathBuf::from("/sys/fs/cgroup")])
            .map(|h| h.join(&self.name))
            .filter(|p| p.exists())
            .collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.zygote.take());
        if std::thread::panicking() {
            // The test has failed already; its containers must not stay.
            if let Ok(group) = Cgroup::open(Path::new(&format!("/{}", self.name))) {
                let _ = group.kill_all();
                let _ = group.remove();
            }
            return;
        }
        for group in self.groups() {
            // Containers' groups inside would be a leak: rmdir refuses then.
            std::fs::remove_dir(&group).unwrap_or_else(|e| panic!("{}: {e}", group.display()));
        }
    }
}

/// The process of an exec, or of the container.
pub fn process(script: &str) -> Process {
    let capabilities = ["CAP_KILL", "CAP_SYS_CHROOT"];
    serde_json::from_value(json!({
        "user": {"uid": 0, "gid": 0},
        "args": ["/bin/sh", "-c", script],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "capabilities": {"bounding": capabilities, "permitted": capabilities, "effective": capabilities},
    }))
    .unwrap()
}

pub struct Container {
    pub launch: Launch,
    pub connection: Connection,
    seq: u64,
}

impl Container {
    /// The next event that `pick` takes; what comes before is dropped.
    pub fn until<T>(&self, pick: impl Fn(Event) -> Option<T>) -> T {
        until(&self.connection, pick)
    }

    pub fn started(&self) -> i32 {
        self.until(|event| match event {
            Event::Started { pid, .. } => Some(pid),
            Event::Failed { error } => panic!("{error}"),
            _ => None,
        })
    }

    pub fn exited(&self) -> Exit {
        self.until(|event| match event {
            Event::Exited { exit } => Some(exit),
            Event::Failed { error } => panic!("{error}"),
            _ => None,
        })
    }

    /// Waits until nothing of the container is left.
    pub fn gone(&self) {
        while receive(&self.connection).is_some() {}
        assert!(!self.launch.run_dir.join("monitor.sock").exists());
    }

    pub fn seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Sends a request and gives its answer.
    pub fn ask(&mut self, request: impl FnOnce(u64) -> Request, fds: &[OwnedFd]) -> Event {
        let seq = self.seq();
        ask(&self.connection, request(seq), fds)
    }

    pub fn signal(&mut self, signal: i32) {
        let answer = self.ask(|seq| Request::Signal { seq, signal }, &[]);
        assert!(matches!(answer, Event::Done { .. }), "{answer:?}");
    }

    pub fn exec(&mut self, name: &str, script: &str, attach: Option<(Attach, OwnedFd)>, tty: bool) -> Event {
        let (attach, fds) = attach.map_or((None, vec![]), |(a, fd)| (Some(a), vec![fd]));
        let open_stdin = attach.as_ref().is_some_and(|a| a.stdin);
        let stdio = Stdio { tty, size: (30, 90), open_stdin, stdin_once: true };
        let (exec, process) = (name.to_owned(), Box::new(process(script)));
        self.ask(|seq| Request::Exec { seq, exec, process, user: None, groups: vec![], stdio, attach }, &fds)
    }

    pub fn exec_code(&self, name: &str) -> i32 {
        self.until(|event| match event {
            Event::ExecExited { exec, code } if exec == name => Some(code),
            _ => None,
        })
    }

    /// KiB of memory that the monitor has for itself.
    pub fn monitor_s_private_kib(&self) -> u64 {
        let monitor = read_state(&self.launch.run_dir).unwrap().monitor_pid;
        let smaps = std::fs::read_to_string(format!("/proc/{monitor}/smaps_rollup")).unwrap();
        let private = smaps.lines().filter(|line| line.starts_with("Private_"));
        private.filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()).sum()
    }

    pub fn log(&self) -> String {
        let log = &self.launch.log;
        let mut reader = Reader::open(log.path.clone(), log.driver, Selection::default()).unwrap();
        let mut text = Vec::new();
        while reader.next_chunk(&mut text, usize::MAX).unwrap().is_some() {}
        String::from_utf8_lossy(&text).into_owned()
    }
}

pub fn until<T>(connection: &Connection, pick: impl Fn(Event) -> Option<T>) -> T {
    loop {
        let event = receive(connection).expect("the monitor has closed the line");
        if let Some(found) = pick(event) {
            return found;
        }
    }
}

pub fn ask(connection: &Connection, request: Request, fds: &[OwnedFd]) -> Event {
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    connection.send(&request, &fds).unwrap();
    until(connection, |event| match event {
        Event::Started { .. } | Event::Created { .. } | Event::ExecExited { .. } => None,
        answer => Some(answer),
    })
}

fn receive(connection: &Connection) -> Option<Event> {
    let mut fds = [rustix::event::PollFd::new(connection, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec { tv_sec: DEADLINE.as_secs() as i64, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&timeout)), Ok(1), "no event came");
    connection.recv().unwrap()
}

/// An attached client, and the end that the monitor gets.
pub fn client(attach: Attach) -> (UnixStream, (Attach, OwnedFd)) {
    let (own, its) = UnixStream::pair().unwrap();
    own.set_read_timeout(Some(DEADLINE)).unwrap();
    own.set_write_timeout(Some(DEADLINE)).unwrap();
    (own, (attach, its.into()))
}

pub fn output() -> Attach {
    Attach { stdout: true, stderr: true, ..Attach::default() }
}

pub fn interactive() -> Attach {
    Attach { stdin: true, ..output() }
}

/// Reads frames up to the end: what came on stdout, what on stderr.
pub fn read_frames(client: &mut UnixStream) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut header = [0; 8];
    while client.read_exact(&mut header).is_ok() {
        let len = u32::from_be_bytes(header[4..].try_into().unwrap());
        let mut payload = vec![0; len as usize];
        client.read_exact(&mut payload).unwrap();
        match header[0] {
            1 => out.extend(payload),
            2 => err.extend(payload),
            other => panic!("stream {other}"),
        }
    }
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// Reads until `text` has come.
pub fn read_until(client: &mut UnixStream, text: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !String::from_utf8_lossy(&seen).contains(text) {
        let n = client.read(&mut buffer).unwrap();
        assert!(n > 0, "ended after {:?}", String::from_utf8_lossy(&seen));
        seen.extend(&buffer[..n]);
    }
    String::from_utf8(seen).unwrap()
}

pub fn type_in(client: &mut UnixStream, text: &str) {
    client.write_all(text.as_bytes()).unwrap();
}

/// Looks until `what` is so.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < DEADLINE, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
