//! Starts an engine when none listens on the default socket.

use std::fs::OpenOptions;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Failure;
use crate::output;

/// How long a fresh engine may take until it listens.
const DEADLINE: Duration = Duration::from_secs(20);
/// Where an engine that was started by a command writes its log.
const LOG: &str = "/var/log/corten.log";

/// Starts `corten daemon` in a session of its own and waits for `socket`.
pub fn start(socket: &Path) -> Result<(), Failure> {
    let (log, output) = open_log()?;
    output::say!("corten: no engine listens on {}; starting one (log: {})", socket.display(), log.display());
    let program =
        std::env::current_exe().map_err(|error| Failure::from(error).while_doing("finding this program"))?;
    let errors = output.try_clone()?;
    let mut child = Command::new(&program)
        .args(["daemon", "--background"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|error| {
            Failure::from(error).while_doing(format!("starting {} daemon", program.display()))
        })?;
    let started = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if UnixStream::connect(socket).is_ok() {
            return Ok(());
        }
        if let Ok(Some(status)) = child.try_wait() {
            // Another command may have been quicker; its engine will do.
            if UnixStream::connect(socket).is_ok() {
                return Ok(());
            }
            return Err(Failure::new(format!("the engine ended while it started ({status})"))
                .hint(format!("the reason is at the end of {}", log.display())));
        }
        if started.elapsed() > DEADLINE {
            return Err(Failure::new(format!("the engine doesn't listen on {} yet", socket.display()))
                .hint(format!("see the end of {}", log.display())));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn open_log() -> Result<(PathBuf, std::fs::File), Failure> {
    let path = PathBuf::from(LOG);
    let file = OpenOptions::new().create(true).append(true).open(&path);
    Ok((path, file.map_err(|error| Failure::from(error).while_doing(format!("opening {LOG}")))?))
}
