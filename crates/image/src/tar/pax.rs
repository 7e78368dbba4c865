//! PAX extended headers: records `<length> <key>=<value>\n`, as POSIX.1-2001 has them, checked as Go's
//! archive/tar does and stricter where two readers could disagree.

use super::{TarError, Time, Xattrs};

/// The records that matter, of one or more `x` headers.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    pub user: Option<Vec<u8>>,
    pub group: Option<Vec<u8>>,
    pub mtime: Option<Time>,
    pub xattrs: Xattrs,
    pub sparse: SparseRecords,
}

/// The `GNU.sparse.*` records; which of them are there tells the version.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
    pub map: Option<Vec<u8>>,
    /// Version 0.0: alternating `offset` and `numbytes` records, in order.
    pub numbers: Vec<u64>,
    pub count: Option<u64>,
}

impl Records {
    /// Adds the records of one header's payload. `entry` names the header in errors.
    pub(super) fn parse(&mut self, mut payload: &[u8], entry: &str) -> Result<(), TarError> {
        let invalid = |reason| TarError::Pax { entry: entry.to_owned(), reason };
        while !payload.is_empty() {
            let (key, value, rest) = record(payload).map_err(invalid)?;
            payload = rest;
            self.apply(key, value, entry)?;
        }
        if !self.sparse.numbers.len().is_multiple_of(2) {
            return Err(invalid("GNU.sparse.offset without GNU.sparse.numbytes"));
        }
        self.xattrs.sort();
        Ok(())
    }

    fn apply(&mut self, key: &[u8], value: &[u8], entry: &str) -> Result<(), TarError> {
        let invalid = |reason| TarError::Pax { entry: entry.to_owned(), reason };
        let once = |unchanged| {
            if unchanged {
                Ok(())
            } else {
                Err(TarError::Ambiguous { entry: entry.to_owned(), reason: "a PAX record is there twice" })
            }
        };
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            return self.xattr(name.to_vec(), value.to_vec(), true).map_err(invalid);
        }
        if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            let name = percent_decode(name).ok_or_else(|| invalid("xattr name encoding"))?;
            let value = base64_decode(value).ok_or_else(|| invalid("xattr value encoding"))?;
            return self.xattr(name, value, false).map_err(invalid);
        }
        let text = || if value.contains(&0) { Err(invalid("NUL in a name")) } else { Ok(value.to_vec()) };
        // An empty value cancels the record: the ustar field stands.
        if value.is_empty() {
            return Ok(());
        }
        let number = || decimal(value).ok_or_else(|| invalid("number"));
        let id = || -> Result<i64, TarError> {
            std::str::from_utf8(value).ok().and_then(|t| t.parse().ok()).ok_or_else(|| invalid("number"))
        };
        match key {
            b"path" => once(replace(&mut self.path, text()?)),
            b"linkpath" => once(replace(&mut self.link, text()?)),
            b"size" => once(replace(&mut self.size, number()?)),
            b"uid" => once(replace(&mut self.uid, id()?)),
            b"gid" => once(replace(&mut self.gid, id()?)),
            b"uname" => once(replace(&mut self.user, text()?)),
            b"gname" => once(replace(&mut self.group, text()?)),
            b"mtime" => once(replace(&mut self.mtime, time(value).ok_or_else(|| invalid("time"))?)),
            b"GNU.sparse.major" => once(replace(&mut self.sparse.major, number()?)),
            b"GNU.sparse.minor" => once(replace(&mut self.sparse.minor, number()?)),
            b"GNU.sparse.name" => once(replace(&mut self.sparse.name, text()?)),
            // Version 1.0 says realsize, 0.0 and 0.1 say size.
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => {
                once(replace(&mut self.sparse.real_size, number()?))
            }
            b"GNU.sparse.map" => once(replace(&mut self.sparse.map, value.to_vec())),
            b"GNU.sparse.numblocks" => once(replace(&mut self.sparse.count, number()?)),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                let odd = self.sparse.numbers.len() % 2 == 1;
                if odd != (key == b"GNU.sparse.numbytes") {
                    return Err(invalid("order of the GNU.sparse records"));
                }
                self.sparse.numbers.push(number()?);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Keeps an attribute; SCHILY (raw) wins over LIBARCHIVE, as bsdtar writes both.
    fn xattr(&mut self, name: Vec<u8>, value: Vec<u8>, wins: bool) -> Result<(), &'static str> {
        if name.is_empty() || name.len() > 255 || name.contains(&0) {
            return Err("xattr name");
        }
        if value.len() > usize::from(u16::MAX) {
            return Err("xattr value of more than 64 KiB");
        }
        match self.xattrs.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) if wins => *known = value,
            Some(_) => {}
            None => self.xattrs.push((name, value)),
        }
        Ok(())
    }
}

/// Sets a record; false when it was there with another value.
fn replace<T: PartialEq>(slot: &mut Option<T>, value: T) -> bool {
    match slot {
        Some(known) => *known == value,
        None => {
            *slot = Some(value);
            true
        }
    }
}

/// Key, value and what follows the record.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Splits one record off.
fn record(payload: &[u8]) -> Result<Record<'_>, &'static str> {
    let space = payload.iter().take(20).position(|&byte| byte == b' ').ok_or("record length")?;
    let length = decimal(&payload[..space]).ok_or("record length")?;
    let length = usize::try_from(length).map_err(|_| "record length")?;
    // "5 a=\n" is the shortest: a space, a key, an equals sign and a newline behind the digits.
    if length < space + 4 || length > payload.len() {
        return Err("record length");
    }
    let (record, rest) = payload.split_at(length);
    let body = record[space + 1..].strip_suffix(b"\n").ok_or("record without a newline")?;
    let equals = body.iter().position(|&byte| byte == b'=').ok_or("record without an equals sign")?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    if key.is_empty() || key.contains(&0) {
        return Err("record key");
    }
    Ok((key, value, rest))
}

pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &digit| {
        let digit = u64::from(digit.wrapping_sub(b'0'));
        if digit > 9 { None } else { value.checked_mul(10)?.checked_add(digit) }
    })
}

/// `[-]seconds[.fraction]`; digits below nanoseconds are cut off.
fn time(value: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let mut nanoseconds = 0u32;
    for at in 0..9 {
        let digit = fraction.as_bytes().get(at).map_or(0, |digit| u32::from(digit - b'0'));
        nanoseconds = nanoseconds * 10 + digit;
    }
    if negative && nanoseconds > 0 {
        // -1.25 is two seconds before 1970 and three quarters on.
        return Some(Time { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds });
    }
    Some(Time { seconds, nanoseconds })
}

fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        if text[at] == b'%' {
            let hex = std::str::from_utf8(text.get(at + 1..at + 3)?).ok()?;
            decoded.push(u8::from_str_radix(hex, 16).ok()?);
            at += 3;
        } else {
            decoded.push(text[at]);
            at += 1;
        }
    }
    Some(decoded)
}

/// Base 64 with or without padding (libarchive writes none).
fn base64_decode(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut decoded = Vec::with_capacity(text.len() / 4 * 3 + 3);
    for group in text.chunks(4) {
        let mut value = 0u32;
        for &digit in group {
            let digit = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            value = value << 6 | u32::from(digit);
        }
        let bytes = (value << (6 * (4 - group.len()))).to_be_bytes();
        match group.len() {
            4 => decoded.extend_from_slice(&bytes[1..4]),
            3 => decoded.extend_from_slice(&bytes[1..3]),
            2 => decoded.push(bytes[1]),
            _ => return None,
        }
    }
    Some(decoded)
}
