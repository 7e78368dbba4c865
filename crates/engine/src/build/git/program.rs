//! The host's `git`, as a program that a stranger's repository is given to: nobody's configuration, no hook, no question, no other protocol
//! than those of repositories elsewhere, and an end with whoever waits for it.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corten_build::{Error, Result};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, kill_process_group, prlimit, waitid,
};

use crate::build::context::Scratch;

/// No file that git writes is larger, in bytes: a repository's objects come in one.
const FILE_BYTES_MAX: u64 = 32 << 30;
/// What is read of an answer that is no file.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// What is kept of what git says when something is wrong.
const SAID_BYTES_MAX: usize = 4 << 10;

/// What holds for every repository. A URL that says nothing for half a minute is given up.
const SETTINGS: [(&str, &str); 13] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.sharedRepository", "0644"),
    ("core.attributesFile", "/dev/null"),
    ("credential.helper", ""),
    ("fetch.recurseSubmodules", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "30"),
    ("init.defaultBranch", "master"),
    ("tar.umask", "0022"),
    ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"),
];

/// The program in a directory of its own, for one repository elsewhere.
pub struct Git {
    pub scratch: Arc<Scratch>,
    /// The environment, all of it.
    variables: Vec<(String, String)>,
}

/// Why it came to nothing.
pub enum Failure {
    /// In git's own words.
    Said(String),
    Here(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Here(error)
    }
}

impl Failure {
    pub fn told(self, what: &str) -> Error {
        match self {
            Failure::Said(said) => Error::Invalid(format!("{what}: git says:\n{said}")),
            Failure::Here(error) => error,
        }
    }
}

impl Git {
    /// `settings` are git's, and no others see them: they may hold passwords.
    pub fn new(
        scratch: Arc<Scratch>,
        settings: Vec<(String, String)>,
        mut variables: Vec<(String, String)>,
    ) -> Git {
        let own = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings: Vec<(String, String)> = own.into_iter().chain(settings).collect();
        let mut set = |name: &str, value: String| variables.push((name.to_owned(), value));
        set("GIT_CONFIG_COUNT", settings.len().to_string());
        for (number, (name, value)) in settings.into_iter().enumerate() {
            set(&format!("GIT_CONFIG_KEY_{number}"), name);
            set(&format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        set("GIT_CONFIG_NOSYSTEM", "1".to_owned());
        set("GIT_CONFIG_GLOBAL", "/dev/null".to_owned());
        set("GIT_ATTR_NOSYSTEM", "1".to_owned());
        set("HOME", "/dev/null".to_owned());
        set("GIT_TERMINAL_PROMPT", "0".to_owned());
        set("GIT_ALLOW_PROTOCOL", "http:https:git:ssh".to_owned());
        set("GIT_LITERAL_PATHSPECS", "1".to_owned());
        set("GIT_NO_REPLACE_OBJECTS", "1".to_owned());
        // A repository above is none of ours.
        set(
            "GIT_CEILING_DIRECTORIES",
            scratch.path().parent().unwrap_or(scratch.path()).display().to_string(),
        );
        set("LC_ALL", "C".to_owned());
        Git { scratch, variables }
    }

    /// Runs it to its end; gives what it prints.
    pub async fn run(&self, arguments: &[&str]) -> std::result::Result<Vec<u8>, Failure> {
        self.read(arguments, |output| {
            let mut bytes = Vec::new();
            let read = output.take(ANSWER_BYTES_MAX + 1).read_to_end(&mut bytes);
            read.map_err(|error| failed(&error))?;
            match bytes.len() as u64 > ANSWER_BYTES_MAX {
                true => Err(Error::Invalid("git's answer has no end".to_owned())),
                false => Ok(bytes),
            }
        })
        .await
    }

    /// Runs it to its end, while somebody reads what it prints. Dropped, it and all that it has started end.
    pub async fn read<T: Send + 'static>(
        &self,
        arguments: &[&str],
        read: impl FnOnce(ChildStdout) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, Failure> {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(self.scratch.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let group = Arc::new(Group::default());
        let stop = Stop(group.clone());
        // The directory is there until the program is gone.
        let scratch = self.scratch.clone();
        let work = tokio::task::spawn_blocking(move || {
            let outcome = run(command, &group, read);
            drop(scratch);
            outcome
        });
        let outcome = work.await;
        drop(stop);
        outcome.unwrap_or(Err(Failure::Here(Error::Canceled)))
    }
}

fn run<T>(
    mut command: Command,
    group: &Group,
    read: impl FnOnce(ChildStdout) -> Result<T>,
) -> std::result::Result<T, Failure> {
    let mut child = group.begin(&mut command)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let listener = std::thread::spawn(move || stderr.map(said).unwrap_or_default());
    let outcome = match stdout {
        Some(stdout) => read(stdout),
        None => Err(Error::Internal("git has no output".to_owned())),
    };
    let pid = Pid::from_child(&child);
    // Until it is reaped its number is its own: what it has left is ended by that.
    let ended = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    group.end();
    let status = child.wait();
    let said = listener.join().unwrap_or_default();
    ended.map_err(|error| failed(&error.into()))?;
    let is_good = status.map_err(|error| failed(&error))?.success();
    match outcome {
        _ if group.is_stopped() => Err(Error::Canceled.into()),
        // What was read may be a half of it.
        _ if !is_good && !said.is_empty() => Err(Failure::Said(said)),
        Ok(_) if !is_good => Err(Failure::Said("it has ended early".to_owned())),
        outcome => Ok(outcome?),
    }
}

/// The last that it says, without what would move a terminal's cursor.
fn said(mut stderr: ChildStderr) -> String {
    let mut kept: Vec<u8> = Vec::new();
    let mut piece = [0; SAID_BYTES_MAX];
    while let Ok(count @ 1..) = stderr.read(&mut piece) {
        kept.extend(&piece[..count]);
        let surplus = kept.len().saturating_sub(SAID_BYTES_MAX);
        kept.drain(..surplus);
    }
    let text = String::from_utf8_lossy(&kept);
    let text: String = text.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
    text.trim().to_owned()
}

/// The processes of one run.
#[derive(Default)]
struct Group(Mutex<Phase>);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Before,
    Running(Pid),
    Over,
    Stopped,
}

impl Group {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, command: &mut Command) -> Result<std::process::Child> {
        let mut phase = self.phase();
        if *phase == Phase::Stopped {
            return Err(Error::Canceled);
        }
        let child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::Internal(
                "the engine's host has no git, which repositories are fetched with: install the package git"
                    .to_owned(),
            ),
            _ => failed(&error),
        })?;
        let pid = Pid::from_child(&child);
        *phase = Phase::Running(pid);
        let most = Rlimit { current: Some(FILE_BYTES_MAX), maximum: Some(FILE_BYTES_MAX) };
        // One that has ended by now writes nothing more.
        let _ = prlimit(Some(pid), Resource::Fsize, most);
        Ok(child)
    }

    /// Ends what is left of it, before it is reaped.
    fn end(&self) {
        let mut phase = self.phase();
        if let Phase::Running(pid) = *phase {
            let _ = kill_process_group(pid, Signal::KILL);
            *phase = Phase::Over;
        }
    }

    fn stop(&self) {
        let mut phase = self.phase();
        if let Phase::Running(pid) = *phase {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        if *phase != Phase::Over {
            *phase = Phase::Stopped;
        }
    }

    fn is_stopped(&self) -> bool {
        *self.phase() == Phase::Stopped
    }
}

/// Ends the processes when nobody waits for them any more.
struct Stop(Arc<Group>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn failed(error: &io::Error) -> Error {
    Error::Internal(format!("cannot run git: {error}"))
}

/// Ends what an engine that was killed has left running in a directory of `above`.
pub fn end_leftovers(above: &Path) {
    let Ok(above) = above.canonicalize() else { return };
    let directory = |pid: u32| std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
    let is_ours = |path: PathBuf| path.starts_with(&above) && path != above;
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if !is_ours(directory(number)) {
            continue;
        }
        let Some(pid) = i32::try_from(number).ok().and_then(Pid::from_raw) else { continue };
        // By a descriptor: its number may be another's by now.
        let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
            continue;
        };
        if is_ours(directory(number)) {
            let _ = rustix::process::pidfd_send_signal(process, Signal::KILL);
        }
    }
}
