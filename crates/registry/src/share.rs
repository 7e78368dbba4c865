//! How the engine hands a file to a registry of the same host, so that a blob's bytes needn't be sent: the file system clones or
//! links them. Both ends of it, of which neither knows the other's half.
//!
//! A registry that is asked from the host itself says where its directory is when it begins an upload ([`WHERE`]). A socket there, for its
//! owner only, takes the path of the upload and a descriptor, and answers [`TAKEN`] when the upload has the file's bytes. The client
//! ends the upload as always: what it may do, and what the bytes are, is checked as if they had been sent.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The header with the registry's directory.
pub const WHERE: &str = "corten-share";
/// The socket in it.
pub const SOCKET: &str = "share";
/// What is answered when the upload has the bytes.
pub const TAKEN: &[u8] = b"taken";
/// The longest path of an upload: a name of 255 bytes and what is around it.
pub const PATH_MAX: usize = 512;
/// How long one end waits for the other. Nothing is copied meanwhile.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A path below a directory that is no longer than a socket's may be (unix(7): 107 bytes), as long as this is held.
#[derive(Debug)]
pub struct SocketPath {
    _directory: File,
    path: PathBuf,
}

impl SocketPath {
    pub fn of(directory: &Path, name: &str) -> io::Result<SocketPath> {
        let directory = File::open(directory)?;
        let path = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()).into();
        Ok(SocketPath { _directory: directory, path })
    }
}

impl AsRef<Path> for SocketPath {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// Offers a file for an upload, by the path where the upload goes on. Whether it was taken; waits.
pub fn offer(directory: &Path, upload: &str, file: &File) -> io::Result<bool> {
    let socket = SocketPath::of(directory, SOCKET)?;
    let mut stream = UnixStream::connect(&socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    corten_sys::fd::send(stream.as_fd(), upload.as_bytes(), &[file.as_fd()])?;
    let mut answer = Vec::new();
    (&mut stream).take(PATH_MAX as u64).read_to_end(&mut answer)?;
    Ok(answer == TAKEN)
}
