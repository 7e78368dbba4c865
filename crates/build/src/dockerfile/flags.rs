//! `--name=value` between an instruction's name and its arguments.

use super::ast::Escape;
use super::diagnostic::{Kind, Problem};
use super::words::is_blank;

/// The flags as written, without quotes, and what follows them.
///
/// Docker goes through the text byte by byte and spoils what isn't ASCII; here a character is a character.
pub(super) fn split(text: &str, escape: Escape) -> (Vec<String>, &str) {
    let escape = escape.character();
    let mut flags = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(is_blank);
        if !rest.starts_with("--") {
            return (flags, rest);
        }
        let mut word = String::new();
        let mut quote = None;
        let mut is_word = false;
        let mut letters = rest.char_indices();
        let mut end = rest.len();
        while let Some((at, letter)) = letters.next() {
            match quote {
                None if is_blank(letter) => {
                    end = at;
                    break;
                }
                None if letter == '\'' || letter == '"' => {
                    quote = Some(letter);
                    is_word = true;
                }
                Some(open) if letter == open => quote = None,
                _ if letter == escape => word.extend(letters.next().map(|(_, next)| next)),
                _ => word.push(letter),
            }
        }
        rest = &rest[end..];
        // Two dashes alone end the flags.
        if word == "--" {
            return (flags, rest.trim_start_matches(is_blank));
        }
        if is_word || !word.is_empty() {
            flags.push(word);
        }
    }
}

/// What a flag takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// `--name`, `--name=true`, `--name=false`.
    Switch,
    Value,
    /// May be given again.
    Values,
}

/// The flags of one instruction, checked against those it knows.
pub(super) struct Flags {
    given: Vec<(&'static str, String)>,
}

impl Flags {
    pub fn parse(words: Vec<String>, known: &[(&'static str, Takes)]) -> Result<Flags, Problem> {
        let mut given: Vec<(&'static str, String)> = Vec::new();
        for word in words {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word.as_str(), None),
            };
            let problem = |message: String| Problem::new(Kind::Flag, message).near(name);
            // `split` only takes words that start so, but quotes may have stood in between.
            let Some(bare) = name.strip_prefix("--") else {
                return Err(problem(format!("arg should start with -- : {word}")));
            };
            let Some((name_known, takes)) = known.iter().find(|(known, _)| *known == bare) else {
                let options = known.iter().map(|(known, _)| *known);
                return Err(problem(format!("unknown flag: {name}")).suggesting(bare, options));
            };
            if *takes != Takes::Values && given.iter().any(|(known, _)| known == name_known) {
                return Err(problem(format!("duplicate flag specified: {name}")));
            }
            let missing = || problem(format!("missing a value on flag: {name}"));
            let value = match (takes, value) {
                (Takes::Switch, None) => "true".to_owned(),
                (Takes::Switch, Some("")) => return Err(missing()),
                (Takes::Switch, Some(value)) => match value.to_lowercase() {
                    lower if lower == "true" || lower == "false" => lower,
                    _ => {
                        let message = format!("expecting boolean value for flag {name}, not: {value}");
                        return Err(problem(message));
                    }
                },
                (_, None) => return Err(missing()),
                (_, Some(value)) => value.to_owned(),
            };
            given.push((name_known, value));
        }
        Ok(Flags { given })
    }

    pub fn switch(&self, name: &str) -> Option<bool> {
        self.given.iter().find(|(known, _)| *known == name).map(|(_, value)| value == "true")
    }

    pub fn value(&mut self, name: &str) -> Option<String> {
        let at = self.given.iter().position(|(known, _)| *known == name)?;
        Some(self.given.remove(at).1)
    }

    /// As [`Flags::value`], for flags whose empty value says nothing.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.value(name).filter(|value| !value.is_empty())
    }

    pub fn values(&mut self, name: &str) -> Vec<String> {
        self.given.extract_if(.., |(known, _)| *known == name).map(|(_, value)| value).collect()
    }
}
