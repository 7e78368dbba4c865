//! Which hierarchies the machine has mounted where, and where a group lies in each of them.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use super::{Error, file};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Controller {
    Cpu,
    Cpuacct,
    Cpuset,
    Memory,
    /// `blkio` in version 1, `io` in version 2.
    Block,
    Pids,
    Devices,
    Freezer,
    Hugetlb,
    NetCls,
    NetPrio,
    Rdma,
    PerfEvent,
}

impl Controller {
    const ALL: [Self; 13] = [
        Self::Cpu,
        Self::Cpuacct,
        Self::Cpuset,
        Self::Memory,
        Self::Block,
        Self::Pids,
        Self::Devices,
        Self::Freezer,
        Self::Hugetlb,
        Self::NetCls,
        Self::NetPrio,
        Self::Rdma,
        Self::PerfEvent,
    ];

    /// Those for which a configuration has fields, besides devices.
    pub(super) const WITH_SETTINGS: [Self; 9] = [
        Self::Cpu,
        Self::Cpuset,
        Self::Memory,
        Self::Block,
        Self::Pids,
        Self::Hugetlb,
        Self::NetCls,
        Self::NetPrio,
        Self::Rdma,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
            Self::Block => "blkio",
            Self::Pids => "pids",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
            Self::Hugetlb => "hugetlb",
            Self::NetCls => "net_cls",
            Self::NetPrio => "net_prio",
            Self::Rdma => "rdma",
            Self::PerfEvent => "perf_event",
        }
    }

    fn named(name: &str) -> Option<Self> {
        match name {
            "io" => Some(Self::Block),
            name => Self::ALL.into_iter().find(|controller| controller.name() == name),
        }
    }

    /// The name in version 2's files.
    pub(super) const fn unified_name(self) -> &'static str {
        match self {
            Self::Block => "io",
            other => other.name(),
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Controllers(u32);

impl Controllers {
    pub(super) const fn has(self, controller: Controller) -> bool {
        self.0 & controller.bit() != 0
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn only(controller: Controller) -> Self {
        Self(controller.bit())
    }

    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Controller> {
        Controller::ALL.into_iter().filter(move |controller| self.has(*controller))
    }

    /// Unknown words are other mount options, or controllers that we have nothing to say to.
    pub(super) fn parse<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Self(names.filter_map(Controller::named).fold(0, |bits, controller| bits | controller.bit()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    version: Version,
    controllers: Controllers,
    /// The `systemd` of `name=systemd`.
    name: Option<String>,
    mount: PathBuf,
    /// Which group of the hierarchy the mount shows; `/` unless this is a container.
    root: PathBuf,
}

/// The machine's hierarchies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    hierarchies: Vec<Hierarchy>,
}

/// A group in one hierarchy.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) version: Version,
    pub(super) controllers: Controllers,
    name: Option<String>,
    pub(super) mount: PathBuf,
    pub(super) path: PathBuf,
}

impl Group {
    pub(super) fn label(&self) -> String {
        if self.version == Version::V2 {
            return String::new();
        }
        if let Some(name) = &self.name {
            return format!("name={name}");
        }
        self.controllers.iter().map(Controller::name).collect::<Vec<_>>().join(",")
    }
}

impl Layout {
    /// This machine's, read once per process.
    pub fn host() -> Result<&'static Self, Error> {
        static HOST: OnceLock<Layout> = OnceLock::new();
        if let Some(layout) = HOST.get() {
            return Ok(layout);
        }
        let layout = Self::parse(&file::text(Path::new("/proc/self"), "mountinfo")?);
        if layout.hierarchies.is_empty() {
            return Err(Error::NotMounted);
        }
        Ok(HOST.get_or_init(|| layout))
    }

    /// A version 2 hierarchy alone, at a directory.
    pub fn unified_at(root: &Path) -> Self {
        Self { hierarchies: vec![Hierarchy::unified(root.to_owned(), PathBuf::from("/"))] }
    }

    /// Is version 2 the only one?
    pub fn is_unified(&self) -> bool {
        self.hierarchies.iter().all(|hierarchy| hierarchy.version == Version::V2)
    }

    /// Can this machine limit that?
    pub fn has(&self, controller: Controller) -> bool {
        let unified = self.is_unified();
        self.hierarchies.iter().any(|hierarchy| hierarchy.controllers.has(controller))
            // Version 2 filters devices by program and freezes without a controller.
            || unified && matches!(controller, Controller::Devices | Controller::Freezer | Controller::Cpuacct)
    }

    /// Where the root group's files of a controller are, to see what this kernel offers.
    pub fn root_of(&self, controller: Controller) -> Option<&Path> {
        let holder = self.hierarchies.iter().find(|hierarchy| hierarchy.controllers.has(controller))?;
        Some(&holder.mount)
    }

    /// Reads `/proc/self/mountinfo`. Of a hierarchy that is mounted twice the first mount counts, unless only a later one
    /// shows it from its root.
    pub(super) fn parse(mountinfo: &str) -> Self {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for found in mountinfo.lines().filter_map(Hierarchy::parse) {
            match hierarchies.iter_mut().find(|known| known.is_same(&found)) {
                Some(known) if known.root != Path::new("/") && found.root == Path::new("/") => *known = found,
                Some(_) => {}
                None => hierarchies.push(found),
            }
        }
        Self { hierarchies }
    }

    pub(super) fn groups(&self, path: &Path) -> Result<Vec<Group>, Error> {
        let refuse = |reason| Error::Path { path: path.to_owned(), reason };
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(refuse("`..` is not allowed"));
        }
        let below: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        if below.as_os_str().is_empty() {
            return Err(refuse("it names the root group"));
        }
        let own =
            if path.is_absolute() { None } else { Some(file::text(Path::new("/proc/self"), "cgroup")?) };
        let group = |hierarchy: &Hierarchy| Group {
            version: hierarchy.version,
            controllers: hierarchy.controllers,
            name: hierarchy.name.clone(),
            mount: hierarchy.mount.clone(),
            path: hierarchy
                .mount
                .join(own.as_deref().map_or(PathBuf::new(), |own| hierarchy.own(own)))
                .join(&below),
        };
        Ok(self.hierarchies.iter().map(group).collect())
    }
}

impl Hierarchy {
    fn unified(mount: PathBuf, root: PathBuf) -> Self {
        let offered = file::read(&mount, "cgroup.controllers").unwrap_or_default();
        let controllers = Controllers::parse(offered.split_ascii_whitespace());
        Self { version: Version::V2, controllers, name: None, mount, root }
    }

    /// `31 23 0:28 /root /mount/point rw,… [optional fields] - type source options`
    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let kind = right.next()?;
        if kind != "cgroup" && kind != "cgroup2" {
            return None;
        }
        let mut left = left.split(' ').skip(3);
        let (root, mount) = (unescape(left.next()?), unescape(left.next()?));
        if kind == "cgroup2" {
            return Some(Self::unified(mount, root));
        }
        let options = right.nth(1)?;
        let controllers = Controllers::parse(options.split(','));
        let name = options.split(',').find_map(|option| option.strip_prefix("name=")).map(str::to_owned);
        Some(Self { version: Version::V1, controllers, name, mount, root })
    }

    fn is_same(&self, other: &Self) -> bool {
        self.version == other.version && self.controllers == other.controllers && self.name == other.name
    }

    /// The caller's own group as seen through the mount: `4:memory:/a/b` in `/proc/self/cgroup`.
    fn own(&self, proc_cgroup: &str) -> PathBuf {
        let path = proc_cgroup.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (names, path) = (fields.next()?, fields.next()?);
            let mine = match (self.version, &self.name) {
                (Version::V2, _) => names.is_empty(),
                (Version::V1, Some(name)) => names.split(',').any(|n| n.strip_prefix("name=") == Some(name)),
                (Version::V1, None) => {
                    !names.is_empty() && Controllers::parse(names.split(',')) == self.controllers
                }
            };
            mine.then_some(path)
        });
        let path = Path::new(path.unwrap_or("/"));
        path.strip_prefix(&self.root).or_else(|_| path.strip_prefix("/")).unwrap_or(Path::new("")).to_owned()
    }
}

/// mountinfo writes blanks and backslashes in octal.
fn unescape(field: &str) -> PathBuf {
    let mut text = field.to_owned();
    for (code, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        if text.contains(code) {
            text = text.replace(code, plain);
        }
    }
    PathBuf::from(text)
}
