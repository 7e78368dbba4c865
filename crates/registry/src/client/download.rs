//! A blob's bytes in their order: resumed where a connection breaks, and by several connections at once where one is slow.
//!
//! A blob is asked for whole. While whoever reads it mostly waits for bytes, pieces further on are fetched beside it into a bounded
//! window (`piece`), and the reader goes on with them when it gets there. So a fast network costs no second connection and no memory,
//! and a server that doesn't know ranges costs one futile request.

mod pace;
mod piece;

use bytes::Bytes;
use corten_image::Digest;
use corten_image::manifest::Descriptor;
use hyper::header::{CONTENT_RANGE, RANGE};
use hyper::{Method, StatusCode};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

use self::pace::Pace;
pub(super) use self::piece::PIECES_OF_CLIENT_MAX;
use self::piece::{PIECE_BYTES, PIECES_MAX, Piece};
use super::origin::Origin;
use super::refusal::Object;
use super::repository::Repository;
use super::transport::{Answer, Body, without_query};
use super::visit::{Ask, Endpoint, Target};
use crate::{Action, Cause, Error, Result};

/// Attempts in a row that bring next to nothing.
const ATTEMPTS_MAX: u32 = 5;
const PROGRESS_BYTES: u64 = 64 << 10;
/// For the end of a body whose bytes are all there.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// The bytes of a blob from an offset on, unverified: whoever reads them hashes. Dropped means cancelled.
pub struct Download {
    repository: Repository,
    blob: Descriptor,
    position: u64,
    /// What the next bytes come from.
    source: Option<Source>,
    /// Further on, in their order.
    pieces: VecDeque<Piece>,
    takes_ranges: bool,
    pace: Pace,
    attempts: u32,
    /// Where the present series of attempts began.
    mark: u64,
    /// Who gave the last bytes, and from where after redirects.
    endpoint: Option<Endpoint>,
    origin: Option<Origin>,
}

enum Source {
    Whole(Whole),
    Piece(Piece),
}

/// The blob up to its end, by one request.
struct Whole {
    body: Body,
    /// What came with bytes that were not asked for.
    pending: Option<Bytes>,
}

impl Repository {
    /// The bytes of a blob of a known size, from `offset` on.
    pub fn download(&self, blob: &Descriptor, offset: u64) -> Download {
        Download {
            repository: self.clone(),
            blob: blob.clone(),
            position: offset,
            source: None,
            pieces: VecDeque::new(),
            takes_ranges: true,
            pace: Pace::default(),
            attempts: 0,
            mark: offset,
            endpoint: None,
            origin: None,
        }
    }

    /// The bytes of a blob whose size nobody has told yet. It has been asked for when this returns, and is there.
    ///
    /// # Errors
    /// When it isn't, or the registry doesn't say how large it is.
    pub async fn open(&self, digest: &Digest) -> Result<Download> {
        let (answer, endpoint) = self.blob(&Descriptor::new("", *digest, 0), 0, None).await?;
        let mut download = self.download(&Descriptor::new("", *digest, 0), 0);
        match (answer.status, answer.body.bytes_left()) {
            (StatusCode::OK, Some(size)) => download.blob.size = size,
            _ => return Err(download.odd("the registry doesn't say how large the blob is")),
        }
        download.origin = Origin::of_url(&answer.url, answer.channel);
        download.endpoint = Some(endpoint);
        download.source = Some(Source::Whole(Whole { body: answer.body, pending: None }));
        Ok(download)
    }
}

impl Download {
    /// How many bytes the blob has.
    pub fn size(&self) -> u64 {
        self.blob.size
    }

    /// How many bytes of the blob were given out, those before the offset included.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next bytes; `None` when all are there.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        while self.position < self.blob.size {
            let asked = Instant::now();
            let step = self.step().await;
            let Err(error) = step else {
                let bytes = step?;
                self.pace.note(bytes.len(), asked.elapsed());
                self.position += bytes.len() as u64;
                return Ok(Some(bytes));
            };
            self.source = None;
            let mirror = self.endpoint.take().filter(|endpoint| endpoint.is_mirror);
            if let Some(mirror) = &mirror {
                self.repository.inner.shared.transport.known.rest(mirror);
            }
            if mirror.is_none() && !error.is_temporary() {
                return Err(error);
            }
            self.note_break(error).await?;
        }
        self.settle().await?;
        Ok(None)
    }

    /// Tells that the bytes were not those of the blob. Where a mirror gave them, it isn't asked again for a while, and another
    /// download may bring the right ones: then this is true.
    pub fn distrust(&self) -> bool {
        match &self.endpoint {
            Some(endpoint) if endpoint.is_mirror => {
                self.repository.inner.shared.transport.known.rest(endpoint);
                true
            }
            _ => false,
        }
    }

    async fn step(&mut self) -> Result<Bytes> {
        if self.pieces.front().is_some_and(|piece| piece.start() <= self.position) {
            self.hand_over().await;
        }
        if self.source.is_none() {
            let whole = self.open().await?;
            self.source = Some(Source::Whole(whole));
            self.pace = Pace::default();
        }
        self.fetch_ahead();
        let until = self.pieces.front().map_or(self.blob.size, Piece::start);
        let left = until - self.position;
        match &mut self.source {
            Some(Source::Piece(piece)) => match piece.next().await? {
                Some(bytes) => {
                    if piece.is_done() {
                        self.source = None;
                    }
                    Ok(bytes)
                }
                None => Err(self.ended_early()),
            },
            Some(Source::Whole(whole)) => match whole.next(left).await? {
                Some(bytes) => Ok(bytes),
                None => Err(self.ended_early()),
            },
            None => Err(self.ended_early()),
        }
    }

    /// Goes on with the piece that was fetched ahead, if anything came of it.
    async fn hand_over(&mut self) {
        let Some(mut piece) = self.pieces.pop_front() else { return };
        if piece.start() == self.position && piece.has_begun().await {
            self.source = Some(Source::Piece(piece));
        } else {
            // What is being read goes on where it is. Others would fare no better.
            self.takes_ranges = false;
            self.pieces.clear();
        }
    }

    /// Has more connections at work while the reader waits for this one.
    fn fetch_ahead(&mut self) {
        if !self.takes_ranges || self.pieces.len() >= PIECES_MAX || !self.pace.is_slow() {
            return;
        }
        let from = match (self.pieces.back(), &self.source) {
            (Some(last), _) => last.end(),
            (None, Some(Source::Piece(piece))) => piece.end(),
            (None, _) => self.position + PIECE_BYTES,
        };
        let pool = &self.repository.inner.shared.transport.pool;
        if !self.origin.as_ref().is_some_and(|origin| pool.has_room(origin)) {
            return;
        }
        // The last bit isn't worth it.
        if from + PIECE_BYTES / 2 > self.blob.size {
            return;
        }
        let range = from..self.blob.size.min(from + PIECE_BYTES);
        if let Some(piece) = Piece::fetch(&self.repository, &self.blob, range) {
            self.pieces.push_back(piece);
        }
    }

    async fn open(&mut self) -> Result<Whole> {
        let (repository, blob) = (self.repository.clone(), self.blob.clone());
        let (answer, endpoint) = repository.blob(&blob, self.position, None).await?;
        self.endpoint = Some(endpoint);
        self.origin = Origin::of_url(&answer.url, answer.channel);
        let (status, said) = (answer.status, answer.body.bytes_left());
        if status == StatusCode::PARTIAL_CONTENT {
            check_range(&answer, &(self.position..blob.size), blob.size)?;
        }
        let expected = if status == StatusCode::OK { blob.size } else { blob.size - self.position };
        if let Some(said) = said.filter(|said| *said != expected) {
            return Err(
                self.odd(&format!("the registry has {said} bytes where the manifest says {expected}"))
            );
        }
        let mut whole = Whole { body: answer.body, pending: None };
        if status == StatusCode::OK {
            // Ranges are not for everybody.
            self.takes_ranges &= self.position == 0;
            whole.skip(self.position).await?;
        }
        Ok(whole)
    }

    /// Leaves the connection as it can be used again, and looks whether there is more than there should be.
    async fn settle(&mut self) -> Result<()> {
        self.pieces.clear();
        let Some(Source::Whole(mut whole)) = self.source.take() else { return Ok(()) };
        if whole.pending.is_some() {
            return Err(self.odd("the registry gives more bytes than the manifest says"));
        }
        match timeout(END_TIMEOUT, whole.body.chunk()).await {
            Ok(Ok(Some(_))) => Err(self.odd("the registry gives more bytes than the manifest says")),
            _ => Ok(()),
        }
    }

    /// Notes that a connection broke; too often in a row is an error.
    async fn note_break(&mut self, error: Error) -> Result<()> {
        if self.position >= self.mark + PROGRESS_BYTES {
            (self.attempts, self.mark) = (0, self.position);
        }
        self.attempts += 1;
        if self.attempts >= ATTEMPTS_MAX {
            return Err(error);
        }
        if let Some(wait) = super::retry::after_break(self.attempts) {
            sleep(wait).await;
        }
        Ok(())
    }

    fn ended_early(&self) -> Error {
        Error::Unreachable {
            url: format!("{} (blob {})", self.repository.name(), self.blob.digest),
            cause: Cause::Broken,
            why: format!("the connection ended after {} of {} bytes", self.position, self.blob.size),
        }
    }

    fn odd(&self, why: &str) -> Error {
        Error::Protocol {
            url: format!("{} (blob {})", self.repository.name(), self.blob.digest),
            why: why.to_owned(),
        }
    }
}

impl Whole {
    /// The next bytes, `left` at most.
    async fn next(&mut self, left: u64) -> Result<Option<Bytes>> {
        let next = match self.pending.take() {
            Some(bytes) => Some(bytes),
            None => self.body.chunk().await?,
        };
        let Some(mut bytes) = next else { return Ok(None) };
        if bytes.len() as u64 > left {
            self.pending = Some(bytes.split_off(usize::try_from(left).unwrap_or(usize::MAX)));
        }
        Ok(Some(bytes))
    }

    /// Reads over what was had before.
    async fn skip(&mut self, bytes: u64) -> Result<()> {
        let mut left = bytes;
        while left > 0 {
            match self.next(left).await? {
                Some(bytes) => left -= bytes.len() as u64,
                None => break,
            }
        }
        Ok(())
    }
}

impl Repository {
    /// Asks for a blob from a byte on, up to another one or its end.
    async fn blob(&self, blob: &Descriptor, from: u64, to: Option<u64>) -> Result<(Answer, Endpoint)> {
        let purpose = self.purpose("GET", Action::Pull, Object::Blob(blob.digest.to_string()));
        let ask_at = |target| {
            let ask = Ask::new(Method::GET, target, vec![self.scope("pull")], purpose.clone());
            match to {
                Some(to) => ask.header(RANGE, &format!("bytes={from}-{}", to - 1)),
                None if from > 0 => ask.header(RANGE, &format!("bytes={from}-")),
                None => Ok(ask),
            }
        };
        let ask = || ask_at(Target::Path(format!("{}/blobs/{}", self.inner.path, blob.digest)));
        let (mut answer, endpoint) = self.pull(ask).await?;
        // What may not be passed on by everybody is had from elsewhere (image specification, "urls" of a descriptor).
        for url in blob.urls.iter().flatten() {
            if answer.status != StatusCode::NOT_FOUND {
                break;
            }
            let url = url
                .parse()
                .map_err(|_| Error::Protocol { url: url.clone(), why: "it is no URL".to_owned() })?;
            answer.dismiss().await;
            answer = self.ask(ask_at(Target::Url(url))?).await?;
        }
        match answer.status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok((answer, endpoint)),
            _ => Err(purpose.refused(answer).await),
        }
    }
}

/// Whether a part of a blob is the one that was asked for.
fn check_range(answer: &Answer, range: &Range<u64>, size: u64) -> Result<()> {
    let expected = format!("bytes {}-{}/{size}", range.start, range.end - 1);
    match answer.header(CONTENT_RANGE) {
        Some(said) if said == expected => Ok(()),
        // Not every server knows the whole's size.
        Some(said) if said == expected.replace(&format!("/{size}"), "/*") => Ok(()),
        other => Err(Error::Protocol {
            url: without_query(&answer.url.to_string()).to_owned(),
            why: format!(
                "it gives the range {:?} where {expected:?} was asked for",
                other.unwrap_or_default()
            ),
        }),
    }
}
