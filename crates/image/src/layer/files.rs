//! Reading a layer's files without mounting it, and a stack of layers as overlayfs would show it.

use super::{LayerError, Metadata};
use crate::tar::Device;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    File,
    Directory {
        /// Hides the same directory in the layers below.
        opaque: bool,
    },
    Symlink,
    /// Hides the name in the layers below.
    Whiteout,
    CharDevice(Device),
    BlockDevice(Device),
    Fifo,
}

/// A file of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub kind: FileKind,
    /// Bytes of a regular file, of a symbolic link's target; of no meaning for others.
    pub size: u64,
    pub links: u32,
    pub metadata: Metadata,
}

/// The files of one layer. Paths are relative to its root, without `..`; symbolic links are not followed.
pub trait LayerFiles: Send {
    fn stat(&self, path: &[u8]) -> Result<Option<Found>, LayerError>;

    /// The bytes of a file or the target of a symbolic link; more than `bytes_max` is an error.
    fn read(&self, path: &[u8], bytes_max: u64) -> Result<Vec<u8>, LayerError>;

    /// The names in a directory, sorted; empty when there is no such directory.
    fn list(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, FileKind)>, LayerError>;
}

/// Layers on top of each other.
pub struct Stack {
    layers: Vec<Box<dyn LayerFiles>>,
}

const SYMLINKS_MAX: u32 = 40;

/// A directory on the way: its path, and the layers that make it up, top first.
struct Step {
    path: Vec<u8>,
    layers: Vec<usize>,
}

impl Stack {
    /// The top layer comes first, as in overlayfs's `lowerdir`.
    pub fn new(layers: Vec<Box<dyn LayerFiles>>) -> Stack {
        Stack { layers }
    }

    /// The bytes of the regular file that a container would see under a path; `None` when there is none.
    /// Symbolic links are followed within the stack.
    pub fn read(&self, path: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, LayerError> {
        let mut rest = components(path.as_bytes());
        let root = || vec![Step { path: Vec::new(), layers: (0..self.layers.len()).collect() }];
        let (mut way, mut symlinks) = (root(), 0);
        while let Some(name) = rest.pop() {
            if name == b".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let Some(at) = way.last() else { break };
            let path = if at.path.is_empty() { name } else { [&at.path, &b"/"[..], &name].concat() };
            match self.step(&path, &at.layers)? {
                Next::Nothing => return Ok(None),
                Next::Directory(layers) => way.push(Step { path, layers }),
                Next::File(layer) if rest.is_empty() => {
                    return self.layers[layer].read(&path, bytes_max).map(Some);
                }
                Next::File(_) => return Ok(None),
                Next::Symlink(layer) => {
                    symlinks += 1;
                    if symlinks > SYMLINKS_MAX {
                        return Ok(None);
                    }
                    let target = self.layers[layer].read(&path, 4096)?;
                    if target.starts_with(b"/") {
                        way = root();
                    }
                    rest.extend(components(&target));
                }
            }
        }
        Ok(None)
    }

    fn step(&self, path: &[u8], layers: &[usize]) -> Result<Next, LayerError> {
        let mut merged = Vec::new();
        for &layer in layers {
            let Some(found) = self.layers[layer].stat(path)? else { continue };
            match found.kind {
                FileKind::Directory { opaque } => {
                    merged.push(layer);
                    if opaque {
                        break;
                    }
                }
                FileKind::File if merged.is_empty() => return Ok(Next::File(layer)),
                FileKind::Symlink if merged.is_empty() => return Ok(Next::Symlink(layer)),
                _ => break,
            }
        }
        Ok(if merged.is_empty() { Next::Nothing } else { Next::Directory(merged) })
    }
}

enum Next {
    Nothing,
    Directory(Vec<usize>),
    File(usize),
    Symlink(usize),
}

/// The parts of a path, last first.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|&byte| byte == b'/').rev();
    parts.filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec).collect()
}
