//! What a commit has, before any of it is written: `git ls-tree -r -t -z`.

use std::io::{BufRead, Read};

use corten_build::{Error, Result};

/// Files and directories of a repository, its submodules' included.
pub const ENTRIES_MAX: u64 = 4 << 20;
/// A path, and what stands in front of it.
const ENTRY_BYTES_MAX: u64 = 8 << 10;

/// Where another repository's commit belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub path: String,
    pub commit: String,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub entries: u64,
    pub links: Vec<Link>,
}

/// Reads a list of a whole commit, or of a directory in it.
///
/// # Errors
/// When the directory is none, or a name is one that a work tree must not have: git's own, or what leads out of it.
pub fn read(mut input: impl BufRead, subdir: &str) -> Result<Listing> {
    let mut listing = Listing::default();
    let mut is_there = subdir.is_empty();
    let mut entry = Vec::new();
    loop {
        entry.clear();
        let read = input.by_ref().take(ENTRY_BYTES_MAX).read_until(0, &mut entry);
        read.map_err(|error| Error::Internal(format!("cannot read what git lists: {error}")))?;
        if entry.is_empty() {
            break;
        }
        listing.entries += 1;
        if entry.pop() != Some(0) || listing.entries > ENTRIES_MAX {
            return Err(Error::Invalid("the repository has too many files, or too long a path".to_owned()));
        }
        let text = String::from_utf8_lossy(&entry);
        let odd = || Error::Internal(format!("git lists {text:?}"));
        let (head, path) = text.split_once('\t').ok_or_else(odd)?;
        let mut words = head.split(' ');
        let (kind, id) = words.nth(1).zip(words.next()).ok_or_else(odd)?;
        let is_odd = |part: &str| matches!(part, "" | "." | "..") || part.eq_ignore_ascii_case(".git");
        if path.split('/').any(is_odd) {
            return Err(Error::Invalid(format!("the repository has an invalid path {path:?}")));
        }
        if path == subdir {
            if kind != "tree" {
                return Err(Error::Invalid(format!("{path} is no directory of the repository")));
            }
            is_there = true;
        }
        if kind == "commit" {
            listing.links.push(Link { path: path.to_owned(), commit: id.to_owned() });
        }
    }
    match is_there {
        true => Ok(listing),
        false => Err(Error::Invalid(format!("the repository has no directory {subdir}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(entries: &[&str], subdir: &str) -> Result<Listing> {
        let text: String = entries.iter().map(|entry| format!("{entry}\0")).collect();
        read(text.as_bytes(), subdir)
    }

    #[test]
    fn places_of_other_repositories_are_found() {
        let tree = ["040000 tree 1\ta", "100644 blob 2\ta/file", "160000 commit 3\ta/other"];
        let links = vec![Link { path: "a/other".to_owned(), commit: "3".to_owned() }];
        assert_eq!(listed(&tree, "").unwrap(), Listing { entries: 3, links: links.clone() });
        assert_eq!(listed(&tree, "a").unwrap().links, links);
        for wrong in ["b", "a/file", "a/other"] {
            assert!(listed(&tree, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_that_git_would_not_write_are_refused() {
        for path in [".git", "a/.GIT/config", "..", "a/../b", "/etc", "a//b"] {
            assert!(listed(&[&format!("100644 blob 2\t{path}")], "").is_err(), "{path}");
        }
        assert!(listed(&[&format!("100644 blob 2\t{}", "x".repeat(10_000))], "").is_err());
        assert!(listed(&["100644 blob 2\t.github/.gitignore"], "").is_ok());
    }
}
