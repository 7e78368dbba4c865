//! `corten-oci`: an OCI runtime with runc's commands and flags, for containerd, Podman, CRI-O and people.
//!
//! A process per command, nothing in between: what has to be known later is in `<root>/<id>/state.json` (see `store`).
//! Each command is one file; `arguments` parses what the table in `commands` describes and prints it as help.

mod arguments;
mod commands;
mod console;
mod create;
mod delete;
mod events;
mod exec;
mod failure;
mod features;
mod forward;
mod host_mounts;
mod kill;
mod limits;
mod list;
mod output;
mod pause;
mod ps;
mod run;
mod specification;
mod start;
mod state;
mod store;
mod update;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use arguments::{Arguments, Parsed};
use failure::{Failure, Journal, Outcome};

/// What holds for all commands.
pub struct Global {
    /// Where the containers' states are.
    pub root: PathBuf,
    pub systemd_cgroup: bool,
    pub journal: Journal,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let parsed = match arguments::parse(&commands::GLOBAL, &arguments) {
        Ok(parsed) => parsed,
        Err(failure) => return complain(&Journal::default(), &failure),
    };
    let journal = match Journal::open(&parsed) {
        Ok(journal) => journal,
        Err(failure) => return complain(&Journal::default(), &failure),
    };
    match dispatch(&parsed, journal.clone()) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => complain(&journal, &failure),
    }
}

fn dispatch(parsed: &Parsed, journal: Journal) -> Outcome<u8> {
    if parsed.has("version") {
        output::line(commands::version().trim_end())?;
        return Ok(0);
    }
    let Some((name, rest)) = parsed.rest.split_first() else {
        output::line(commands::overview().trim_end())?;
        return Ok(0);
    };
    if parsed.has("help") || name == "help" || name == "h" {
        let of = rest.first().or(Some(name)).filter(|n| *n != "help" && *n != "h");
        output::line(commands::help(of).trim_end())?;
        return Ok(0);
    }
    let command = commands::find(name).ok_or_else(|| {
        Failure::new(format!("no such command: {}; see `corten-oci help`", name.to_string_lossy()))
    })?;
    let own = arguments::parse(&command.flags(), rest)?;
    if own.has("help") {
        output::line(commands::help(Some(name)).trim_end())?;
        return Ok(0);
    }
    if parsed.has("criu") {
        journal.warn("--criu is deprecated and has no effect: checkpoints are not supported");
    }
    let global = Global {
        root: parsed.value("root").map_or_else(default_root, PathBuf::from),
        systemd_cgroup: parsed.has("systemd-cgroup"),
        journal,
    };
    command.check(&own)?;
    (command.run)(&global, &Arguments::new(own)?)
}

/// As runc: below XDG_RUNTIME_DIR for users, in /run for root.
fn default_root() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !rustix::process::geteuid().is_root());
    own.map_or_else(|| PathBuf::from("/run"), PathBuf::from).join("corten-oci")
}

fn complain(journal: &Journal, failure: &Failure) -> ExitCode {
    journal.error(failure);
    ExitCode::FAILURE
}
