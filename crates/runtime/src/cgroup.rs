//! Control groups, version 1, 2 and both at once, behind one type.
//!
//! A [`Cgroup`] is one group in every hierarchy that the machine has mounted. It is made below a path that the caller
//! chooses; nothing outside of that path is changed, except that on version 2 controllers are switched on along the
//! way. Which value goes into which file is decided in `v1` and `v2`; this page applies it and names what failed.
//! Knows nothing of containers: who joins and when is the launcher's affair.

mod devices;
mod file;
mod io_stats;
mod layout;
mod out_of_memory;
mod processes;
mod remove;
mod settings;
mod stats;
mod systemd;
#[cfg(test)]
mod tests;
mod update;
mod v1;
mod v2;

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use corten_sys::bpf;
use rustix::io::Errno;

pub use devices::default_rules as default_device_rules;
pub use layout::{Controller, Layout};
pub use out_of_memory::OutOfMemory;
pub use processes::JoinFds;
pub use stats::{
    BlockEntry, BlockStats, CpuStats, HugetlbStats, MemoryStats, PidStats, Pressure, PressureLine, Stats,
    Throttling,
};
pub use systemd::{group_path as systemd_group_path, is_running as systemd_is_running};

use crate::spec::{DeviceRule, Resources};
use layout::{Controllers, Group, Version};
use settings::{Need, Setting};
use update::Journal;

/// One group in every hierarchy.
#[derive(Clone, Debug)]
pub struct Cgroup {
    groups: Vec<Group>,
}

/// Something that was asked for, has no meaning here, and does no harm by missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Warning {
    /// The field of the OCI configuration, as `memory.swappiness`.
    pub field: String,
    pub reason: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no control groups are mounted on this machine")]
    NotMounted,
    #[error("control group path {path:?}: {reason}")]
    Path { path: PathBuf, reason: &'static str },
    #[error("control group {0:?} does not exist")]
    Missing(PathBuf),
    #[error("create control group {path:?}: {source}")]
    Create { path: PathBuf, source: Errno },
    #[error("read {path:?}: {source}")]
    Read { path: PathBuf, source: Errno },
    #[error("write {value:?} to {path:?}: {source}")]
    Write { path: PathBuf, value: String, source: Errno },
    #[error("{field} was asked for, but the controller `{controller}` is not available on this machine")]
    ControllerAbsent { field: String, controller: Controller },
    #[error("{field}: this kernel lacks {file}")]
    FileAbsent { field: String, file: String },
    #[error("set {field}: write {value:?} to {path:?}: {source}")]
    Set { field: String, path: PathBuf, value: String, source: Errno },
    #[error("{field}: {reason}")]
    Value { field: String, reason: String },
    #[error(
        "enable controller `{controller}` for the groups in {path:?}: {source} (a group that holds processes itself cannot \
         distribute resources)"
    )]
    Enable { controller: Controller, path: PathBuf, source: Errno },
    #[error("device filter of {path:?}: {source}")]
    DeviceFilter { path: PathBuf, source: Errno },
    #[error("signal process {pid} of {path:?}: {source}")]
    Signal { pid: i32, path: PathBuf, source: Errno },
    #[error("{cause}; these could not be set back to what they were: {}", files.join(", "))]
    NotSetBack { cause: Box<Error>, files: Vec<String> },
    #[error("{path:?} did not become {wanted} within {waited_ms} ms")]
    FreezeTimeout { path: PathBuf, wanted: &'static str, waited_ms: u64 },
    #[error("remove control group {path:?}: {source}{}", still_there(.pids))]
    Remove { path: PathBuf, pids: Vec<i32>, source: Errno },
}

fn still_there(pids: &[i32]) -> String {
    if pids.is_empty() { String::new() } else { format!(" (processes in it: {pids:?})") }
}

impl Error {
    /// The kernel's answer, where a system call failed.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Create { source, .. }
            | Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::Set { source, .. }
            | Self::Enable { source, .. }
            | Self::DeviceFilter { source, .. }
            | Self::Signal { source, .. }
            | Self::Remove { source, .. } => Some(*source),
            Self::NotSetBack { cause, .. } => cause.errno(),
            _ => None,
        }
    }
}

impl Cgroup {
    /// Makes the group in every hierarchy and sets its limits. An absolute path counts from each hierarchy's root, a
    /// relative one from the caller's own group. Devices are denied except for [`default_device_rules`] and what
    /// `resources` allows. When it fails, what it made is gone again.
    pub fn create(path: &Path, resources: &Resources) -> Result<(Self, Vec<Warning>), Error> {
        Self::create_in(Layout::host()?, path, resources)
    }

    /// Like [`Self::create`], with hierarchies that the caller has found.
    pub fn create_in(
        layout: &Layout,
        path: &Path,
        resources: &Resources,
    ) -> Result<(Self, Vec<Warning>), Error> {
        let cgroup = Self { groups: layout.groups(path)? };
        let mut made = Vec::new();
        let result = cgroup.make(resources, &mut made);
        if result.is_err() {
            // Deepest first; a directory that somebody else uses by now stays.
            for dir in made.iter().rev() {
                let _ = rustix::fs::rmdir(dir);
            }
        }
        Ok((cgroup, result?))
    }

    /// Finds a group that exists.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_in(Layout::host()?, path)
    }

    /// Like [`Self::open`], with hierarchies that the caller has found.
    pub fn open_in(layout: &Layout, path: &Path) -> Result<Self, Error> {
        let mut groups = layout.groups(path)?;
        groups.retain(|group| rustix::fs::access(&group.path, rustix::fs::Access::EXISTS).is_ok());
        if groups.is_empty() { Err(Error::Missing(path.to_owned())) } else { Ok(Self { groups }) }
    }

    /// The group's directory in each hierarchy, with what the hierarchy controls (`cpu,cpuacct`, `name=systemd`, ``).
    pub fn paths(&self) -> impl Iterator<Item = (String, &Path)> {
        self.groups.iter().map(|group| (group.label(), group.path.as_path()))
    }

    /// The names of the groups directly below, in whatever hierarchy they are.
    pub fn children(&self) -> Result<BTreeSet<String>, Error> {
        let mut names = BTreeSet::new();
        for group in &self.groups {
            let paths = processes::children(&group.path)?;
            names.extend(paths.iter().filter_map(|p| Some(p.file_name()?.to_str()?.to_owned())));
        }
        Ok(names)
    }

    /// Is version 2 the only one?
    pub fn is_unified(&self) -> bool {
        self.groups.iter().all(|group| group.version == Version::V2)
    }

    /// How many processes of the group the kernel has killed for want of memory.
    pub fn oom_kills(&self) -> Result<u64, Error> {
        let Some(group) = self.holder(Controller::Memory) else { return Ok(0) };
        let file = match group.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        Ok(file::keyed(&group.path, file, "oom_kill")?.unwrap_or(0))
    }

    fn make(&self, resources: &Resources, made: &mut Vec<PathBuf>) -> Result<Vec<Warning>, Error> {
        for group in &self.groups {
            match group.version {
                Version::V1 => v1::make(group, resources, made)?,
                Version::V2 => v2::make(group, self.wanted(group, resources), made)?,
            }
        }
        // A group that fails is removed: nobody needs its old values.
        let mut warnings = self.apply_settings(resources, None)?;
        // What every container needs is allowed last, whatever the configuration denied.
        let rules: Vec<_> = resources.devices.iter().cloned().chain(devices::default_rules()).collect();
        self.filter_devices(&rules, true, &mut warnings)?;
        Ok(warnings)
    }

    /// The controllers to switch on for a group of version 2: all of them where they are there for us, else only those
    /// without which a wish cannot be met.
    fn wanted(&self, group: &Group, resources: &Resources) -> Controllers {
        if self.is_unified() {
            return group.controllers;
        }
        let files = resources.unified.keys().filter_map(|file| file.split('.').next());
        let mut wanted = Controllers::parse(files);
        if !resources.hugepage_limits.is_empty() {
            wanted = wanted.with(Controllers::only(Controller::Hugetlb));
        }
        wanted.and(group.controllers)
    }

    fn apply_settings(
        &self,
        resources: &Resources,
        mut journal: Option<&mut Journal>,
    ) -> Result<Vec<Warning>, Error> {
        let mut warnings = Vec::new();
        for controller in Controller::WITH_SETTINGS {
            let holder = self.holder(controller);
            let unified = holder.map_or(self.is_unified(), |group| group.version == Version::V2);
            let settings = if unified {
                let current = |name: &str| file::read(&holder?.path, name).ok();
                v2::settings(controller, resources, &current, &mut warnings)?
            } else {
                v1::settings(controller, resources)?
            };
            match holder {
                Some(group) => write_settings(group, &settings, journal.as_deref_mut(), &mut warnings)?,
                None => absent(controller, &settings, &mut warnings)?,
            }
        }
        let unified = v2::unified_settings(resources)?;
        match self.groups.iter().find(|group| group.version == Version::V2) {
            Some(group) => write_settings(group, &unified, journal, &mut warnings)?,
            None if unified.is_empty() => {}
            None => {
                let reason = "cgroup v2 is not mounted on this machine".to_owned();
                return Err(Error::Value { field: "unified".into(), reason });
            }
        }
        Ok(warnings)
    }

    /// With `fresh` the group has its parent's rules, and a missing controller is no error unless rules were given.
    fn filter_devices(
        &self,
        rules: &[DeviceRule],
        fresh: bool,
        warnings: &mut Vec<Warning>,
    ) -> Result<(), Error> {
        let rules = devices::parse(rules)?;
        if let Some(group) = self.groups.iter().find(|group| group.controllers.has(Controller::Devices)) {
            return v1::filter_devices(group, &rules, fresh);
        }
        let Some(group) = self.groups.iter().find(|group| group.version == Version::V2) else {
            warnings.push(Warning {
                field: "devices".into(),
                reason: "no device controller on this machine; access is limited by permissions only".into(),
            });
            return Ok(());
        };
        if fresh && devices::allows_everything(&rules) {
            return Ok(());
        }
        let attach = || -> rustix::io::Result<()> {
            let program = bpf::load_device_program(&devices::program(&rules))?;
            bpf::attach_device_program(file::open_dir(&group.path)?.as_fd(), program.as_fd())
        };
        match attach() {
            Ok(()) => Ok(()),
            // Without root on the host there are no device nodes to open either.
            Err(Errno::PERM) if file::in_user_namespace() => {
                let reason = "a device filter needs privileges on the host".to_owned();
                warnings.push(Warning { field: "devices".into(), reason });
                Ok(())
            }
            Err(source) => Err(Error::DeviceFilter { path: group.path.clone(), source }),
        }
    }

    /// The group in the hierarchy that has the controller.
    fn holder(&self, controller: Controller) -> Option<&Group> {
        self.groups.iter().find(|group| group.controllers.has(controller))
    }
}

/// Writes settings in order. Some depend on each other (memory and memory with swap, quota and period): which order is
/// valid depends on the old values, so that those refused as invalid get a second chance after the others.
fn write_settings(
    group: &Group,
    settings: &[Setting],
    mut journal: Option<&mut Journal>,
    warnings: &mut Vec<Warning>,
) -> Result<(), Error> {
    let mut refused = Vec::new();
    for setting in settings {
        if let Some(journal) = journal.as_deref_mut() {
            journal.note(&group.path, setting);
        }
        match setting.write(&group.path) {
            Ok(()) => {}
            Err(Errno::INVAL) => refused.push(setting),
            Err(errno) => failed(group, setting, errno, warnings)?,
        }
    }
    for setting in refused {
        if let Err(errno) = setting.write(&group.path) {
            failed(group, setting, errno, warnings)?;
        }
    }
    Ok(())
}

fn failed(group: &Group, setting: &Setting, errno: Errno, warnings: &mut Vec<Warning>) -> Result<(), Error> {
    let field = setting.field.to_owned();
    match (setting.need, errno) {
        (Need::Silent, _) => Ok(()),
        (Need::Wish, _) => {
            let reason =
                format!("the kernel does not take {:?} for {}: {errno}", setting.value, setting.file);
            warnings.push(Warning { field, reason });
            Ok(())
        }
        (Need::Demand, Errno::NOENT) => Err(Error::FileAbsent { field, file: setting.file.to_string() }),
        (Need::Demand, source) => Err(Error::Set {
            field,
            path: group.path.join(&*setting.file),
            value: setting.value.clone(),
            source,
        }),
    }
}

/// There is nobody to take these settings: an error if the user asked for one.
fn absent(controller: Controller, settings: &[Setting], warnings: &mut Vec<Warning>) -> Result<(), Error> {
    for setting in settings {
        let field = setting.field.to_owned();
        match setting.need {
            Need::Demand => return Err(Error::ControllerAbsent { field, controller }),
            Need::Wish => {
                let reason = format!("the controller `{controller}` is not available on this machine");
                warnings.push(Warning { field, reason });
            }
            Need::Silent => {}
        }
    }
    Ok(())
}
