//! `moby.buildkit.v1.frontend`: the bridge by which a client drives a build itself.

use super::control::{CacheOptionsEntry, WorkerRecord};
use super::ops::Definition;
use super::rpc::Status;
use std::collections::BTreeMap;

/// What a solve yields: one reference or one per platform, and what its front end says of it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Outcome {
    #[prost(oneof = "Refs", tags = "1, 2, 3, 4")]
    pub refs: Option<Refs>,
    #[prost(btree_map = "string, bytes", tag = "10")]
    pub metadata: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Refs {
    #[prost(string, tag = "1")]
    OneDeprecated(String),
    #[prost(message, tag = "2")]
    ManyDeprecated(RefMapDeprecated),
    #[prost(message, tag = "3")]
    One(Ref),
    #[prost(message, tag = "4")]
    Many(RefMap),
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RefMapDeprecated {
    #[prost(btree_map = "string, string", tag = "1")]
    pub refs: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Ref {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(message, optional, tag = "2")]
    pub def: Option<Definition>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RefMap {
    #[prost(btree_map = "string, message", tag = "1")]
    pub refs: BTreeMap<String, Ref>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReturnRequest {
    #[prost(message, optional, tag = "1")]
    pub result: Option<Outcome>,
    #[prost(message, optional, tag = "2")]
    pub error: Option<Status>,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ReturnResponse {}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct InputsRequest {}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InputsResponse {
    #[prost(btree_map = "string, message", tag = "1")]
    pub definitions: BTreeMap<String, Definition>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SolveRequest {
    #[prost(message, optional, tag = "1")]
    pub definition: Option<Definition>,
    #[prost(string, tag = "2")]
    pub frontend: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub frontend_opt: BTreeMap<String, String>,
    #[prost(bool, tag = "5")]
    pub allow_result_return: bool,
    #[prost(bool, tag = "6")]
    pub allow_result_array_ref: bool,
    #[prost(message, repeated, tag = "12")]
    pub cache_imports: Vec<CacheOptionsEntry>,
    #[prost(btree_map = "string, message", tag = "13")]
    pub frontend_inputs: BTreeMap<String, Definition>,
    #[prost(bool, tag = "14")]
    pub evaluate: bool,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SolveResponse {
    #[prost(string, tag = "1")]
    pub ref_deprecated: String,
    #[prost(message, optional, tag = "3")]
    pub result: Option<Outcome>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EvaluateRequest {
    #[prost(string, tag = "1")]
    pub r#ref: String,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct EvaluateResponse {}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct PingRequest {}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PongResponse {
    #[prost(message, repeated, tag = "1")]
    pub frontend_api_caps: Vec<ApiCap>,
    #[prost(message, repeated, tag = "2")]
    pub llb_caps: Vec<ApiCap>,
    #[prost(message, repeated, tag = "3")]
    pub workers: Vec<WorkerRecord>,
}

/// Something that the service can do.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ApiCap {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(bool, tag = "2")]
    pub enabled: bool,
}
