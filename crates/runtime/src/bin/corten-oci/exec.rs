//! `exec`: a further process in a container.

use std::os::fd::AsFd;
use std::path::{Component, Path};

use corten_runtime::cgroup::Cgroup;
use corten_runtime::exec::{Prepared, Request};
use corten_runtime::launch::{CgroupEntry, Child, Stdio};
use corten_runtime::monitor::{filter, group_entry};
use corten_runtime::spec::{Capabilities, Process, User};
use rustix::fs::{Mode, OFlags};
use rustix::termios::tcgetwinsize;

use crate::Global;
use crate::arguments::Arguments;
use crate::console;
use crate::create::{preserved, seal, write_pid};
use crate::failure::{Failure, Outcome};
use crate::forward;
use crate::store::{Container, Status};

pub fn exec(global: &Global, arguments: &Arguments) -> Outcome<u8> {
    seal()?;
    let container = Container::open(global, arguments.id())?;
    match container.status() {
        Status::Stopped => return Err(Failure::new("cannot exec in a stopped container")),
        Status::Paused if !arguments.has("ignore-paused") => {
            return Err(Failure::new("cannot exec in a paused container (use --ignore-paused to override)"));
        }
        _ => {}
    }
    let process = process(&container, arguments)?;
    let detached = arguments.has("detach");
    console::check(process.terminal, detached, arguments)?;
    let signals = if detached { None } else { Some(forward::Signals::block()?) };
    let mut child = spawn(&container, arguments, &process)?;
    child.wait().map_err(|e| Failure::new(format!("exec failed: {}", Failure::from(e))))?;
    child.warnings.iter().for_each(|w| global.journal.warn(w));
    write_pid(arguments, child.pid)?;
    console::send_pidfd(arguments, &child.pidfd)?;
    match signals {
        Some(signals) => forward::until_end(&child, signals),
        None => {
            if let Some(master) = &child.console {
                console::send(arguments.value("console-socket").unwrap_or_default(), master.as_fd())?;
            }
            Ok(0)
        }
    }
}

fn spawn(container: &Container, arguments: &Arguments, process: &Process) -> Outcome<Child> {
    let Some(pidfd) = container.process() else {
        return Err(Failure::new("cannot exec in a stopped container"));
    };
    let mut request = Request::new(container.record.pid, pidfd.as_fd(), process);
    if process.terminal {
        let size = tcgetwinsize(rustix::stdio::stdin()).ok();
        let wish = process.console_size.unwrap_or_default();
        request.stdio = match size.filter(|_| process.console_size.is_none()) {
            Some(size) => Stdio::Terminal { rows: size.ws_row, columns: size.ws_col },
            None => Stdio::Terminal { rows: wish.height as u16, columns: wish.width as u16 },
        };
    }
    request.cgroup = Some(group(&container.cgroup()?, arguments)?);
    request.seccomp = filter(&container.record.config)?;
    request.preserve_fds = preserved(arguments)?;
    request.memory_policy = container.record.config.linux.as_ref().and_then(|l| l.memory_policy.as_ref());
    Ok(Prepared::new(request)?.spawn()?)
}

/// The container's groups; with `--cgroup`, groups below them that exist.
fn group(cgroup: &Cgroup, arguments: &Arguments) -> Outcome<CgroupEntry> {
    let mut entry = group_entry(cgroup)?;
    for wish in arguments.values("cgroup") {
        let (controllers, path) = match wish.split_once(':') {
            Some((controllers, path)) => (Some(controllers), path),
            None => (None, wish),
        };
        let below = Path::new(path.trim_start_matches('/'));
        if below.components().any(|c| c == Component::ParentDir) {
            return Err(Failure::new(format!("--cgroup: {path:?} leads out of the container's group")));
        }
        let open = |file: &str, flags, group: &Path| {
            let path = group.join(below).join(file);
            rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty())
                .map_err(Failure::during(path.display()))
        };
        let mut tasks = Vec::new();
        for (label, group) in cgroup.paths() {
            let own = label.strip_prefix("name=").unwrap_or(&label);
            let wanted =
                controllers.is_none_or(|c| c.split(',').any(|c| own.split(',').any(|label| label == c)));
            let (file, flags) = ("tasks", OFlags::WRONLY);
            if own.is_empty() {
                if wanted {
                    entry.directory = Some(open(".", OFlags::RDONLY | OFlags::DIRECTORY, group)?);
                }
            } else if wanted {
                tasks.push(open(file, flags, group)?);
            }
        }
        // The child enters one after the other: the last of a hierarchy is where it stays.
        entry.tasks.extend(tasks);
    }
    Ok(entry)
}

fn process(container: &Container, arguments: &Arguments) -> Outcome<Process> {
    let mut process = match arguments.value("process") {
        Some(file) => {
            let text = std::fs::read(file).map_err(Failure::during(file))?;
            let mut process: Process = serde_json::from_slice(&text).map_err(Failure::during(file))?;
            process.terminal |= arguments.has("tty");
            return Ok(process);
        }
        None => container.record.config.process.clone().unwrap_or_default(),
    };
    if arguments.words.len() < 2 {
        return Err(Failure::new("exec needs a command, or --process"));
    }
    process.args = arguments.words[1..].to_vec();
    process.terminal = arguments.has("tty");
    process.console_size = None;
    if let Some(cwd) = arguments.value("cwd") {
        process.cwd = cwd.to_owned();
    }
    process.apparmor_profile = arguments.value("apparmor").map(str::to_owned).or(process.apparmor_profile);
    process.selinux_label = arguments.value("process-label").map(str::to_owned).or(process.selinux_label);
    if arguments.value("no-new-privs").is_some() {
        process.no_new_privileges = arguments.has("no-new-privs");
    }
    process.env.extend(arguments.values("env").map(str::to_owned));
    if let Some(user) = arguments.value("user") {
        process.user = parse_user(user, process.user)?;
    }
    for gid in arguments.values("additional-gids") {
        process.user.additional_gids.push(id("additional-gids", gid)?);
    }
    let caps: Vec<String> = arguments.values("cap").map(str::to_ascii_uppercase).collect();
    if !caps.is_empty() {
        let sets = process.capabilities.get_or_insert_with(Capabilities::default);
        // As runc: not inheritable and ambient, which would give them to programs of other users, too.
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.extend(caps.iter().filter(|cap| !set.contains(cap)).cloned().collect::<Vec<_>>());
        }
    }
    Ok(process)
}

/// `uid` or `uid:gid`.
fn parse_user(text: &str, own: User) -> Outcome<User> {
    let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    Ok(User { uid: id("user", uid)?, gid: gid.map_or(Ok(own.gid), |gid| id("user", gid))?, ..own })
}

fn id(flag: &str, text: &str) -> Outcome<u32> {
    text.parse().map_err(|_| Failure::new(format!("--{flag}: {text:?} is not a number")))
}
