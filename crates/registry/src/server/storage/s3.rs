//! Blobs as objects of an S3-compatible store: `PREFIX/blobs/<algorithm>/<hex>`, each put whole, after its digest was checked.
//!
//! An object that is put by one request is there or not. A larger one goes up in parts, several at once, and is there when they
//! are put together; until then a file below `parts/` in the registry's directory says what was begun, so that nothing of it
//! stays behind. `docs/registry-s3.md` has what a crash leaves.

mod config;
mod failure;
mod http;
mod keys;
mod list;
mod owner;
mod parts;
mod read;

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
pub use config::{S3Settings, StorageConfig};
use corten_sys::memory::Pages;
use failure::{failed, is_missing};
pub use http::Traffic;
use http::Wire;
pub use list::Place;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{BackoffConfig, ObjectStoreExt, PutPayload, RetryConfig};
pub use read::Pieces;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::StorageError;
use crate::server::digest::Digest;
use crate::{Trust, TrustFiles};

/// Bytes that are put by one request. S3 wants no part but the last to have less than 5 MiB.
const PART: u64 = 8 << 20;
/// S3 takes no more of one object.
const PARTS_MAX: u64 = 10_000;
/// A part that is as large as it may get.
const PART_MAX: u64 = 64 << 20;
/// Memory for parts on their way, in KiB, shared by all who push.
const PARTS_KIB: usize = 64 << 10;
/// How long a digest rests of which it isn't known whether the store is still about to remove it.
const DOUBT: Duration = Duration::from_secs(120);
/// How long an address is good for that a client is sent to.
const LINK: Duration = Duration::from_secs(20 * 60);

/// A bucket, or a part of one.
#[derive(Debug)]
pub struct S3 {
    store: AmazonS3,
    wire: Wire,
    /// Of all names; with a slash at its end where it isn't empty.
    prefix: String,
    /// What people know it by.
    place: String,
    /// Notes of uploads in parts that were begun.
    notes: PathBuf,
    memory: Arc<Semaphore>,
    redirect: bool,
    /// Digests that the store was told to remove, and hasn't said that it did.
    doubtful: Mutex<HashMap<Digest, Instant>>,
    /// Something may have been left that nobody needs.
    untidy: AtomicBool,
}

/// Who may certify the store.
fn trust(settings: &S3Settings) -> Trust {
    let mut trust = Trust::default();
    if let (Some(endpoint), Some(ca)) = (&settings.endpoint, &settings.ca) {
        let host = endpoint.trim_start_matches("https://").to_ascii_lowercase();
        let host = host.strip_suffix(":443").unwrap_or(&host);
        let host = match settings.path_style {
            true => host.to_owned(),
            false => format!("{}.{host}", settings.bucket.to_ascii_lowercase()),
        };
        trust.files.insert(host, TrustFiles { ca: Some(ca.clone()), identity: None });
    }
    trust
}

impl S3 {
    /// Sets up what is needed to ask the store; asks it nothing yet. `directory` is the registry's own.
    pub fn new(settings: &S3Settings, directory: &FilePath) -> Result<S3, StorageError> {
        let notes = directory.join("parts");
        fs::create_dir_all(&notes).map_err(super::failed("create", notes.display()))?;
        let odd = |why: String| StorageError::Refused { step: "use", object: "storage.s3".to_owned(), why };
        let wire = Wire::new(keys::proxies().map_err(odd)?, trust(settings));
        let region = settings.region.clone().or_else(keys::region);
        let region = region.unwrap_or_else(|| S3Settings::DEFAULT_REGION.to_owned());
        let builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(&region)
            .with_virtual_hosted_style_request(!settings.path_style)
            .with_allow_http(true)
            // A blob goes under its digest's lock, one at a time; and not all stores know the other way.
            .with_disable_bulk_delete(true)
            .with_retry(RetryConfig {
                backoff: BackoffConfig {
                    init_backoff: Duration::from_millis(100),
                    max_backoff: Duration::from_secs(3),
                    base: 2.0,
                },
                max_retries: 5,
                retry_timeout: Duration::from_secs(15),
            })
            .with_http_connector(wire.clone());
        let builder = keys::add(builder, settings).map_err(odd)?;
        let (builder, at) = match &settings.endpoint {
            None => (builder, format!("Amazon S3, region {region}")),
            Some(endpoint) if settings.path_style => (builder.with_endpoint(endpoint), endpoint.clone()),
            Some(endpoint) => {
                let (scheme, host) = endpoint.split_once("://").unwrap_or(("https", endpoint));
                (builder.with_endpoint(format!("{scheme}://{}.{host}", settings.bucket)), endpoint.clone())
            }
        };
        let store = builder.build().map_err(|error| odd(error.to_string()))?;
        let slash = if settings.prefix.is_empty() { "" } else { "/" };
        Ok(S3 {
            store,
            wire,
            prefix: format!("{}{slash}", settings.prefix),
            place: format!("bucket {} at {at}", settings.bucket),
            notes,
            memory: Arc::new(Semaphore::new(PARTS_KIB)),
            redirect: settings.redirect,
            doubtful: Mutex::default(),
            untidy: AtomicBool::new(true),
        })
    }

    fn name(&self, below: &str) -> String {
        format!("{}{below}", self.prefix)
    }

    fn object(&self, digest: &Digest) -> Path {
        Path::from(self.name(&format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())))
    }

    pub fn traffic(&self) -> Traffic {
        self.wire.traffic()
    }

    /// How many bytes a blob has; none when there is no such blob.
    pub async fn size(&self, digest: Digest) -> Result<Option<u64>, StorageError> {
        match self.store.head(&self.object(&digest)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(failed("look at blob", digest, &self.place, &error)),
        }
    }

    /// Where a client can get a blob by itself, if it is to.
    pub async fn link(&self, digest: Digest) -> Result<Option<String>, StorageError> {
        if !self.redirect {
            return Ok(None);
        }
        let signed = self.store.signed_url(hyper::Method::GET, &self.object(&digest), LINK).await;
        let url = signed.map_err(|error| failed("sign an address for blob", digest, &self.place, &error))?;
        Ok(Some(url.into()))
    }

    /// Puts a file's bytes as the blob of that digest, which was checked. It is in the store when this returns.
    pub async fn put(
        self: &Arc<Self>,
        file: Arc<File>,
        size: u64,
        digest: Digest,
    ) -> Result<(), StorageError> {
        self.check_doubt(digest)?;
        let put = if size <= PART {
            let object = self.object(&digest);
            let put = self.send(file, 0, size, move |s3, bytes| async move {
                s3.store.put(&object, PutPayload::from_bytes(bytes)).await.map(drop)
            });
            put.await.map_err(|error| error.told("put blob", digest, &self.place))
        } else {
            self.put_in_parts(file, size, digest).await
        };
        if put.is_err() {
            // What wasn't answered may have arrived, or may be about to.
            self.set_untidy(true);
        }
        put
    }

    /// Reads a part of a file, as soon as there is memory for it, and does something with it where hashing it for the signature
    /// holds nobody up.
    async fn send<T, F>(
        self: &Arc<Self>,
        file: Arc<File>,
        at: u64,
        length: u64,
        then: impl FnOnce(Arc<S3>, Bytes) -> F + Send + 'static,
    ) -> Result<T, Unsent>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>>,
    {
        let room = self.room(length).await;
        let (s3, runtime) = (self.clone(), tokio::runtime::Handle::current());
        let sent = tokio::task::spawn_blocking(move || {
            let bytes = Part::read(&file, at, length as usize).map_err(Unsent::Read)?;
            let sent = runtime.block_on(then(s3, bytes));
            drop(room);
            sent.map_err(Unsent::Store)
        });
        sent.await.unwrap_or(Err(Unsent::GivenUp))
    }

    async fn room(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        // It is never closed, and no part is larger than all of it.
        self.memory.clone().acquire_many_owned(kib).await.ok()
    }

    /// Removes a blob; one that is gone already is no error.
    pub async fn remove(&self, digest: Digest) -> Result<(), StorageError> {
        match self.store.delete(&self.object(&digest)).await {
            Ok(()) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => {
                self.set_untidy(true);
                let mut doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
                doubtful.insert(digest, Instant::now());
                Err(failed("remove blob", digest, &self.place, &error))
            }
        }
    }

    /// A removal that wasn't answered may come to pass after the blob was put again, and nobody would know. So it rests a while.
    fn check_doubt(&self, digest: Digest) -> Result<(), StorageError> {
        let mut doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        doubtful.retain(|_, since| since.elapsed() < DOUBT);
        if !doubtful.contains_key(&digest) {
            return Ok(());
        }
        let why = format!("{}: it may still be about to remove what it had of it", self.place);
        Err(StorageError::Away { step: "put blob", object: digest.to_string(), why })
    }

    pub fn set_untidy(&self, is_untidy: bool) {
        self.untidy.store(is_untidy, Ordering::Release);
        if !is_untidy {
            self.wire.forget_lost();
        }
    }

    pub fn is_untidy(&self) -> bool {
        self.untidy.load(Ordering::Acquire) || self.wire.has_lost()
    }
}

/// Bytes of a part, in pages of their own: the allocator would keep as much for each thread that ever sent one.
struct Part {
    pages: Pages,
    length: usize,
}

impl Part {
    fn read(file: &File, at: u64, length: usize) -> std::io::Result<Bytes> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let mut pages = Pages::new(length)?;
        file.read_exact_at(&mut pages[..length], at)?;
        Ok(Bytes::from_owner(Part { pages, length }))
    }
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.pages[..self.length]
    }
}

/// Why a part wasn't sent.
enum Unsent {
    Read(std::io::Error),
    Store(object_store::Error),
    GivenUp,
}

impl Unsent {
    fn told(self, step: &'static str, digest: Digest, place: &str) -> StorageError {
        match self {
            Unsent::Read(error) => super::failed("read upload of blob", digest)(error),
            Unsent::Store(error) => failed(step, digest, place, &error),
            Unsent::GivenUp => StorageError::GivenUp,
        }
    }
}
