//! The tar stream in large chunks: each is hashed on another thread while it is parsed and stored on this one.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use super::{LayerError, Limits};
use crate::digest::{DiffId, Hasher};
use crate::tar::TarError;
use crate::zeros;

/// A multiple of tar's block size: headers never straddle two chunks unless the input is cut short. Six of
/// them fit into the caches of the reference machine.
const CHUNK: usize = 256 * 1024;
const CHUNKS_MAX: usize = 6;

type Chunk = (Vec<u8>, usize);

/// Reads a stream and computes its digest on the side.
pub(super) struct Source<'a, 'scope> {
    input: &'a mut dyn Read,
    progress: &'a dyn Fn(u64),
    limits: Limits,
    chunk: Arc<Chunk>,
    at: usize,
    /// Bytes read from the input.
    read: u64,
    /// Those of them that are not pages of zeros.
    data: u64,
    to_hash: SyncSender<Arc<Chunk>>,
    hashed: Receiver<Arc<Chunk>>,
    chunks: usize,
    hasher: ScopedJoinHandle<'scope, DiffId>,
    scratch: Vec<u8>,
}

impl<'a, 'scope> Source<'a, 'scope> {
    pub(super) fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        input: &'a mut dyn Read,
        progress: &'a dyn Fn(u64),
        limits: &Limits,
    ) -> Source<'a, 'scope> {
        let (to_hash, inbox) = sync_channel::<Arc<Chunk>>(CHUNKS_MAX);
        let (outbox, hashed) = sync_channel(CHUNKS_MAX + 1);
        let hasher = scope.spawn(move || {
            let mut hasher = Hasher::new();
            for chunk in inbox {
                hasher.update(&chunk.0[..chunk.1]);
                // The reader may be gone; there is nothing to give back then.
                let _ = outbox.send(chunk);
            }
            hasher.finish()
        });
        Source {
            input,
            progress,
            limits: *limits,
            chunk: Arc::new((Vec::new(), 0)),
            at: 0,
            read: 0,
            data: 0,
            to_hash,
            hashed,
            chunks: 0,
            hasher,
            scratch: Vec::new(),
        }
    }

    /// Up to `want` bytes, at least one unless the stream has ended.
    pub(super) fn some(&mut self, want: u64) -> Result<&[u8], LayerError> {
        if self.at == self.chunk.1 {
            self.next_chunk()?;
        }
        let left = self.chunk.1 - self.at;
        let now = usize::try_from(want).unwrap_or(usize::MAX).min(left);
        self.at += now;
        Ok(&self.chunk.0[self.at - now..self.at])
    }

    /// `want` bytes, or fewer when the stream ends before.
    pub(super) fn exact(&mut self, want: usize) -> Result<&[u8], LayerError> {
        if self.chunk.1 - self.at >= want {
            self.at += want;
            return Ok(&self.chunk.0[self.at - want..self.at]);
        }
        let mut gathered = std::mem::take(&mut self.scratch);
        gathered.clear();
        while gathered.len() < want {
            let more = self.some((want - gathered.len()) as u64)?;
            if more.is_empty() {
                break;
            }
            gathered.extend_from_slice(more);
        }
        self.scratch = gathered;
        Ok(&self.scratch)
    }

    /// The digest and length of the whole stream, which must have been read to its end.
    pub(super) fn finish(self) -> (DiffId, u64) {
        drop(self.to_hash);
        let id = self.hasher.join().expect("hashing bytes does not fail");
        (id, self.read)
    }

    fn next_chunk(&mut self) -> Result<(), LayerError> {
        let (mut buffer, _) = self.buffer();
        let mut filled = 0;
        while filled < CHUNK {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(TarError::Read { offset: self.read + filled as u64, source }.into());
                }
            }
        }
        self.read += filled as u64;
        self.data += zeros::data_bytes(&buffer[..filled]);
        let Limits { tar_bytes_max, data_bytes_max, .. } = self.limits;
        if self.read > tar_bytes_max {
            return Err(LayerError::Limit { what: "bytes", max: tar_bytes_max });
        }
        if self.data > data_bytes_max {
            let what = "bytes of data, which is out of all proportion to what it came in";
            return Err(LayerError::Limit { what, max: data_bytes_max });
        }
        self.chunk = Arc::new((buffer, filled));
        self.at = 0;
        if filled > 0 {
            // The hashing thread only ends when this end of the channel is gone.
            self.to_hash.send(Arc::clone(&self.chunk)).expect("the hashing thread is there");
            (self.progress)(self.read);
        }
        Ok(())
    }

    /// A buffer nobody uses any more, or a new one while there are few.
    fn buffer(&mut self) -> Chunk {
        // What this side holds must be given up, or it would never come back alone.
        self.chunk = Arc::new((Vec::new(), 0));
        loop {
            let back =
                if self.chunks < CHUNKS_MAX { self.hashed.try_recv().ok() } else { self.hashed.recv().ok() };
            let Some(chunk) = back else {
                self.chunks += 1;
                return (vec![0; CHUNK], 0);
            };
            if let Some(chunk) = Arc::into_inner(chunk) {
                return chunk;
            }
            self.chunks -= 1;
        }
    }
}
