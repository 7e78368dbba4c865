//! The 512-byte header block: fields, numbers, checksum. Formats and leniency as in Go's archive/tar.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 100 | name |
//! | 100 | 8+8+8 | mode, uid, gid |
//! | 124 | 12+12 | size, mtime |
//! | 148 | 8 | checksum |
//! | 156 | 1 | type flag |
//! | 157 | 100 | link name |
//! | 257 | 8 | magic and version |
//! | 265 | 32+32 | user, group name |
//! | 329 | 8+8 | device major, minor |
//! | 345 | 155 | prefix (ustar); 386: sparse map, 482: extended, 483: real size (old GNU) |

use std::ops::Range;

use super::BLOCK;

pub(super) const NAME: Range<usize> = 0..100;
pub(super) const MODE: Range<usize> = 100..108;
pub(super) const UID: Range<usize> = 108..116;
pub(super) const GID: Range<usize> = 116..124;
pub(super) const SIZE: Range<usize> = 124..136;
pub(super) const MTIME: Range<usize> = 136..148;
pub(super) const CHECKSUM: Range<usize> = 148..156;
pub(super) const FLAG: usize = 156;
pub(super) const LINK: Range<usize> = 157..257;
pub(super) const MAGIC: Range<usize> = 257..265;
pub(super) const USER: Range<usize> = 265..297;
pub(super) const GROUP: Range<usize> = 297..329;
pub(super) const MAJOR: Range<usize> = 329..337;
pub(super) const MINOR: Range<usize> = 337..345;
pub(super) const PREFIX: Range<usize> = 345..500;
pub(super) const GNU_SPARSE: Range<usize> = 386..482;
pub(super) const GNU_EXTENDED: usize = 482;
pub(super) const GNU_REAL_SIZE: Range<usize> = 483..495;

/// Which dialect a header is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    V7,
    Ustar,
    Gnu,
}

/// A header block whose checksum holds.
pub(super) struct Header<'a>(&'a [u8]);

impl<'a> Header<'a> {
    /// Checks the checksum; both the signed and the unsigned sum count, as some old writers got it wrong.
    pub(super) fn check(block: &'a [u8]) -> Option<Header<'a>> {
        let stored = octal(&block[CHECKSUM])?;
        let (unsigned, signed) = checksums(block);
        (stored == unsigned || stored as i64 == signed).then_some(Header(block))
    }

    pub(super) fn format(&self) -> Format {
        match &self.0[MAGIC] {
            b"ustar  \0" => Format::Gnu,
            magic if &magic[..6] == b"ustar\0" => Format::Ustar,
            _ => Format::V7,
        }
    }

    pub(super) fn flag(&self) -> u8 {
        self.0[FLAG]
    }

    /// A field that ends at its first NUL or its end.
    pub(super) fn text(&self, field: Range<usize>) -> &'a [u8] {
        c_string(&self.0[field])
    }

    /// A number, octal or base 256.
    pub(super) fn number(&self, field: Range<usize>) -> Option<i64> {
        number(&self.0[field])
    }

    pub(super) fn bytes(&self, field: Range<usize>) -> &'a [u8] {
        &self.0[field]
    }

    /// The name with the ustar prefix in front, when the format has one.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = self.text(NAME);
        let prefix = if self.format() == Format::Ustar { self.text(PREFIX) } else { b"" };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }
}

pub(super) fn c_string(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// The sums of all bytes, the checksum field counted as spaces.
pub(super) fn checksums(block: &[u8]) -> (u64, i64) {
    let (mut unsigned, mut signed) = (0u64, 0i64);
    for (at, &byte) in block[..BLOCK].iter().enumerate() {
        let byte = if CHECKSUM.contains(&at) { b' ' } else { byte };
        unsigned += u64::from(byte);
        signed += i64::from(byte as i8);
    }
    (unsigned, signed)
}

/// A number in octal digits, or big-endian two's complement when the first bit is set (GNU, star).
pub(super) fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 == 0 {
        return octal(field).and_then(|value| i64::try_from(value).ok());
    }
    // Bit 6 of the first byte is the sign: Go and star count the marker bit out.
    let invert = if field[0] & 0x40 != 0 { 0xff } else { 0 };
    let mut value = 0u64;
    for (at, &byte) in field.iter().enumerate() {
        let mut byte = byte ^ invert;
        if at == 0 {
            byte &= 0x7f;
        }
        if value >> 56 != 0 {
            return None;
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).ok()?;
    Some(if invert == 0xff { !value } else { value })
}

/// Octal digits among leading spaces and trailing spaces or NULs; an empty field is zero.
pub(super) fn octal(field: &[u8]) -> Option<u64> {
    let padding = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| !padding(byte)).unwrap_or(field.len());
    let end = field.iter().rposition(|byte| !padding(byte)).map_or(start, |last| last + 1);
    // Go parses up to a NUL inside, so "0000644\0garbage" is a number.
    let digits = c_string(&field[start..end]);
    let mut value = 0u64;
    for &digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 7 || value >> 61 != 0 {
            return None;
        }
        value = value << 3 | u64::from(digit);
    }
    Some(value)
}
