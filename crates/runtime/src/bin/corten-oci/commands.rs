//! The commands and their flags as data: from here come parsing, checks and help.

use std::ffi::OsString;
use std::fmt::Write;

use corten_runtime::spec::OCI_VERSION;

use crate::Global;
use crate::arguments::{Arguments, Flag, Parsed};
use crate::failure::{Failure, Outcome};
use crate::{
    create, delete, events, exec, features, kill, list, pause, ps, run, specification, start, state, update,
};

pub struct Command {
    name: &'static str,
    about: &'static str,
    /// The words behind the flags.
    words: &'static str,
    /// How many of them there are at least and at most.
    count: (usize, usize),
    flags: &'static [&'static [Flag]],
    pub run: fn(&Global, &Arguments) -> Outcome<u8>,
}

const fn switch(long: &'static str, short: Option<char>, help: &'static str) -> Flag {
    Flag { long, short, value: None, help }
}

const fn option(long: &'static str, short: Option<char>, value: &'static str, help: &'static str) -> Flag {
    Flag { long, short, value: Some(value), help }
}

static HELP: Flag = switch("help", Some('h'), "show help");

static GLOBAL_FLAGS: [Flag; 9] = [
    option(
        "root",
        None,
        "DIR",
        "where the containers' states are kept [/run/corten-oci, or below XDG_RUNTIME_DIR]",
    ),
    option("log", None, "FILE", "write complaints there, too"),
    option("log-format", None, "FORMAT", "text or json [text]"),
    switch("debug", None, "say more in the log"),
    switch(
        "systemd-cgroup",
        None,
        "read cgroupsPath as slice:prefix:name; the groups are made without systemd",
    ),
    option("rootless", None, "MODE", "accepted and ignored: whether we are root is looked up"),
    option("criu", None, "PATH", "accepted with a warning: checkpoints are not supported"),
    switch("version", Some('v'), "print the version"),
    switch("help", Some('h'), "show help"),
];

pub static GLOBAL: [&Flag; 9] = {
    let f = &GLOBAL_FLAGS;
    [&f[0], &f[1], &f[2], &f[3], &f[4], &f[5], &f[6], &f[7], &f[8]]
};

const START: &[Flag] = &[
    option("bundle", Some('b'), "DIR", "the directory with config.json [the current one]"),
    option("console-socket", None, "PATH", "a unix socket to which the terminal's descriptor is sent"),
    option("pidfd-socket", None, "PATH", "a unix socket to which a descriptor of the process is sent"),
    option("pid-file", None, "FILE", "write the process id there"),
    switch("no-pivot", None, "not supported: the root is always changed by pivot_root"),
    switch("no-new-keyring", None, "keep the caller's session keyring"),
    option("preserve-fds", None, "N", "pass N more descriptors, from 3 on, to the process [0]"),
];

const RUN: &[Flag] = &[
    switch("detach", Some('d'), "do not wait for the container's end"),
    switch("keep", None, "leave the state after the container's end, for delete"),
    switch("no-subreaper", None, "accepted and ignored: there is no subreaper"),
];

const EXEC: &[Flag] = &[
    option("console-socket", None, "PATH", "a unix socket to which the terminal's descriptor is sent"),
    option("pidfd-socket", None, "PATH", "a unix socket to which a descriptor of the process is sent"),
    option("cwd", None, "DIR", "working directory in the container"),
    option("env", Some('e'), "NAME=VALUE", "set a variable; may be repeated"),
    switch("tty", Some('t'), "give the process a terminal"),
    option("user", Some('u'), "UID[:GID]", "run as this user"),
    option("additional-gids", Some('g'), "GID", "a further group; may be repeated"),
    option("process", Some('p'), "FILE", "read the process from a file as in config.json"),
    switch("detach", Some('d'), "do not wait for the process's end"),
    option("pid-file", None, "FILE", "write the process id there"),
    option("process-label", None, "LABEL", "SELinux label"),
    option("apparmor", None, "PROFILE", "AppArmor profile"),
    switch("no-new-privs", None, "set no_new_privs"),
    option("cap", Some('c'), "CAPABILITY", "a further capability; may be repeated"),
    option("preserve-fds", None, "N", "pass N more descriptors, from 3 on, to the process [0]"),
    option(
        "cgroup",
        None,
        "PATH",
        "run in a group below the container's; a path, or `controller[,…]:path` for version 1",
    ),
    switch("ignore-paused", None, "also in a paused container; the process then waits for its resumption"),
];

const UPDATE: &[Flag] = &[
    option(
        "resources",
        Some('r'),
        "FILE",
        "read limits as in config.json's linux.resources from a file, or - for stdin",
    ),
    option("blkio-weight", None, "N", "block I/O weight, 10 to 1000"),
    option("cpu-period", None, "US", "CPU period"),
    option("cpu-quota", None, "US", "CPU time per period; -1 for no limit"),
    option("cpu-burst", None, "US", "CPU time that may be saved up"),
    option("cpu-share", None, "N", "CPU shares against others"),
    option("cpu-rt-period", None, "US", "realtime period"),
    option("cpu-rt-runtime", None, "US", "realtime CPU time per period"),
    option("cpuset-cpus", None, "LIST", "CPUs, as 0-3,7"),
    option("cpuset-mems", None, "LIST", "memory nodes"),
    option("cpu-idle", None, "0|1", "run only when nobody else wants to"),
    option("kernel-memory", None, "BYTES", "accepted with a warning: kernels no longer have this limit"),
    option("kernel-memory-tcp", None, "BYTES", "limit of memory for TCP buffers"),
    option("memory", None, "BYTES", "memory limit; units k, m, g; -1 for none"),
    option("memory-reservation", None, "BYTES", "memory to be left when it gets scarce"),
    option("memory-swap", None, "BYTES", "limit of memory and swap together; -1 for none"),
    option("pids-limit", None, "N", "processes; 0 or -1 for no limit"),
    option("l3-cache-schema", None, "TEXT", "not supported (Intel RDT)"),
    option("mem-bw-schema", None, "TEXT", "not supported (Intel RDT)"),
];

static COMMANDS: [Command; 17] = [
    command("checkpoint", "not supported", "<id>", (0, usize::MAX), &[&[]], not_supported),
    command("create", "create a container and hold it", "<id>", (1, 1), &[START], create::create),
    command(
        "delete",
        "remove what is left of a container",
        "<id>",
        (1, 1),
        &[&[switch("force", Some('f'), "kill it if it runs; no error when there is none")]],
        delete::delete,
    ),
    command(
        "events",
        "print statistics and out-of-memory events as JSON",
        "<id>",
        (1, 1),
        &[&[
            option("interval", None, "DURATION", "between statistics, as 5s or 500ms [5s]"),
            switch("stats", None, "print statistics once"),
        ]],
        events::events,
    ),
    command(
        "exec",
        "run a further process in a container",
        "<id> [command …]",
        (1, usize::MAX),
        &[EXEC],
        exec::exec,
    ),
    command("features", "print what this runtime can do, as JSON", "", (0, 0), &[&[]], features::features),
    command(
        "kill",
        "send a signal to a container",
        "<id> [signal]",
        (1, 2),
        &[&[switch("all", Some('a'), "to all its processes")]],
        kill::kill,
    ),
    command(
        "list",
        "list containers",
        "",
        (0, 0),
        &[&[
            option("format", Some('f'), "FORMAT", "table or json [table]"),
            switch("quiet", Some('q'), "ids only"),
        ]],
        list::list,
    ),
    command("pause", "stop all processes of a container", "<id>", (1, 1), &[&[]], pause::pause),
    command(
        "ps",
        "show the processes of a container",
        "<id> [ps options …]",
        (1, usize::MAX),
        &[&[option("format", Some('f'), "FORMAT", "table or json [table]")]],
        ps::ps,
    ),
    command("restore", "not supported", "<id>", (0, usize::MAX), &[&[]], not_supported),
    command(
        "resume",
        "let the processes of a paused container run on",
        "<id>",
        (1, 1),
        &[&[]],
        pause::resume,
    ),
    command("run", "create a container, start it, wait for its end", "<id>", (1, 1), &[START, RUN], run::run),
    command(
        "spec",
        "write a config.json to begin with",
        "",
        (0, 0),
        &[&[
            option("bundle", Some('b'), "DIR", "where to write it [the current directory]"),
            switch("rootless", None, "one that a user can run"),
        ]],
        specification::specification,
    ),
    command("start", "let a created container run", "<id>", (1, 1), &[&[]], start::start),
    command("state", "print a container's state as JSON", "<id>", (1, 1), &[&[]], state::state),
    command("update", "change a container's limits", "<id>", (1, 1), &[UPDATE], update::update),
];

const fn command(
    name: &'static str,
    about: &'static str,
    words: &'static str,
    count: (usize, usize),
    flags: &'static [&'static [Flag]],
    run: fn(&Global, &Arguments) -> Outcome<u8>,
) -> Command {
    Command { name, about, words, count, flags, run }
}

fn not_supported(_: &Global, _: &Arguments) -> Outcome<u8> {
    Err(Failure::new("checkpoint and restore are not supported: this runtime does not work with CRIU"))
}

impl Command {
    pub fn flags(&self) -> Vec<&'static Flag> {
        self.flags.iter().flat_map(|group| group.iter()).chain([&HELP]).collect()
    }

    pub fn check(&self, parsed: &Parsed) -> Outcome<()> {
        let (least, most) = self.count;
        if (least..=most).contains(&parsed.rest.len()) {
            return Ok(());
        }
        let usage = format!("corten-oci {} [flags] {}", self.name, self.words);
        Err(Failure::new(format!("wrong number of arguments; usage: {}", usage.trim_end())))
    }
}

pub fn find(name: &OsString) -> Option<&'static Command> {
    COMMANDS.iter().find(|c| name == c.name)
}

pub fn version() -> String {
    format!("corten-oci version {}\nspec: {OCI_VERSION}\n", env!("CARGO_PKG_VERSION"))
}

pub fn overview() -> String {
    let mut out = String::from(
        "corten-oci runs containers as the OCI runtime specification describes them\n\n\
         Usage: corten-oci [global flags] <command> [flags] [arguments]\n\nCommands:\n",
    );
    for command in &COMMANDS {
        let _ = writeln!(out, "  {:<12}{}", command.name, command.about);
    }
    out.push_str("\nGlobal flags:\n");
    describe(&mut out, &GLOBAL);
    out.push_str("\n`corten-oci <command> --help` describes a command.\n");
    out
}

/// Help on one command, or the overview.
pub fn help(name: Option<&OsString>) -> String {
    let Some(command) = name.and_then(find) else { return overview() };
    let mut out =
        format!("{}\n\nUsage: corten-oci {} [flags] {}", command.about, command.name, command.words);
    out.truncate(out.trim_end().len());
    out.push_str("\n\nFlags:\n");
    describe(&mut out, &command.flags());
    out
}

fn describe(out: &mut String, flags: &[&Flag]) {
    for flag in flags {
        let short = flag.short.map_or("    ".into(), |c| format!("-{c}, "));
        let head = format!("{short}--{} {}", flag.long, flag.value.unwrap_or_default());
        let _ = writeln!(out, "  {:<33}{}", head.trim_end(), flag.help);
    }
}
