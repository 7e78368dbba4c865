//! Extended attributes: inline in the inode, or in a table shared by all inodes once a pair was seen twice.

use std::collections::HashMap;
use std::io;

use super::format::XATTR_BYTES_MAX;

/// Name prefixes and their numbers. The ACL names have no rest.
const PREFIXES: [(u8, &[u8], bool); 5] = [
    (1, b"user.", true),
    (2, b"system.posix_acl_access", false),
    (3, b"system.posix_acl_default", false),
    (4, b"trusted.", true),
    (6, b"security.", true),
];

/// The shared table stops growing here; later pairs go inline.
const TABLE_BYTES_MAX: usize = 1 << 20;
const PAIRS_MAX: usize = 1 << 16;
const SHARED_PER_INODE_MAX: usize = 255;

/// The number of a name's prefix, and the rest; `None` for names the format has no prefix for.
pub(super) fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|&(index, prefix, with_rest)| {
        let rest = name.strip_prefix(prefix)?;
        (rest.is_empty() != with_rest && rest.len() <= 255).then_some((index, rest))
    })
}

/// The full name behind a prefix number and a rest.
pub(super) fn join(index: u8, rest: &[u8]) -> Option<Vec<u8>> {
    let (_, prefix, _) = PREFIXES.iter().find(|&&(known, _, _)| known == index)?;
    Some([prefix, rest].concat())
}

/// The table of shared pairs in the making.
#[derive(Default)]
pub(super) struct Shared {
    table: Vec<u8>,
    /// Encoded pairs seen so far; with their number once they are in the table.
    seen: HashMap<Vec<u8>, Option<u32>>,
}

impl Shared {
    pub(super) fn table(&self) -> &[u8] {
        &self.table
    }

    /// The attribute area of an inode (empty when it has none).
    pub(super) fn area(&mut self, xattrs: &[(Vec<u8>, Vec<u8>)]) -> io::Result<Vec<u8>> {
        let (mut inline, mut shared) = (Vec::new(), Vec::new());
        for (name, value) in xattrs {
            let entry = encode(name, value)?;
            match self.number(&entry) {
                Some(number) if shared.len() < SHARED_PER_INODE_MAX => shared.push(number),
                _ => inline.extend_from_slice(&entry),
            }
        }
        assemble(&shared, &inline)
    }

    /// An attribute area that takes as little room in the inode as can be: everything shared.
    pub(super) fn shared_area(&mut self, xattrs: &[(Vec<u8>, Vec<u8>)]) -> io::Result<Vec<u8>> {
        let mut shared = Vec::new();
        for (name, value) in xattrs {
            shared.push(self.append(&encode(name, value)?));
        }
        if shared.len() > SHARED_PER_INODE_MAX {
            return Err(too_large());
        }
        assemble(&shared, &[])
    }

    fn number(&mut self, entry: &[u8]) -> Option<u32> {
        match self.seen.get(entry) {
            Some(Some(number)) => Some(*number),
            Some(None) if self.table.len() + entry.len() <= TABLE_BYTES_MAX => {
                let number = self.append(entry);
                self.seen.insert(entry.to_vec(), Some(number));
                Some(number)
            }
            None if self.seen.len() < PAIRS_MAX && entry.len() <= 4096 => {
                self.seen.insert(entry.to_vec(), None);
                None
            }
            _ => None,
        }
    }

    /// Numbers count the table in units of four bytes.
    fn append(&mut self, entry: &[u8]) -> u32 {
        let number = (self.table.len() / 4) as u32;
        self.table.extend_from_slice(entry);
        number
    }
}

/// The 12-byte header, the numbers of shared pairs, the inline pairs.
fn assemble(shared: &[u32], inline: &[u8]) -> io::Result<Vec<u8>> {
    if shared.is_empty() && inline.is_empty() {
        return Ok(Vec::new());
    }
    let mut area = vec![0u8; 12];
    area[4] = shared.len() as u8;
    for number in shared {
        area.extend_from_slice(&number.to_le_bytes());
    }
    area.extend_from_slice(inline);
    if area.len() > XATTR_BYTES_MAX { Err(too_large()) } else { Ok(area) }
}

fn encode(name: &[u8], value: &[u8]) -> io::Result<Vec<u8>> {
    let (index, rest) = split(name).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "extended attribute of an unknown namespace")
    })?;
    let value_bytes = u16::try_from(value.len()).map_err(|_| too_large())?;
    let mut entry = vec![rest.len() as u8, index];
    entry.extend_from_slice(&value_bytes.to_le_bytes());
    entry.extend_from_slice(rest);
    entry.extend_from_slice(value);
    entry.resize(entry.len().next_multiple_of(4), 0);
    Ok(entry)
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "extended attributes of more than 256 KiB on one file")
}
