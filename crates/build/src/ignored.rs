//! What of a tree is left out, as [`Filter`]s: by `.dockerignore`, and by `--exclude`.

use std::sync::{Arc, Mutex, PoisonError};

use corten_image::build::{Filter, Verdict};

use crate::error::{Error, Result};
use crate::ignore::{Ignore, Matches};

/// What patterns leave out.
pub struct Ignored {
    patterns: Ignore,
    /// The directories on the way to the one that was asked about last, and what matches them: walks go directory by directory.
    way: Mutex<Vec<(String, Matches)>>,
}

impl Ignored {
    /// Of a `.dockerignore`.
    pub fn parse(text: &str) -> Result<Ignored> {
        let patterns = Ignore::parse(text);
        let patterns =
            patterns.map_err(|error| Error::Invalid(format!("error reading .dockerignore: {error}")))?;
        Ok(Ignored::new(patterns))
    }

    fn new(patterns: Ignore) -> Ignored {
        Ignored { patterns, way: Mutex::default() }
    }

    /// What matches a path, by what matches the directories above it.
    fn matches(&self, path: &str) -> Matches {
        let mut way = self.way.lock().unwrap_or_else(PoisonError::into_inner);
        let is_above =
            |directory: &str| path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
        while way.last().is_some_and(|(directory, _)| !is_above(directory)) {
            way.pop();
        }
        let known = way.last().map_or(0, |(directory, _)| directory.len() + 1);
        for end in path[known..].match_indices('/').map(|(end, _)| known + end) {
            let above = way.last().map(|(_, matches)| matches);
            let matches = self.patterns.below(above.unwrap_or(&Matches::default()), &path[..end]);
            way.push((path[..end].to_owned(), matches));
        }
        let above = way.last().map(|(_, matches)| matches);
        self.patterns.below(above.unwrap_or(&Matches::default()), path)
    }
}

impl Filter for Ignored {
    fn verdict(&self, path: &[u8], is_directory: bool) -> Verdict {
        // Patterns are of what is in the tree.
        if path.is_empty() {
            return Verdict::Take;
        }
        let path = String::from_utf8_lossy(path);
        let matches = self.matches(&path);
        match matches.excluded() {
            false => Verdict::Take,
            true if is_directory && self.patterns.may_include_below(&matches, &path) => Verdict::Look,
            true => Verdict::Skip,
        }
    }
}

/// What one filter takes of a source, without what matches patterns of `--exclude`: they are relative to a directory that is copied,
/// and to that of a file.
pub struct Excluding {
    inner: Arc<dyn Filter + Send>,
    patterns: Ignored,
    /// The source's path, with a slash at its end unless it is empty.
    base: Vec<u8>,
}

impl Excluding {
    pub fn new(
        inner: Arc<dyn Filter + Send>,
        patterns: &[String],
        source: &[u8],
        is_directory: bool,
    ) -> Result<Excluding> {
        let patterns = Ignore::from_patterns(patterns.iter().map(String::as_str));
        let patterns = patterns.map_err(|error| Error::Invalid(format!("--exclude: {error}")))?;
        let above = || source.iter().rposition(|&byte| byte == b'/').map_or(&b""[..], |at| &source[..=at]);
        let base = match is_directory {
            true if source.is_empty() => Vec::new(),
            true => [source, b"/"].concat(),
            false => above().to_vec(),
        };
        Ok(Excluding { inner, patterns: Ignored::new(patterns), base })
    }
}

impl Filter for Excluding {
    fn verdict(&self, path: &[u8], is_directory: bool) -> Verdict {
        let inner = self.inner.verdict(path, is_directory);
        // The directory itself is asked for by its name.
        let Some(relative) = path.strip_prefix(self.base.as_slice()).filter(|path| !path.is_empty()) else {
            return inner;
        };
        match (inner, self.patterns.verdict(relative, is_directory)) {
            (Verdict::Skip, _) | (_, Verdict::Skip) => Verdict::Skip,
            (Verdict::Take, verdict) => verdict,
            (Verdict::Look, _) => Verdict::Look,
        }
    }
}
