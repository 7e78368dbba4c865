//! Running the other runtime's program: its command line, its log, its patience.

use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use corten_sys::{fd, signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags};
use serde::Deserialize;

use super::{Made, error, inheritance, read_pid};
use crate::launch::{Stage, Stdio};
use crate::monitor::protocol::{self, Step, StepError};

/// What of the other program's log is read, from its end.
const LOG_BYTES_MAX: u64 = 64 * 1024;
/// Ignored by monitors; a program starts with all signals as the kernel has them.
const IGNORED: [i32; 5] = [1, 2, 3, 13, 15];

pub(super) struct Program {
    path: PathBuf,
    args: Vec<String>,
    id: String,
    directory: PathBuf,
}

impl Program {
    pub fn new(runtime: &protocol::Program, id: &str, directory: &Path) -> Self {
        let args = runtime.args.clone();
        Self { path: runtime.path.clone(), args, id: id.to_owned(), directory: directory.to_owned() }
    }

    /// The command line up to and including the sub-command; the id is still to come.
    pub fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.args).arg("--root").arg(self.directory.join("state"));
        command.arg("--log").arg(self.log()).args(["--log-format", "json", verb]);
        command.current_dir("/");
        command
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log.json")
    }

    /// Runs a sub-command to its end.
    pub fn run(&self, verb: &str, flags: &[&str], patience: Duration) -> Result<(), StepError> {
        let mut command = self.command(verb);
        command.args(flags);
        let mut running = Running::start(command.arg(&self.id), Stdio::Inherit, &self.path)?;
        running.wait(patience).and_then(|code| self.check(verb, code))
    }

    /// Starts a sub-command that makes a process of the container.
    pub fn begin(
        &self,
        mut command: Command,
        stdio: Stdio,
        console: Option<Console>,
        files: Files,
    ) -> Result<Making, StepError> {
        if let Some(console) = &console {
            command.arg("--console-socket").arg(&console.path);
        }
        let running = Running::start(command.arg(&self.id), stdio, &self.path)?;
        let program = Self {
            path: self.path.clone(),
            args: Vec::new(),
            id: self.id.clone(),
            directory: self.directory.clone(),
        };
        Ok(Making { running, console, files, program, made: None })
    }

    fn check(&self, verb: &str, code: i32) -> Result<(), StepError> {
        if code == 0 { Ok(()) } else { Err(self.failure(verb, code)) }
    }

    /// What the other program has logged last as an error.
    fn failure(&self, verb: &str, code: i32) -> StepError {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let said = read_log(&self.log()).unwrap_or_else(|| format!("{verb} ended with {code}"));
        // Names and words as in Go's errors, which runtimes of other languages took over.
        let no_program = ["executable file not found", "exec: "].iter().any(|words| said.contains(words));
        let (step, errno) = match said.as_str() {
            text if no_program && text.contains("ermission denied") => (Step::Exec, 13),
            text if no_program || text.contains("executable") => (Step::Exec, 2),
            _ => (Step::Monitor, 0),
        };
        StepError { step, object: name, errno, message: said }
    }
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

fn read_log(path: &Path) -> Option<String> {
    let mut file = std::fs::File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(LOG_BYTES_MAX))).ok()?;
    let mut text = Vec::new();
    file.take(LOG_BYTES_MAX).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let line = lines.rfind(|line| matches!(line.level.as_str(), "error" | "fatal" | ""));
    line.map(|line| line.msg.trim().to_owned()).filter(|message| !message.is_empty())
}

/// A run of the other program.
struct Running {
    child: Child,
    pidfd: OwnedFd,
    path: PathBuf,
}

impl Running {
    fn start(command: &mut Command, stdio: Stdio, path: &Path) -> Result<Self, StepError> {
        let [stdin, stdout, stderr] = inheritance(stdio);
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        // What a monitor ignores its children would ignore too, the container's program included.
        ignore_signals(false);
        let spawned = command.spawn();
        ignore_signals(true);
        let name = || path.display().to_string();
        let child = spawned.map_err(|e| StepError {
            // Not the container's program is missing, the runtime is.
            errno: 0,
            ..StepError::of(Step::Monitor, name(), e)
        })?;
        let pidfd = Pid::from_raw(child.id() as i32)
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()))
            .map_err(|e| StepError::of(Step::Monitor, name(), e))?;
        Ok(Self { child, pidfd, path: path.to_owned() })
    }

    fn wait(&mut self, patience: Duration) -> Result<i32, StepError> {
        if !ends_within(self.pidfd.as_fd(), patience) {
            let _ = self.child.kill();
            let _ = self.child.wait();
            return Err(error(
                Step::Monitor,
                self.path.display().to_string(),
                format!("has not ended after {} s", patience.as_secs()),
            ));
        }
        self.ended()
    }

    /// Reaps the program, which has ended.
    fn ended(&mut self) -> Result<i32, StepError> {
        let status = self
            .child
            .wait()
            .map_err(|e| StepError::of(Step::Monitor, self.path.display().to_string(), e))?;
        Ok(status.code().unwrap_or(-1))
    }
}

fn ignore_signals(ignored: bool) {
    for number in IGNORED {
        // Fails for SIGKILL and SIGSTOP only.
        let _ = signal::set_ignored(number, ignored);
    }
}

fn ends_within(pidfd: BorrowedFd<'_>, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) | Err(_) => return false,
            Ok(_) => return true,
        }
    }
}

/// Files for one process that is made, on a file system in memory: they go when they have been read, or will not be.
pub(super) struct Files {
    pub pid: PathBuf,
    pub document: Option<PathBuf>,
}

impl Drop for Files {
    fn drop(&mut self) {
        for file in self.document.iter().chain([&self.pid]) {
            // Never written, or gone with the bundle.
            let _ = std::fs::remove_file(file);
        }
    }
}

/// A process of the container that is being made. Until it is there, its number and descriptor are those of the program that makes it.
pub(crate) struct Making {
    running: Running,
    console: Option<Console>,
    files: Files,
    program: Program,
    made: Option<Made>,
}

impl Making {
    pub fn wait(&mut self, patience: Duration) -> Result<Made, StepError> {
        let code = self.running.wait(patience)?;
        self.settle(code)
    }

    /// Readable when [`Making::advance`] has something to do.
    pub fn channel(&self) -> BorrowedFd<'_> {
        self.running.pidfd.as_fd()
    }

    /// The program that makes it has ended: takes what it has made.
    pub fn advance(&mut self) -> Result<Option<Stage>, StepError> {
        if !ends_within(self.running.pidfd.as_fd(), Duration::ZERO) {
            return Ok(None);
        }
        let code = self.running.ended()?;
        self.made = Some(self.settle(code)?);
        Ok(Some(Stage::Running))
    }

    fn settle(&mut self, code: i32) -> Result<Made, StepError> {
        self.program.check("exec", code)?;
        let console = self.console.take().map(Console::receive).transpose()?;
        let (pid, pidfd) = read_pid(&self.files.pid)?;
        Ok(Made { pid, pidfd, console, warnings: Vec::new() })
    }

    /// What is told of a process that comes no further.
    pub fn late(pid: i32) -> StepError {
        error(Step::Exec, format!("process {pid}"), "it was given up, as it has come no further for too long")
    }

    pub fn is_late(&self) -> StepError {
        Self::late(self.pid())
    }

    pub fn pid(&self) -> i32 {
        self.made.as_ref().map_or(self.running.child.id() as i32, |made| made.pid)
    }

    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.made.as_ref().map_or(self.running.pidfd.as_fd(), |made| made.pidfd.as_fd())
    }

    pub fn into_pidfd(self) -> OwnedFd {
        match self.made {
            Some(made) => made.pidfd,
            None => self.running.pidfd,
        }
    }

    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.made.as_mut().and_then(|made| made.console.take())
    }
}

/// Where the other runtime sends a terminal's master.
pub(super) struct Console {
    listener: OwnedFd,
    /// As the other program reaches it: short enough for a socket's path.
    path: PathBuf,
    _directory: OwnedFd,
}

impl Console {
    pub fn wanted(stdio: &Stdio, directory: &Path, name: &str) -> Result<Option<Self>, StepError> {
        if !matches!(stdio, Stdio::Terminal { .. }) {
            return Ok(None);
        }
        let file = format!("{name}.sock");
        let failed = |e: rustix::io::Errno| {
            StepError::of(Step::Console, directory.join(&file).display().to_string(), e)
        };
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let opened = rustix::fs::open(directory, flags, rustix::fs::Mode::empty()).map_err(failed)?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&opened);
        let path = PathBuf::from(format!("/proc/{}/fd/{number}/{file}", std::process::id()));
        let listener =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .map_err(failed)?;
        let address = SocketAddrUnix::new(&path).map_err(failed)?;
        rustix::net::bind(&listener, &address).map_err(failed)?;
        rustix::net::listen(&listener, 1).map_err(failed)?;
        Ok(Some(Self { listener, path, _directory: opened }))
    }

    /// Takes the terminal; the program that sends it has ended, so it is there or never will be.
    fn receive(self) -> Result<OwnedFd, StepError> {
        let missing = || error(Step::Console, "terminal", "the runtime has sent none");
        if !ends_within(self.listener.as_fd(), Duration::from_secs(1)) {
            return Err(missing());
        }
        let failed = |e| StepError::of(Step::Console, "terminal", std::io::Error::from(e));
        let connection = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC).map_err(failed)?;
        let mut fds = Vec::new();
        fd::receive(connection.as_fd(), &mut [0; 4096], &mut fds).map_err(failed)?;
        match std::fs::remove_file(&self.path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(StepError::of(Step::Console, "terminal", e)),
            _ => fds.pop().ok_or_else(missing),
        }
    }
}
