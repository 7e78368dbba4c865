//! What was found out about registries and is worth keeping for a while: what they speak, and how to speak TLS to them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::ClientConfig;
use tokio::time::Instant;

use super::origin::Channel;
use super::visit::Endpoint;
use crate::{Error, RegistryAddress, Result, Trust};

/// Addresses of names change, and registries learn TLS.
const CHANNEL_FOR: Duration = Duration::from_secs(300);
/// Long enough that a pull of many layers waits once for a mirror that is down.
const REST_FOR: Duration = Duration::from_secs(60);
/// Registries beyond these are found out about anew.
const REGISTRIES_MAX: usize = 256;

#[derive(Default)]
pub(crate) struct Known {
    channels: Mutex<HashMap<String, (Channel, Instant)>>,
    /// Mirrors that have failed, and until when they aren't asked.
    resting: Mutex<HashMap<String, Instant>>,
    /// By registry, and whether it has to prove who it is.
    configs: Mutex<HashMap<(String, bool), Read>>,
}

/// A configuration as it was read.
type Read = (Stamp, Arc<ClientConfig>);

/// The files that a configuration was read from, with what tells of changes.
type Stamp = Vec<(PathBuf, Option<SystemTime>, u64)>;

impl Known {
    pub fn channel(&self, registry: &RegistryAddress) -> Option<Channel> {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let (channel, since) = channels.get(&registry.to_string())?;
        (since.elapsed() < CHANNEL_FOR).then_some(*channel)
    }

    pub fn remember(&self, registry: &RegistryAddress, channel: Channel) {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if channels.len() >= REGISTRIES_MAX {
            channels.clear();
        }
        channels.insert(registry.to_string(), (channel, Instant::now()));
    }

    pub fn forget(&self, registry: &RegistryAddress) {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).remove(&registry.to_string());
    }

    pub fn forget_all(&self) {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.resting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub fn rest(&self, mirror: &Endpoint) {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.retain(|_, until| *until > Instant::now());
        resting.insert(mirror.to_string(), Instant::now() + REST_FOR);
    }

    pub fn is_resting(&self, mirror: &Endpoint) -> bool {
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.get(&mirror.to_string()).is_some_and(|until| *until > Instant::now())
    }

    /// How to speak TLS to a registry: read once, and again when a file of it has changed. The sessions of earlier connections
    /// are in it, so that the next handshake is short.
    pub async fn tls(
        &self,
        trust: &Trust,
        registry: &RegistryAddress,
        verify: bool,
    ) -> Result<Arc<ClientConfig>> {
        let (trust, name) = (trust.clone(), registry.clone());
        let key = (registry.to_string(), verify);
        let kept = self.configs.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let read = move || {
            let stamp = stamp(&trust, &name);
            match kept {
                Some((then, config)) if then == stamp => Ok((stamp, config)),
                _ => trust.tls(&name, verify).map(|config| (stamp, config)),
            }
        };
        let read = tokio::task::spawn_blocking(read).await;
        let (stamp, config) = read.map_err(|error| Error::Trust(error.to_string()))??;
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if configs.len() >= REGISTRIES_MAX {
            configs.clear();
        }
        configs.insert(key, (stamp, config.clone()));
        Ok(config)
    }
}

fn stamp(trust: &Trust, registry: &RegistryAddress) -> Stamp {
    let mut paths = Vec::new();
    for directory in &trust.directories {
        let entries = std::fs::read_dir(directory.join(registry.to_string()));
        for entry in entries.into_iter().flatten().flatten() {
            paths.push(entry.path());
        }
    }
    paths.extend(trust.files.get(&registry.to_string()).iter().flat_map(|files| files.paths()).cloned());
    let mut stamp: Stamp = Vec::new();
    for path in paths {
        let meta = std::fs::metadata(&path).ok();
        let changed = meta.as_ref().and_then(|meta| meta.modified().ok());
        stamp.push((path, changed, meta.map_or(0, |meta| meta.len())));
    }
    stamp.sort();
    stamp
}
