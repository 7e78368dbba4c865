//! Volumes of a limited size: a project quota where the file system keeps them, elsewhere ext4 in a file of that size, mounted by a loop
//! device while somebody uses it.
//!
//! The file is sparse: it takes what is in it, and gives back what is deleted. Only the journal is written in full at the beginning, as
//! a file system that can't write its journal on a full disk becomes read-only.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use corten_image::mounts::FileSystem;
use corten_sys::quota;
use rustix::mount::{MountFlags, MountPropagationFlags};

use crate::error::{Error, Result};
use crate::id;

/// Beside `_data`, which stays empty.
const IMAGE: &str = "volume.ext4";

/// Where mkfs lies when it is not in the search path.
const PLACES: [&str; 3] = ["mkfs.ext4", "/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"];

/// From this size on mkfs would make a larger journal than a volume needs.
const JOURNAL_FROM: u64 = 1 << 30;

pub fn image(volume: &Path) -> PathBuf {
    volume.join(IMAGE)
}

/// How often a project's number that nobody has is looked for.
const ATTEMPTS: u32 = 32;

/// Limits a volume that is being made; gives the number of its project, or none when it has a file system of its own.
pub fn make(volume: &Path, data: &Path, bytes: u64) -> Result<Option<u32>> {
    let open = |path: &Path| File::open(path).map_err(|e| Error::io("open", path, e));
    let directory = open(volume)?;
    if !quota::is_enforced(&directory) {
        return make_image(volume, bytes).map(|()| None);
    }
    // Far from the small numbers that people give.
    let number = || u32::from_str_radix(&id::random()[..7], 16).map(|digits| 1 << 30 | digits);
    let free = (0..ATTEMPTS).filter_map(|_| number().ok()).find(|number| quota::is_free(&directory, *number));
    let project =
        free.ok_or_else(|| Error::internal("no free project number was found for a volume's quota"))?;
    let failed = |error| Error::io("set the quota of", volume, error);
    quota::set_limit(&directory, project, bytes).map_err(failed)?;
    quota::set_project(&directory, project).map_err(failed)?;
    quota::set_project(&open(data)?, project).map_err(failed)?;
    Ok(Some(project))
}

/// The project of a volume that is gone has no limit any more: another one may get its number.
pub fn forget(directory: &Path, project: u32) {
    let forgotten = File::open(directory).and_then(|directory| quota::set_limit(&directory, project, 0));
    if let Err(error) = forgotten {
        tracing::debug!(project, %error, "the limit of a project that is gone");
    }
}

/// Makes the file with an empty file system in a volume's directory.
fn make_image(volume: &Path, bytes: u64) -> Result<()> {
    let path = image(volume);
    let failed = |error| Error::io("create", &path, error);
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    file.set_len(bytes).map_err(failed)?;
    drop(file);
    for program in PLACES {
        let mut command = Command::new(program);
        command.args(["-q", "-F", "-m", "0"]);
        command.args(["-E", "root_owner=0:0,lazy_itable_init=1,lazy_journal_init=0,nodiscard"]);
        if bytes >= JOURNAL_FROM {
            command.args(["-J", "size=32"]);
        }
        let made = command.arg(&path).stdin(Stdio::null()).output();
        match made {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("make a file system in", &path, error)),
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let words = String::from_utf8_lossy(&output.stderr);
                let words = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>();
                return Err(Error::io("make a file system in", &path, words.join("; ")));
            }
        }
    }
    Err(Error::invalid(
        "quota size requested but no quota support: a volume of limited size is made with mkfs.ext4, which this host lacks; install e2fsprogs",
    ))
}

pub fn file_system(volume: &Path) -> FileSystem {
    FileSystem {
        source: image(volume).display().to_string(),
        kind: "ext4".to_owned(),
        flags: MountFlags::empty(),
        propagation: MountPropagationFlags::empty(),
        data: "discard,noinit_itable".to_owned(),
        by_loop: true,
        strip: true,
    }
}
