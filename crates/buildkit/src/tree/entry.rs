//! One file, directory or link as the client tells of it, checked. A mode is Go's: kind and special bits are at the top.

use super::SyncError;
use crate::wire::fsutil::Stat;
use corten_image::tar;
use std::collections::BTreeMap;

const GO_DIRECTORY: u32 = 1 << 31;
const GO_SYMLINK: u32 = 1 << 27;
const GO_DEVICE: u32 = 1 << 26;
const GO_PIPE: u32 = 1 << 25;
const GO_SOCKET: u32 = 1 << 24;
const GO_SETUID: u32 = 1 << 23;
const GO_SETGID: u32 = 1 << 22;
const GO_CHARACTER: u32 = 1 << 21;
const GO_STICKY: u32 = 1 << 20;
const GO_IRREGULAR: u32 = 1 << 19;
/// Where one of these is set it is no regular file.
pub(super) const GO_KINDS: u32 =
    GO_DIRECTORY | GO_SYMLINK | GO_DEVICE | GO_PIPE | GO_SOCKET | GO_CHARACTER | GO_IRREGULAR;

/// The longest target of a link, as the kernel has it.
const TARGET_BYTES_MAX: usize = 4095;
/// What attributes a file may carry, all in all.
const XATTR_BYTES_MAX: usize = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Below the directory, without a leading slash.
    pub path: String,
    pub kind: Kind,
    /// The kernel's twelve bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Nanoseconds since 1970.
    pub modified_ns: i64,
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    /// The digest is known when the contents have been here.
    File {
        bytes: u64,
        sha256: Option<[u8; 32]>,
    },
    /// Another name of a file that came before.
    HardLink {
        to: String,
    },
    Symlink {
        to: String,
    },
    Pipe,
}

impl Entry {
    /// What a client sent. Whether the path may stand where it stands is `order`'s affair.
    pub fn from_stat(stat: Stat) -> Result<Self, SyncError> {
        let bad = |what| SyncError::BadEntry { path: stat.path.clone(), what };
        let kind = match stat.mode & GO_KINDS {
            GO_DIRECTORY => Kind::Directory,
            0 if !stat.linkname.is_empty() => Kind::HardLink { to: stat.linkname.clone() },
            0 => {
                let bytes = u64::try_from(stat.size).map_err(|_| bad("a negative size"))?;
                Kind::File { bytes, sha256: None }
            }
            GO_SYMLINK => match &stat.linkname {
                to if to.is_empty() || to.len() > TARGET_BYTES_MAX || to.contains('\0') => {
                    return Err(bad("a link's target that can't be one"));
                }
                to => Kind::Symlink { to: to.clone() },
            },
            GO_PIPE => Kind::Pipe,
            GO_SOCKET => return Err(bad("a socket can't be sent")),
            _ => return Err(bad("a device is not taken from a client")),
        };
        let carried: usize = stat.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if carried > XATTR_BYTES_MAX {
            return Err(bad("its extended attributes are too large"));
        }
        Ok(Self {
            kind,
            mode: kernel_mode(stat.mode),
            uid: stat.uid,
            gid: stat.gid,
            modified_ns: stat.mod_time,
            xattrs: stat.xattrs.into_iter().filter(|(name, _)| is_kept(name)).collect(),
            path: stat.path,
        })
    }

    /// The other way round, for the index.
    pub fn to_stat(&self) -> Stat {
        let (kind, size, linkname) = match &self.kind {
            Kind::Directory => (GO_DIRECTORY, 0, ""),
            Kind::File { bytes, .. } => (0, i64::try_from(*bytes).unwrap_or(i64::MAX), ""),
            Kind::HardLink { to } => (0, 0, to.as_str()),
            Kind::Symlink { to } => (GO_SYMLINK, 0, to.as_str()),
            Kind::Pipe => (GO_PIPE, 0, ""),
        };
        Stat {
            path: self.path.clone(),
            mode: kind | go_bits(self.mode),
            uid: self.uid,
            gid: self.gid,
            size,
            mod_time: self.modified_ns,
            linkname: linkname.to_owned(),
            devmajor: 0,
            devminor: 0,
            xattrs: self.xattrs.clone(),
        }
    }

    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// Whether the client tells the same of it, so that what is here is what is there. A directory's time says nothing of its own
    /// files, and of a link only the target counts.
    pub fn is_told_as(&self, other: &Self) -> bool {
        let same_kind = match (&self.kind, &other.kind) {
            (Kind::File { bytes: a, .. }, Kind::File { bytes: b, .. }) => a == b,
            (a, b) => a == b,
        };
        same_kind
            && (self.mode, self.uid, self.gid, self.modified_ns)
                == (other.mode, other.uid, other.gid, other.modified_ns)
            && self.xattrs == other.xattrs
    }
}

/// Which extended attributes are a file's own: what a program stored, and capabilities. Security labels and overlayfs's are the host's.
fn is_kept(name: &str) -> bool {
    !name.contains('\0') && (name.starts_with("user.") || name == "security.capability")
}

/// What a file that goes to the client is, from an archive's entry.
pub(super) fn go_mode(kind: tar::Kind, mode: u32) -> u32 {
    let kind = match kind {
        tar::Kind::File | tar::Kind::HardLink => 0,
        tar::Kind::Directory => GO_DIRECTORY,
        tar::Kind::Symlink => GO_SYMLINK,
        tar::Kind::CharDevice => GO_DEVICE | GO_CHARACTER,
        tar::Kind::BlockDevice => GO_DEVICE,
        tar::Kind::Fifo => GO_PIPE,
    };
    kind | go_bits(mode)
}

fn kernel_mode(go: u32) -> u32 {
    let special = [(GO_SETUID, 0o4000), (GO_SETGID, 0o2000), (GO_STICKY, 0o1000)];
    special.iter().filter(|(bit, _)| go & bit != 0).fold(go & 0o777, |mode, (_, kernel)| mode | kernel)
}

fn go_bits(kernel: u32) -> u32 {
    let special = [(GO_SETUID, 0o4000), (GO_SETGID, 0o2000), (GO_STICKY, 0o1000)];
    special.iter().filter(|(_, bit)| kernel & bit != 0).fold(kernel & 0o777, |mode, (go, _)| mode | go)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(mode: u32) -> Stat {
        Stat { path: "a".into(), mode, ..Stat::default() }
    }

    #[test]
    fn kinds_and_bits_survive_both_ways() {
        for mode in [GO_DIRECTORY | GO_STICKY | 0o777, GO_SETUID | GO_SETGID | 0o751, GO_PIPE | 0o600, 0o644]
        {
            let entry = Entry::from_stat(stat(mode)).unwrap();
            assert_eq!(entry.to_stat().mode, mode, "{entry:?}");
        }
        assert_eq!(Entry::from_stat(stat(GO_SETUID | GO_STICKY | 0o755)).unwrap().mode, 0o5755);
        let link = Entry::from_stat(Stat { linkname: "../b".into(), ..stat(GO_SYMLINK | 0o777) }).unwrap();
        assert_eq!(link.kind, Kind::Symlink { to: "../b".into() });
        let hard = Entry::from_stat(Stat { linkname: "b".into(), ..stat(0o644) }).unwrap();
        assert_eq!(hard.kind, Kind::HardLink { to: "b".into() });
    }

    #[test]
    fn what_cannot_be_a_file_is_refused() {
        for mode in [GO_DEVICE, GO_DEVICE | GO_CHARACTER, GO_SOCKET, GO_IRREGULAR, GO_DIRECTORY | GO_SYMLINK]
        {
            assert!(Entry::from_stat(stat(mode)).is_err(), "{mode:b}");
        }
        assert!(Entry::from_stat(stat(GO_SYMLINK)).is_err(), "a link to nowhere");
        assert!(Entry::from_stat(Stat { size: -1, ..stat(0o644) }).is_err());
        let xattrs = BTreeMap::from([("user.a".to_owned(), vec![0; XATTR_BYTES_MAX])]);
        assert!(Entry::from_stat(Stat { xattrs, ..stat(0o644) }).is_err());
    }

    #[test]
    fn attributes_of_the_host_stay_there() {
        let names = ["user.note", "security.capability", "security.selinux", "trusted.overlay.opaque"];
        let xattrs = names.iter().map(|name| ((*name).to_owned(), b"x".to_vec())).collect();
        let entry = Entry::from_stat(Stat { xattrs, ..stat(0o644) }).unwrap();
        assert_eq!(entry.xattrs.keys().collect::<Vec<_>>(), ["security.capability", "user.note"]);
    }
}
