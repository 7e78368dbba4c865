//! A base image from the host's own distribution, so that one can begin without a registry.
//!
//! What goes in: the files of the distribution's essential packages, and of what they need, as the package
//! database lists them; apt with its sources and keys, so that the image can install more; and what maintainer
//! scripts would have generated, made anew from the packages' own templates. What stays out: every setting, name,
//! key and password of the host. Today for dpkg (Debian, Ubuntu and their kin).
//!
//! [`dpkg`] reads the package database, [`tree`] collects what the image holds, [`generated`] makes what no package
//! ships, [`stream`] writes it as a tar into the layer importer.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive::Progress;
use crate::catalogue::Image;
use crate::config::{History, RunConfig};
use crate::error::{Error, ErrorKind};
use crate::import::ImportError;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::Store;

mod alternatives;
mod dpkg;
mod generated;
mod md5;
mod stream;
mod tree;

#[cfg(test)]
mod tests;

#[derive(Clone, Debug)]
pub struct BaseOptions {
    /// The system to take from.
    pub root: PathBuf,
    /// The image's name; `<distribution>:<codename>` when absent.
    pub reference: Option<String>,
    /// Installed packages to take along, with what they need.
    pub packages: Vec<String>,
}

impl Default for BaseOptions {
    fn default() -> BaseOptions {
        BaseOptions { root: PathBuf::from("/"), reference: None, packages: Vec::new() }
    }
}

/// Why no base image could be made. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    #[error(
        "cannot make a base image from {root}: it is a system of {found} packages; supported are dpkg systems (Debian, Ubuntu and their kin). Import a root file system with `corten import` instead"
    )]
    Unsupported { root: PathBuf, found: &'static str },
    #[error("cannot make a base image from {root}: there is no package database (/var/lib/dpkg/status)")]
    NoPackages { root: PathBuf },
    #[error("package {0} is not installed here: install it first, or leave it out")]
    NotInstalled(String),
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the package database has no file list of {0}")]
    NoFileList(String),
    #[error("cannot tell the distribution's name: {0} has no ID; give the image a name")]
    NoName(PathBuf),
    #[error("{path} changed while it was read; try again")]
    Changed { path: PathBuf },
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
    #[error(transparent)]
    Import(#[from] ImportError),
}

impl BaseError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            BaseError::Unsupported { .. } | BaseError::NoName(_) | BaseError::NotInstalled(_) => {
                ErrorKind::InvalidParameter
            }
            _ => ErrorKind::Internal,
        }
    }
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Store {
    /// Makes an image of the distribution that runs under `options.root`.
    pub fn create_base(
        &self,
        options: &BaseOptions,
        progress: &dyn Fn(Progress),
    ) -> Result<Arc<Image>, Error> {
        let release = os_release(&options.root)?;
        let reference = match &options.reference {
            Some(text) => Reference::parse(text)?,
            None => Reference::parse(&default_name(&release, &options.root)?)?,
        };
        check_packages(&options.root)?;
        let database = dpkg::Database::read(&options.root)?;
        let selected = database.select(&options.packages)?;
        let tree = tree::collect(&options.root, &database, &selected)?;
        tracing::info!(packages = selected.len(), files = tree.len(), "making a base image");
        let session = self.session();
        let layer = self.import_fed(&session, |feed| stream::write(&options.root, &tree, feed, progress))?;
        let run = RunConfig {
            env: vec![PATH.to_owned()],
            cmd: Some(vec!["bash".to_owned()]),
            ..RunConfig::default()
        };
        let origin = release.get("PRETTY_NAME").map_or("the host", String::as_str);
        let history = History {
            created_by: format!("corten image create-base # {} packages of {origin}", selected.len()),
            comment: "made from the host's distribution".to_owned(),
            ..History::default()
        };
        self.add_single(&layer, run, history, &Platform::host(), Some(&reference))
    }
}

fn read(path: &Path) -> Result<String, BaseError> {
    let bytes = fs::read(path).map_err(|source| BaseError::Read { path: path.to_owned(), source })?;
    // Package databases are UTF-8 but for a few old maintainers' names.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// As [`read`], with nothing for a file that is not there.
fn read_optional(path: &Path) -> Result<String, BaseError> {
    match read(path) {
        Err(BaseError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    }
}

fn os_release(root: &Path) -> Result<BTreeMap<String, String>, BaseError> {
    let mut text = read_optional(&root.join("etc/os-release"))?;
    if text.is_empty() {
        text = read_optional(&root.join("usr/lib/os-release"))?;
    }
    let pair = |line: &str| {
        let (key, value) = line.split_once('=')?;
        Some((key.trim().to_owned(), value.trim().trim_matches(['"', '\'']).to_owned()))
    };
    Ok(text.lines().filter_map(pair).collect())
}

/// `debian:bookworm`, `ubuntu:noble`; a rolling distribution has no codename and gets `latest`.
fn default_name(release: &BTreeMap<String, String>, root: &Path) -> Result<String, BaseError> {
    let given = |key: &str| release.get(key).filter(|text| !text.is_empty());
    let id = given("ID").ok_or_else(|| BaseError::NoName(root.join("etc/os-release")))?;
    let tag = given("VERSION_CODENAME").or_else(|| given("VERSION_ID")).map_or("latest", String::as_str);
    Ok(format!("{id}:{tag}"))
}

/// Says plainly what the system is when it is none of dpkg's.
fn check_packages(root: &Path) -> Result<(), BaseError> {
    if root.join("var/lib/dpkg/status").exists() {
        return Ok(());
    }
    const OTHERS: [(&str, &str); 5] = [
        ("var/lib/rpm", "rpm"),
        ("usr/lib/sysimage/rpm", "rpm"),
        ("lib/apk/db/installed", "apk"),
        ("usr/lib/apk/db/installed", "apk"),
        ("var/lib/pacman", "pacman"),
    ];
    match OTHERS.iter().find(|(path, _)| root.join(path).exists()) {
        Some((_, found)) => Err(BaseError::Unsupported { root: root.to_owned(), found }),
        None => Err(BaseError::NoPackages { root: root.to_owned() }),
    }
}
