//! What the words of COPY and ADD mean: paths, patterns, URLs.

use std::collections::{BTreeSet, HashSet};
use std::os::fd::OwnedFd;

use corten_image::build::{Filter, Verdict, list};

use crate::ignore::{Glob, has_wildcards};

/// A path below a tree's root, without `.`, `..` and slashes at its ends: empty for the root itself.
pub fn relative(path: &str) -> String {
    clean(&format!("/{path}")).trim_start_matches('/').to_owned()
}

/// An absolute path without `.` and `..`, and without a slash at its end.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A file of another host.
pub fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// What `**` is as a whole part of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stars {
    /// Go's `filepath.Match` knows no such thing: any name.
    Name,
    /// Any number of directories.
    Directories,
}

/// The paths below a root that a pattern stands for (Go's `filepath.Match`, part by part), sorted; of those that the filter takes. With
/// [`Stars::Directories`] what is in a directory that is found isn't found by itself.
pub fn expand(
    root: &OwnedFd,
    pattern: &str,
    filter: &dyn Filter,
    stars: Stars,
) -> std::io::Result<Vec<String>> {
    let mut found = vec![String::new()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        if part == "**" && stars == Stars::Directories {
            found = directories(root, found, filter)?;
            continue;
        }
        let glob =
            Glob::compile(part).map_err(|error| std::io::Error::other(format!("{part:?}: {error}")))?;
        let mut next = Vec::new();
        for above in &found {
            let path =
                |name: &str| if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") };
            if !has_wildcards(part) {
                next.push(path(part));
                continue;
            }
            let listed = match list(root, above.as_bytes()) {
                Ok(listed) => listed,
                Err(error) if is_missing(&error) => continue,
                Err(error) => return Err(error),
            };
            for (name, _) in listed {
                let Ok(name) = String::from_utf8(name) else { continue };
                if glob.matches(&name) {
                    next.push(path(&name));
                }
            }
        }
        found = next;
    }
    let is_wanted = |path: &String| {
        let Ok(stat) = corten_image::files::stat(root, path.as_bytes()) else { return false };
        path.is_empty() || filter.verdict(path.as_bytes(), stat.is_directory()) != Verdict::Skip
    };
    found.retain(is_wanted);
    if stars == Stars::Directories {
        let is_directory = |path: &&String| {
            corten_image::files::stat(root, path.as_bytes()).is_ok_and(|stat| stat.is_directory())
        };
        let whole: HashSet<String> = found.iter().filter(is_directory).cloned().collect();
        found.retain(|path| above(path).all(|above| !whole.contains(above)));
    }
    Ok(found)
}

/// Directories, and all below them that the filter may take something of; links are none.
fn directories(root: &OwnedFd, from: Vec<String>, filter: &dyn Filter) -> std::io::Result<Vec<String>> {
    let (mut ahead, mut found) = (from, BTreeSet::new());
    while let Some(path) = ahead.pop() {
        let listed = match list(root, path.as_bytes()) {
            Ok(listed) => listed,
            Err(error) if is_missing(&error) => continue,
            Err(error) => return Err(error),
        };
        if found.contains(&path) {
            continue;
        }
        for (name, _) in listed.into_iter().filter(|(_, is_directory)| *is_directory) {
            let Ok(name) = String::from_utf8(name) else { continue };
            let below = if path.is_empty() { name } else { format!("{path}/{name}") };
            if filter.verdict(below.as_bytes(), true) != Verdict::Skip {
                ahead.push(below);
            }
        }
        found.insert(path);
    }
    Ok(found.into_iter().collect())
}

/// The directories above a path, down from the root, which is empty.
fn above(path: &str) -> impl Iterator<Item = &str> {
    let root = (!path.is_empty()).then_some("");
    root.into_iter().chain(path.match_indices('/').map(|(at, _)| &path[..at]))
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        for (path, wanted) in [("a/../../b", "b"), ("/./a//b/", "a/b"), ("..", ""), (".", "")] {
            assert_eq!(relative(path), wanted, "{path}");
        }
    }
}
