//! Files of other hosts (`ADD URL`): fetched once, and then their hosts are only asked whether they are the same still.
//!
//! What is known of a URL lies in `<data-root>/build/urls/<digest of the URL>`. The files themselves are in layers, and nowhere else.

use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use corten_build::{Error, FETCHED, Fetched, Result, Tree};
use corten_image::Digest;
use corten_image::digest::Hasher;
use corten_registry::Page;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use super::context::Scratch;
use super::told;
use crate::Engine;

/// What of a URL is taken at most.
const FILE_BYTES_MAX: u64 = 32 << 30;
/// How long it may take; one that stalls is given up earlier.
const FETCH_TIME_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// What was at a URL.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Known {
    pub digest: Digest,
    pub bytes: u64,
    /// Unix seconds.
    pub modified: Option<i64>,
    /// By what the host tells it from others (RFC 9110, section 8.8), as it was said.
    pub etag: Option<String>,
    pub last_modified: Option<String>,
}

impl Engine {
    pub(super) async fn build_fetch(
        &self,
        url: &str,
        expected: Option<&Digest>,
        wants_file: bool,
    ) -> Result<Fetched> {
        let known = if wants_file { None } else { self.known_url(url) };
        let known = known.filter(|known| expected.is_none_or(|expected| known.digest == *expected));
        // What it has to be is what it was: nobody has to be asked.
        if let (Some(known), Some(_)) = (&known, expected) {
            return Ok(known.fetched(None));
        }
        let fetched = tokio::time::timeout(FETCH_TIME_MAX, self.ask(url, known, expected));
        fetched.await.map_err(|_| {
            Error::Internal(format!("{}: it takes longer than {} s", bare(url), FETCH_TIME_MAX.as_secs()))
        })?
    }

    async fn ask(&self, url: &str, known: Option<Known>, expected: Option<&Digest>) -> Result<Fetched> {
        let mut headers = Vec::new();
        if let Some(known) = &known {
            headers.extend(known.etag.as_deref().map(|etag| ("if-none-match", etag)));
            headers.extend(known.last_modified.as_deref().map(|time| ("if-modified-since", time)));
        }
        let page =
            self.registries.page(url, &headers).await.map_err(|error| Error::Internal(error.to_string()))?;
        if let Some(known) = known {
            // Not every host heeds the condition.
            let is_same = known.etag.is_some() && page.header("etag") == known.etag.as_deref();
            if page.status() == 304 || (page.status() == 200 && is_same) {
                return Ok(known.fetched(None));
            }
        }
        let at = page.url();
        match page.status() {
            200 => {}
            404 | 410 => {
                return Err(Error::NotFound(format!(
                    "{at}: its host answers {}: check the URL",
                    page.said()
                )));
            }
            401 | 403 => {
                return Err(Error::Invalid(format!(
                    "{at}: its host answers {}: fetch it in a RUN step that has the password as a secret",
                    page.said()
                )));
            }
            _ => {
                return Err(Error::Internal(format!(
                    "{at}: its host answers {}: try again later",
                    page.said()
                )));
            }
        }
        let scratch = self.build_scratch().map_err(told)?;
        let known = download(page, &scratch).await?;
        if let Some(expected) = expected.filter(|expected| **expected != known.digest) {
            return Err(Error::Invalid(format!(
                "{at}: digest mismatch: it has {}, not {expected}: another file lies there than the Dockerfile means",
                known.digest
            )));
        }
        self.remember_url(url, &known, &scratch)?;
        let root = std::fs::File::open(scratch.path()).map_err(|error| failed(&error))?;
        Ok(known.fetched(Some(Tree { root: Arc::new(root.into()), keep: Some(Arc::new(scratch)) })))
    }

    /// One that can't be read is none.
    pub(super) fn known_url(&self, url: &str) -> Option<Known> {
        serde_json::from_slice(&std::fs::read(self.url_record(url)).ok()?).ok()
    }

    /// Whole or not at all; a power cut may take it.
    pub(super) fn remember_url(&self, url: &str, known: &Known, scratch: &Scratch) -> Result<()> {
        let path = self.url_record(url);
        let written = scratch.path().join("known");
        let remembered = serde_json::to_vec(known).map_err(std::io::Error::other).and_then(|text| {
            std::fs::create_dir_all(self.url_records())?;
            std::fs::write(&written, text)?;
            std::fs::rename(&written, &path)
        });
        remembered.map_err(|error| failed(&error))
    }

    /// Which may have passwords in it, and is not kept.
    fn url_record(&self, url: &str) -> PathBuf {
        self.url_records().join(Digest::of(url.as_bytes()).hex())
    }

    pub(super) fn url_records(&self) -> PathBuf {
        self.build_root().join("urls")
    }
}

impl Known {
    pub fn fetched(&self, tree: Option<Tree>) -> Fetched {
        Fetched { digest: self.digest, commit: None, bytes: self.bytes, modified: self.modified, tree }
    }
}

/// Writes the file, with the permissions and the time that it has in an image.
async fn download(mut page: Page, scratch: &Scratch) -> Result<Known> {
    let at = page.url();
    let too_large = || Error::Invalid(format!("{at}: it is larger than {} GiB", FILE_BYTES_MAX >> 30));
    if page.bytes_left().is_some_and(|bytes| bytes > FILE_BYTES_MAX) {
        return Err(too_large());
    }
    let etag = page.header("etag").map(str::to_owned);
    let last_modified = page.header("last-modified").map(str::to_owned);
    let modified = last_modified.as_deref().and_then(seconds);
    let path = scratch.path().join(FETCHED);
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = tokio::fs::File::from_std(file.map_err(|error| failed(&error))?);
    let (mut hasher, mut bytes) = (Hasher::new(), 0);
    while let Some(piece) = page.chunk().await.map_err(|error| Error::Internal(error.to_string()))? {
        bytes += piece.len() as u64;
        if bytes > FILE_BYTES_MAX {
            return Err(too_large());
        }
        hasher.update(&piece);
        file.write_all(&piece).await.map_err(|error| failed(&error))?;
    }
    file.flush().await.map_err(|error| failed(&error))?;
    let time = UNIX_EPOCH + Duration::from_secs(modified.unwrap_or(0).unsigned_abs());
    file.into_std().await.set_modified(time).map_err(|error| failed(&error))?;
    Ok(Known { digest: hasher.finish(), bytes, modified, etag, last_modified })
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7), where that is no time to come.
fn seconds(text: &str) -> Option<i64> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?.as_second();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Some(time).filter(|time| u64::try_from(*time).is_ok_and(|time| time <= now))
}

/// A URL without what may be a secret in it.
fn bare(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        _ => url.to_owned(),
    }
}

fn failed(error: &std::io::Error) -> Error {
    Error::Internal(format!("cannot keep a file that was fetched: {error}"))
}
