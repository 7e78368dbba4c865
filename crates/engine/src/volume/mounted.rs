//! Volumes that are mounted while somebody uses them: once each, counted by user, in the engine's own mount namespace. The last user's end
//! unmounts. Everything here may wait for a disk or a server, and so has to be called from threads that may.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use corten_image::LayerMounts;
use corten_image::mounts::FileSystem;

use super::options;
use crate::container::lock;
use crate::error::{Error, Result};

pub struct Mounted {
    layers: Arc<LayerMounts>,
    /// Each with a lock of its own, so that a server that does not answer is waited for by its own users only.
    table: Mutex<HashMap<String, Arc<Mutex<Mount>>>>,
}

#[derive(Default)]
struct Mount {
    path: Option<PathBuf>,
    users: HashSet<String>,
    /// Taken over from an engine that was killed: its namespace may have it mounted still.
    adopted: bool,
}

impl Mounted {
    pub fn new(layers: Arc<LayerMounts>) -> Self {
        Self { layers, table: Mutex::default() }
    }

    fn entry(&self, name: &str) -> Arc<Mutex<Mount>> {
        lock(&self.table).entry(name.to_owned()).or_default().clone()
    }

    /// Whose volume it is decides who `user` is: a container's id, or the name of a work on it. `shown` is its place as its users know it.
    pub fn acquire(&self, name: &str, user: &str, wanted: &FileSystem, shown: &Path) -> Result<PathBuf> {
        let entry = self.entry(name);
        let mut mount = lock(&entry);
        let path = match &mount.path {
            Some(path) => path.clone(),
            None => self.mount(name, wanted, shown)?,
        };
        mount.path = Some(path.clone());
        mount.users.insert(user.to_owned());
        Ok(path)
    }

    /// Lets go of it; `others` are the mount namespaces that killed engines have left.
    pub fn release(&self, name: &str, user: &str, others: impl FnOnce() -> Vec<File>) -> Result<()> {
        let Some(entry) = lock(&self.table).get(name).cloned() else { return Ok(()) };
        let mut mount = lock(&entry);
        if !mount.users.remove(user) || !mount.users.is_empty() || mount.path.is_none() {
            return Ok(());
        }
        let others = if mount.adopted { others() } else { Vec::new() };
        self.layers.unmount_file_system(name, others).map_err(|e| failed(&e))?;
        *mount = Mount::default();
        drop(mount);
        // Nobody waits for it: whoever asks next finds it as good as new.
        let mut table = lock(&self.table);
        if Arc::strong_count(&entry) == 2 {
            table.remove(name);
        }
        Ok(())
    }

    /// Takes over what a container that outlived its engine has mounted.
    pub fn adopt(&self, name: &str, user: &str, namespace: File) -> Result<()> {
        let entry = self.entry(name);
        let mut mount = lock(&entry);
        if mount.path.is_none() && self.layers.adopt_file_system(name, namespace).map_err(|e| failed(&e))? {
            mount.path = Some(self.layers.file_system_path(name));
            mount.adopted = true;
        }
        if mount.path.is_some() {
            mount.users.insert(user.to_owned());
        }
        Ok(())
    }

    /// Those that are mounted.
    pub fn names(&self) -> Vec<String> {
        let entries: Vec<_> =
            lock(&self.table).iter().map(|(name, entry)| (name.clone(), entry.clone())).collect();
        entries.into_iter().filter(|(_, entry)| lock(entry).path.is_some()).map(|(name, _)| name).collect()
    }

    /// How many use it; none: it is not mounted.
    pub fn users(&self, name: &str) -> usize {
        let entry = lock(&self.table).get(name).cloned();
        entry.map_or(0, |entry| lock(&entry).users.len())
    }

    fn mount(&self, name: &str, wanted: &FileSystem, shown: &Path) -> Result<PathBuf> {
        let mut wanted = wanted.clone();
        let context = format!("error while mounting volume '{}'", shown.display());
        if let Some(host) = options::server_name(&wanted).map(str::to_owned) {
            let found: Vec<_> = (host.as_str(), 0).to_socket_addrs().into_iter().flatten().collect();
            // As Docker has it: many servers have both, and listen on one.
            let address = found.iter().find(|address| address.is_ipv4()).or(found.first());
            let address = address.ok_or_else(|| {
                Error::internal(format!(
                    "{context}: error resolving passed in network volume address: no address found for {host}"
                ))
            })?;
            wanted.data = wanted.data.replacen(&format!("addr={host}"), &format!("addr={}", address.ip()), 1);
        }
        let is_file = !wanted.flags.contains(rustix::mount::MountFlags::BIND)
            && std::fs::metadata(&wanted.source).is_ok_and(|metadata| metadata.is_file());
        // mount(8) makes a loop device of a file without being told so.
        wanted.by_loop |= is_file;
        self.layers.mount_file_system(name, &wanted).map_err(|error| {
            let mut what = format!("mount {}:{}", wanted.source, shown.display());
            if !wanted.data.is_empty() {
                what.push_str(&format!(", data: {}", options::shown(&wanted.data)));
            }
            let cause =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), |e| cause(e, &wanted));
            Error::internal(format!("{context}: failed to mount local volume: {what}: {cause}"))
        })
    }
}

/// What the kernel says, in words that lead further.
fn cause(error: &(dyn std::error::Error + 'static), wanted: &FileSystem) -> String {
    let errno = error.downcast_ref::<std::io::Error>().and_then(rustix::io::Errno::from_io_error);
    let Some(errno) = errno else { return error.to_string() };
    use rustix::io::Errno;
    let hint = match errno {
        Errno::NODEV => format!("this kernel has no file system \"{}\"", wanted.kind),
        Errno::NOENT if wanted.source.starts_with('/') => format!("is there a {}?", wanted.source),
        Errno::NOTBLK => format!("{} is no block device", wanted.source),
        Errno::INVAL => format!(
            "{} holds no {} that this kernel knows, or an option is wrong",
            wanted.source, wanted.kind
        ),
        Errno::BUSY => format!("{} is in use elsewhere", wanted.source),
        _ => String::new(),
    };
    let text = match errno {
        Errno::NODEV => "no such device".to_owned(),
        Errno::NOENT => "no such file or directory".to_owned(),
        Errno::INVAL => "invalid argument".to_owned(),
        Errno::NOTBLK => "block device required".to_owned(),
        Errno::BUSY => "device or resource busy".to_owned(),
        other => other.to_string(),
    };
    if hint.is_empty() { text } else { format!("{text} ({hint})") }
}

fn failed(error: &corten_image::MountError) -> Error {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    Error::internal(format!("{error}{}", cause.unwrap_or_default()))
}
