//! gRPC over a connection that is there already, in both roles: `serve` answers calls that a client makes, `Channel` makes calls to
//! a client that serves. Knows no service; tonic does the framing, hyper the streams.

mod client;
mod server;

pub use client::Channel;
pub use server::{Handler, bidirectional, serve, server_streaming, unary, unimplemented};

/// The longest message in either direction: containerd's default, which BuildKit takes over.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Calls that are under way on one connection.
const STREAMS_MAX: u32 = 200;
/// Header lines of one call: the patterns of a large `.dockerignore` travel in them.
const HEADER_BYTES_MAX: u32 = 1 << 20;
/// What may be on its way to us on one stream and on all: a context is read as fast as it is written to the disk.
const WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
