//! Blobs at the other end of a connection (containerd's service `Content`): whoever asks for a build serves the stores that it names, and
//! the build reads and writes them. Both ends are here, and both are a [`corten_build::Content`] to their own side.

mod client;
mod server;

pub use client::{ContentConnection, RemoteContent};
pub use server::serve_content;

/// The header that names the store.
const STORE: &str = "buildkit-attachable-store-id";
const INFO: &str = "/containerd.services.content.v1.Content/Info";
pub const READ: &str = "/containerd.services.content.v1.Content/Read";
const WRITE: &str = "/containerd.services.content.v1.Content/Write";
const ABORT: &str = "/containerd.services.content.v1.Content/Abort";

/// Of a blob in one message: clients take messages of 4 MiB at most.
const PIECE_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests;
