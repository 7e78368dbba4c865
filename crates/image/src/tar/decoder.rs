//! The decoder: takes header blocks and metadata, gives entries; whoever drives it moves the bytes.
//!
//! Strict where two readers could see different archives in the same bytes (a PAX size beside another size
//! in the header, two names for one entry, an unknown sparse version): those archives are refused.

use super::header::{
    FLAG, Format, GID, GNU_REAL_SIZE, GROUP, Header, LINK, MAJOR, MINOR, MODE, MTIME, SIZE, UID, USER,
    c_string,
};
use super::pax::Records;
use super::{BLOCK, Device, Entry, Extent, Kind, TarError, Time, sparse};

/// How much metadata one entry may bring.
#[derive(Clone, Copy, Debug)]
pub struct MetadataLimits {
    /// Bytes of long names, PAX records and sparse maps together.
    pub bytes_max: u64,
}

impl Default for MetadataLimits {
    fn default() -> MetadataLimits {
        MetadataLimits { bytes_max: 1 << 20 }
    }
}

/// What the bytes fed so far say.
#[derive(Debug)]
pub enum Event {
    /// Feed again: [`Decoder::need`] bytes.
    More,
    /// An entry; its `stored_bytes` of data and the padding to a whole block come next and are not fed.
    Entry(Box<Entry>),
    /// The end mark. What follows is padding.
    End,
}

/// The state between two feeds.
#[derive(Debug)]
enum State {
    Header,
    /// One block of zeros was seen.
    Zero,
    /// The payload of a metadata header: its flag and length.
    Metadata(u8, u64),
    /// A block of an old GNU sparse map.
    GnuMap(Box<Entry>, Vec<Extent>),
    /// A block of a PAX 1.0 sparse map.
    PaxMap(Box<Entry>, sparse::Map),
    End,
}

/// The metadata headers in front of an entry.
#[derive(Debug, Default)]
struct Pending {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Option<Records>,
    bytes: u64,
}

/// A tar decoder without I/O.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    pending: Pending,
    limits: MetadataLimits,
    /// Bytes of the archive up to the next feed, data of entries included.
    offset: u64,
    /// The entry or header last seen, for errors.
    place: String,
}

impl Decoder {
    pub fn new(limits: MetadataLimits) -> Decoder {
        Decoder {
            state: State::Header,
            pending: Pending::default(),
            limits,
            offset: 0,
            place: "the first header".to_owned(),
        }
    }

    /// How many bytes the next feed takes: whole blocks.
    pub fn need(&self) -> usize {
        match &self.state {
            // Bounded by the limit when the state was entered.
            State::Metadata(_, bytes) => padded(*bytes) as usize,
            _ => BLOCK,
        }
    }

    /// Where in the archive the decoder stands, for errors.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the archive may end here without an end mark.
    pub fn may_end(&self) -> bool {
        match self.state {
            State::Header => self.pending.bytes == 0,
            State::Zero | State::End => true,
            _ => false,
        }
    }

    /// The error for an input that ends here (in a header, or in the data of the last entry).
    pub fn truncated(&self) -> TarError {
        TarError::Truncated { place: self.place.clone(), offset: self.offset }
    }

    /// Takes exactly [`Self::need`] bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Event, TarError> {
        self.offset += bytes.len() as u64;
        match std::mem::replace(&mut self.state, State::End) {
            State::Header => self.header(bytes),
            State::Zero if is_zero(bytes) => Ok(Event::End),
            State::Zero => Err(TarError::Checksum { offset: self.offset - BLOCK as u64 }),
            State::Metadata(flag, length) => {
                // The payload is as long as a header said that was checked against the limit.
                self.metadata(flag, &bytes[..length as usize])?;
                self.state = State::Header;
                Ok(Event::More)
            }
            State::GnuMap(entry, mut extents) => {
                self.count(BLOCK as u64)?;
                let more = sparse::gnu_block(bytes, &mut extents).map_err(|e| self.sparse_error(e))?;
                self.gnu_map(entry, extents, more)
            }
            State::PaxMap(entry, map) => self.pax_map(entry, map, bytes),
            State::End => Ok(Event::End),
        }
    }

    fn header(&mut self, block: &[u8]) -> Result<Event, TarError> {
        if is_zero(block) {
            if self.pending.bytes > 0 {
                return Err(self.truncated());
            }
            self.state = State::Zero;
            return Ok(Event::More);
        }
        let header = Header::check(block).ok_or(TarError::Checksum { offset: self.offset - BLOCK as u64 })?;
        self.place = String::from_utf8_lossy(&header.path()).into_owned();
        match header.flag() {
            flag @ (b'x' | b'g' | b'L' | b'K') => {
                let bytes = header.number(SIZE).and_then(|size| u64::try_from(size).ok());
                let bytes = bytes.ok_or_else(|| self.field("size"))?;
                self.count(bytes.saturating_add(BLOCK as u64))?;
                if bytes == 0 {
                    self.metadata(flag, &[])?;
                    self.state = State::Header;
                } else {
                    self.state = State::Metadata(flag, bytes);
                }
                Ok(Event::More)
            }
            _ => self.entry(&header),
        }
    }

    /// Adds to the metadata of the entry to come.
    fn count(&mut self, bytes: u64) -> Result<(), TarError> {
        self.pending.bytes = self.pending.bytes.saturating_add(bytes);
        if self.pending.bytes > self.limits.bytes_max {
            return Err(TarError::MetadataSize {
                entry: self.place.clone(),
                bytes: self.pending.bytes,
                bytes_max: self.limits.bytes_max,
            });
        }
        Ok(())
    }

    fn metadata(&mut self, flag: u8, payload: &[u8]) -> Result<(), TarError> {
        let twice = |place: &str| TarError::Ambiguous {
            entry: place.to_owned(),
            reason: "two extended headers of a kind in front of one entry",
        };
        match flag {
            b'x' => {
                let mut records = Records::default();
                records.parse(payload, &self.place)?;
                if self.pending.records.replace(records).is_some() {
                    return Err(twice(&self.place));
                }
            }
            // Go, and so Docker, gives global headers to the caller, who ignores them; so do we. They do not
            // count as something pending.
            b'g' => self.pending.bytes -= payload.len() as u64 + BLOCK as u64,
            _ => {
                let text = c_string(payload).to_vec();
                let slot = if flag == b'L' { &mut self.pending.path } else { &mut self.pending.link };
                if slot.replace(text).is_some() {
                    return Err(twice(&self.place));
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, header: &Header<'_>) -> Result<Event, TarError> {
        let pending = std::mem::take(&mut self.pending);
        let records = pending.records.unwrap_or_default();
        let path = self.either(pending.path, records.path, header.path())?;
        let path = records.sparse.name.clone().unwrap_or(path);
        self.place = String::from_utf8_lossy(&path).into_owned();
        let link = self.either(pending.link, records.link, header.text(LINK).to_vec())?;
        let kind = self.kind(header.flag(), &path)?;

        let mut entry = Box::new(Entry::new(kind, path, 0));
        entry.link = link;
        entry.mode = (self.number(header, MODE, "mode")? & 0o7777) as u32;
        entry.uid = self.id(header, UID, "uid", records.uid)?;
        entry.gid = self.id(header, GID, "gid", records.gid)?;
        let seconds = self.number(header, MTIME, "mtime")?;
        entry.mtime = records.mtime.unwrap_or(Time { seconds, nanoseconds: 0 });
        if header.format() != Format::V7 {
            entry.user = records.user.unwrap_or_else(|| header.text(USER).to_vec());
            entry.group = records.group.unwrap_or_else(|| header.text(GROUP).to_vec());
            if matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
                let part = |field, name| {
                    header.number(field).and_then(|n| u32::try_from(n).ok()).ok_or_else(|| self.field(name))
                };
                entry.device = Device { major: part(MAJOR, "devmajor")?, minor: part(MINOR, "devminor")? };
            }
        }
        entry.xattrs = records.xattrs;
        let stored = self.size(header, kind, records.size)?;
        entry.stored_bytes = stored;
        entry.size = stored;
        if kind != Kind::File {
            return Ok(self.emit(entry));
        }
        if header.flag() == b'S' {
            return self.old_gnu_sparse(header, entry);
        }
        self.pax_sparse(entry, &records.sparse)
    }

    /// The one name of an entry among the GNU long name, the PAX record and the header's field.
    fn either(
        &self,
        gnu: Option<Vec<u8>>,
        pax: Option<Vec<u8>>,
        field: Vec<u8>,
    ) -> Result<Vec<u8>, TarError> {
        match (gnu, pax) {
            (Some(gnu), Some(pax)) if gnu != pax => Err(TarError::Ambiguous {
                entry: self.place.clone(),
                reason: "a GNU long name and a PAX record that differ",
            }),
            (gnu, pax) => Ok(gnu.or(pax).unwrap_or(field)),
        }
    }

    fn kind(&self, flag: u8, path: &[u8]) -> Result<Kind, TarError> {
        Ok(match flag {
            // Archives older than POSIX mark a directory by its trailing slash.
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            flag => return Err(TarError::Type { entry: self.place.clone(), flag: char::from(flag) }),
        })
    }

    fn number(
        &self,
        header: &Header<'_>,
        field: std::ops::Range<usize>,
        name: &'static str,
    ) -> Result<i64, TarError> {
        header.number(field).ok_or_else(|| self.field(name))
    }

    fn id(
        &self,
        header: &Header<'_>,
        field: std::ops::Range<usize>,
        name: &'static str,
        record: Option<i64>,
    ) -> Result<u32, TarError> {
        let id = match record {
            Some(id) => id,
            None => self.number(header, field, name)?,
        };
        // -1 means "leave the owner" to chown(2); no file can belong to it.
        u32::try_from(id).ok().filter(|&id| id != u32::MAX).ok_or_else(|| self.field(name))
    }

    /// The number of bytes that follow. The field and the PAX record must not tell two stories: a reader that
    /// knows only one of them would take data for headers.
    fn size(&self, header: &Header<'_>, kind: Kind, record: Option<u64>) -> Result<u64, TarError> {
        const OCTAL_MAX: u64 = 0o77_777_777_777;
        let field = self.number(header, SIZE, "size")?;
        let field = u64::try_from(field).map_err(|_| self.field("size"))?;
        let ambiguous = |reason| Err(TarError::Ambiguous { entry: self.place.clone(), reason });
        if kind.header_only() {
            return match record {
                Some(1..) => ambiguous("a PAX size for an entry without data"),
                _ => Ok(0),
            };
        }
        match record {
            None => Ok(field),
            Some(size) if size == field => Ok(size),
            Some(size) if size > OCTAL_MAX && (field == 0 || field == OCTAL_MAX) => Ok(size),
            // Writers that always bring a PAX size may leave the field at zero.
            Some(_) => ambiguous("its PAX size and the size in its header differ"),
        }
    }

    fn old_gnu_sparse(&mut self, header: &Header<'_>, mut entry: Box<Entry>) -> Result<Event, TarError> {
        if header.format() != Format::Gnu {
            return Err(TarError::Type {
                entry: self.place.clone(),
                flag: char::from(header.bytes(FLAG..FLAG + 1)[0]),
            });
        }
        let size = self.number(header, GNU_REAL_SIZE, "real size")?;
        entry.size = u64::try_from(size).map_err(|_| self.field("real size"))?;
        let mut extents = Vec::new();
        let more = sparse::gnu_header(header, &mut extents).map_err(|e| self.sparse_error(e))?;
        self.gnu_map(entry, extents, more)
    }

    fn gnu_map(
        &mut self,
        mut entry: Box<Entry>,
        extents: Vec<Extent>,
        more: bool,
    ) -> Result<Event, TarError> {
        if more {
            self.state = State::GnuMap(entry, extents);
            return Ok(Event::More);
        }
        let extents = sparse::check(extents, entry.size, entry.stored_bytes);
        entry.sparse = Some(extents.map_err(|reason| self.sparse_error(reason))?);
        Ok(self.emit(entry))
    }

    fn pax_sparse(
        &mut self,
        mut entry: Box<Entry>,
        records: &super::pax::SparseRecords,
    ) -> Result<Event, TarError> {
        let extents = match (records.major, records.minor) {
            (Some(1), Some(0)) => {
                entry.size = records.real_size.ok_or_else(|| self.sparse_error("no real size"))?;
                self.state = State::PaxMap(entry, sparse::Map::default());
                return Ok(Event::More);
            }
            (None, None) if records.map.is_none() && records.numbers.is_empty() => {
                return Ok(self.emit(entry));
            }
            (None, None) | (Some(0), Some(0 | 1)) => sparse::pax_records(records),
            _ => Err("unknown version"),
        };
        let extents = extents.map_err(|reason| self.sparse_error(reason))?;
        entry.size = records.real_size.ok_or_else(|| self.sparse_error("no real size"))?;
        let extents = sparse::check(extents, entry.size, entry.stored_bytes);
        entry.sparse = Some(extents.map_err(|reason| self.sparse_error(reason))?);
        Ok(self.emit(entry))
    }

    fn pax_map(
        &mut self,
        mut entry: Box<Entry>,
        mut map: sparse::Map,
        block: &[u8],
    ) -> Result<Event, TarError> {
        self.count(BLOCK as u64)?;
        let complete = map.block(block).map_err(|reason| self.sparse_error(reason))?;
        if map.bytes > padded(entry.stored_bytes) {
            return Err(self.sparse_error("the map is longer than the data"));
        }
        if !complete {
            self.state = State::PaxMap(entry, map);
            return Ok(Event::More);
        }
        entry.stored_bytes = entry.stored_bytes.saturating_sub(map.bytes);
        let extents = sparse::check(map.extents(), entry.size, entry.stored_bytes);
        entry.sparse = Some(extents.map_err(|reason| self.sparse_error(reason))?);
        Ok(self.emit(entry))
    }

    fn emit(&mut self, entry: Box<Entry>) -> Event {
        self.pending = Pending::default();
        self.state = State::Header;
        self.offset += padded(entry.stored_bytes);
        Event::Entry(entry)
    }

    fn field(&self, field: &'static str) -> TarError {
        TarError::Field { entry: self.place.clone(), field }
    }

    fn sparse_error(&self, reason: &'static str) -> TarError {
        TarError::Sparse { entry: self.place.clone(), reason }
    }
}

/// Rounds up to whole blocks.
pub(super) fn padded(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK as u64).saturating_mul(BLOCK as u64)
}

pub(super) fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|&byte| byte == 0)
}
