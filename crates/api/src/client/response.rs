//! Answers: whole, as a document, as a stream of documents or of bytes.

use super::{Error, Result};
use crate::error::ErrorResponse;
use crate::json;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName};
use hyper::{Response as HyperResponse, StatusCode};
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

/// An answer with a status below 400, its body not read yet.
#[derive(Debug)]
pub struct Response {
    what: String,
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
}

impl Response {
    /// Turns a refusal into an error.
    pub(super) async fn checked(what: String, response: HyperResponse<Incoming>) -> Result<Self> {
        let (parts, body) = response.into_parts();
        let response = Self { what, status: parts.status, headers: parts.headers, body };
        if response.status.as_u16() < 400 {
            return Ok(response);
        }
        let (status, what) = (response.status, response.what.clone());
        let text = response.bytes().await?;
        let message = match json::from_slice::<ErrorResponse>(&text) {
            Ok(refusal) if !refusal.message.is_empty() => refusal.message,
            _ if text.is_empty() => format!("{what}: {status}"),
            _ => String::from_utf8_lossy(&text).trim().to_owned(),
        };
        Err(Error::Server { status: status.as_u16(), message })
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// A header's value, when it is there and text.
    pub fn header(&self, name: impl Into<HeaderName>) -> Option<&str> {
        self.headers.get(name.into())?.to_str().ok()
    }

    /// Whether the body is framed by `stream::Demultiplexer`'s format; false when the server doesn't say (API < 1.42).
    pub fn is_multiplexed(&self) -> bool {
        self.header(hyper::header::CONTENT_TYPE) == Some(crate::stream::MULTIPLEXED_STREAM)
    }

    pub async fn bytes(self) -> Result<Bytes> {
        let what = self.what;
        let body = self.body.collect().await.map_err(|source| Error::Body { what, source })?;
        Ok(body.to_bytes())
    }

    pub async fn json<T: DeserializeOwned>(self) -> Result<T> {
        let what = self.what.clone();
        let bytes = self.bytes().await?;
        // Where no number or text is null, which is nearly always, the plain way does in a third of the time.
        serde_json::from_slice(&bytes)
            .or_else(|_| json::from_slice(&bytes))
            .map_err(|source| Error::Decode { what, source })
    }

    /// Reads to the end and drops it, so that the connection can be used again.
    pub async fn finish(self) -> Result<()> {
        self.bytes().await.map(drop)
    }

    /// The next piece of the body; none at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            match frame {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Err(source) => return Err(Error::Body { what: self.what.clone(), source }),
            }
        }
        Ok(None)
    }

    /// The body as a sequence of JSON documents (progress, events).
    pub fn messages<T: DeserializeOwned>(self) -> Messages<T> {
        Messages { response: self, buffer: BytesMut::new(), scanned: 0, kind: PhantomData }
    }
}

/// JSON documents, one per line, as they come in.
#[derive(Debug)]
pub struct Messages<T> {
    response: Response,
    buffer: BytesMut,
    /// So much of the buffer holds no line end.
    scanned: usize,
    kind: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Messages<T> {
    /// The next document; none at the end of the body.
    pub async fn next(&mut self) -> Result<Option<T>> {
        loop {
            if let Some(offset) = self.buffer[self.scanned..].iter().position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(self.scanned + offset);
                self.buffer.advance(1);
                self.scanned = 0;
                if !line.trim_ascii().is_empty() {
                    return self.decode(&line).map(Some);
                }
                continue;
            }
            self.scanned = self.buffer.len();
            match self.response.chunk().await? {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None if self.buffer.trim_ascii().is_empty() => return Ok(None),
                None => {
                    let rest = self.buffer.split();
                    self.scanned = 0;
                    return self.decode(&rest).map(Some);
                }
            }
        }
    }

    /// What comes next as it is, at most `bytes_max`; nothing at the end of the body.
    pub async fn raw(&mut self, bytes_max: usize) -> Result<Bytes> {
        if self.buffer.is_empty()
            && let Some(piece) = self.response.chunk().await?
        {
            self.buffer.extend_from_slice(&piece);
        }
        self.scanned = 0;
        let now = bytes_max.min(self.buffer.len());
        Ok(self.buffer.split_to(now).freeze())
    }

    fn decode(&self, line: &[u8]) -> Result<T> {
        json::from_slice(line).map_err(|source| Error::Decode { what: self.response.what.clone(), source })
    }
}
