//! Tar archives: what an entry is, a decoder with the semantics of Go's archive/tar (OCI layers are defined
//! by what Go accepts), a streaming reader and a writer.
//!
//! Nothing here touches a file system or believes a path: names, targets and owners are data for the caller
//! to judge. [`Decoder`] does no I/O at all; [`Reader`] and [`Writer`] wrap `Read` and `Write`.

mod decoder;
mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use decoder::{Decoder, Event, MetadataLimits};
pub use reader::Reader;
pub use writer::Writer;

#[cfg(test)]
mod tests;

/// The size of a tar block; headers and data are padded to it.
pub const BLOCK: usize = 512;

/// A point in time with nanoseconds, possibly before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    pub seconds: i64,
    /// 0 to 999,999,999, always counted upwards from `seconds`.
    pub nanoseconds: u32,
}

/// Extended attributes: full names and values.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What an entry makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    CharDevice,
    BlockDevice,
    Fifo,
}

impl Kind {
    /// Whether an entry of this kind never has data behind its header, whatever its size field says.
    pub fn header_only(self) -> bool {
        self != Kind::File
    }
}

/// A run of real bytes in a sparse file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub offset: u64,
    pub bytes: u64,
}

/// One entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name as the archive has it: may be absolute, may contain `..`, may end with a slash.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// The target of a symbolic or hard link, verbatim.
    pub link: Vec<u8>,
    /// The permission bits with setuid, setgid and sticky: 12 bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub user: Vec<u8>,
    pub group: Vec<u8>,
    pub mtime: Time,
    /// The size of the file as a program sees it.
    pub size: u64,
    /// How many bytes of data follow in the archive (less than `size` for a sparse file; padding not counted).
    pub stored_bytes: u64,
    pub device: Device,
    /// Extended attributes by full name, in the order of the names.
    pub xattrs: Xattrs,
    /// The runs of real bytes, ascending and apart, whose sum is `stored_bytes`; `None` for a plain file.
    pub sparse: Option<Vec<Extent>>,
}

impl Entry {
    /// An entry of a kind with everything else empty, zero and owned by root: for writers.
    pub fn new(kind: Kind, path: impl Into<Vec<u8>>, mode: u32) -> Entry {
        Entry {
            path: path.into(),
            kind,
            link: Vec::new(),
            mode,
            uid: 0,
            gid: 0,
            user: Vec::new(),
            group: Vec::new(),
            mtime: Time::default(),
            size: 0,
            stored_bytes: 0,
            device: Device::default(),
            xattrs: Vec::new(),
            sparse: None,
        }
    }

    /// The path for people: lossy UTF-8.
    pub fn name(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

/// The numbers of a device node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Device {
    pub major: u32,
    pub minor: u32,
}

/// Why an archive can't be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    #[error("cannot read the archive after {offset} bytes")]
    Read {
        offset: u64,
        #[source]
        source: std::io::Error,
    },
    #[error("the archive is truncated in {place} (after {offset} bytes)")]
    Truncated { place: String, offset: u64 },
    #[error("not a tar archive: the block at byte {offset} has no valid header checksum")]
    Checksum { offset: u64 },
    #[error("invalid {field} in the tar header of {entry:?}")]
    Field { entry: String, field: &'static str },
    #[error("invalid PAX record in the header of {entry:?}: {reason}")]
    Pax { entry: String, reason: &'static str },
    #[error("ambiguous tar header of {entry:?}: {reason}")]
    Ambiguous { entry: String, reason: &'static str },
    #[error("invalid sparse map of {entry:?}: {reason}")]
    Sparse { entry: String, reason: &'static str },
    #[error("the metadata of {entry:?} takes {bytes} bytes, more than the {bytes_max} allowed")]
    MetadataSize { entry: String, bytes: u64, bytes_max: u64 },
    #[error("{entry:?} has the unsupported tar entry type {flag:?}")]
    Type { entry: String, flag: char },
}
