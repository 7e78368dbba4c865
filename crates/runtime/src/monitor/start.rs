//! From a [`Launch`] to a running container: control group, filter, streams, clone.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::birth::Birth;
use super::protocol::{Launch, LaunchFd, Program, Step, StepError};
use super::streams::{self, Ends};
use crate::cgroup::{self, Cgroup};
use crate::foreign::Foreign;
use crate::launch::{CgroupEntry, CgroupView, Child, Filter, Hold, Listener, Prepared, Request, Stdio};
use crate::seccomp;
use crate::spec::{NamespaceKind, Resources, Spec};

/// How long processes that were killed may take to leave their group.
const REMOVE_DEADLINE: Duration = Duration::from_secs(10);

/// A container that was cloned, and what its monitor goes on needing.
pub(super) struct Begun {
    pub child: Birth,
    pub ends: Ends,
    pub cgroup: Cgroup,
    pub filter: Option<Filter>,
    pub foreign: Option<Box<Foreign>>,
}

/// Clones the container's first process. After an error nothing is left.
pub(super) fn begin(launch: &Launch, netns: Option<OwnedFd>) -> Result<Begun, StepError> {
    if let Some(runtime) = &launch.runtime {
        return begin_foreign(launch, runtime, netns);
    }
    let filter = filter(&launch.spec)?;
    let resources = launch.spec.linux.as_ref().and_then(|l| l.resources.as_ref());
    let (cgroup, mut warnings) =
        control_group(&group_path(launch), resources.unwrap_or(&Resources::default()))?;
    match clone(launch, netns, &cgroup, filter.clone()) {
        Ok((mut child, ends)) => {
            child.warnings.append(&mut warnings);
            Ok(Begun { child: Birth::Own(child), ends, cgroup, filter, foreign: None })
        }
        Err(error) => {
            // The first error is the one to report.
            let _ = remove_group(&cgroup);
            Err(error)
        }
    }
}

/// The same by another runtime, which makes the control group, too.
fn begin_foreign(launch: &Launch, runtime: &Program, netns: Option<OwnedFd>) -> Result<Begun, StepError> {
    let (stdio, ends) = streams(launch)?;
    let (foreign, made) = Foreign::run(launch, runtime, netns, stdio)?;
    let path = group_path(launch);
    let cgroup = Cgroup::open(&path).map_err(|e| group_error(&path, &e)).inspect_err(|_| {
        // The first error is the one to report.
        let _ = foreign.delete();
    })?;
    Ok(Begun { child: Birth::Made(made), ends, cgroup, filter: None, foreign: Some(Box::new(foreign)) })
}

fn streams(launch: &Launch) -> Result<(Stdio, Ends), StepError> {
    let fed = launch.fds.iter().any(|fd| matches!(fd, LaunchFd::Attach(attach) if attach.stdin));
    streams::open(&launch.stdio, launch.stdio.open_stdin || fed, true)
}

fn clone(
    launch: &Launch,
    netns: Option<OwnedFd>,
    cgroup: &Cgroup,
    filter: Option<Filter>,
) -> Result<(Child, Ends), StepError> {
    let (stdio, ends) = streams(launch)?;
    let mut request = Request::new(&launch.id, &launch.state_dir, &launch.spec, &launch.rootfs);
    request.user = launch.user.as_deref();
    request.groups = &launch.groups;
    request.strict = &launch.strict;
    request.create_cwd = launch.create_cwd;
    request.init = launch.init;
    request.stdio = stdio;
    request.cgroup = Some(group_entry(cgroup)?);
    request.namespaces = netns.map(|fd| (NamespaceKind::Network, fd)).into_iter().collect();
    request.seccomp = filter;
    request.hold = if launch.hold { Hold::Channel } else { Hold::No };
    // A container that nobody watches over has no output and no exit code: it dies with its monitor.
    request.death_signal = Some(9);
    Ok((Prepared::new(request)?.spawn()?, ends))
}

fn group_path(launch: &Launch) -> PathBuf {
    match launch.spec.linux.as_ref().and_then(|l| l.cgroups_path.as_deref()) {
        Some(path) if !path.is_empty() => path.into(),
        _ => Path::new("/corten").join(&launch.id),
    }
}

/// Makes the container's control group; also what was asked for in vain.
pub fn control_group(path: &Path, resources: &Resources) -> Result<(Cgroup, Vec<String>), StepError> {
    let (cgroup, warnings) = Cgroup::create(path, resources).map_err(|e| group_error(path, &e))?;
    Ok((cgroup, warnings.iter().map(ToString::to_string).collect()))
}

/// What a child needs to get into the group.
pub fn group_entry(cgroup: &Cgroup) -> Result<CgroupEntry, StepError> {
    let join = cgroup.join_fds().map_err(|e| group_error(Path::new("join"), &e))?;
    let unified = cgroup.is_unified();
    let view = cgroup.paths().map(|(label, group)| {
        let name = match label.strip_prefix("name=").unwrap_or(&label) {
            "" if !unified => "unified",
            name => name,
        };
        CgroupView { name: name.to_owned(), group: group.to_owned() }
    });
    Ok(CgroupEntry { directory: join.into, view: view.collect(), tasks: join.tasks })
}

/// Removes a group together with the processes that are still in it.
pub fn remove_group(cgroup: &Cgroup) -> Result<(), cgroup::Error> {
    cgroup.kill_all()?;
    cgroup.remove_within(REMOVE_DEADLINE)
}

/// An error of the control groups as a step of a start.
pub fn group_error(path: &Path, error: &cgroup::Error) -> StepError {
    StepError {
        step: Step::Cgroup,
        object: path.display().to_string(),
        errno: error.errno().map_or(0, |e| e.raw_os_error()),
        message: error.to_string(),
    }
}

/// The configuration's filter, compiled.
pub fn filter(spec: &Spec) -> Result<Option<Filter>, StepError> {
    let Some(profile) = spec.linux.as_ref().and_then(|l| l.seccomp.as_ref()) else { return Ok(None) };
    let program = seccomp::compile(profile).map_err(|e| StepError {
        step: Step::Seccomp,
        object: "profile".into(),
        errno: 0,
        message: e.to_string(),
    })?;
    let listener = profile.listener_path.as_ref().filter(|_| program.notifies);
    Ok(Some(Filter {
        instructions: program.instructions.iter().map(|i| (i.code, i.jump_true, i.jump_false, i.k)).collect(),
        flags: program.flags.0,
        listener: listener
            .map(|path| Listener { path: path.into(), metadata: profile.listener_metadata.clone() }),
    }))
}

/// Reads the document that the engine has sent.
pub(super) fn read_launch(document: OwnedFd) -> Result<Launch, StepError> {
    let failed = |message: String| StepError {
        step: Step::Monitor,
        object: "launch document".into(),
        errno: 0,
        message,
    };
    let mut text = Vec::new();
    let mut file = File::from(document);
    std::io::Seek::rewind(&mut file).map_err(|e| failed(e.to_string()))?;
    std::io::Read::read_to_end(&mut file, &mut text).map_err(|e| failed(e.to_string()))?;
    let mut launch: Launch = serde_json::from_slice(&text).map_err(|e| failed(e.to_string()))?;
    if let Some(process) = &mut launch.spec.process {
        process.terminal = launch.stdio.tty;
    }
    Ok(launch)
}
