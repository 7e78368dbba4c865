//! `user[:group]` as an image's `/etc/passwd` and `/etc/group` have them.

use std::os::fd::OwnedFd;

use corten_image::build::read_file;

use crate::error::{Error, Result};

/// More than any such file has.
const BYTES_MAX: u64 = 4 << 20;

/// The numbers of what `--chown` or USER names. Without a group it is the user's by `/etc/passwd`, where `of_user` says so, else
/// the one of the same number.
pub fn lookup(root: Option<&OwnedFd>, text: &str, of_user: bool) -> Result<(u32, u32)> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let entry = |file: &str, name: &str| -> Result<Option<Vec<String>>> {
        let Some(root) = root else { return Ok(None) };
        let bytes = read_file(root, file.as_bytes(), BYTES_MAX)
            .map_err(|error| Error::Internal(format!("cannot read {file}: {error}")))?;
        let text = String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned();
        let line = text.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
        Ok(line.into_iter().find(|fields| fields.first().is_some_and(|first| first == name)))
    };
    let number = |entry: &[String], at: usize| entry.get(at).and_then(|field| field.parse::<u32>().ok());
    let (uid, own_group) = match user.parse::<u32>() {
        Ok(uid) => (uid, None),
        Err(_) if user.is_empty() => (0, None),
        Err(_) => {
            let entry = entry("etc/passwd", user)?;
            let uid = entry.as_deref().and_then(|entry| number(entry, 2));
            let uid = uid.ok_or_else(|| {
                Error::Invalid(format!("invalid user index: {user}: no such user in the image"))
            })?;
            (uid, entry.as_deref().and_then(|entry| number(entry, 3)))
        }
    };
    let gid = match group {
        None | Some("") if of_user => own_group.unwrap_or(0),
        None | Some("") => own_group.unwrap_or(uid),
        Some(group) => match group.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => {
                entry("etc/group", group)?.as_deref().and_then(|entry| number(entry, 2)).ok_or_else(|| {
                    Error::Invalid(format!("invalid group index: {group}: no such group in the image"))
                })?
            }
        },
    };
    Ok((uid, gid))
}
