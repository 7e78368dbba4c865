//! The user that a container runs as, looked up in the container's own files from outside.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use corten_image::mounts::open_in_root;
use rustix::fs::OFlags;

use crate::error::{Error, Result};

/// Larger files are nobody's list of users.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The numbers of `user[:group]`, each a name or a number, as a start takes them.
pub(super) fn ids(root: &impl AsFd, text: &str) -> Result<(u32, u32)> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let (mut uid, mut gid) = (0, 0);
    if !user.is_empty() {
        (uid, gid) = find_user(&read(root, "/etc/passwd"), user)?;
    }
    if !group.is_empty() {
        gid = find_group(&read(root, "/etc/group"), group)?;
    }
    Ok((uid, gid))
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number <= i32::MAX as u32)
}

fn find_user(passwd: &str, user: &str) -> Result<(u32, u32)> {
    let entry = |line: &str| -> Option<(String, u32, u32)> {
        let mut fields = line.split(':');
        let (name, uid, gid) = (fields.next()?, fields.nth(1)?, fields.next()?);
        Some((name.to_owned(), number(uid)?, number(gid)?))
    };
    let mut entries = passwd.lines().filter_map(entry);
    match number(user) {
        Some(uid) => {
            Ok(entries.find(|(_, known, _)| *known == uid).map_or((uid, 0), |(_, uid, gid)| (uid, gid)))
        }
        None => entries.find(|(name, ..)| name == user).map(|(_, uid, gid)| (uid, gid)).ok_or_else(|| {
            Error::invalid(format!(
                "failed to look up user \"{user}\" in container: no matching entries in passwd file"
            ))
        }),
    }
}

fn find_group(file: &str, group: &str) -> Result<u32> {
    if let Some(gid) = number(group) {
        return Ok(gid);
    }
    let entry = |line: &str| -> Option<u32> {
        let mut fields = line.split(':');
        (fields.next()? == group).then(|| number(fields.nth(1)?)).flatten()
    };
    file.lines().find_map(entry).ok_or_else(|| {
        Error::invalid(format!(
            "failed to look up group \"{group}\" in container: no matching entries in group file"
        ))
    })
}

/// What is missing or can't be read has no entries.
fn read(root: &impl AsFd, path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = open_in_root(root, Path::new(path), OFlags::RDONLY)
        && file.metadata().is_ok_and(|meta| meta.is_file())
    {
        let _ = file.take(FILE_BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001::/:/bin/sh\n";
        assert_eq!(find_user(passwd, "app").unwrap(), (1000, 1001));
        assert_eq!(find_user(passwd, "1000").unwrap(), (1000, 1001));
        assert_eq!(find_user(passwd, "77").unwrap(), (77, 0));
        assert!(find_user(passwd, "nobody").unwrap_err().message.contains("no matching entries"));
        assert_eq!(find_group("staff:x:50:app\n", "staff").unwrap(), 50);
        assert_eq!(find_group("", "60").unwrap(), 60);
        assert!(find_group("", "staff").is_err());
    }
}
