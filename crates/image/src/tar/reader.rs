//! A tar archive over `Read`: entry by entry, the data of each by reading from the reader itself.

use std::io::{self, BufRead, Read};

use super::decoder::padded;
use super::{Decoder, Entry, Event, MetadataLimits, TarError};

/// Reads archives that hold files of interest to a program; data that is not read is skipped.
pub struct Reader<R> {
    input: R,
    decoder: Decoder,
    /// Data of the current entry not yet read, and the padding behind it.
    data_bytes: u64,
    padding_bytes: u64,
    buffer: Vec<u8>,
    ended: bool,
}

impl<R: Read> Reader<R> {
    pub fn new(input: R) -> Reader<R> {
        Reader::with_limits(input, MetadataLimits::default())
    }

    pub fn with_limits(input: R, limits: MetadataLimits) -> Reader<R> {
        Reader {
            input,
            decoder: Decoder::new(limits),
            data_bytes: 0,
            padding_bytes: 0,
            buffer: Vec::new(),
            ended: false,
        }
    }

    /// Skips what is left of the current entry and gives the next one; `None` behind the last.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.skip()?;
        while !self.ended {
            if !self.fill()? {
                self.ended = true;
                break;
            }
            match self.decoder.feed(&self.buffer)? {
                Event::More => {}
                Event::End => self.ended = true,
                Event::Entry(entry) => {
                    self.data_bytes = entry.stored_bytes;
                    self.padding_bytes = padded(entry.stored_bytes) - entry.stored_bytes;
                    return Ok(Some(*entry));
                }
            }
        }
        Ok(None)
    }

    /// How many bytes of the current entry's data have not been read.
    pub fn data_left(&self) -> u64 {
        self.data_bytes
    }

    /// Fills the buffer with what the decoder needs; false at a clean end.
    fn fill(&mut self) -> Result<bool, TarError> {
        let need = self.decoder.need();
        self.buffer.clear();
        let count = (&mut self.input)
            .take(need as u64)
            .read_to_end(&mut self.buffer)
            .map_err(|source| TarError::Read { offset: self.decoder.offset(), source })?;
        match count {
            0 if self.decoder.may_end() => Ok(false),
            count if count < need => Err(self.decoder.truncated()),
            _ => Ok(true),
        }
    }

    fn skip(&mut self) -> Result<(), TarError> {
        let left = self.data_bytes + self.padding_bytes;
        if left == 0 {
            return Ok(());
        }
        let skipped = io::copy(&mut (&mut self.input).take(left), &mut io::sink())
            .map_err(|source| TarError::Read { offset: self.decoder.offset(), source })?;
        if skipped < self.data_bytes {
            return Err(self.decoder.truncated());
        }
        // Docker's client, for one, may end an archive right behind the last file's data.
        self.ended = skipped < left;
        (self.data_bytes, self.padding_bytes) = (0, 0);
        Ok(())
    }
}

impl<R: BufRead> Reader<R> {
    /// Some of the current entry's data as it lies in the input's buffer; nothing at its end. What of it was used is told by
    /// [`Reader::used`].
    pub fn data(&mut self) -> io::Result<&[u8]> {
        if self.data_bytes == 0 {
            return Ok(&[]);
        }
        if self.input.fill_buf()?.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, self.decoder.truncated()));
        }
        let wanted = usize::try_from(self.data_bytes).unwrap_or(usize::MAX);
        let found = self.input.fill_buf()?;
        Ok(&found[..found.len().min(wanted)])
    }

    /// Lets `read` take some of the current entry's data from the input, as many bytes as it is told at most; it gives how many it
    /// took.
    pub fn data_by(
        &mut self,
        bytes: u64,
        read: impl FnOnce(&mut R, u64) -> io::Result<u64>,
    ) -> io::Result<u64> {
        let taken = read(&mut self.input, bytes.min(self.data_bytes))?;
        self.data_bytes = self.data_bytes.saturating_sub(taken);
        Ok(taken)
    }

    pub fn used(&mut self, bytes: usize) {
        self.input.consume(bytes);
        self.data_bytes = self.data_bytes.saturating_sub(bytes as u64);
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.data_bytes).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..want])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, self.decoder.truncated()));
        }
        self.data_bytes -= count as u64;
        Ok(count)
    }
}
