//! The order in which paths have to come: a directory before what is in it, names within it ascending by their bytes. Nothing
//! that stands at its place in this order can be outside of the tree or below something that is no directory.

use super::SyncError;
use std::cmp::Ordering;

/// The longest path, as the kernel has it.
const PATH_BYTES_MAX: usize = 4095;
const NAME_BYTES_MAX: usize = 255;
/// So many characters of one that can't be are told: it may have any length.
const SHOWN_MAX: usize = 200;

/// Follows a sequence of paths.
#[derive(Default)]
pub struct Order {
    /// The directories that the last path is in, outermost first: each one's path, and the last name in it.
    open: Vec<(String, String)>,
    root_last: String,
}

impl Order {
    /// Takes the next path.
    pub fn take(&mut self, path: &str, is_directory: bool) -> Result<(), SyncError> {
        if !is_clean(path) {
            return Err(SyncError::BadPath(path.chars().take(SHOWN_MAX).collect()));
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        // What the path is not in is over, and must not come again.
        while self.open.last().is_some_and(|(directory, _)| !is_in(parent, directory)) {
            self.open.pop();
        }
        let (directory, last) = match self.open.last_mut() {
            Some((directory, last)) => (directory.as_str(), last),
            None => ("", &mut self.root_last),
        };
        if directory != parent || last.as_str() >= name {
            let after = if directory.is_empty() { last.clone() } else { format!("{directory}/{last}") };
            return Err(SyncError::OutOfOrder { path: path.to_owned(), after });
        }
        name.clone_into(last);
        if is_directory {
            self.open.push((path.to_owned(), String::new()));
        }
        Ok(())
    }
}

/// Whether it is `directory` itself or something below it.
pub fn is_in(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Compares by components, so that everything below a directory follows it directly.
pub fn compare(a: &str, b: &str) -> Ordering {
    a.split('/').cmp(b.split('/'))
}

fn is_clean(path: &str) -> bool {
    path.len() <= PATH_BYTES_MAX
        && !path.contains('\0')
        && path.split('/').all(|name| !matches!(name, "" | "." | "..") && name.len() <= NAME_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(paths: &[&str]) -> Result<(), SyncError> {
        let mut order = Order::default();
        paths.iter().try_for_each(|path| {
            let directory = path.ends_with('/');
            order.take(path.trim_end_matches('/'), directory)
        })
    }

    #[test]
    fn a_walk_is_taken() {
        take(&["a/", "a/b/", "a/b/c", "a/b!", "a/d", "a!", "b"]).unwrap();
        take(&[]).unwrap();
        take(&["ä", "ö/", "ö/ü"]).unwrap();
    }

    #[test]
    fn ways_out_of_the_tree_are_refused() {
        for path in ["..", "../a", "a/../../b", "/etc", "a//b", "./a", ".", "", "a/.", "a\0b"] {
            assert!(matches!(Order::default().take(path, false), Err(SyncError::BadPath(_))), "{path:?}");
        }
        assert!(Order::default().take(&"a".repeat(256), false).is_err());
        assert!(Order::default().take(&"a/".repeat(3000), false).is_err());
    }

    #[test]
    fn nothing_comes_twice_back_or_below_a_file() {
        for paths in [
            &["a", "a"][..],
            &["b", "a"],
            &["a/b"],
            &["a", "a/b"],
            &["a/", "b/", "a/c"],
            &["a/", "a/b/", "a/c", "a/b/d"],
            &["a/", "ab/c"],
        ] {
            assert!(matches!(take(paths), Err(SyncError::OutOfOrder { .. })), "{paths:?}");
        }
    }

    #[test]
    fn components_are_compared_not_bytes() {
        assert_eq!(compare("a/b", "a!"), Ordering::Less);
        assert_eq!(compare("a", "a/b"), Ordering::Less);
        assert_eq!(compare("a/b", "a/b"), Ordering::Equal);
    }
}
