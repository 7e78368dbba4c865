//! Node's packages: those below `node_modules`, and what a lock file names.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::package::{Draft, Origin};
use crate::{PACKAGES_MAX, draft};

/// Lock files of the first version hold others within themselves.
const DEPTH_MAX: usize = 32;

/// Whether a directory is that of an installed package: `node_modules/name` or `node_modules/@scope/name`.
pub fn is_installed(directory: &str) -> bool {
    let mut parts = directory.rsplit('/');
    let (_, above) = (parts.next(), parts.next());
    match above {
        Some("node_modules") => true,
        Some(scope) if scope.starts_with('@') => parts.next() == Some("node_modules"),
        _ => false,
    }
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    name: Value,
    #[serde(default)]
    version: Value,
    #[serde(default)]
    license: Value,
    #[serde(default)]
    author: Value,
}

pub fn installed(text: &str) -> Result<Vec<Draft>, String> {
    let manifest: Manifest = serde_json::from_str(text).map_err(|error| error.to_string())?;
    // Either a text, or an object that has it by a name.
    let text = |value: &Value, name: &str| {
        let text = value.as_str().or_else(|| value.get(name)?.as_str());
        text.unwrap_or_default().to_owned()
    };
    let package = draft(Origin::Npm, &text(&manifest.name, ""), &text(&manifest.version, ""));
    let package = package.map(|package| Draft {
        licence: text(&manifest.license, "type"),
        supplier: text(&manifest.author, "name"),
        ..package
    });
    Ok(package.into_iter().collect())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Lock {
    packages: BTreeMap<String, Locked>,
    dependencies: BTreeMap<String, Locked>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Locked {
    name: Option<String>,
    version: Option<String>,
    license: Value,
    link: bool,
    dependencies: Value,
}

pub fn locked(text: &str) -> Result<Vec<Draft>, String> {
    let lock: Lock = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for (path, package) in &lock.packages {
        // The first one is the project itself, those elsewhere are parts of it.
        if let Some((_, name)) = path.rsplit_once("node_modules/")
            && !package.link
        {
            add(package.name.as_deref().unwrap_or(name), package, &mut found);
        }
    }
    if lock.packages.is_empty() {
        for (name, package) in &lock.dependencies {
            within(name, package, 0, &mut found);
        }
    }
    Ok(found)
}

fn within(name: &str, package: &Locked, depth: usize, found: &mut Vec<Draft>) {
    add(name, package, found);
    let Value::Object(below) = &package.dependencies else { return };
    for (name, package) in below.iter().filter(|_| depth < DEPTH_MAX) {
        if let Ok(package) = Locked::deserialize(package) {
            within(name, &package, depth + 1, found);
        }
    }
}

fn add(name: &str, package: &Locked, found: &mut Vec<Draft>) {
    let version = package.version.as_deref().unwrap_or_default();
    let licence = package.license.as_str().unwrap_or_default().to_owned();
    if found.len() <= PACKAGES_MAX {
        found.extend(draft(Origin::Npm, name, version).map(|package| Draft { licence, ..package }));
    }
}
