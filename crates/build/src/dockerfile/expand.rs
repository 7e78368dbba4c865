//! Variables, quotes and escapes in the words of instructions: `$name`, `${name:-word}`, `${name//pattern/text}`.
//!
//! Follows BuildKit's lexer, which looks like a shell's and isn't one. Values come from the caller; it is told which
//! variables were asked for and found, and which were not. Depth and length are bounded: a Dockerfile may be a stranger's.

mod lexer;
mod pattern;

use std::collections::BTreeSet;

use super::ast::Escape;

/// Substitutions within substitutions.
const DEPTH_MAX: u32 = 100;
/// Bytes that one expansion may make.
const LENGTH_MAX: usize = 16 << 20;

/// Values by name; `None` for what isn't set.
pub type Variables<'v> = &'v dyn Fn(&str) -> Option<String>;

/// A text with its variables replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    pub text: String,
    /// Variables that were looked up and are set.
    pub used: BTreeSet<String>,
    /// Variables that were looked up and are not.
    pub undefined: BTreeSet<String>,
}

/// As [`Expansion`], in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    pub words: Vec<String>,
    pub used: BTreeSet<String>,
    pub undefined: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {}: {reason}", corten_template::quote(text))]
pub struct ExpandError {
    pub text: String,
    pub reason: String,
}

/// How a text is expanded.
#[derive(Clone, Copy, Debug)]
pub struct Expander {
    escape: char,
    quotes: Quotes,
    keeps_escapes: bool,
    keeps_unset: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quotes {
    /// They group, and go.
    Removed,
    /// They group, and stay.
    Kept,
    /// They are characters as others.
    Ordinary,
}

impl Expander {
    /// For the words of instructions.
    pub fn new(escape: Escape) -> Expander {
        Expander {
            escape: escape.character(),
            quotes: Quotes::Removed,
            keeps_escapes: false,
            keeps_unset: false,
        }
    }

    /// For what here-documents hold, where only variables and backslashes mean something.
    pub fn document() -> Expander {
        Expander { quotes: Quotes::Ordinary, ..Expander::new(Escape::Backslash) }
    }

    /// For showing an instruction: replaces the variables that are set and leaves all else as it is.
    pub fn display(escape: Escape) -> Expander {
        Expander { quotes: Quotes::Kept, keeps_escapes: true, keeps_unset: true, ..Expander::new(escape) }
    }

    /// The delimiter of a here-document, with or without its quotes.
    pub(super) fn delimiter(keeps_quotes: bool) -> Expander {
        let quotes = if keeps_quotes { Quotes::Kept } else { Quotes::Removed };
        Expander { quotes, keeps_unset: true, ..Expander::new(Escape::Backslash) }
    }

    /// Expands to one text, blanks included.
    pub fn word(&self, text: &str, variables: Variables) -> Result<Expansion, ExpandError> {
        let plain = |letter: char| !matches!(letter, '$' | '\'' | '"') && letter != self.escape;
        if text.chars().all(plain) {
            return Ok(Expansion { text: text.to_owned(), ..Expansion::default() });
        }
        let mut lexer = lexer::Lexer::new(*self, text, variables);
        match lexer.whole(None) {
            Ok(text) => Ok(Expansion { text, used: lexer.used, undefined: lexer.undefined }),
            Err(reason) => Err(ExpandError { text: text.to_owned(), reason }),
        }
    }

    /// Expands to words: cut at blanks outside of quotes, those in variables' values too.
    pub fn words(&self, text: &str, variables: Variables) -> Result<Words, ExpandError> {
        let mut lexer = lexer::Lexer::new(*self, text, variables);
        let mut words = lexer::Splitter::default();
        match lexer.whole(Some(&mut words)) {
            Ok(_) => Ok(Words { words: words.finish(), used: lexer.used, undefined: lexer.undefined }),
            Err(reason) => Err(ExpandError { text: text.to_owned(), reason }),
        }
    }
}

#[cfg(test)]
mod tests;
