//! Paths as text, with the rules that Docker's clients and engine share: what a trailing `/` or `/.` means survives the cleaning.

/// Shortest equal path, without looking at any file: no `.`, no double slashes, `..` taken back. Empty becomes `.`.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// The last element, as Go's `filepath.Base` has it: `/` of the root, `.` of nothing.
pub fn base_name(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        return "/";
    }
    trimmed.rsplit('/').next().unwrap_or(trimmed)
}

/// Whether the last element is `.`: the directory's content is meant, not the directory.
pub fn specifies_current(path: &str) -> bool {
    base_name(path) == "."
}

/// Whether the path can only be a directory's: it ends with `/` or `/.`.
pub fn asserts_directory(path: &str) -> bool {
    path.ends_with('/') || specifies_current(path)
}

/// Gives a cleaned path the ending `/` or `/.` that the original had.
pub fn keep_ending(mut cleaned: String, original: &str) -> String {
    if !specifies_current(&cleaned) && specifies_current(original) {
        if !cleaned.ends_with('/') {
            cleaned.push('/');
        }
        cleaned.push('.');
    }
    if !cleaned.ends_with('/') && original.ends_with('/') {
        cleaned.push('/');
    }
    cleaned
}

/// The directory and the entry in it that a path names; the entry is `.` where the path says so.
pub fn split(path: &str) -> (String, String) {
    let mut cleaned = clean(path);
    if specifies_current(path) {
        cleaned.push_str("/.");
    }
    let base = base_name(&cleaned).to_owned();
    let directory = match cleaned.rfind('/') {
        Some(at) => clean(&cleaned[..=at]),
        None => ".".to_owned(),
    };
    (directory, base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_and_endings() {
        for (path, cleaned) in [
            ("", "."),
            ("/", "/"),
            ("/a/../..", "/"),
            ("a/./b//c/", "a/b/c"),
            ("../a/../..", "../.."),
            ("/a/b/.", "/a/b"),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
        for (path, kept) in
            [("/a/.", "/a/."), ("/a/", "/a/"), ("/a", "/a"), ("/.", "/."), ("/", "/"), ("/a/..", "/")]
        {
            assert_eq!(keep_ending(clean(path), path), kept, "{path}");
        }
    }

    #[test]
    fn directory_and_entry() {
        for (path, directory, entry) in [
            ("/a/b", "/a", "b"),
            ("/a/b/", "/a", "b"),
            ("/a/b/.", "/a/b", "."),
            ("/", "/", "/"),
            ("/.", "/", "."),
            ("b", ".", "b"),
            (".", ".", "."),
        ] {
            assert_eq!(split(path), (directory.to_owned(), entry.to_owned()), "{path}");
        }
    }
}
