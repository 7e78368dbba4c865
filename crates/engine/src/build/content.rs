//! Blobs of whoever asks for a build ([`Content`]), for the threads that read and write them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use corten_api::stream::JsonMessage;
use corten_build::{Content, ContentPieces, ContentWriter};
use corten_image::manifest::{Descriptor, Document};
use corten_image::metadata::DocumentRow;
use corten_image::{Digest, Outgoing, Place, Source, Target};
use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;

use crate::image::{InPieces, Taker};

/// How long a client may have nothing to say: others may wait for the same layer.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Bytes of a manifest that are read at most.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// Waits for the client, from a thread.
fn wait<T>(runtime: &Handle, asked: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let answered = runtime.block_on(async { tokio::time::timeout(SILENCE_MAX, asked).await });
    answered.map_err(|_| {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the client says nothing for {} s", SILENCE_MAX.as_secs()),
        )
    })?
}

/// Where blobs come from.
pub(super) struct ContentSource {
    content: Arc<dyn Content>,
    runtime: Handle,
    /// Whoever waits; nothing is read for one who is gone.
    listener: Sender<JsonMessage>,
}

impl ContentSource {
    pub fn new(content: Arc<dyn Content>, listener: Sender<JsonMessage>) -> ContentSource {
        ContentSource { content, runtime: Handle::current(), listener }
    }
}

impl Source for ContentSource {
    fn manifest(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        if descriptor.size > MANIFEST_BYTES_MAX {
            let text = format!("it is larger than {} MiB", MANIFEST_BYTES_MAX >> 20);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        let mut bytes = Vec::new();
        self.blob(descriptor, 0)?.take(descriptor.size + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let pieces = wait(&self.runtime, self.content.read(&descriptor.digest, offset))?;
        let (runtime, listener) = (self.runtime.clone(), self.listener.clone());
        Ok(Box::new(Incoming { pieces, runtime, listener, current: Bytes::new() }))
    }
}

/// A manifest or an index by its descriptor, whose media type may not be known. The error is a text for people.
pub(super) fn document(source: &dyn Source, descriptor: &Descriptor) -> Result<Document, String> {
    let bytes = source.manifest(descriptor).map_err(|error| error.to_string())?;
    if Digest::of(&bytes) != descriptor.digest {
        return Err(format!("its manifest is not {}", descriptor.digest));
    }
    Document::parse(&bytes, &descriptor.media_type).map_err(|error| error.to_string())
}

/// The bytes of a blob.
struct Incoming {
    pieces: ContentPieces,
    runtime: Handle,
    listener: Sender<JsonMessage>,
    current: Bytes,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            let (pieces, listener) = (&mut self.pieces, &self.listener);
            let next = async {
                tokio::select! {
                    piece = pieces.next() => piece.transpose(),
                    () = listener.closed() => Err(io::Error::other("the build was given up by its client")),
                }
            };
            match wait(&self.runtime, next)? {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// Where blobs go.
pub(super) struct ContentTarget {
    content: Arc<dyn Content>,
    runtime: Handle,
}

impl ContentTarget {
    pub fn new(content: Arc<dyn Content>) -> ContentTarget {
        ContentTarget { content, runtime: Handle::current() }
    }

    fn size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        wait(&self.runtime, self.content.size(digest))
    }
}

impl Target for ContentTarget {
    fn find(&self, descriptor: &Descriptor) -> io::Result<Option<Place>> {
        // One of another size has suffered.
        Ok(self.size(&descriptor.digest)?.filter(|size| *size == descriptor.size).map(|_| Place::Here))
    }

    fn has_manifest(&self, digest: &Digest) -> io::Result<bool> {
        Ok(self.size(digest)?.is_some())
    }

    fn give(&self, _: &Digest, _: &File) -> io::Result<bool> {
        Ok(false)
    }

    fn blob(&self) -> io::Result<Box<dyn Outgoing + '_>> {
        let writer = wait(&self.runtime, self.content.write())?;
        Ok(Box::new(InPieces::new(Sending { writer, runtime: &self.runtime })))
    }

    /// The list that has the tags is the client's.
    fn manifest(&self, document: &DocumentRow, _: Option<&str>) -> io::Result<()> {
        let mut outgoing = self.blob()?;
        outgoing.write_all(&document.bytes)?;
        outgoing.finish(&document.digest)
    }
}

/// A blob on its way.
struct Sending<'t> {
    writer: Box<dyn ContentWriter>,
    runtime: &'t Handle,
}

impl Taker for Sending<'_> {
    fn send(&mut self, piece: Bytes) -> io::Result<()> {
        wait(self.runtime, self.writer.send(piece))
    }

    fn finish(self, digest: &Digest) -> io::Result<()> {
        wait(self.runtime, self.writer.finish(digest))
    }
}

#[cfg(test)]
mod tests;
