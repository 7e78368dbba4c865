//! The local driver's options: what a volume's content is made of. Decides only.
//!
//! `type`, `device` and `o` are what mount(8) takes, as with Docker; `size` (or `o=size=…` alone) limits a directory.

use corten_api::Map;
use corten_image::mounts::FileSystem;
use rustix::mount::{MountFlags, MountPropagationFlags};

use crate::error::{Error, Result};

/// What a volume consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A directory under the data root.
    Directory,
    /// The same with at most so many bytes.
    Limited(u64),
    /// A file system that is mounted while containers use it.
    FileSystem(FileSystem),
}

/// Below this, ext4 has no room for its own notes.
const LIMIT_MIN: u64 = 2 << 20;

const KNOWN: [&str; 4] = ["type", "o", "device", "size"];

/// Which options want which others.
const COMPANIONS: [(&str, [&str; 2]); 3] =
    [("device", ["type", "type"]), ("o", ["device", "type"]), ("type", ["device", "device"])];

pub fn content(options: &Map<String>) -> Result<Content> {
    if let Some(unknown) = options.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(Error::invalid(format!("invalid option: \"{unknown}\"")));
    }
    let mut limit = options.get("size").map(|text| limit(text)).transpose()?;
    let is_mounted = options.contains_key("type") || options.contains_key("device");
    if !is_mounted && let Some(words) = options.get("o") {
        let Some(size) = words.strip_prefix("size=").filter(|size| !size.contains(',')) else {
            return Err(Error::invalid("missing required option: \"device\""));
        };
        if limit.replace(self::limit(size)?).is_some() {
            return Err(Error::invalid("the volume's size is given twice: \"size\" and \"o\""));
        }
    }
    if !is_mounted {
        return Ok(limit.map_or(Content::Directory, Content::Limited));
    }
    for (option, companions) in COMPANIONS {
        if let Some(missing) = companions.iter().find(|name| !options.contains_key(**name))
            && options.contains_key(option)
        {
            return Err(Error::invalid(format!("missing required option: \"{missing}\"")));
        }
    }
    if limit.is_some() {
        return Err(Error::invalid(
            "option \"size\" limits volumes that are directories; what is mounted has its own limits (for a tmpfs: o=size=…)",
        ));
    }
    let text = |name: &str| options.get(name).map_or("", String::as_str);
    Ok(Content::FileSystem(file_system(text("type"), text("device"), text("o"))?))
}

fn limit(text: &str) -> Result<u64> {
    let bytes = bytes(text).ok_or_else(|| Error::invalid(format!("invalid size: '{text}'")))?;
    if bytes < LIMIT_MIN {
        return Err(Error::invalid(format!(
            "a volume's size must be at least {} MiB: '{text}'",
            LIMIT_MIN >> 20
        )));
    }
    Ok(bytes)
}

/// `512m`, `1.5G`, `10GiB`: powers of 1024, whatever the unit's spelling.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim().to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = number * 1024_f64.powi(power);
    (bytes.is_finite() && bytes < i64::MAX as f64).then_some(bytes as u64)
}

fn file_system(kind: &str, device: &str, words: &str) -> Result<FileSystem> {
    let mut wanted = FileSystem {
        source: device.to_owned(),
        kind: kind.to_owned(),
        flags: MountFlags::empty(),
        propagation: MountPropagationFlags::empty(),
        data: String::new(),
        by_loop: false,
        strip: false,
    };
    if device.is_empty() {
        return Err(Error::invalid("option \"device\" must not be empty"));
    }
    let mut data: Vec<&str> = Vec::new();
    for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        if let Some((flag, on)) = flag(word) {
            wanted.flags.set(flag, on);
        } else if let Some(propagation) = propagation(word) {
            wanted.propagation = propagation;
        } else if word == "loop" {
            wanted.by_loop = true;
        } else if word != "defaults" {
            data.push(word);
        }
    }
    wanted.data = data.join(",");
    let binds = wanted.flags.contains(MountFlags::BIND);
    if binds && !device.starts_with('/') {
        return Err(Error::invalid(format!(
            "option \"device\" must be an absolute path for a bind: '{device}'"
        )));
    }
    Ok(wanted)
}

/// The words of mount(8) that are flags of mount(2), and whether they set or clear them.
fn flag(word: &str) -> Option<(MountFlags, bool)> {
    Some(match word {
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "nostrictatime" => (MountFlags::STRICTATIME, false),
        "bind" => (MountFlags::BIND, true),
        "rbind" => (MountFlags::BIND | MountFlags::REC, true),
        _ => return None,
    })
}

fn propagation(word: &str) -> Option<MountPropagationFlags> {
    let recursive = MountPropagationFlags::REC;
    Some(match word {
        "private" => MountPropagationFlags::PRIVATE,
        "rprivate" => MountPropagationFlags::PRIVATE | recursive,
        "shared" => MountPropagationFlags::SHARED,
        "rshared" => MountPropagationFlags::SHARED | recursive,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "rslave" => MountPropagationFlags::DOWNSTREAM | recursive,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        "runbindable" => MountPropagationFlags::UNBINDABLE | recursive,
        _ => return None,
    })
}

/// The host in `addr=…` when it is a name: the kernel takes numbers only.
pub fn server_name(wanted: &FileSystem) -> Option<&str> {
    let is_network = wanted.kind.starts_with("nfs") || wanted.kind == "cifs" || wanted.kind == "smb3";
    let address = wanted.data.split(',').find_map(|word| word.strip_prefix("addr="))?;
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    (is_network && bare.parse::<std::net::IpAddr>().is_err()).then_some(address)
}

/// The options as an error may show them: without a password.
pub fn shown(data: &str) -> String {
    let hide = |word: &str| match word.split_once('=') {
        Some((name @ ("password" | "pass"), _)) => format!("{name}=********"),
        _ => word.to_owned(),
    };
    data.split(',').map(hide).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Map<String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn mounted(kind: &str, device: &str, words: &str) -> FileSystem {
        match content(&options(&[("type", kind), ("device", device), ("o", words)])).unwrap() {
            Content::FileSystem(wanted) => wanted,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn directories_and_limits() {
        assert_eq!(content(&Map::default()).unwrap(), Content::Directory);
        for (name, text) in [("size", "10m"), ("o", "size=10m"), ("size", "10 MiB"), ("size", "10485760")] {
            assert_eq!(
                content(&options(&[(name, text)])).unwrap(),
                Content::Limited(10 << 20),
                "{name}={text}"
            );
        }
        assert_eq!(content(&options(&[("size", "1.5g")])).unwrap(), Content::Limited(3 << 29));
        for text in ["", "x", "1k", "-5m", "10q", "inf"] {
            assert!(content(&options(&[("size", text)])).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        for (pairs, why) in [
            (&[("colour", "red")][..], "invalid option: \"colour\""),
            (&[("type", "tmpfs")], "missing required option: \"device\""),
            (&[("device", "/x")], "missing required option: \"type\""),
            (&[("o", "bind")], "missing required option: \"device\""),
        ] {
            assert_eq!(content(&options(pairs)).unwrap_err().message, why);
        }
        assert!(content(&options(&[("type", "tmpfs"), ("device", "tmpfs"), ("size", "5m")])).is_err());
        assert!(content(&options(&[("type", "none"), ("device", "relative"), ("o", "bind")])).is_err());
    }

    #[test]
    fn words_become_flags_and_the_rest_is_the_file_systems() {
        let tmpfs = mounted("tmpfs", "tmpfs", "size=100m,noexec,uid=1000,ro,rw");
        assert_eq!((tmpfs.flags, tmpfs.data.as_str()), (MountFlags::NOEXEC, "size=100m,uid=1000"));
        let bind = mounted("none", "/srv", "rbind,ro,rslave");
        assert_eq!(bind.flags, MountFlags::BIND | MountFlags::REC | MountFlags::RDONLY);
        assert_eq!(bind.propagation, MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC);
        assert!(mounted("ext4", "/disk.img", "loop").by_loop);
    }

    #[test]
    fn servers_with_names_are_found_and_passwords_are_hidden() {
        let name = |words: &str| server_name(&mounted("nfs", ":/x", words)).map(str::to_owned);
        assert_eq!(name("addr=files.example,rw").as_deref(), Some("files.example"));
        assert_eq!(name("addr=10.0.0.1,rw"), None);
        assert_eq!(name("addr=fd00::1"), None);
        assert_eq!(name("rw"), None);
        assert_eq!(server_name(&mounted("tmpfs", "x", "addr=files")), None);
        assert_eq!(shown("user=a,password=secret,vers=3"), "user=a,password=********,vers=3");
    }
}
