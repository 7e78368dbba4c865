//! A `.dockerignore` as the patterns that the client's walk takes: without comments and blank lines, cleaned.

/// What a `.dockerignore` may measure.
pub const BYTES_MAX: u64 = 1 << 20;

/// The patterns of a file, in order.
pub fn patterns(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text));
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| pattern(line.trim())).collect()
}

fn pattern(line: &str) -> Option<String> {
    let (inverted, path) = match line.strip_prefix('!') {
        Some(path) => ("!", path.trim()),
        None => ("", line),
    };
    if path.is_empty() {
        // A lone exclamation mark is the client's to refuse.
        return (!line.is_empty()).then(|| line.to_owned());
    }
    let clean = clean(path);
    let relative = if clean.len() > 1 { clean.strip_prefix('/').unwrap_or(&clean) } else { &clean };
    Some(format!("{inverted}{relative}"))
}

/// As Go's `filepath.Clean`.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." if names.last().is_some_and(|last| *last != "..") => drop(names.pop()),
            ".." if rooted => {}
            name => names.push(name),
        }
    }
    match (rooted, names.join("/")) {
        (true, joined) => format!("/{joined}"),
        (false, joined) if joined.is_empty() => ".".to_owned(),
        (false, joined) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_becomes_patterns() {
        let text = "\u{feff}# comment\n\n  a/b/  \n!c//d\r\n/e\n#f\n ! g\n./h/../i\n/\n!\n**/*.o\n";
        assert_eq!(patterns(text.as_bytes()), ["a/b", "!c/d", "e", "!g", "i", "/", "!", "**/*.o"]);
        assert!(patterns(b"").is_empty());
    }
}
