//! The file with the names of one network: its format, writing it, looking a name up in it.
//!
//! The first line is [`MAGIC`], a tab and the network's name. Each further line is a name in lower case, `A`, `AAAA` or `PTR`,
//! and an address or a name, with tabs between; the lines are sorted by their bytes. A file is never changed but
//! replaced. So every monitor finds a name by bisection, with a few reads and without keeping anything: many containers
//! in large networks cost no memory but the file's own.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The beginning of the first line.
pub const MAGIC: &str = "corten-names-1";

/// No line has more bytes: two names and a type.
const LINE_BYTES_MAX: usize = 2 * 255 + 8;
/// Bytes that a lookup reads at a time.
const BLOCK: usize = 4096;
/// The most records of one name.
const RECORDS_MAX: usize = 4096;

/// Collects a network's names and makes its file of them.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    lines: BTreeSet<String>,
}

impl Builder {
    /// Says that `name` has this address. A name that no query can ask for is left out.
    pub fn address(&mut self, name: &str, address: IpAddr) {
        if is_name(name) {
            let kind = if address.is_ipv4() { "A" } else { "AAAA" };
            self.lines.insert(format!("{}\t{kind}\t{address}\n", name.to_ascii_lowercase()));
        }
    }

    /// Says whose address it is.
    pub fn pointer(&mut self, address: IpAddr, name: &str) {
        if is_name(name) {
            self.lines.insert(format!("{}\tPTR\t{name}\n", reverse_name(address)));
        }
    }

    /// The content of the file.
    pub fn build(&self, network: &str) -> Vec<u8> {
        let network = if is_name(network) { network } else { "" };
        let mut text = format!("{MAGIC}\t{}\n", network.to_ascii_lowercase());
        text.extend(self.lines.iter().map(String::as_str));
        text.into_bytes()
    }
}

/// Whether a query could ask for it: labels of 1 to 63 visible bytes.
fn is_name(name: &str) -> bool {
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(|b| b > b' ' && b != 0x7f);
    name.len() <= 253 && name.split('.').all(label)
}

/// The name under which an address is looked up (RFC 1035, 3.5; RFC 3596, 2.5).
pub fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let nibbles = address.octets().into_iter().rev().flat_map(|byte| [byte & 0x0f, byte >> 4]);
            let digits = nibbles.filter_map(|nibble| char::from_digit(u32::from(nibble), 16));
            digits.flat_map(|digit| [digit, '.']).chain("ip6.arpa".chars()).collect()
        }
    }
}

/// What a file says of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub v4: Vec<Ipv4Addr>,
    pub v6: Vec<Ipv6Addr>,
    pub pointers: Vec<String>,
}

impl Found {
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty() && self.pointers.is_empty()
    }

    fn add(&mut self, kind: &[u8], data: &[u8]) {
        let Ok(data) = std::str::from_utf8(data) else { return };
        match kind {
            b"A" => self.v4.extend(data.parse::<Ipv4Addr>().ok()),
            b"AAAA" => self.v6.extend(data.parse::<Ipv6Addr>().ok()),
            b"PTR" => self.pointers.push(data.to_owned()),
            _ => {}
        }
    }
}

/// A file, open for lookups.
#[derive(Debug)]
pub struct Names {
    file: File,
    /// The network's name; empty when there is none that a query could have.
    pub network: Vec<u8>,
    start: u64,
    end: u64,
}

impl Names {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let end = file.metadata()?.len();
        let mut head = [0; LINE_BYTES_MAX];
        let head = read(&file, &mut head, 0)?;
        let line = memchr::memchr(b'\n', head).map(|end| &head[..end]).ok_or(io::ErrorKind::InvalidData)?;
        let network = line.strip_prefix(MAGIC.as_bytes()).and_then(|rest| rest.strip_prefix(b"\t"));
        let network = network.ok_or(io::ErrorKind::InvalidData)?.to_vec();
        Ok(Self { network, start: line.len() as u64 + 1, end, file })
    }

    /// Everything about `name`, which is in lower case.
    pub fn find(&self, name: &[u8]) -> io::Result<Found> {
        let mut found = Found::default();
        let (mut count, mut offset) = (0, self.before(name)?);
        let mut block = [0; BLOCK];
        loop {
            let bytes = read(&self.file, &mut block, offset)?;
            // A line that the block cuts off is the next one's first.
            let Some(whole) = memchr::memrchr(b'\n', bytes) else { return Ok(found) };
            for line in bytes[..whole].split(|byte| *byte == b'\n') {
                match key(line).cmp(name) {
                    std::cmp::Ordering::Less => continue,
                    std::cmp::Ordering::Greater => return Ok(found),
                    std::cmp::Ordering::Equal => {}
                }
                let mut fields = line.split(|byte| *byte == b'\t').skip(1);
                found.add(fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
                count += 1;
                if count == RECORDS_MAX {
                    return Ok(found);
                }
            }
            offset += whole as u64 + 1;
        }
    }

    /// The beginning of a line at or before the first one about `name`, and not much before.
    fn before(&self, name: &[u8]) -> io::Result<u64> {
        let (mut low, mut high) = (self.start, self.end);
        let mut probe = [0; 2 * LINE_BYTES_MAX];
        while high.saturating_sub(low) > BLOCK as u64 / 2 {
            let middle = low.midpoint(high);
            let bytes = read(&self.file, &mut probe, middle)?;
            let line = memchr::memchr(b'\n', bytes).map(|end| end + 1);
            let lesser = line.filter(|line| bytes.get(*line..).is_some_and(|rest| key(rest) < name));
            match lesser {
                Some(line) => low = middle + line as u64,
                // Whatever begins behind the middle comes behind the name, or is cut off: look before.
                None => high = middle,
            }
        }
        Ok(low)
    }
}

/// The name at the beginning of a line. Sorted lines are sorted by it too, as no byte of a name comes before the tab.
fn key(line: &[u8]) -> &[u8] {
    &line[..memchr::memchr2(b'\t', b'\n', line).unwrap_or(line.len())]
}

/// Reads as much as there is and fits.
fn read<'a>(file: &File, buffer: &'a mut [u8], offset: u64) -> io::Result<&'a [u8]> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read_at(&mut buffer[len..], offset + len as u64) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(&buffer[..len])
}

#[cfg(test)]
mod tests;
