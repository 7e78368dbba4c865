//! Capabilities, and what this host lets us give.

use corten_sys::caps::{self, CapabilitySets};
use corten_sys::process;

use crate::spec::{Capabilities, Process};

/// What the machine and the caller's rights allow: the facts that a plan depends on.
#[derive(Clone, Debug)]
pub struct Host {
    /// The caller's own.
    pub permitted: u64,
    /// The kernel's highest capability.
    pub last_capability: u32,
    /// Soft and hard, by resource number.
    pub limits: [(u64, u64); 16],
    /// How high a hard limit on open files may be at all.
    pub files_max: u64,
    pub apparmor: bool,
    pub selinux: bool,
    /// cgroup v2 only, at /sys/fs/cgroup.
    pub cgroup_unified: bool,
}

impl Host {
    /// Asks the kernel.
    pub fn probe() -> Self {
        let mut limits = [(u64::MAX, u64::MAX); 16];
        for (number, limit) in limits.iter_mut().enumerate() {
            *limit = process::resource_limit(number as u32).unwrap_or((u64::MAX, u64::MAX));
        }
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            permitted: caps::get().map(|sets| sets.permitted).unwrap_or(0),
            last_capability: caps::last(),
            limits,
            files_max: read("/proc/sys/fs/nr_open").trim().parse().unwrap_or(1 << 20),
            apparmor: read("/sys/module/apparmor/parameters/enabled").starts_with('Y'),
            selinux: std::path::Path::new("/sys/fs/selinux/enforce").exists(),
            cgroup_unified: std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
        }
    }

    pub fn has(&self, capability: u32) -> bool {
        self.permitted & 1 << capability != 0
    }
}

pub(super) const CAP_SETPCAP: u32 = 8;
pub(super) const CAP_SYS_ADMIN: u32 = 21;
pub(super) const CAP_SYS_RESOURCE: u32 = 24;

/// The last rights of the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapabilityPlan {
    pub sets: CapabilitySets,
    pub ambient: u64,
    pub no_new_privileges: bool,
}

/// All five sets as masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Masks {
    pub bounding: u64,
    pub sets: CapabilitySets,
    pub ambient: u64,
}

/// The sets that `process` wishes for, less what the kernel does not know or the caller does not have.
pub fn masks(process: &Process, user_namespace: bool, host: &Host, warnings: &mut Vec<String>) -> Masks {
    // As runc does: who names no sets gets none.
    let Some(wish) = &process.capabilities else { return Masks::default() };
    let known = if host.last_capability >= 63 { u64::MAX } else { (1 << (host.last_capability + 1)) - 1 };
    // Who makes a user namespace has every capability in it.
    let available = if user_namespace { known } else { host.permitted & known };
    let mut missing: Vec<String> = Vec::new();
    let mut mask = |names: &[String]| {
        let mut mask = 0;
        for name in names {
            match caps::number(name) {
                Some(number) if available & 1 << number != 0 => mask |= 1u64 << number,
                // Unknown ones too: "runtimes SHOULD NOT fail" (config.md, "capabilities").
                _ if missing.contains(name) => {}
                _ => missing.push(name.clone()),
            }
        }
        mask
    };
    let Capabilities { bounding, effective, inheritable, permitted, ambient } = wish;
    let masks = Masks {
        bounding: mask(bounding),
        sets: CapabilitySets {
            effective: mask(effective),
            permitted: mask(permitted),
            inheritable: mask(inheritable),
        },
        ambient: mask(ambient),
    };
    if !missing.is_empty() {
        warnings
            .push(format!("capabilities that this host does not have are left out: {}", missing.join(", ")));
    }
    masks
}
