//! Reads a user's own profile: Docker's format (a superset) or the plain OCI one.
//!
//! Docker's rules may depend on capabilities, architecture and kernel; what remains after deciding those is an OCI
//! profile. Owns that decision only; names and arguments are judged in [`super::compile`].

use std::collections::BTreeSet;

use serde::Deserialize;

use super::arch::{Arch, Named};
use crate::spec::{Seccomp, SeccompAction, SyscallArg, SyscallRule};

/// Why a user's profile is refused.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("seccomp profile: not valid JSON of that kind: {0}")]
    Json(#[from] serde_json::Error),
    #[error("seccomp profile: use either \"architectures\" or \"archMap\", not both")]
    TwoArchitectureLists,
    #[error("seccomp profile: rule {0}: use either \"name\" or \"names\", not both")]
    TwoNames(usize),
    #[error("seccomp profile: rule {0} names no system call")]
    NoName(usize),
    #[error("seccomp profile: {0:?} is not a kernel version; write it as \"5.10\"")]
    Version(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: SeccompAction,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: SeccompAction,
    errno_ret: Option<u32>,
    args: Option<Vec<SyscallArg>>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Where and for whom the profile is to hold.
struct Circumstances<'a> {
    caps: &'a BTreeSet<String>,
    arch: Arch,
    kernel: (u32, u32),
}

/// Reads a profile and decides its conditions for a process with these capabilities, on this architecture and on the
/// running kernel.
pub fn from_docker_json(json: &str, caps: &BTreeSet<String>, arch: Arch) -> Result<Seccomp, ProfileError> {
    let release = rustix::system::uname();
    let kernel = release.release().to_str().ok().and_then(version).unwrap_or((0, 0));
    decide(serde_json::from_str(json)?, &Circumstances { caps, arch, kernel })
}

fn decide(profile: Profile, here: &Circumstances<'_>) -> Result<Seccomp, ProfileError> {
    let listed = profile.architectures.unwrap_or_default();
    let map = profile.arch_map.unwrap_or_default();
    if !listed.is_empty() && !map.is_empty() {
        return Err(ProfileError::TwoArchitectureLists);
    }
    let architectures = if map.is_empty() { listed } else { mapped(map, here.arch) };
    let mut syscalls = Vec::new();
    for (at, rule) in profile.syscalls.unwrap_or_default().into_iter().enumerate() {
        if here.apply(rule.includes.as_ref(), rule.excludes.as_ref())? {
            syscalls.push(plain(at, rule)?);
        }
    }
    Ok(Seccomp {
        default_action: profile.default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures,
        flags: profile.flags.unwrap_or_default(),
        listener_path: profile.listener_path.filter(|path| !path.is_empty()),
        listener_metadata: profile.listener_metadata.filter(|metadata| !metadata.is_empty()),
        syscalls,
    })
}

/// The entry of this architecture, with its companions.
fn mapped(map: Vec<ArchMap>, arch: Arch) -> Vec<String> {
    map.into_iter()
        .filter(|entry| matches!(Arch::named(&entry.architecture), Named::Known(known) if known == arch))
        .flat_map(|entry| {
            std::iter::once(entry.architecture).chain(entry.sub_architectures.unwrap_or_default())
        })
        .collect()
}

fn plain(at: usize, rule: Rule) -> Result<SyscallRule, ProfileError> {
    let names = match (rule.name.filter(|name| !name.is_empty()), rule.names.unwrap_or_default()) {
        (Some(_), names) if !names.is_empty() => return Err(ProfileError::TwoNames(at)),
        (Some(name), _) => vec![name],
        (None, names) if names.is_empty() => return Err(ProfileError::NoName(at)),
        (None, names) => names,
    };
    Ok(SyscallRule {
        names,
        action: rule.action,
        errno_ret: rule.errno_ret,
        args: rule.args.unwrap_or_default(),
    })
}

impl Circumstances<'_> {
    /// Includes must hold, all of them; one exclude that holds is enough to drop the rule. Of the capabilities, all
    /// included ones are needed and any excluded one counts.
    fn apply(&self, includes: Option<&Filter>, excludes: Option<&Filter>) -> Result<bool, ProfileError> {
        let has = |caps: &Option<Vec<String>>| caps.iter().flatten().any(|cap| self.caps.contains(cap));
        let here = |arches: &[String]| arches.iter().any(|arch| arch == self.arch.docker_name());
        if let Some(excludes) = excludes {
            let arches = excludes.arches.as_deref().unwrap_or_default();
            if here(arches) || has(&excludes.caps) {
                return Ok(false);
            }
            if let Some(version) = &excludes.min_kernel
                && self.is_at_least(version)?
            {
                return Ok(false);
            }
        }
        let Some(includes) = includes else { return Ok(true) };
        let arches = includes.arches.as_deref().unwrap_or_default();
        if !arches.is_empty() && !here(arches) {
            return Ok(false);
        }
        if !includes.caps.iter().flatten().all(|cap| self.caps.contains(cap)) {
            return Ok(false);
        }
        includes.min_kernel.as_ref().map_or(Ok(true), |version| self.is_at_least(version))
    }

    fn is_at_least(&self, minimum: &str) -> Result<bool, ProfileError> {
        let minimum = version(minimum).ok_or_else(|| ProfileError::Version(minimum.to_owned()))?;
        Ok(self.kernel >= minimum)
    }
}

/// `6.18.44-cloud` → (6, 18)
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
