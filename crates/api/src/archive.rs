//! A container's files: what a path is, what has changed, and what a commit makes of it.

use serde::{Deserialize, Serialize};

use crate::base64;
use crate::time::Timestamp;

/// The header that tells what a path of a container is: a [`PathStat`] as JSON in base64.
pub const PATH_STAT_HEADER: &str = "x-docker-container-path-stat";

/// The protocol that `GET` and `PUT /containers/{id}/archive` change to for a client on this host that asks so (`Upgrade`): the
/// archive goes over the unix socket with the descriptors of large files. Corten's own.
pub const PASSING_PROTOCOL: &str = "corten-files";

/// What the engine says when an archive has come in by [`PASSING_PROTOCOL`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedReply {
    /// An HTTP status.
    pub status: u16,
    #[serde(default)]
    pub message: String,
}

/// What a path of a container is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathStat {
    pub name: String,
    pub size: i64,
    /// Go's `os.FileMode`: see [`file_mode`].
    pub mode: u32,
    pub mtime: Timestamp,
    /// Where a symbolic link leads in the end; empty for all else.
    pub link_target: String,
}

/// Bits of Go's `os.FileMode`.
pub mod file_mode {
    pub const DIRECTORY: u32 = 1 << 31;
    pub const SYMLINK: u32 = 1 << 27;
    pub const DEVICE: u32 = 1 << 26;
    pub const NAMED_PIPE: u32 = 1 << 25;
    pub const SOCKET: u32 = 1 << 24;
    pub const SETUID: u32 = 1 << 23;
    pub const SETGID: u32 = 1 << 22;
    pub const CHAR_DEVICE: u32 = 1 << 21;
    pub const STICKY: u32 = 1 << 20;
    pub const IRREGULAR: u32 = 1 << 19;

    /// Go's mode for a `st_mode` (inode(7)).
    pub fn from_unix(mode: u32) -> u32 {
        let kind = match mode & 0o170_000 {
            0o040_000 => DIRECTORY,
            0o120_000 => SYMLINK,
            0o060_000 => DEVICE,
            0o020_000 => DEVICE | CHAR_DEVICE,
            0o010_000 => NAMED_PIPE,
            0o140_000 => SOCKET,
            _ => 0,
        };
        let special = [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)];
        let special = special.iter().filter(|(bit, _)| mode & bit != 0).fold(0, |all, (_, go)| all | go);
        kind | special | mode & 0o777
    }
}

impl PathStat {
    pub fn is_directory(&self) -> bool {
        self.mode & file_mode::DIRECTORY != 0
    }

    pub fn is_symlink(&self) -> bool {
        self.mode & file_mode::SYMLINK != 0
    }

    /// The value of [`PATH_STAT_HEADER`].
    pub fn to_header(&self) -> String {
        base64::encode(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }

    /// Reads the value of [`PATH_STAT_HEADER`].
    pub fn from_header(value: &str) -> Option<Self> {
        crate::json::from_slice(&base64::decode(value)?).ok()
    }
}

/// One line of `GET /containers/{id}/changes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FilesystemChange {
    pub path: String,
    /// 0 modified, 1 added, 2 deleted.
    pub kind: u8,
}

/// How an archive is unpacked in a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchivePutOptions {
    /// A directory does not replace what is none, nor the other way round.
    pub no_overwrite_dir_non_dir: bool,
    /// The files become those of the container's user.
    pub copy_uid_gid: bool,
}

/// Parameters of `POST /commit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOptions {
    pub container: String,
    pub repo: String,
    pub tag: String,
    pub comment: String,
    pub author: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    pub pause: bool,
}

/// Answer of `POST /commit`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CommitResponse {
    pub id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_there_and_back() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64::encode(plain.as_bytes()), encoded);
            assert_eq!(base64::decode(encoded).as_deref(), Some(plain.as_bytes()));
        }
        assert_eq!(base64::decode("Z"), None);
        assert_eq!(base64::decode("Z*=="), None);
    }

    #[test]
    fn modes_are_gos() {
        assert_eq!(file_mode::from_unix(0o100_644), 0o644);
        assert_eq!(file_mode::from_unix(0o041_777), file_mode::DIRECTORY | file_mode::STICKY | 0o777);
        assert_eq!(file_mode::from_unix(0o120_777), 134_218_239);
        assert_eq!(file_mode::from_unix(0o020_666), file_mode::DEVICE | file_mode::CHAR_DEVICE | 0o666);
    }

    #[test]
    fn a_stat_survives_its_header() {
        let stat = PathStat { name: "a\"ü".into(), size: 7, mode: 0o644, ..PathStat::default() };
        assert_eq!(PathStat::from_header(&stat.to_header()), Some(stat));
    }
}
