//! Contexts: engines with a name. The files are those of Docker's client, which sees the same ones:
//! `<config>/contexts/meta/<SHA-256 of the name>/meta.json`, TLS files below `contexts/tls/`, and the current one's name in
//! `<config>/config.json`. Which of them a command talks to is decided in `cli/endpoint.rs`.

pub mod archive;
mod tls;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use tls::TlsFiles;

/// The context that always is: what environment and defaults say.
pub const DEFAULT: &str = "default";
/// The one endpoint that a context has for us.
const ENDPOINT: &str = "docker";

/// `meta.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Meta {
    pub name: String,
    pub metadata: Metadata,
    pub endpoints: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Metadata {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What other programs keep there.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

impl Meta {
    pub fn new(name: &str, description: &str, host: &str, skip_verify: bool) -> Meta {
        let mut meta = Meta { name: name.to_owned(), ..Meta::default() };
        meta.metadata.description = description.to_owned();
        meta.set_endpoint(host, skip_verify);
        meta
    }

    pub fn set_endpoint(&mut self, host: &str, skip_verify: bool) {
        let endpoint = serde_json::json!({"Host": host, "SkipTLSVerify": skip_verify});
        self.endpoints.insert(ENDPOINT.to_owned(), endpoint);
    }

    pub fn host(&self) -> &str {
        self.endpoint("Host").and_then(Value::as_str).unwrap_or_default()
    }

    pub fn skip_verify(&self) -> bool {
        self.endpoint("SkipTLSVerify").and_then(Value::as_bool).unwrap_or(false)
    }

    fn endpoint(&self, field: &str) -> Option<&Value> {
        self.endpoints.get(ENDPOINT)?.get(field)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("context \"{name}\": context not found: open {}: no such file or directory", path.display())]
    NotFound { name: String, path: PathBuf },
    #[error("context \"{0}\" does not exist")]
    Missing(String),
    #[error("context \"{0}\" already exists")]
    Exists(String),
    #[error("\"{0}\" is a reserved context name")]
    Reserved(String),
    #[error(
        "context name \"{0}\" is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
    )]
    Name(String),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{0}")]
    Archive(String),
}

/// The contexts of one configuration directory.
pub struct Store {
    config: PathBuf,
}

impl Store {
    pub fn new(config: PathBuf) -> Store {
        Store { config }
    }

    pub fn directory(&self) -> &Path {
        &self.config
    }

    /// Where a context's description is, and its TLS files are.
    pub fn directories(&self, name: &str) -> (PathBuf, PathBuf) {
        let id = id(name);
        let root = self.config.join("contexts");
        (root.join("meta").join(&id), root.join("tls").join(id))
    }

    pub fn get(&self, name: &str) -> Result<Meta, StoreError> {
        let path = self.directories(name).0.join("meta.json");
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|source| StoreError::Json { path, source }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(StoreError::NotFound { name: name.to_owned(), path })
            }
            Err(source) => Err(StoreError::File { path, source }),
        }
    }

    /// All of them by name. One that can't be read has its error.
    pub fn list(&self) -> Result<Vec<Result<Meta, StoreError>>, StoreError> {
        let path = self.config.join("contexts/meta");
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StoreError::File { path, source }),
        };
        let files =
            entries.flatten().map(|entry| entry.path().join("meta.json")).filter(|path| path.is_file());
        let mut found: Vec<Result<Meta, StoreError>> = files
            .map(|path| {
                let text =
                    std::fs::read(&path).map_err(|source| StoreError::File { path: path.clone(), source })?;
                serde_json::from_slice(&text).map_err(|source| StoreError::Json { path, source })
            })
            .collect();
        found.sort_by(|a: &Result<Meta, _>, b| {
            let name =
                |meta: &Result<Meta, StoreError>| meta.as_ref().map(|m| m.name.clone()).unwrap_or_default();
            name(a).cmp(&name(b))
        });
        Ok(found)
    }

    /// Refuses names that a new context can't have.
    pub fn check_new(&self, name: &str) -> Result<(), StoreError> {
        let mut bytes = name.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
        let others = name.len() > 1 && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.+-".contains(&b));
        if name == DEFAULT {
            return Err(StoreError::Reserved(name.to_owned()));
        }
        if !first || !others {
            return Err(StoreError::Name(name.to_owned()));
        }
        match self.get(name) {
            Err(StoreError::NotFound { .. }) => Ok(()),
            Err(other) => Err(other),
            Ok(_) => Err(StoreError::Exists(name.to_owned())),
        }
    }

    /// Writes a context down; `files` replaces the TLS files, where given.
    pub fn put(&self, meta: &Meta, files: Option<&TlsFiles>) -> Result<(), StoreError> {
        let (directory, tls) = self.directories(&meta.name);
        if let Some(files) = files {
            // Before the description: a context is never seen without what it needs.
            files.write(&tls.join(ENDPOINT))?;
        }
        let path = directory.join("meta.json");
        let text =
            serde_json::to_vec(meta).map_err(|source| StoreError::Json { path: path.clone(), source })?;
        write(&path, &text, 0o644)
    }

    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        let (directory, tls) = self.directories(name);
        for path in [directory, tls] {
            match std::fs::remove_dir_all(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::File { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub fn tls(&self, name: &str) -> Result<TlsFiles, StoreError> {
        TlsFiles::read(&self.directories(name).1.join(ENDPOINT))
    }

    /// The name that `context use` has chosen.
    pub fn current(&self) -> Option<String> {
        let config = self.config().ok()?;
        config.get("currentContext")?.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
    }

    /// Chooses one for the commands to come.
    pub fn set_current(&self, name: &str) -> Result<(), StoreError> {
        self.change_config(|config| {
            if name == DEFAULT {
                config.shift_remove("currentContext");
            } else {
                config.insert("currentContext".to_owned(), name.into());
            }
        })
    }

    pub fn config_path(&self) -> PathBuf {
        self.config.join("config.json")
    }

    /// What `config.json` says; nothing when there is none.
    pub fn config(&self) -> Result<Map<String, Value>, StoreError> {
        let path = self.config_path();
        match std::fs::read(&path) {
            Ok(text) if !text.trim_ascii().is_empty() => {
                serde_json::from_slice(&text).map_err(|source| StoreError::Json { path, source })
            }
            Ok(_) => Ok(Map::new()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Map::new()),
            Err(source) => Err(StoreError::File { path, source }),
        }
    }

    /// Changes something in `config.json`; everything else in it stays.
    pub fn change_config(&self, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), StoreError> {
        let path = self.config_path();
        let mut config = self.config()?;
        change(&mut config);
        let mut text = Vec::new();
        let indent = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        config
            .serialize(&mut serde_json::Serializer::with_formatter(&mut text, indent))
            .map_err(|source| StoreError::Json { path: path.clone(), source })?;
        // It may hold passwords of registries.
        write(&path, &text, 0o600)
    }
}

/// The directory of a context: its name may have any case, and file systems may not tell.
fn id(name: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a file whole or not at all, with its directories. A link stays one, and who owned the file or may read it goes on so.
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), StoreError> {
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    let failed = |source| StoreError::File { path: path.to_owned(), source };
    // Also one that leads to nothing yet.
    let linked = std::fs::canonicalize(path).ok().or_else(|| {
        let target = std::fs::read_link(path).ok()?;
        Some(path.parent()?.join(target))
    });
    let path = linked.as_deref().unwrap_or(path);
    let before = std::fs::metadata(path).ok();
    let Some(directory) = path.parent() else { return Err(failed(std::io::ErrorKind::InvalidInput.into())) };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.new", std::process::id()));
    let result = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| {
            if let Some(before) = &before {
                file.set_permissions(before.permissions())?;
                // Only root may, and only for root it matters: to keep a user's file theirs.
                let _ = std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()));
            }
            file.write_all(content)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&temporary, path));
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result.map_err(failed)
}
