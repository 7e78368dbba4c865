//! Reading at an offset, from a file as it is or from what a compressed one unpacks to.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

pub(super) trait ReadAt {
    /// Reads some bytes; none at the end.
    fn read_from(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;

    /// Fills the buffer.
    fn read_whole(&self, mut buffer: &mut [u8], mut at: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_from(buffer, at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    buffer = &mut buffer[count..];
                    at += count as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl ReadAt for File {
    fn read_from(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.read_at(buffer, at)
    }
}
