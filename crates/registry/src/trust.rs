//! Whom to believe, and what to show: the host's authorities, and `certs.d` with those of single registries.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_api::client::TlsOptions;
use rustls::ClientConfig;

use crate::{Error, RegistryAddress, Result};

/// Where certificates of single registries lie, a directory for each, named `host[:port]`: `*.crt` are authorities, `NAME.cert` with
/// `NAME.key` is what we show (Docker's layout).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    pub directories: Vec<PathBuf>,
    /// Files of single registries (by `host[:port]`) that lie elsewhere.
    pub files: BTreeMap<String, TrustFiles>,
}

/// What is believed and shown to one registry; all in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustFiles {
    /// Authorities beside those of the host.
    pub ca: Option<PathBuf>,
    /// Our certificate, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl TrustFiles {
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let identity = self.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        self.ca.iter().chain(identity)
    }
}

impl Default for Trust {
    fn default() -> Self {
        let directories = vec!["/etc/corten/certs.d".into(), "/etc/docker/certs.d".into()];
        Self { directories, files: BTreeMap::new() }
    }
}

impl Trust {
    /// How to speak TLS to a registry. Reads files.
    pub(crate) fn tls(&self, registry: &RegistryAddress, verify: bool) -> Result<Arc<ClientConfig>> {
        let mut options = TlsOptions { verify, ..TlsOptions::default() };
        for directory in &self.directories {
            read(&directory.join(registry.to_string()), &mut options)?;
        }
        if let Some(files) = self.files.get(&registry.to_string()) {
            let get = |path: &Path| {
                fs::read(path).map_err(|error| Error::Trust(format!("read {}: {error}", path.display())))
            };
            if let Some(ca) = &files.ca {
                options.further_ca.extend(get(ca)?.iter().chain(b"\n"));
            }
            if let Some((certificate, key)) = &files.identity {
                options.identity = Some((get(certificate)?, get(key)?));
            }
        }
        let config = options
            .config()
            .map_err(|error| Error::Trust(format!("certificates for {registry}: {error}")))?;
        Ok(Arc::new(config))
    }
}

fn read(directory: &Path, options: &mut TlsOptions) -> Result<()> {
    let failed =
        |path: &Path, error: std::io::Error| Error::Trust(format!("read {}: {error}", path.display()));
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(failed(directory, error)),
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let get = |path: &Path| fs::read(path).map_err(|error| failed(path, error));
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => options.further_ca.extend(get(&path)?.iter().chain(b"\n")),
            Some("cert") if options.identity.is_none() => {
                let key = path.with_extension("key");
                if !key.exists() {
                    return Err(Error::Trust(format!(
                        "missing key {} for client certificate {}; authorities have the extension .crt",
                        key.display(),
                        path.display()
                    )));
                }
                options.identity = Some((get(&path)?, get(&key)?));
            }
            _ => {}
        }
    }
    Ok(())
}
