//! Namespaces: which are made, which are joined, and whether one clone is enough.

use std::fmt;

use corten_sys::process::namespace;

use super::{Action, Mappings, Operation, c_string, invalid};
use crate::launch::Request;
use crate::monitor::protocol::{Step, StepError};
use crate::spec::{Linux, NamespaceKind};

/// The container's namespaces.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// `CLONE_NEW*` of the clone that makes the container's first process.
    pub clone_flags: u64,
    /// The control group namespace is made by the child itself: made at the clone, its root would be the parent's group.
    pub unshare_cgroup: bool,
    pub joins: Vec<Join>,
    /// A new user namespace's.
    pub mappings: Option<Mappings>,
    /// What is written to `timens_offsets`; empty where there are none.
    pub time_offsets: String,
    pub new_time: bool,
    /// Another process has to enter namespaces first and then make the container's process, as its own sibling:
    /// the namespaces to be joined belong to another user namespace than the one to be made, or take effect for children only.
    pub intermediate: bool,
}

/// A namespace that exists already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    pub kind: NamespaceKind,
    /// `None`: the caller has handed in a descriptor.
    pub path: Option<String>,
}

impl Namespaces {
    pub fn plan(request: &Request<'_>, linux: &Linux) -> Result<Self, StepError> {
        let mut this = Self::default();
        let mut seen: Vec<NamespaceKind> = Vec::new();
        for (kind, _) in &request.namespaces {
            seen.push(*kind);
            this.joins.push(Join { kind: *kind, path: None });
        }
        for wish in &linux.namespaces {
            if request.namespaces.iter().any(|(kind, _)| *kind == wish.kind) {
                continue;
            }
            if seen.contains(&wish.kind) {
                return Err(invalid("linux.namespaces", format!("{} is there twice", name(wish.kind))));
            }
            seen.push(wish.kind);
            match wish.path.as_deref() {
                None | Some("") => this.create(wish.kind),
                Some(path) if !path.starts_with('/') => {
                    return Err(invalid("linux.namespaces", format!("path {path:?} is not absolute")));
                }
                Some(path) => this.joins.push(Join { kind: wish.kind, path: Some(path.to_owned()) }),
            }
        }
        // Order of entering: what needs the rights of the outer user namespace comes before the inner one is entered.
        this.joins.sort_by_key(|join| (join.kind == NamespaceKind::User, join.kind));
        this.mappings(linux)?;
        this.time(linux)?;
        this.intermediate = this.new_time
            || this
                .joins
                .iter()
                .any(|j| matches!(j.kind, NamespaceKind::Pid | NamespaceKind::Time | NamespaceKind::User))
            || this.clone_flags & namespace::USER != 0 && !this.joins.is_empty();
        Ok(this)
    }

    fn create(&mut self, kind: NamespaceKind) {
        match kind {
            NamespaceKind::Cgroup => self.unshare_cgroup = true,
            NamespaceKind::Time => self.new_time = true,
            kind => self.clone_flags |= flag(kind),
        }
    }

    fn mappings(&mut self, linux: &Linux) -> Result<(), StepError> {
        if self.clone_flags & namespace::USER == 0 {
            if !linux.uid_mappings.is_empty() && !self.has(NamespaceKind::User) {
                return Err(invalid("linux.uidMappings", "need a user namespace in linux.namespaces"));
            }
            return Ok(());
        }
        for (field, list) in
            [("linux.uidMappings", &linux.uid_mappings), ("linux.gidMappings", &linux.gid_mappings)]
        {
            if list.is_empty() {
                return Err(invalid(field, "is missing beside a new user namespace"));
            }
            for map in list {
                if map.size == 0 {
                    return Err(invalid(field, "has a range of size 0"));
                }
            }
        }
        self.mappings = Some(Mappings { uid: linux.uid_mappings.clone(), gid: linux.gid_mappings.clone() });
        Ok(())
    }

    fn time(&mut self, linux: &Linux) -> Result<(), StepError> {
        let Some(offsets) = &linux.time_offsets else { return Ok(()) };
        if !self.new_time {
            return Err(invalid("linux.timeOffsets", "need a new time namespace in linux.namespaces"));
        }
        for (clock, offset) in [("monotonic", offsets.monotonic), ("boottime", offsets.boottime)] {
            if let Some(offset) = offset {
                if offset.nanosecs >= 1_000_000_000 {
                    return Err(invalid("linux.timeOffsets", "has 1000000000 nanoseconds or more"));
                }
                self.time_offsets += &format!("{clock} {} {}\n", offset.secs, offset.nanosecs);
            }
        }
        Ok(())
    }

    /// Whether the container has a namespace of this kind that is not the caller's.
    pub fn has(&self, kind: NamespaceKind) -> bool {
        match kind {
            NamespaceKind::Cgroup if self.unshare_cgroup => true,
            NamespaceKind::Time if self.new_time => true,
            kind => self.clone_flags & flag(kind) != 0 || self.joins.iter().any(|j| j.kind == kind),
        }
    }

    /// What the child does first.
    pub(super) fn enter(&self, list: &mut Vec<Operation>, request: &Request<'_>) {
        if !self.intermediate {
            list.push(Operation::new(Step::Cgroup, "cgroup", Action::EnterCgroups));
        }
        if self.mappings.is_some() {
            list.push(Operation::new(Step::IdMapping, "user namespace", Action::AwaitMappings));
        }
        if !self.intermediate {
            for join in &self.joins {
                let object = join.path.clone().unwrap_or_else(|| name(join.kind).to_owned());
                list.push(Operation::new(Step::Namespace, object, Action::JoinNamespace(join.kind)));
            }
        }
        if self.clone_flags & namespace::NETWORK != 0 {
            let mut loopback = Operation::new(Step::Namespace, "lo", Action::Loopback);
            // A kernel may know no IPv4; then there is nothing to switch on.
            loopback.lenient = true;
            list.push(loopback);
        }
        list.push(Operation::new(Step::Namespace, "session", Action::NewSession));
        if self.unshare_cgroup {
            list.push(Operation::new(Step::Namespace, "cgroup", Action::UnshareCgroup));
        }
        if request.keyring
            && let Ok(name) = c_string("id", format!("_ses.{}", request.id))
        {
            let mut keyring = Operation::new(Step::Namespace, "keyring", Action::SessionKeyring { name });
            // The key quota of a user may be used up; a container works without.
            keyring.lenient = true;
            list.push(keyring);
        }
    }
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "namespaces: new {:#x}", self.clone_flags)?;
        if self.unshare_cgroup {
            f.write_str(", cgroup")?;
        }
        if self.new_time {
            f.write_str(", time")?;
        }
        for join in &self.joins {
            write!(f, ", join {} {}", name(join.kind), join.path.as_deref().unwrap_or("(descriptor)"))?;
        }
        Ok(())
    }
}

/// `CLONE_NEW*`.
pub(crate) fn flag(kind: NamespaceKind) -> u64 {
    match kind {
        NamespaceKind::Mount => namespace::MOUNT,
        NamespaceKind::Pid => namespace::PID,
        NamespaceKind::Network => namespace::NETWORK,
        NamespaceKind::Uts => namespace::UTS,
        NamespaceKind::Ipc => namespace::IPC,
        NamespaceKind::User => namespace::USER,
        NamespaceKind::Cgroup => namespace::CGROUP,
        NamespaceKind::Time => namespace::TIME,
    }
}

/// As the specification writes it.
pub(crate) fn name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Mount => "mount",
        NamespaceKind::Pid => "pid",
        NamespaceKind::Network => "network",
        NamespaceKind::Uts => "uts",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::User => "user",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Time => "time",
    }
}
