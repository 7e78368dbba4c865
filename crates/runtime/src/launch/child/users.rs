//! Users and groups as the container's own files name them, read without a heap.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::paths;
use crate::plan::{GroupName, UserAction, UserName};

/// More than any sane line; a longer one is an error and not half a line.
pub(crate) const LINE_BYTES_MAX: usize = 64 * 1024;
const HOME_BYTES_MAX: usize = 4096;

/// Whom the program runs as.
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: [u32; crate::plan::GROUPS_MAX + 1],
    pub(crate) groups_length: usize,
    /// `HOME=…` with its terminating NUL.
    pub(crate) home: [u8; HOME_BYTES_MAX],
}

/// Why nobody was found.
pub(in crate::launch) enum Unknown {
    User,
    Group,
    Failed(Errno),
}

impl From<Errno> for Unknown {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

impl Identity {
    pub(crate) fn new() -> Self {
        let mut home = [0; HOME_BYTES_MAX];
        home[..6].copy_from_slice(b"HOME=/");
        Self { uid: 0, gid: 0, groups: [0; crate::plan::GROUPS_MAX + 1], groups_length: 0, home }
    }

    pub(in crate::launch) fn groups(&self) -> &[u32] {
        &self.groups[..self.groups_length]
    }

    fn add_group(&mut self, gid: u32) -> Result<(), Errno> {
        if self.groups().contains(&gid) {
            return Ok(());
        }
        *self.groups.get_mut(self.groups_length).ok_or(Errno::TOOBIG)? = gid;
        self.groups_length += 1;
        Ok(())
    }

    fn set_home(&mut self, home: &[u8]) {
        let end = 5 + home.len();
        if !home.is_empty() && end < HOME_BYTES_MAX {
            self.home[5..end].copy_from_slice(home);
            self.home[end] = 0;
        }
    }

    /// Looks up what `wish` leaves open. As Docker does: a number needs no entry, a name does; a group that is given takes the place of all
    /// groups of the user.
    pub(in crate::launch) fn resolve(
        &mut self,
        root: BorrowedFd<'_>,
        wish: &UserAction,
        buffer: &mut [u8],
    ) -> Result<(), Unknown> {
        self.uid = wish.uid;
        self.gid = wish.gid;
        let mut name = [0u8; 256];
        let mut name_length = 0;
        if wish.user.is_some() || wish.wants_home {
            let wanted = match &wish.user {
                Some(user) => user,
                None => &UserName::Number(wish.uid),
            };
            let mut found = false;
            if let Some(mut lines) = Lines::open(root, c"etc/passwd", buffer)? {
                while let Some(line) = lines.next()? {
                    let entry = Fields(line);
                    let (Some(entry_name), Some(uid)) = (entry.get(0), entry.number(2)) else { continue };
                    let matches = match wanted {
                        UserName::Number(number) => uid == *number,
                        UserName::Name(name) => entry_name == name.as_bytes(),
                    };
                    if !matches {
                        continue;
                    }
                    found = true;
                    self.set_home(entry.get(5).unwrap_or_default());
                    if wish.user.is_some() {
                        self.uid = uid;
                        self.gid = entry.number(3).unwrap_or(0);
                        if entry_name.len() <= name.len() {
                            name[..entry_name.len()].copy_from_slice(entry_name);
                            name_length = entry_name.len();
                        }
                    }
                    break;
                }
            }
            match &wish.user {
                Some(UserName::Name(_)) if !found => return Err(Unknown::User),
                Some(UserName::Number(number)) => self.uid = *number,
                _ => {}
            }
        }
        self.resolve_groups(root, wish, &name[..name_length], buffer)
    }

    fn resolve_groups(
        &mut self,
        root: BorrowedFd<'_>,
        wish: &UserAction,
        name: &[u8],
        buffer: &mut [u8],
    ) -> Result<(), Unknown> {
        if let Some(group) = &wish.group {
            self.gid = find_group(root, group, buffer)?;
        }
        if wish.user.is_some() {
            // The primary group is one of the supplementary ones too, so that no setgid file sheds it (CVE-2022-36109).
            self.add_group(self.gid)?;
            if wish.group.is_none()
                && !name.is_empty()
                && let Some(mut lines) = Lines::open(root, c"etc/group", buffer)?
            {
                while let Some(line) = lines.next()? {
                    let entry = Fields(line);
                    let members = entry.get(3).unwrap_or_default();
                    if let (true, Some(gid)) =
                        (members.split(|b| *b == b',').any(|m| m == name), entry.number(2))
                    {
                        self.add_group(gid)?;
                    }
                }
            }
        }
        for gid in &wish.groups {
            self.add_group(*gid)?;
        }
        for group in &wish.group_names {
            let gid = find_group(root, group, buffer)?;
            self.add_group(gid)?;
        }
        Ok(())
    }
}

fn find_group(root: BorrowedFd<'_>, group: &GroupName, buffer: &mut [u8]) -> Result<u32, Unknown> {
    let name = match group {
        GroupName::Number(number) => return Ok(*number),
        GroupName::Name(name) => name.as_bytes(),
    };
    if let Some(mut lines) = Lines::open(root, c"etc/group", buffer)? {
        while let Some(line) = lines.next()? {
            let entry = Fields(line);
            if let (true, Some(gid)) = (entry.get(0) == Some(name), entry.number(2)) {
                return Ok(gid);
            }
        }
    }
    Err(Unknown::Group)
}

/// Fields between colons.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.0.split(|b| *b == b':').nth(index)
    }

    fn number(&self, index: usize) -> Option<u32> {
        core::str::from_utf8(self.get(index)?).ok()?.parse().ok()
    }
}

/// Lines of a file, read piece by piece into a buffer.
struct Lines<'a> {
    file: OwnedFd,
    buffer: &'a mut [u8],
    start: usize,
    end: usize,
    ended: bool,
}

impl<'a> Lines<'a> {
    /// `None` where there is no such file.
    fn open(
        root: BorrowedFd<'_>,
        path: &core::ffi::CStr,
        buffer: &'a mut [u8],
    ) -> Result<Option<Self>, Errno> {
        let file = match paths::open(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error),
        };
        if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        Ok(Some(Self { file, buffer, start: 0, end: 0, ended: false }))
    }

    fn next(&mut self) -> Result<Option<&[u8]>, Errno> {
        loop {
            let window = &self.buffer[self.start..self.end];
            if let Some(length) = window.iter().position(|b| *b == b'\n') {
                let start = self.start;
                self.start += length + 1;
                return Ok(Some(&self.buffer[start..start + length]));
            }
            if self.ended {
                let (start, end) = (self.start, self.end);
                self.start = end;
                return Ok((start < end).then(|| &self.buffer[start..end]));
            }
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.end == self.buffer.len() {
                return Err(Errno::OVERFLOW);
            }
            match rustix::io::read(self.file.as_fd(), &mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(n) => self.end += n,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
