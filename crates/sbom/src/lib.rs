//! What is installed in a tree of files: the packages that databases and manifests in it tell of, as a document of what a thing is made
//! of (SPDX 2.3, CycloneDX 1.6).
//!
//! Pure: whoever has the tree walks it, asks [`is_wanted`] of each file, and hands over what is wanted. All of it may be made to harm:
//! sizes, depths and counts have bounds, and what can't be read is left out and said so. The same tree gives the same document.

mod cyclonedx;
mod database;
mod language;
mod package;
mod spdx;

use std::collections::BTreeMap;
use std::io::{self, Read, Seek};

pub use cyclonedx::document as cyclonedx;
pub use package::Package;
pub use spdx::document as spdx;

use package::{Draft, Origin};

/// Of what is read as a whole.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// JSON takes many times its size in memory: `[0,0,…`
const JSON_BYTES_MAX: u64 = 16 << 20;
/// A header alone.
const PROGRAM_BYTES_MIN: u64 = 64;
const PACKAGES_MAX: usize = 200_000;
const NOTES_MAX: usize = 100;

/// A file that can be looked into.
pub trait Source: Read + Seek {}

impl<T: Read + Seek> Source for T {}

/// What a document is about.
#[derive(Clone, Debug)]
pub struct About {
    /// The image's name, or what stands for it.
    pub name: String,
    /// What tells it from all others, hexadecimal digits.
    pub digest: String,
    /// Unix seconds.
    pub created: i64,
    /// Of the program that writes the document: `corten-1.0`
    pub tool: String,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// By their package URLs, ascending.
    pub packages: Vec<Package>,
    /// What was not read, and why.
    pub notes: Vec<String>,
}

/// Whether a regular file is wanted; `path` is without a slash in front.
pub fn is_wanted(path: &str, is_executable: bool, bytes: u64) -> bool {
    kind(path) != Kind::Program || (is_executable && bytes >= PROGRAM_BYTES_MIN)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    OsRelease,
    Dpkg,
    Apk,
    Rpm,
    UnreadRpm,
    Python,
    Node,
    NodeLock,
    Cargo,
    GemLock,
    Gem,
    Java,
    Program,
}

impl Kind {
    fn bytes_max(self) -> u64 {
        match self {
            Kind::Node | Kind::NodeLock => JSON_BYTES_MAX,
            _ => FILE_BYTES_MAX,
        }
    }
}

fn kind(path: &str) -> Kind {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let above = directory.rsplit('/').next().unwrap_or_default();
    match (directory, name) {
        ("etc" | "usr/lib", "os-release") => Kind::OsRelease,
        ("var/lib/dpkg", "status") => Kind::Dpkg,
        ("var/lib/dpkg/status.d", name) if !name.ends_with(".md5sums") => Kind::Dpkg,
        ("lib/apk/db" | "usr/lib/apk/db", "installed") => Kind::Apk,
        ("var/lib/rpm" | "usr/lib/sysimage/rpm", "rpmdb.sqlite") => Kind::Rpm,
        ("var/lib/rpm" | "usr/lib/sysimage/rpm", "Packages" | "Packages.db") => Kind::UnreadRpm,
        (_, "METADATA") if above.ends_with(".dist-info") => Kind::Python,
        (_, "PKG-INFO") if above.ends_with(".egg-info") => Kind::Python,
        (_, name) if name.ends_with(".egg-info") => Kind::Python,
        (_, "package.json") if language::node::is_installed(directory) => Kind::Node,
        (_, "package-lock.json") => Kind::NodeLock,
        (_, "Cargo.lock") => Kind::Cargo,
        (_, "Gemfile.lock") => Kind::GemLock,
        (_, name) if above == "specifications" && name.ends_with(".gemspec") => Kind::Gem,
        (_, name) if language::java::is_archive(name) => Kind::Java,
        _ => Kind::Program,
    }
}

/// A tree that is being looked through.
#[derive(Default)]
pub struct Scan {
    drafts: Vec<Draft>,
    system: database::os_release::System,
    notes: Vec<String>,
    is_full: bool,
}

impl Scan {
    /// Takes a file that is wanted. A path is without a slash in front.
    pub fn file(&mut self, path: &str, bytes: u64, source: &mut dyn Source) {
        let kind = kind(path);
        if self.is_full && kind != Kind::OsRelease {
            return;
        }
        let found = match kind {
            Kind::Program => language::program::packages(source),
            Kind::Rpm => database::rpm::packages(source),
            Kind::Java => {
                let language::java::Found { packages, unread } =
                    language::java::packages(path, source, PACKAGES_MAX - self.drafts.len());
                unread.iter().for_each(|(place, why)| self.note(&format!("{path}{place}"), why));
                Ok(packages)
            }
            Kind::UnreadRpm => {
                Err("it is a database of a form that is not read: its packages are missing".into())
            }
            kind if bytes > kind.bytes_max() => Err(format!("it has more than {} bytes", kind.bytes_max())),
            kind => {
                text(source).map_err(|error| error.to_string()).and_then(|text| self.text(kind, path, &text))
            }
        };
        match found {
            Ok(found) => {
                for draft in found {
                    if self.drafts.len() >= PACKAGES_MAX {
                        self.is_full = true;
                        break;
                    }
                    let found_at = format!("{path}{}", draft.found_at);
                    self.drafts.push(Draft { found_at, ..draft });
                }
            }
            Err(why) => self.note(path, &why),
        }
    }

    fn text(&mut self, kind: Kind, path: &str, text: &str) -> Result<Vec<Draft>, String> {
        Ok(match kind {
            Kind::OsRelease => {
                self.system.take(path, text);
                Vec::new()
            }
            Kind::Dpkg => database::dpkg::packages(text),
            Kind::Apk => database::apk::packages(text),
            Kind::Python => language::python::packages(text),
            Kind::Node => language::node::installed(text)?,
            Kind::NodeLock => language::node::locked(text)?,
            Kind::Cargo => language::cargo::locked(text),
            Kind::GemLock => language::ruby::locked(text),
            Kind::Gem => language::ruby::installed(text),
            Kind::Java | Kind::Program | Kind::Rpm | Kind::UnreadRpm => Vec::new(),
        })
    }

    /// Says that a file could not be read.
    pub fn note(&mut self, path: &str, why: &str) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(format!("/{}: {}", package::clean(path), package::clean(why)));
        }
    }

    pub fn finish(mut self) -> Inventory {
        if self.is_full {
            self.notes.push(format!("there are more than {PACKAGES_MAX} packages: the rest is left out"));
        }
        let mut packages: BTreeMap<String, Package> = BTreeMap::new();
        for draft in self.drafts {
            let path = format!("/{}", package::clean(&draft.found_at));
            let package = draft.into_package(&self.system);
            packages.entry(package.purl.clone()).or_insert(package).found_at.insert(path);
        }
        self.notes.sort();
        Inventory { packages: packages.into_values().collect(), notes: self.notes }
    }
}

fn text(source: &mut dyn Source) -> io::Result<String> {
    let mut bytes = Vec::new();
    source.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// As many as are taken of one file, and one more by which it is known that there are others: a file of nothing but short lines would have
/// millions.
fn bounded(found: impl Iterator<Item = Draft>) -> Vec<Draft> {
    found.take(PACKAGES_MAX + 1).collect()
}

fn draft(origin: Origin, name: &str, version: &str) -> Option<Draft> {
    let (name, version) = (package::clean(name), package::clean(version));
    (!name.is_empty()).then(|| Draft { origin, name, version, ..Draft::default() })
}

#[cfg(test)]
mod tests;
