//! The title of a process: what `ps` shows as its command line.
//!
//! Setting it by prctl needs CAP_SYS_RESOURCE, so the bytes of the original arguments are written over. They have to be long
//! enough from the beginning: whoever starts the program pads them.

use std::io;

/// The memory in which the kernel put the arguments of this process.
pub struct Title {
    start: usize,
    len: usize,
}

impl Title {
    /// Finds the place.
    ///
    /// After the first [`Title::set`], `std::env::args` gives the new title's pieces.
    pub fn find() -> io::Result<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        // After the name, which may contain anything, the third field follows; arg_start and arg_end are 48 and 49.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let mut fields = rest.split_ascii_whitespace().skip(48 - 3).map(|f| f.parse::<usize>().unwrap_or(0));
        match (fields.next(), fields.next()) {
            (Some(start), Some(end)) if start != 0 && end > start => Ok(Self { start, len: end - start }),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Shows `title`, cut to the room that there is. For processes with one thread.
    pub fn set(&self, title: &str) {
        let bytes = &title.as_bytes()[..title.len().min(self.len - 1)];
        let place = self.start as *mut u8;
        // SAFETY: the kernel has put the arguments there (it told the addresses itself), in memory of this process that is
        // writable and never unmapped; the last byte stays NUL, so every argument remains a terminated string.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len());
            std::ptr::write_bytes(place.add(bytes.len()), 0, self.len - bytes.len());
        }
    }
}
