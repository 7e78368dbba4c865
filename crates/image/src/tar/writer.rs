//! Writes archives: ustar headers, with a PAX header in front when a field does not fit or nanoseconds,
//! attributes or non-ASCII names ask for it. The same entries always give the same bytes.

use std::io::{self, Read, Write};

use super::decoder::padded;
use super::header::{
    CHECKSUM, FLAG, GID, GROUP, LINK, MAGIC, MAJOR, MINOR, MODE, MTIME, NAME, PREFIX, SIZE, UID, USER,
    checksums,
};
use super::{BLOCK, Entry, Kind};

/// Writes entries one after the other; [`Writer::finish`] ends the archive.
pub struct Writer<W> {
    output: W,
    /// Data of the current entry still to be written, and the padding behind it.
    data_bytes: u64,
    padding_bytes: u64,
}

impl<W: Write> Writer<W> {
    pub fn new(output: W) -> Writer<W> {
        Writer { output, data_bytes: 0, padding_bytes: 0 }
    }

    /// Writes an entry with its data: exactly `entry.size` bytes, or an error.
    pub fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
        self.append_header(entry)?;
        let left = self.data_bytes;
        let copied = io::copy(&mut data.take(left), self)?;
        if copied < left {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{}: file shrank", entry.name()),
            ));
        }
        Ok(())
    }

    /// Writes an entry's headers; `entry.size` bytes of data must then be written to the writer. The sparse
    /// map is ignored: files are written in full.
    pub fn append_header(&mut self, entry: &Entry) -> io::Result<()> {
        self.complete()?;
        let mut fields = Fields::new(entry);
        let block = fields.block(entry);
        if !fields.records.is_empty() {
            let mut name = b"PaxHeaders/".to_vec();
            name.extend_from_slice(last_component(&entry.path));
            name.truncate(NAME.len());
            let mut header = Entry::new(Kind::File, name, 0o644);
            header.size = fields.records.len() as u64;
            let mut block = Fields::default().block(&header);
            block[FLAG] = b'x';
            seal(&mut block);
            self.output.write_all(&block)?;
            self.output.write_all(&fields.records)?;
            self.pad(padded(header.size) - header.size)?;
        }
        self.output.write_all(&block)?;
        if entry.kind == Kind::File {
            self.data_bytes = entry.size;
            self.padding_bytes = padded(entry.size) - entry.size;
        }
        Ok(())
    }

    /// Writes the end mark and gives the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.complete()?;
        self.pad(2 * BLOCK as u64)?;
        self.output.flush()?;
        Ok(self.output)
    }

    /// Ends the current entry.
    fn complete(&mut self) -> io::Result<()> {
        if self.data_bytes > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} bytes of an entry's data are missing", self.data_bytes),
            ));
        }
        let padding = std::mem::take(&mut self.padding_bytes);
        self.pad(padding)
    }

    /// Lets `write` put up to `bytes` bytes of the current entry's data into the output; it tells how many it did.
    pub fn data_by(
        &mut self,
        bytes: usize,
        write: impl FnOnce(&mut W, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let room = bytes.min(usize::try_from(self.data_bytes).unwrap_or(usize::MAX));
        let count = write(&mut self.output, room)?;
        self.data_bytes = self.data_bytes.saturating_sub(count as u64);
        Ok(count)
    }

    fn pad(&mut self, bytes: u64) -> io::Result<()> {
        const ZEROS: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
        // At most the end mark, two blocks.
        self.output.write_all(&ZEROS[..bytes as usize])
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let want = bytes.len().min(usize::try_from(self.data_bytes).unwrap_or(usize::MAX));
        if want == 0 && !bytes.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more data than the entry's size"));
        }
        let count = self.output.write(&bytes[..want])?;
        self.data_bytes -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// A header in the making, and the PAX records of what did not fit.
#[derive(Default)]
struct Fields {
    records: Vec<u8>,
}

impl Fields {
    fn new(entry: &Entry) -> Fields {
        let mut fields = Fields::default();
        if entry.mtime.nanoseconds != 0 || octal_overflow(entry.mtime.seconds, MTIME.len()) {
            let text = time_text(entry.mtime.seconds, entry.mtime.nanoseconds);
            fields.record(b"mtime", text.as_bytes());
        }
        for (name, value) in &entry.xattrs {
            fields.record(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        fields
    }

    fn block(&mut self, entry: &Entry) -> [u8; BLOCK] {
        let mut block = [0u8; BLOCK];
        self.path(&mut block, &entry.path);
        self.number(&mut block, MODE, "", i64::from(entry.mode));
        self.number(&mut block, UID, "uid", i64::from(entry.uid));
        self.number(&mut block, GID, "gid", i64::from(entry.gid));
        let size = if entry.kind == Kind::File { entry.size } else { 0 };
        self.number(&mut block, SIZE, "size", i64::try_from(size).unwrap_or(i64::MAX));
        // A time that does not fit already has its record.
        self.number(&mut block, MTIME, "", entry.mtime.seconds);
        block[FLAG] = flag(entry.kind);
        if matches!(entry.kind, Kind::Symlink | Kind::HardLink) {
            self.text(&mut block, LINK, "linkpath", &entry.link);
        }
        block[MAGIC].copy_from_slice(b"ustar\x0000");
        self.text(&mut block, USER, "uname", &entry.user);
        self.text(&mut block, GROUP, "gname", &entry.group);
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            // Linux has 12 bits of major and 20 of minor number: both fit into seven octal digits.
            self.number(&mut block, MAJOR, "", i64::from(entry.device.major));
            self.number(&mut block, MINOR, "", i64::from(entry.device.minor));
        }
        seal(&mut block);
        block
    }

    /// The name, split at a slash into prefix and name when that makes it fit.
    fn path(&mut self, block: &mut [u8; BLOCK], path: &[u8]) {
        if path.len() > NAME.len() && path.is_ascii() {
            let last = path.len().min(PREFIX.len() + 1);
            let split = path[..last].iter().rposition(|&byte| byte == b'/').filter(|&at| {
                let name = path.len() - at - 1;
                at > 0 && name > 0 && name <= NAME.len()
            });
            if let Some(at) = split {
                block[PREFIX][..at].copy_from_slice(&path[..at]);
                block[NAME][..path.len() - at - 1].copy_from_slice(&path[at + 1..]);
                return;
            }
        }
        self.text(block, NAME, "path", path);
    }

    fn text(&mut self, block: &mut [u8; BLOCK], field: std::ops::Range<usize>, key: &str, text: &[u8]) {
        if text.len() > field.len() || !text.is_ascii() {
            self.record(key.as_bytes(), text);
        }
        let count = text.len().min(field.len());
        block[field][..count].copy_from_slice(&text[..count]);
    }

    fn number(&mut self, block: &mut [u8; BLOCK], field: std::ops::Range<usize>, key: &str, value: i64) {
        let digits = field.len() - 1;
        let fits = !octal_overflow(value, field.len());
        if !fits && !key.is_empty() {
            self.record(key.as_bytes(), value.to_string().as_bytes());
        }
        let text = format!("{:0digits$o}", if fits { value } else { 0 });
        block[field][..digits].copy_from_slice(text.as_bytes());
    }

    /// Adds `<length> <key>=<value>\n`, where the length counts its own digits.
    fn record(&mut self, key: &[u8], value: &[u8]) {
        let body = key.len() + value.len() + 3;
        let mut length = body + decimal_digits(body);
        length = body + decimal_digits(length);
        self.records.extend_from_slice(format!("{length} ").as_bytes());
        self.records.extend_from_slice(key);
        self.records.push(b'=');
        self.records.extend_from_slice(value);
        self.records.push(b'\n');
    }
}

fn flag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

fn octal_overflow(value: i64, field_bytes: usize) -> bool {
    value < 0 || value >> (3 * (field_bytes - 1)) != 0
}

fn decimal_digits(number: usize) -> usize {
    number.to_string().len()
}

fn time_text(seconds: i64, nanoseconds: u32) -> String {
    if nanoseconds == 0 {
        return seconds.to_string();
    }
    let text = if seconds < 0 {
        let whole = seconds + 1;
        let sign = if whole == 0 { "-" } else { "" };
        format!("{sign}{whole}.{:09}", 1_000_000_000 - nanoseconds)
    } else {
        format!("{seconds}.{nanoseconds:09}")
    };
    text.trim_end_matches('0').to_owned()
}

fn last_component(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// Writes the checksum.
fn seal(block: &mut [u8; BLOCK]) {
    let (sum, _) = checksums(block);
    block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
