//! What lies in the bucket: objects, and uploads in parts that nobody has ended. Page by page.

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::Method;
use object_store::client::{HttpRequestBody, HttpService};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use serde::Deserialize;

use super::S3;
use super::failure::failed;
use crate::server::digest::{Algorithm, Digest};
use crate::server::storage::StorageError;

/// Of one page. S3 gives up to 1000 entries of a kilobyte or so.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// How long a signed address of ours is good for that we use at once.
const AT_ONCE: Duration = Duration::from_secs(60);

/// Where a list goes on.
#[derive(Clone, Debug, Default)]
pub struct Place(Option<String>);

/// An upload in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub digest: Digest,
    pub id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Uploads {
    #[serde(rename = "Upload")]
    uploads: Vec<Upload>,
    #[serde(rename = "IsTruncated")]
    is_truncated: bool,
    #[serde(rename = "NextKeyMarker")]
    next_key: String,
    #[serde(rename = "NextUploadIdMarker")]
    next_id: String,
}

#[derive(Debug, Deserialize)]
struct Upload {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "UploadId")]
    id: String,
}

impl S3 {
    /// A page of the blobs that lie there, and where the next one begins. What isn't one of ours is left alone.
    pub async fn page(&self, place: Place) -> Result<(Vec<Digest>, Option<Place>), StorageError> {
        let options = PaginatedListOptions { page_token: place.0, ..PaginatedListOptions::default() };
        let prefix = self.blobs_prefix();
        let listed = self.store.list_paginated(Some(&prefix), options).await;
        let listed = listed.map_err(|error| failed("list", "blobs", &self.place, &error))?;
        let found =
            listed.result.objects.iter().filter_map(|object| self.digest_of(object.location.as_ref()));
        Ok((found.collect(), listed.page_token.map(|token| Place(Some(token)))))
    }

    /// Uploads in parts that were begun and not ended, of objects with this prefix; none where the store can't tell.
    pub(super) async fn parts(&self, prefix: String) -> Result<Vec<Parts>, StorageError> {
        let mut found = Vec::new();
        let mut marks: Option<(String, String)> = None;
        loop {
            let mut query = vec![("uploads", String::new()), ("prefix", prefix.clone())];
            if let Some((key, id)) = &marks {
                query.extend([("key-marker", key.clone()), ("upload-id-marker", id.clone())]);
            }
            let options = SignedUrlOptions::new().with_query(query);
            let signed = self.store.signed_url_opts(Method::GET, &Path::default(), AT_ONCE, &options).await;
            let url = signed.map_err(|error| failed("list", "uploads in parts", &self.place, &error))?;
            let Some(page) = self.ask(url.as_str()).await else { return Ok(found) };
            let ours = page
                .uploads
                .into_iter()
                .filter_map(|upload| Some(Parts { digest: self.digest_of(&upload.key)?, id: upload.id }));
            found.extend(ours);
            let next = Some((page.next_key, page.next_id));
            if !page.is_truncated || next == marks {
                return Ok(found);
            }
            marks = next;
        }
    }

    /// A page of uploads; none where the store doesn't give it: not every one knows such lists, and not everybody may see them.
    async fn ask(&self, url: &str) -> Option<Uploads> {
        let request = hyper::Request::get(url).body(HttpRequestBody::empty()).ok()?;
        let asked = async {
            let response = self.wire.call(request).await.map_err(|error| error.to_string())?;
            if !response.status().is_success() {
                return Err(format!("status {}", response.status()));
            }
            let body = Limited::new(response.into_body(), PAGE_BYTES_MAX).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            quick_xml::de::from_reader(body.as_ref()).map_err(|error| error.to_string())
        };
        match asked.await {
            Ok(page) => Some(page),
            Err(why) => {
                tracing::debug!(why, "the store doesn't tell which uploads in parts there are");
                None
            }
        }
    }

    pub(super) fn blobs_prefix(&self) -> String {
        self.name("blobs/")
    }

    /// The blob that an object is.
    fn digest_of(&self, object: &str) -> Option<Digest> {
        let (algorithm, hex) = object.strip_prefix(&self.blobs_prefix())?.split_once('/')?;
        Digest::from_hex(algorithm.parse::<Algorithm>().ok()?, hex)
    }
}
