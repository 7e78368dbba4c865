//! Directory contents: blocks of 12-byte entries followed by their names, in byte order over all blocks.

use super::BLOCK;

const ENTRY: usize = 12;

/// An entry: name, inode number, file type byte.
pub(super) type Entry<'a> = (&'a [u8], u64, u8);

/// How many of the names go into each block, and the bytes of the last block.
fn split<'a>(names: impl Iterator<Item = &'a [u8]>) -> (Vec<usize>, usize) {
    let (mut blocks, mut count, mut used) = (Vec::new(), 0, 0);
    for name in names {
        let bytes = ENTRY + name.len();
        if used + bytes > BLOCK as usize {
            blocks.push(count);
            (count, used) = (0, 0);
        }
        count += 1;
        used += bytes;
    }
    blocks.push(count);
    (blocks, used)
}

/// The size of a directory with these names, sorted, `.` and `..` among them.
pub(super) fn size<'a>(names: impl Iterator<Item = &'a [u8]>) -> u64 {
    let (blocks, last) = split(names);
    (blocks.len() as u64 - 1) * BLOCK + last as u64
}

/// The contents; `entries` as for [`size`].
pub(super) fn encode(entries: &[Entry<'_>]) -> Vec<u8> {
    let (blocks, _) = split(entries.iter().map(|entry| entry.0));
    let mut contents = Vec::new();
    let mut rest = entries;
    for count in blocks {
        contents.resize(contents.len().next_multiple_of(BLOCK as usize), 0);
        let (block, behind) = rest.split_at(count);
        rest = behind;
        let mut name_at = count * ENTRY;
        for &(name, nid, file_type) in block {
            contents.extend_from_slice(&nid.to_le_bytes());
            contents.extend_from_slice(&(name_at as u16).to_le_bytes());
            contents.extend_from_slice(&[file_type, 0]);
            name_at += name.len();
        }
        for (name, _, _) in block {
            contents.extend_from_slice(name);
        }
    }
    contents
}
