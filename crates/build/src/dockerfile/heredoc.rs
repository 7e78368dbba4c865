//! Openings of here-documents: `<<EOF`, `<<-EOF`, `3<<"EOF"`.

use super::ast::Document;
use super::ast::Escape;
use super::diagnostic::{Kind, Problem};
use super::expand::Expander;

/// The here-documents that a line opens, still without content. The shell's rules for quotes and backslashes hold here,
/// whatever the escape character is.
pub(super) fn openings(line: &str) -> Result<Vec<Document>, Problem> {
    // A line with a quote that isn't closed is the shell's affair and opens nothing.
    let Ok(words) = Expander::display(Escape::Backslash).words(line, &|_| None) else {
        return Ok(Vec::new());
    };
    let opened = words.words.iter().map(|word| opening(word));
    opened.filter_map(Result::transpose).collect()
}

/// The here-document that a word opens, if it is one.
pub(super) fn opening(word: &str) -> Result<Option<Document>, Problem> {
    let Some((number, rest)) = word.split_once("<<") else { return Ok(None) };
    if !number.bytes().all(|byte| byte.is_ascii_digit()) || rest.contains('<') {
        return Ok(None);
    }
    let (chomp, delimiter) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let delimiter = delimiter.trim_start_matches([' ', '\t', '\n', '\x0c', '\r']);
    if delimiter.is_empty() {
        return Ok(None);
    }
    let words = |keeps_quotes| {
        Expander::delimiter(keeps_quotes)
            .words(delimiter, &|_| None)
            .map_err(|error| Problem::new(Kind::Syntax, error.to_string()).near(word))
    };
    let (bare, kept) = (words(false)?.words, words(true)?.words);
    let ([name], [with_quotes]) = (bare.as_slice(), kept.as_slice()) else { return Ok(None) };
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    Ok(Some(Document {
        content: String::new(),
        expand: quotes(name) == quotes(with_quotes),
        chomp,
        descriptor: if number.is_empty() { 0 } else { number.parse().unwrap_or(u32::MAX) },
        name: name.clone(),
    }))
}

/// The text without the tabs that start its lines.
pub fn chomp(text: &str) -> String {
    text.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}
