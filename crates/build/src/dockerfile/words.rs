//! How the arguments of an instruction fall into words: at blanks, as `name=value`, as a JSON array.
//!
//! Quotes and escapes stay in the words; `expand` takes them out together with the variables.

use super::ast::{Escape, Pair};
use super::diagnostic::{Kind, Problem};

/// The blanks at which instructions are cut. Others, such as a no-break space, belong to words there.
pub(super) fn is_blank(letter: char) -> bool {
    matches!(letter, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

/// Cuts at the first run of blanks.
pub(super) fn split_first(text: &str) -> Option<(&str, &str)> {
    let (first, rest) = text.split_once(is_blank)?;
    Some((first, rest.trim_start_matches(is_blank)))
}

/// Cuts at blanks and nothing else.
pub(super) fn at_blanks(text: &str) -> Vec<String> {
    text.split(is_blank).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Cuts at white space outside of quotes. An escape character keeps what follows it; at the very end it goes.
pub(super) fn quoted(text: &str, escape: Escape) -> Vec<String> {
    let escape = escape.character();
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    // Quotes around nothing are a word.
    let mut is_word = false;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match quote {
            None if letter.is_whitespace() => {
                if is_word || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                is_word = false;
                continue;
            }
            None if letter == '\'' || letter == '"' => {
                quote = Some(letter);
                is_word = true;
            }
            Some(open) if letter == open => quote = None,
            _ => {}
        }
        if letter == escape && quote != Some('\'') {
            let Some(next) = letters.next() else { break };
            word.push(letter);
            word.push(next);
            continue;
        }
        word.push(letter);
    }
    if is_word || !word.is_empty() {
        words.push(word);
    }
    words
}

/// What ENV and LABEL set: `name=value …`, or `name the rest` if the first word has no equals sign.
pub(super) fn pairs(text: &str, keyword: &'static str, escape: Escape) -> Result<Vec<Pair>, Problem> {
    let words = quoted(text, escape);
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    if !first.contains('=') {
        let (key, value) = split_first(text).ok_or_else(|| {
            Problem::new(Kind::Syntax, format!("{keyword} must have two arguments")).near(text)
        })?;
        return Ok(vec![Pair { key: key.to_owned(), value: value.to_owned(), legacy: true }]);
    }
    words
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) => Ok(Pair { key: key.to_owned(), value: value.to_owned(), legacy: false }),
            None => {
                let message = format!(
                    "Syntax error - can't find = in {}. Must be of the form: name=value",
                    corten_template::quote(&word)
                );
                Err(Problem::new(Kind::Syntax, message).near(word))
            }
        })
        .collect()
}

/// The words of a JSON array, `None` when the text is anything else. An array that holds more than strings is an error.
pub(super) fn json(text: &str) -> Result<Option<Vec<String>>, Problem> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Ok(None);
    }
    if let Ok(words) = serde_json::from_str(text) {
        return Ok(Some(words));
    }
    match serde_json::from_str::<Vec<serde::de::IgnoredAny>>(text) {
        Ok(_) => {
            let message = "when using JSON array syntax, arrays must be comprised of strings only";
            Err(Problem::new(Kind::Syntax, message).near(text))
        }
        Err(_) => Ok(None),
    }
}
