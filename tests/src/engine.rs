//! A private engine, and its clients.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::client::{Output, run};
use crate::{busybox_archive, eventually, leaks};

/// An engine with roots of its own; ends, and is checked for leaks, when dropped.
pub struct TestEngine {
    data: TempDir,
    run: TempDir,
    process: Option<Child>,
    flags: Vec<String>,
    instance: String,
}

/// A different subnet for every engine of this test process.
static NEXT_SUBNET: AtomicU32 = AtomicU32::new(0);

impl TestEngine {
    /// Starts an engine.
    ///
    /// # Panics
    /// When it does not come up; the tests need root.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts an engine with further flags.
    ///
    /// # Panics
    /// As [`TestEngine::start`].
    pub fn start_with(flags: &[&str]) -> Self {
        assert!(rustix::process::geteuid().is_root(), "the product tests need root");
        let mut all = vec!["--bip".to_owned(), format!("{}/24", free_gateway())];
        all.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let mut engine = Self {
            data: TempDir::with_prefix_in("corten-test-", "/var/tmp").expect("data root"),
            run: TempDir::with_prefix_in("corten-test-", "/run").expect("run directory"),
            process: None,
            flags: all,
            instance: String::new(),
        };
        engine.launch();
        engine.instance = engine.corten(&["info", "--format", "{{.ID}}"]).ok();
        engine
    }

    /// An engine with the image `busybox`.
    ///
    /// # Panics
    /// As [`TestEngine::start`].
    pub fn with_busybox() -> Self {
        let engine = Self::start();
        engine.add_busybox();
        engine
    }

    /// Imports the image `busybox`.
    ///
    /// # Panics
    /// When the import fails.
    pub fn add_busybox(&self) {
        let archive = busybox_archive(self.data.path());
        let path = archive.display().to_string();
        self.corten(&["import", "-c", "CMD [\"sh\"]", &path, "busybox:latest"]).ok();
        std::fs::remove_file(archive).expect("remove the archive");
    }

    fn launch(&mut self) {
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.log_path()).expect("engine log");
        let process = Command::new(binary("corten"))
            .args(["daemon", "-H", &self.host(), "--data-root"])
            .arg(self.data.path())
            .arg("--exec-root")
            .arg(self.run.path())
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("engine log"))
            .stderr(log)
            .spawn()
            .expect("start corten; build it with `make build`, or set CORTEN_BIN");
        self.process = Some(process);
        eventually("the engine answers", || {
            let ended = self.process.as_mut().and_then(|p| p.try_wait().ok().flatten());
            assert!(ended.is_none(), "the engine ended: {}", self.log());
            run(Command::new(binary("corten")).args(["-H", &self.host(), "--no-autostart", "version"])).code
                == 0
        });
    }

    /// Kills the engine without warning.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("a running engine");
        process.kill().expect("kill the engine");
        process.wait().expect("the engine's end");
    }

    /// Asks the engine to end.
    ///
    /// # Panics
    /// When it is not running.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("a running engine");
        let pid = rustix::process::Pid::from_child(&process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signal the engine");
        process.wait().expect("the engine's end");
    }

    /// Starts the engine again on the same roots.
    ///
    /// # Panics
    /// As [`TestEngine::start`].
    pub fn restart(&mut self) {
        self.launch();
    }

    /// Runs a shell script in a container that nobody is attached to; `options` go before the image.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn background(&self, name: &str, options: &[&str], script: &str) {
        let run = ["run", "-d", "--name", name];
        self.corten(&[&run[..], options, &["busybox", "sh", "-c", script]].concat()).ok();
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub fn socket(&self) -> PathBuf {
        self.run.path().join("corten.sock")
    }

    pub fn data_root(&self) -> &Path {
        self.data.path()
    }

    pub fn exec_root(&self) -> &Path {
        self.run.path()
    }

    /// Eight hexadecimal digits in the names of its kernel objects.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.data.path().join("engine.log")
    }

    /// Our CLI, ready for further arguments.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary("corten"));
        command.args(["-H", &self.host(), "--no-autostart"]).args(args);
        command
    }

    /// The docker CLI, ready for further arguments.
    pub fn docker_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", &self.host()]).args(args).env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        command
    }

    pub fn corten(&self, args: &[&str]) -> Output {
        run(&mut self.command(args))
    }

    pub fn docker(&self, args: &[&str]) -> Output {
        run(&mut self.docker_command(args))
    }

    /// The API, by curl; `path` begins with a slash.
    pub fn curl(&self, args: &[&str], path: &str) -> Output {
        let mut command = Command::new("curl");
        command.args(["-s", "--max-time", "30", "--unix-socket"]).arg(self.socket()).args(args);
        run(command.arg(format!("http://localhost{path}")))
    }
}

impl Drop for TestEngine {
    fn drop(&mut self) {
        if self.process.is_none() && !std::thread::panicking() {
            self.launch();
        }
        // One that never came up has ended by itself.
        self.process.take_if(|process| std::thread::panicking() && !matches!(process.try_wait(), Ok(None)));
        if self.process.is_some() {
            let ids = self.corten(&["ps", "-aq", "--no-trunc"]).stdout;
            let ids: Vec<&str> = ids.split_whitespace().collect();
            if !ids.is_empty() {
                self.corten(&[&["rm", "-f"], ids.as_slice()].concat());
            }
            self.stop();
        }
        if std::thread::panicking() {
            eprintln!("engine's log:\n{}", self.log());
            return;
        }
        // Monitors end on their own a moment after their containers.
        let mut left = leaks::traces(&self.instance, self.run.path());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !left.is_empty() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(20));
            left = leaks::traces(&self.instance, self.run.path());
        }
        assert!(left.is_empty(), "left behind: {left:#?}\n{}", self.log());
        for (path, what) in [
            (self.data.path().join("containers"), "container"),
            (self.data.path().join("snapshots"), "snapshot"),
            (self.run.path().to_owned(), "engine"),
        ] {
            let files: Vec<_> =
                std::fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()).collect();
            assert!(files.is_empty(), "{what} files left behind: {files:?}");
        }
    }
}

/// A binary of the build under test.
pub fn binary(name: &str) -> PathBuf {
    let directory = std::env::var_os("CORTEN_BIN")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release"));
    directory.join(name)
}

/// The first address of a /24 network that no route of the host touches: another engine's network may lie anywhere.
fn free_gateway() -> Ipv4Addr {
    let routes = std::fs::read_to_string("/proc/net/route").expect("the host's routes");
    // Interface, destination, gateway, four numbers, mask; addresses in hexadecimal as the kernel has them in memory.
    let address = |field: &str| u32::from_str_radix(field, 16).map(u32::from_be).expect("an address");
    let taken: Vec<(u32, u32)> = routes
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .map(|fields| (address(fields[1]), address(fields[7])))
        .filter(|(_, mask)| mask.count_ones() >= 8)
        .collect();
    loop {
        // 10.64.0.0/10 has room for 16384 of them; the process id spreads test programs that run at once.
        let number = NEXT_SUBNET.fetch_add(1, Ordering::Relaxed);
        let subnet = (std::process::id() * 61 + number) % 16_384;
        let network = u32::from(Ipv4Addr::new(10, 64, 0, 0)) + (subnet << 8);
        if taken.iter().all(|(other, mask)| (network ^ other) & mask & 0xffff_ff00 != 0) {
            return Ipv4Addr::from(network + 1);
        }
    }
}
