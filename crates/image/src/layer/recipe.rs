//! The side file that gives a layer's tar stream back byte by byte: literal bytes (headers, padding) and
//! references to file data that the layer holds anyway. `docs/layer-format.md` has the byte table.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use crate::digest::DiffId;

const MAGIC: &[u8; 8] = b"CORTENTR";
const VERSION: u32 = 1;
const HEADER: usize = 80;
/// Literals are gathered up to this size.
const LITERAL_MAX: usize = 64 * 1024;

/// A run of the tar stream that lies in a data file of the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub file: u32,
    pub offset: u64,
    pub bytes: u64,
}

/// What the side file says about its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    pub id: DiffId,
    pub tar_bytes: u64,
    pub unpacked_bytes: u64,
    pub entries: u64,
    /// The layer hides everything below it.
    pub opaque_root: bool,
}

/// Why a tar stream can't be given back.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    #[error("cannot read the recipe")]
    Read(#[source] io::Error),
    #[error("damaged recipe: {0}")]
    Damaged(&'static str),
    #[error("cannot read the layer's data")]
    Data(#[source] io::Error),
    #[error("cannot write the tar stream")]
    Output(#[source] io::Error),
}

/// Where copies come from.
pub(super) trait Data {
    /// Fills the buffer from a data file.
    fn read_exact_at(&mut self, file: u32, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Recipe {
    fn encode(&self) -> [u8; HEADER] {
        let mut header = [0u8; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12] = u8::from(self.opaque_root);
        header[16..24].copy_from_slice(&self.tar_bytes.to_le_bytes());
        header[24..32].copy_from_slice(&self.unpacked_bytes.to_le_bytes());
        header[32..40].copy_from_slice(&self.entries.to_le_bytes());
        header[40..72].copy_from_slice(self.id.as_bytes());
        header
    }

    /// Reads the header only.
    pub fn read(file: &mut impl Read) -> Result<Recipe, RecipeError> {
        let mut header = [0u8; HEADER];
        file.read_exact(&mut header).map_err(RecipeError::Read)?;
        let number = |at: usize| {
            let mut bytes = [0u8; 8];
            bytes.copy_from_slice(&header[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        if &header[..8] != MAGIC || header[8..12] != VERSION.to_le_bytes() {
            return Err(RecipeError::Damaged("magic number or version"));
        }
        let mut id = [0u8; 32];
        id.copy_from_slice(&header[40..72]);
        Ok(Recipe {
            id: DiffId::from_bytes(id),
            tar_bytes: number(16),
            unpacked_bytes: number(24),
            entries: number(32),
            opaque_root: header[12] & 1 != 0,
        })
    }
}

/// Writes the side file while the stream goes by.
pub(super) struct Writer {
    output: zstd::Encoder<'static, BufWriter<File>>,
    literal: Vec<u8>,
    copy: Option<Copy>,
    previous: Copy,
}

const START: Copy = Copy { file: 0, offset: 0, bytes: 0 };

impl Writer {
    pub(super) fn new(mut file: File) -> io::Result<Writer> {
        file.write_all(&[0; HEADER])?;
        // Headers are mostly zeros and repetition: the fastest level gets nearly all of it.
        let output = zstd::Encoder::new(BufWriter::with_capacity(LITERAL_MAX, file), 1)?;
        Ok(Writer { output, literal: Vec::new(), copy: None, previous: START })
    }

    /// The next bytes of the stream are these.
    pub(super) fn literal(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.end_copy()?;
        self.literal.extend_from_slice(bytes);
        if self.literal.len() >= LITERAL_MAX { self.end_literal() } else { Ok(()) }
    }

    /// The next bytes of the stream lie there.
    pub(super) fn copy(&mut self, copy: Copy) -> io::Result<()> {
        if copy.bytes == 0 {
            return Ok(());
        }
        self.end_literal()?;
        if let Some(last) = &mut self.copy
            && last.file == copy.file
            && last.offset + last.bytes == copy.offset
        {
            last.bytes += copy.bytes;
            return Ok(());
        }
        self.end_copy()?;
        self.copy = Some(copy);
        Ok(())
    }

    /// Ends the file and makes it durable.
    pub(super) fn finish(mut self, recipe: &Recipe) -> io::Result<()> {
        self.end_literal()?;
        self.end_copy()?;
        write_number(&mut self.output, 0)?;
        let mut file = self.output.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&recipe.encode())?;
        file.sync_data()
    }

    fn end_literal(&mut self) -> io::Result<()> {
        if !self.literal.is_empty() {
            write_number(&mut self.output, (self.literal.len() as u64) << 1)?;
            self.output.write_all(&self.literal)?;
            self.literal.clear();
        }
        Ok(())
    }

    fn end_copy(&mut self) -> io::Result<()> {
        if let Some(copy) = self.copy.take() {
            write_number(&mut self.output, copy.bytes << 1 | 1)?;
            write_signed(&mut self.output, i64::from(copy.file) - i64::from(self.previous.file))?;
            let expected = if copy.file == self.previous.file { end(self.previous) } else { 0 };
            write_signed(&mut self.output, copy.offset.wrapping_sub(expected) as i64)?;
            self.previous = copy;
        }
        Ok(())
    }
}

fn end(copy: Copy) -> u64 {
    copy.offset.wrapping_add(copy.bytes)
}

/// Writes the tar stream that a side file describes; gives its length.
pub(super) fn reproduce(
    mut file: File,
    data: &mut dyn Data,
    output: &mut dyn Write,
) -> Result<u64, RecipeError> {
    let recipe = Recipe::read(&mut file)?;
    let decoder = zstd::Decoder::new(file).map_err(RecipeError::Read)?;
    let mut input = BufReader::with_capacity(LITERAL_MAX, decoder);
    let mut gathered = Gathered { buffer: vec![0; 512 * 1024], used: 0, total: 0, output };
    let mut previous = START;
    loop {
        let number = read_number(&mut input)?;
        if number == 0 {
            break;
        }
        let bytes = number >> 1;
        if bytes > recipe.tar_bytes - gathered.total {
            return Err(RecipeError::Damaged("it gives more bytes than the stream has"));
        }
        if number & 1 == 0 {
            gathered.fill(bytes, |part, _| input.read_exact(part).map_err(RecipeError::Read))?;
            continue;
        }
        let file = i64::from(previous.file) + read_signed(&mut input)?;
        let file = u32::try_from(file).map_err(|_| RecipeError::Damaged("file number"))?;
        let expected = if file == previous.file { end(previous) } else { 0 };
        let offset = expected.wrapping_add(read_signed(&mut input)? as u64);
        previous = Copy { file, offset, bytes };
        gathered.fill(bytes, |part, done| {
            data.read_exact_at(file, part, offset.wrapping_add(done)).map_err(RecipeError::Data)
        })?;
    }
    gathered.flush()?;
    if gathered.total != recipe.tar_bytes {
        return Err(RecipeError::Damaged("it gives fewer bytes than the stream has"));
    }
    Ok(gathered.total)
}

/// Gathers the stream, so that the output sees few and large writes.
struct Gathered<'a> {
    buffer: Vec<u8>,
    used: usize,
    total: u64,
    output: &'a mut dyn Write,
}

impl Gathered<'_> {
    /// Appends `bytes` bytes; `read` fills a part of them, given how many were there before.
    fn fill(
        &mut self,
        bytes: u64,
        mut read: impl FnMut(&mut [u8], u64) -> Result<(), RecipeError>,
    ) -> Result<(), RecipeError> {
        let mut done = 0;
        while done < bytes {
            if self.used == self.buffer.len() {
                self.flush()?;
            }
            let room = self.buffer.len() - self.used;
            let now = usize::try_from(bytes - done).unwrap_or(usize::MAX).min(room);
            read(&mut self.buffer[self.used..self.used + now], done)?;
            self.used += now;
            done += now as u64;
        }
        self.total += bytes;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), RecipeError> {
        self.output.write_all(&self.buffer[..self.used]).map_err(RecipeError::Output)?;
        self.used = 0;
        Ok(())
    }
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn write_number(output: &mut impl Write, mut number: u64) -> io::Result<()> {
    let mut bytes = [0u8; 10];
    let mut count = 0;
    loop {
        let more = number > 0x7f;
        bytes[count] = (number & 0x7f) as u8 | if more { 0x80 } else { 0 };
        count += 1;
        number >>= 7;
        if !more {
            return output.write_all(&bytes[..count]);
        }
    }
}

/// Zigzag: small numbers of either sign are short.
fn write_signed(output: &mut impl Write, number: i64) -> io::Result<()> {
    write_number(output, (number << 1 ^ number >> 63) as u64)
}

fn read_number(input: &mut impl BufRead) -> Result<u64, RecipeError> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let mut byte = [0u8];
        input.read_exact(&mut byte).map_err(RecipeError::Read)?;
        number |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(RecipeError::Damaged("number"))
}

fn read_signed(input: &mut impl BufRead) -> Result<i64, RecipeError> {
    let number = read_number(input)?;
    Ok((number >> 1) as i64 ^ -((number & 1) as i64))
}
