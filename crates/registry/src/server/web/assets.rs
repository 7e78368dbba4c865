//! What pages need beside HTML: a style sheet, a script, an icon. All of it is in the program; its addresses have a hash in them, so
//! browsers keep it for good.

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY,
};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use super::address::{Href, Page};
use crate::server::body::Body;
use crate::server::digest::{Algorithm, Digest};

pub struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    hash: String,
    /// Compressed by gzip.
    small: Bytes,
}

pub static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("style.css", "text/css; charset=utf-8", include_bytes!("style.css")));
pub static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("script.js", "text/javascript; charset=utf-8", include_bytes!("script.js")));
pub static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon.svg", "image/svg+xml", include_bytes!("icon.svg")));

impl Asset {
    fn new(name: &'static str, kind: &'static str, bytes: &'static [u8]) -> Asset {
        let hash = Digest::of(Algorithm::Sha256, bytes).hex();
        let mut small = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        // Writing to memory can't fail; what came of it else would be an asset without bytes, and is not sent.
        let small = std::io::Write::write_all(&mut small, bytes).and_then(|()| small.finish());
        Asset { name, kind, bytes, hash: hash[..16].to_owned(), small: small.unwrap_or_default().into() }
    }

    pub fn href(&self) -> Href {
        Page::Asset(self.hash.clone(), self.name.to_owned()).href()
    }

    /// The answer to somebody who asks for it; `lasting`: under the address that has its hash in it.
    pub fn answer(&self, request: &Parts, lasting: bool) -> Response<Body> {
        let header = |name| request.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let tag = format!("\"{}\"", self.hash);
        let known = header(IF_NONE_MATCH)
            .is_some_and(|known| known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag));
        let gzip =
            header(ACCEPT_ENCODING).is_some_and(|taken| taken.contains("gzip")) && !self.small.is_empty();
        let mut response = Response::new(match (known, gzip) {
            (true, _) => Body::empty(),
            (false, true) => Body::from(self.small.clone()),
            (false, false) => Body::from(self.bytes),
        });
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        if gzip && !known {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        let keep = if lasting { "public, max-age=31536000, immutable" } else { "public, max-age=86400" };
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
        if let Ok(tag) = HeaderValue::try_from(tag) {
            headers.insert(ETAG, tag);
        }
        response
    }
}

/// The asset of that hash and name.
pub fn find(hash: &str, name: &str) -> Option<&'static Asset> {
    let all: [&'static Asset; 3] = [&STYLE, &SCRIPT, &ICON];
    all.into_iter().find(|asset| asset.name == name && asset.hash == hash)
}
