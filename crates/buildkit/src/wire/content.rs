//! Blobs by their digest: `containerd.services.content.v1`, as far as builds need it. Digests are texts (`sha256:…`).

use prost::bytes::Bytes;

/// Of `Read`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReadRequest {
    #[prost(string, tag = "1")]
    pub digest: String,
    #[prost(int64, tag = "2")]
    pub offset: i64,
    /// 0: to the end.
    #[prost(int64, tag = "3")]
    pub size: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReadResponse {
    #[prost(int64, tag = "1")]
    pub offset: i64,
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InfoRequest {
    #[prost(string, tag = "1")]
    pub digest: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InfoResponse {
    #[prost(message, optional, tag = "1")]
    pub info: Option<Info>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Info {
    #[prost(string, tag = "1")]
    pub digest: String,
    #[prost(int64, tag = "2")]
    pub size: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum WriteAction {
    /// How far is it?
    Stat = 0,
    Write = 1,
    /// It is whole: the last message.
    Commit = 2,
}

/// Of `Write`: one answer to each.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WriteRequest {
    #[prost(enumeration = "WriteAction", tag = "1")]
    pub action: i32,
    /// What the blob is known by until it is whole; in the first message.
    #[prost(string, tag = "2")]
    pub r#ref: String,
    /// Bytes of the blob; 0 where they are not known.
    #[prost(int64, tag = "3")]
    pub total: i64,
    #[prost(string, tag = "4")]
    pub expected: String,
    #[prost(int64, tag = "5")]
    pub offset: i64,
    #[prost(bytes = "bytes", tag = "6")]
    pub data: Bytes,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WriteResponse {
    #[prost(enumeration = "WriteAction", tag = "1")]
    pub action: i32,
    /// Bytes that are there.
    #[prost(int64, tag = "4")]
    pub offset: i64,
    #[prost(int64, tag = "5")]
    pub total: i64,
    #[prost(string, tag = "6")]
    pub digest: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AbortRequest {
    #[prost(string, tag = "1")]
    pub r#ref: String,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Nothing {}
