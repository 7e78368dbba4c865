//! A private engine, and its clients.

use std::ffi::{OsStr, OsString};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::busybox_archive;
use crate::client::{Output, run};
use crate::eventually;
use crate::leaks::Marks;

/// How long an engine may take to come up, to remove what it has, and to go.
const PATIENCE: Duration = Duration::from_secs(60);

/// An engine with roots of its own. When dropped it ends and is checked for leaks; after a panic, too, nothing of it is left.
pub struct TestEngine {
    data: TempDir,
    run: TempDir,
    process: Option<Child>,
    flags: Vec<String>,
    /// Of its environment what is not this program's.
    variables: Vec<(String, OsString)>,
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
        Self::begin(flags, &[])
    }

    /// Starts an engine with variables in its environment.
    ///
    /// # Panics
    /// As [`TestEngine::start`].
    pub fn start_in(variables: &[(&str, &OsStr)]) -> Self {
        Self::begin(&[], variables)
    }

    fn begin(flags: &[&str], variables: &[(&str, &OsStr)]) -> Self {
        assert!(rustix::process::geteuid().is_root(), "the product tests need root");
        let [a, b, c, _] = free_subnet().octets();
        let mut all = vec!["--bip".to_owned(), format!("{a}.{b}.{c}.1/24")];
        let data = TempDir::with_prefix_in("corten-test-", "/var/tmp").expect("data root");
        if !flags.contains(&"--config-file") {
            let settings = data.path().join("daemon.json");
            std::fs::write(&settings, settings_of_a_test()).expect("settings");
            all.extend(["--config-file".to_owned(), settings.display().to_string()]);
        }
        all.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let mut engine = Self {
            data,
            run: TempDir::with_prefix_in("corten-test-", "/run").expect("run directory"),
            process: None,
            flags: all,
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            instance: String::new(),
        };
        engine.launch();
        engine.instance = engine.corten(&["info", "--format", "{{.ID}}"]).ok();
        engine
    }

    /// The TCP address that an engine with port 0 among its flags listens on; `what` as its log has it, `API` or `metrics API`.
    ///
    /// # Panics
    /// When the log doesn't tell it.
    pub fn listens_on_tcp(&self, what: &str) -> String {
        let told = format!(" {what} listen on tcp://");
        let mut address = None;
        eventually("the log tells the address", || {
            let log = self.log();
            address = log.lines().find_map(|line| Some(line.split_once(&told)?.1.to_owned()));
            address.is_some()
        });
        address.expect("it was found")
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
        self.try_launch(PATIENCE).unwrap_or_else(|why| panic!("{why}: {}", self.log()));
    }

    fn try_launch(&mut self, patience: Duration) -> Result<(), String> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path());
        let log = log.map_err(|error| format!("engine log: {error}"))?;
        let mut daemon = Command::new(binary("corten"));
        daemon.args(["daemon", "-H", &self.host(), "--data-root"]).arg(self.data.path());
        daemon.arg("--exec-root").arg(self.run.path()).args(&self.flags).stdin(Stdio::null());
        daemon.envs(self.variables.iter().map(|(name, value)| (name, value)));
        daemon.stdout(log.try_clone().map_err(|error| format!("engine log: {error}"))?).stderr(log);
        let process = daemon.spawn().map_err(|error| {
            format!("cannot start corten; build it with `make build`, or set CORTEN_BIN: {error}")
        })?;
        self.process = Some(process);
        let deadline = Instant::now() + patience;
        while self.runs() {
            if self.within(patience, &["version"]).is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("the engine does not answer within {patience:?}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("the engine ended".to_owned())
    }

    /// Whether the engine's process is there.
    fn runs(&mut self) -> bool {
        self.process.take_if(|process| !matches!(process.try_wait(), Ok(None)));
        self.process.is_some()
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
        command.args(["-s", "--max-time", "120", "--unix-socket"]).arg(self.socket()).args(args);
        run(command.arg(format!("http://localhost{path}")))
    }
}

impl TestEngine {
    /// Removes all containers and ends the engine, which is started once more when it was killed or has crashed. Does not panic, and
    /// does not wait for ever.
    fn end(&mut self, patience: Duration) -> Result<(), String> {
        if !self.runs() {
            self.try_launch(patience)?;
        }
        let list = self.within(patience, &["ps", "-aq", "--no-trunc"])?;
        let ids: Vec<&str> = list.split_whitespace().collect();
        if !ids.is_empty() {
            self.within(patience, &[&["rm", "-f"], ids.as_slice()].concat())?;
        }
        let Some(process) = &self.process else { return Ok(()) };
        let pid = rustix::process::Pid::from_child(process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .map_err(|error| format!("signal the engine: {error}"))?;
        let deadline = Instant::now() + patience;
        while self.runs() {
            if Instant::now() > deadline {
                return Err(format!("the engine does not end within {patience:?}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// What a command of our CLI prints that has to be done in time.
    fn within(&self, patience: Duration, args: &[&str]) -> Result<String, String> {
        let command = self.command(args);
        let mut timeout = Command::new("timeout");
        timeout.args(["-s", "KILL", &patience.as_secs().to_string()]);
        timeout.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        let output = timeout.output().map_err(|error| format!("timeout: {error}"))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(format!("{args:?}: {} {}", output.status, String::from_utf8_lossy(&output.stderr))),
        }
    }

    /// By what the host's objects are known as this engine's.
    pub fn marks(&self) -> Marks {
        let roots = [self.run.path().to_owned(), self.data.path().to_owned()];
        Marks { instance: self.instance.clone(), roots }
    }

    /// The files that an engine must have removed.
    fn files(&self) -> Vec<PathBuf> {
        let data = self.data.path();
        let directories = [data.join("containers"), data.join("snapshots"), self.run.path().to_owned()];
        let entries = directories.iter().filter_map(|path| std::fs::read_dir(path).ok()).flatten();
        entries.flatten().map(|entry| entry.path()).collect()
    }
}

/// A panic in here while another one is under way would end the whole test program, and leave all its engines behind.
impl Drop for TestEngine {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            eprintln!("engine's log:\n{}", self.log());
        }
        let ended = self.end(if failed { Duration::from_secs(10) } else { PATIENCE });
        let marks = self.marks();
        let left = marks.traces_after(if ended.is_ok() { PATIENCE } else { Duration::ZERO });
        if !left.is_empty() {
            marks.remove();
        }
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let files = self.files();
        if failed {
            return;
        }
        assert!(ended.is_ok(), "{ended:?}\n{}", self.log());
        assert!(left.is_empty(), "left behind: {left:#?}\n{}", self.log());
        assert!(files.is_empty(), "files left behind: {files:?}");
    }
}

/// A binary of the build under test.
pub fn binary(name: &str) -> PathBuf {
    let directory = std::env::var_os("CORTEN_BIN")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release"));
    directory.join(name)
}

/// A TCP port of the host that is free, and stays so until somebody asks for it by its number: the system gives no
/// connection one of these.
///
/// # Panics
/// When all are taken.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..16_384 {
        let number = (std::process::id() * 61 + NEXT.fetch_add(1, Ordering::Relaxed)) % 16_384;
        let port = 16_000 + u16::try_from(number).expect("less than 16384");
        if std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
    panic!("no port below 32384 is free");
}

/// Subnets of its own for the networks that an engine makes: two engines that look for a free one at the same time would find the same.
fn settings_of_a_test() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // 10.128.0.0/10 has room for 2048 engines with 64 networks each.
    let number = (std::process::id() * 61 + NEXT.fetch_add(1, Ordering::Relaxed)) % 2048;
    let base = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 128, 0, 0)) + (number << 11));
    format!(r#"{{"default-address-pools": [{{"base": "{base}/21", "size": 27}}]}}"#)
}

/// A /24 network that no route of the host touches, and no other test of this program has: another engine's network may lie anywhere.
///
/// # Panics
/// When the host's routes can't be read.
pub fn free_subnet() -> Ipv4Addr {
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
            return Ipv4Addr::from(network);
        }
    }
}
