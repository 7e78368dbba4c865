//! `slice:prefix:name`, the form of `cgroupsPath` with `--systemd-cgroup`, as a path.
//!
//! We make the directories ourselves and do not ask systemd for a unit: on hosts without systemd the groups lie where
//! tools expect them, and below a delegated slice they stay untouched.

use std::path::{Path, PathBuf};

use super::Error;

/// Turns `system.slice:corten:0123` into `/system.slice/corten-0123.scope`. A name that ends in `.slice` is a slice
/// itself; an empty slice is `system.slice`; each dash in a slice's name is a level (systemd.slice(5)).
pub fn group_path(text: &str) -> Result<PathBuf, Error> {
    let refuse = |reason| Error::Path { path: text.into(), reason };
    let mut parts = text.split(':');
    let (Some(slice), Some(prefix), Some(name), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(refuse("with systemd it has the form `slice:prefix:name`"));
    };
    if text.contains('/') || name.is_empty() {
        return Err(refuse("slice, prefix and name are unit names, not paths"));
    }
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let unit = match (prefix, name) {
        (_, name) if name.ends_with(".slice") => name.to_owned(),
        ("", name) => format!("{name}.scope"),
        (prefix, name) => format!("{prefix}-{name}.scope"),
    };
    Ok(expand(slice).ok_or_else(|| refuse("that is not the name of a slice"))?.join(unit))
}

/// Does systemd manage this machine (sd_booted(3))?
pub fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// `a-b.slice` lies in `a.slice`; `-.slice` is the root.
fn expand(slice: &str) -> Option<PathBuf> {
    let name = slice.strip_suffix(".slice")?;
    let mut path = PathBuf::from("/");
    if name == "-" {
        return Some(path);
    }
    if name.split('-').any(str::is_empty) {
        return None;
    }
    for (at, _) in name.match_indices('-') {
        path.push(format!("{}.slice", &name[..at]));
    }
    path.push(slice);
    Some(path)
}
