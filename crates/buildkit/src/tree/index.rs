//! The list of what a place holds, as a file: a head, the entries as length-delimited messages, the SHA-256 of all that. The head holds the
//! kernel's boot id: contents are not forced to the disk, so that after a crash of the machine they can't be relied upon.

use super::entry::{Entry, Kind};
use crate::wire::fsutil::Stat;
use prost::Message;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

const MAGIC: &[u8] = b"corten tree 1\n";

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(message, optional, tag = "1")]
    stat: Option<Stat>,
    #[prost(bytes = "vec", tag = "2")]
    sha256: Vec<u8>,
}

/// What the file says, if it is whole and of this boot.
pub fn read(path: &Path) -> io::Result<Option<Vec<Entry>>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(parse(&bytes, &boot_id()?))
}

/// Replaces the file as a whole.
pub fn write(path: &Path, entries: &[Entry]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = fs::File::create(&fresh)?;
    file.write_all(&format(entries, &boot_id()?))?;
    drop(file);
    fs::rename(&fresh, path)
}

fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
}

fn format(entries: &[Entry], boot_id: &str) -> Vec<u8> {
    let mut bytes = [MAGIC, boot_id.trim().as_bytes(), b"\n"].concat();
    for entry in entries {
        let sha256 = match &entry.kind {
            Kind::File { sha256: Some(sha256), .. } => sha256.to_vec(),
            _ => Vec::new(),
        };
        bytes.extend(Record { stat: Some(entry.to_stat()), sha256 }.encode_length_delimited_to_vec());
    }
    let sum = digest(&SHA256, &bytes);
    bytes.extend_from_slice(sum.as_ref());
    bytes
}

fn parse(bytes: &[u8], boot_id: &str) -> Option<Vec<Entry>> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(SHA256_OUTPUT_LEN)?)?;
    if digest(&SHA256, body).as_ref() != sum {
        return None;
    }
    let mut records =
        body.strip_prefix(MAGIC)?.strip_prefix(boot_id.trim().as_bytes())?.strip_prefix(b"\n")?;
    let mut entries = Vec::new();
    while !records.is_empty() {
        let record = Record::decode_length_delimited(&mut records).ok()?;
        let mut entry = Entry::from_stat(record.stat?).ok()?;
        if let Kind::File { sha256, .. } = &mut entry.kind {
            *sha256 = Some(record.sha256.try_into().ok()?);
        }
        entries.push(entry);
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let kinds = [
            ("a", Kind::Directory),
            ("a/b", Kind::File { bytes: 3, sha256: Some([7; 32]) }),
            ("a/c", Kind::HardLink { to: "a/b".into() }),
            ("d", Kind::Symlink { to: "/etc/passwd".into() }),
            ("e", Kind::Pipe),
        ];
        let entry = |(path, kind): (&str, Kind)| Entry {
            path: path.into(),
            kind,
            mode: 0o4755,
            uid: 1,
            gid: 2,
            modified_ns: -5,
            xattrs: [("user.x".to_owned(), vec![1])].into(),
        };
        kinds.into_iter().map(entry).collect()
    }

    #[test]
    fn what_was_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, &entries()).unwrap();
        assert_eq!(read(&path).unwrap(), Some(entries()));
    }

    #[test]
    fn torn_changed_or_old_lists_count_as_none() {
        let bytes = format(&entries(), "boot one\n");
        assert!(parse(&bytes, "boot one").is_some());
        assert_eq!(parse(&bytes, "boot two"), None);
        for length in [0, 1, bytes.len() - 1] {
            assert_eq!(parse(&bytes[..length], "boot one"), None, "{length}");
        }
        let mut changed = bytes;
        changed[40] ^= 1;
        assert_eq!(parse(&changed, "boot one"), None);
    }
}
