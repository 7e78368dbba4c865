//! `.dockerignore`: which files of a context stay behind, by Docker's rules, which are not git's.
//!
//! Patterns are relative to the context's root and match from there; what lies below a match is excluded with it; a later
//! `!pattern` takes back. `COPY --exclude` uses the same matching, sources with wildcards use [`Glob`]. Pure: whoever
//! walks the files asks, directory by directory.

mod glob;
mod index;
mod pattern;

pub use glob::{BadPattern, Glob, has_wildcards};

use index::Index;
use pattern::Pattern;

/// Docker's bound for one line.
const LINE_BYTES_MAX: usize = 65_535;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    #[error("illegal exclusion pattern: \"!\"")]
    Nothing { line: u32 },
    #[error("syntax error in pattern")]
    Syntax { line: u32, pattern: String },
    #[error("line {line} is longer than {LINE_BYTES_MAX} bytes")]
    Long { line: u32 },
}

impl IgnoreError {
    /// From 1; 0 for patterns that come from no file.
    pub fn line(&self) -> u32 {
        match self {
            IgnoreError::Nothing { line } | IgnoreError::Syntax { line, .. } | IgnoreError::Long { line } => {
                *line
            }
        }
    }
}

/// The patterns of one file, in order.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
    index: Index,
}

/// Which patterns match a path, for deciding about what lies below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// A bit per pattern; empty above the root.
    bits: Vec<u64>,
    excluded: bool,
}

impl Matches {
    pub fn excluded(&self) -> bool {
        self.excluded
    }

    fn get(&self, index: usize) -> bool {
        self.bits.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }
}

impl Ignore {
    /// Reads a `.dockerignore`.
    pub fn parse(source: &str) -> Result<Ignore, IgnoreError> {
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        let mut patterns = Vec::new();
        for (number, line) in (1u32..).zip(source.split('\n')) {
            if line.len() > LINE_BYTES_MAX {
                return Err(IgnoreError::Long { line: number });
            }
            // A comment starts with its first character; behind blanks it is a pattern.
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (inverts, text) = match line.strip_prefix('!') {
                Some(text) => (true, text.trim()),
                None => (false, line),
            };
            if line.is_empty() {
                continue;
            }
            let clean = clean(text);
            let text = match clean.strip_prefix('/') {
                Some(relative) if !relative.is_empty() => relative,
                _ => &clean,
            };
            // Neither `!` nor `!/` says anything.
            let text = if inverts && (text == "/" || line == "!") { "" } else { text };
            patterns.extend(pattern(text, inverts, number)?);
        }
        Ok(Ignore::new(patterns))
    }

    /// Takes patterns that stand in no file, as `COPY --exclude` does: no comments, and a leading slash stays.
    pub fn from_patterns<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Result<Ignore, IgnoreError> {
        let mut known = Vec::new();
        for text in patterns {
            let text = text.trim();
            if !text.is_empty() {
                let clean = clean(text);
                let (inverts, text) = match clean.strip_prefix('!') {
                    Some(text) => (true, text),
                    None => (false, clean.as_str()),
                };
                known.extend(pattern(text, inverts, 0)?);
            }
        }
        Ok(Ignore::new(known))
    }

    fn new(patterns: Vec<Pattern>) -> Ignore {
        Ignore { index: Index::new(&patterns), patterns }
    }

    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a pattern takes back what another excludes.
    pub fn inverts(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.inverts)
    }

    /// The patterns, cleaned, and whether each takes back.
    pub fn patterns(&self) -> impl Iterator<Item = (&str, bool)> {
        self.patterns.iter().map(|pattern| (pattern.text.as_str(), pattern.inverts))
    }

    /// Whether the file or directory stays behind; `path` is relative to the root, with slashes.
    pub fn excludes(&self, path: &str) -> bool {
        let mut matches = Matches::default();
        for (end, _) in path.match_indices('/') {
            matches = self.below(&matches, &path[..end]);
        }
        self.below(&matches, path).excluded
    }

    /// What matches `path`, whose directory's matches are `parent`. Walkers carry this along instead of asking
    /// [`Ignore::excludes`] about each path from the root on; they start with `Matches::default()`.
    pub fn below(&self, parent: &Matches, path: &str) -> Matches {
        let mut excluded = false;
        let mut bits = self.index.candidates(path, &parent.bits);
        for (number, word) in bits.iter_mut().enumerate() {
            let mut candidates = *word;
            while candidates != 0 {
                let (at, bit) =
                    (candidates.trailing_zeros() as usize, candidates & candidates.wrapping_neg());
                candidates ^= bit;
                let index = number * 64 + at;
                let pattern = &self.patterns[index];
                // What would change nothing isn't looked at, and counts as no match for what lies below, either. A pattern
                // that takes back a directory thus does so only if it was excluded by then.
                if parent.get(index) || (pattern.inverts == excluded && pattern.matches(path)) {
                    excluded = !pattern.inverts;
                } else {
                    *word ^= bit;
                }
            }
        }
        Matches { bits, excluded }
    }

    /// Whether anything below an excluded directory can be included, so that it must be looked into.
    pub fn may_include_below(&self, directory: &Matches, path: &str) -> bool {
        if !directory.excluded {
            return true;
        }
        // Only what comes behind the last pattern that excludes all of it.
        self.patterns
            .iter()
            .enumerate()
            .rev()
            .take_while(|(index, pattern)| pattern.inverts || !directory.get(*index))
            .any(|(_, pattern)| pattern.inverts && pattern.may_match_below(path))
    }
}

fn pattern(text: &str, inverts: bool, line: u32) -> Result<Option<Pattern>, IgnoreError> {
    match (text, inverts) {
        ("", true) => Err(IgnoreError::Nothing { line }),
        ("", false) => Ok(None),
        _ => match Pattern::compile(text, inverts) {
            Ok(pattern) => Ok(Some(pattern)),
            Err(BadPattern) => Err(IgnoreError::Syntax { line, pattern: text.to_owned() }),
        },
    }
}

/// The shortest path that means the same: no doubled slashes, no `.`, no `..` behind a name.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(last) if *last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests;
