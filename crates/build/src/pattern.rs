//! What the words of COPY and ADD mean: paths, patterns, URLs.

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

/// The paths below a root that a pattern stands for (Go's `filepath.Match`, part by part), sorted; of those that the filter takes.
pub fn expand(root: &OwnedFd, pattern: &str, filter: &dyn Filter) -> std::io::Result<Vec<String>> {
    let mut found = vec![String::new()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
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
    Ok(found)
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
