//! Goes through a text once, character by character; recurses into the words of substitutions.

use std::collections::BTreeSet;

use super::pattern::{self, Edge, Reach};
use super::{DEPTH_MAX, Expander, LENGTH_MAX, Quotes, Variables};

pub(super) struct Lexer<'t, 'v> {
    options: Expander,
    rest: &'t str,
    variables: Variables<'v>,
    keeps_escapes: bool,
    depth: u32,
    pub used: BTreeSet<String>,
    pub undefined: BTreeSet<String>,
}

/// Cuts what is expanded into words.
#[derive(Default)]
pub(super) struct Splitter {
    words: Vec<String>,
    word: String,
}

impl Splitter {
    fn letter(&mut self, letter: char) {
        match letter.is_whitespace() {
            false => self.word.push(letter),
            true if self.word.is_empty() => {}
            true => self.words.push(std::mem::take(&mut self.word)),
        }
    }

    pub fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}

/// What a stretch of text is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stretch {
    Plain,
    /// A pattern: quoted escapes must still be escapes when it is read again.
    Pattern,
}

const NO_BRACE: &str = "syntax error: missing '}'";

impl<'t, 'v> Lexer<'t, 'v> {
    pub fn new(options: Expander, text: &'t str, variables: Variables<'v>) -> Lexer<'t, 'v> {
        Lexer {
            options,
            rest: text,
            variables,
            keeps_escapes: options.keeps_escapes,
            depth: 0,
            used: BTreeSet::new(),
            undefined: BTreeSet::new(),
        }
    }

    pub fn whole(&mut self, words: Option<&mut Splitter>) -> Result<String, String> {
        self.until(None, Stretch::Plain, words)
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut letters = self.rest.chars();
        let letter = letters.next();
        self.rest = letters.as_str();
        letter
    }

    /// Reads to `stop`, or to the end of the text.
    fn until(
        &mut self,
        stop: Option<char>,
        stretch: Stretch,
        mut words: Option<&mut Splitter>,
    ) -> Result<String, String> {
        let mut out = String::new();
        while let Some(letter) = self.peek() {
            if out.len() > LENGTH_MAX {
                return Err(format!("the result is longer than {LENGTH_MAX} bytes"));
            }
            if stop == Some(letter) {
                self.next();
                return Ok(out);
            }
            let quotes = self.options.quotes != Quotes::Ordinary;
            let (piece, splits) = match letter {
                '$' => (self.dollar()?, true),
                '<' => (self.less_than(), false),
                '\'' if quotes => (self.single_quoted(stretch)?, false),
                '"' if quotes => (self.double_quoted(stretch)?, false),
                _ => {
                    self.next();
                    let mut splits = true;
                    let mut letter = letter;
                    if letter == self.options.escape {
                        if self.keeps_escapes {
                            out.push(letter);
                            if let Some(words) = &mut words {
                                words.word.push(letter);
                            }
                        }
                        // At the very end it escapes nothing.
                        let Some(escaped) = self.next() else { break };
                        letter = escaped;
                        splits = false;
                    }
                    out.push(letter);
                    match &mut words {
                        Some(words) if splits => words.letter(letter),
                        Some(words) => words.word.push(letter),
                        None => {}
                    }
                    continue;
                }
            };
            out.push_str(&piece);
            match &mut words {
                Some(words) if splits => piece.chars().for_each(|letter| words.letter(letter)),
                Some(words) => words.word.push_str(&piece),
                None => {}
            }
        }
        match stop {
            Some(stop) => Err(format!("unexpected end of statement while looking for matching {stop}")),
            None => Ok(out),
        }
    }

    /// `<<` takes the blanks behind it into its word: `<< EOF` opens a here-document too.
    fn less_than(&mut self) -> String {
        self.next();
        let mut out = "<".to_owned();
        if self.peek() == Some('<') {
            let blanks = self.rest[1..].trim_start_matches(['\t', '\r', ' ']);
            let (taken, rest) = self.rest.split_at(self.rest.len() - blanks.len());
            out.push_str(taken);
            self.rest = rest;
        }
        out
    }

    fn single_quoted(&mut self, stretch: Stretch) -> Result<String, String> {
        let kept = self.options.quotes == Quotes::Kept;
        let mut out = String::new();
        self.next();
        let Some((inner, rest)) = self.rest.split_once('\'') else {
            self.rest = "";
            return Err("unexpected end of statement while looking for matching single-quote".to_owned());
        };
        self.rest = rest;
        let quote = if kept { "'" } else { "" };
        out.push_str(quote);
        for letter in inner.chars() {
            if stretch == Stretch::Pattern && letter == self.options.escape {
                out.push(letter);
            }
            out.push(letter);
        }
        out.push_str(quote);
        Ok(out)
    }

    fn double_quoted(&mut self, stretch: Stretch) -> Result<String, String> {
        let kept = self.options.quotes == Quotes::Kept;
        let escape = self.options.escape;
        let mut out = String::new();
        self.next();
        if kept {
            out.push('"');
        }
        loop {
            match self.peek() {
                None => {
                    let message = "unexpected end of statement while looking for matching double-quote";
                    return Err(message.to_owned());
                }
                Some('"') => {
                    self.next();
                    if kept {
                        out.push('"');
                    }
                    return Ok(out);
                }
                Some('$') => out.push_str(&self.dollar()?),
                Some(letter) if letter == escape => {
                    self.next();
                    match self.peek() {
                        None => continue,
                        Some(escaped) if matches!(escaped, '"' | '$') || escaped == escape => {
                            if self.keeps_escapes {
                                out.push(escape);
                            }
                            out.push(escaped);
                            self.next();
                        }
                        Some(_) => {
                            // Here it stands for itself, which a pattern that is read again must be told.
                            if self.keeps_escapes && (!kept || stretch == Stretch::Pattern) {
                                out.push(escape);
                            }
                            out.push(escape);
                        }
                    }
                }
                Some(letter) => {
                    self.next();
                    out.push(letter);
                }
            }
            if out.len() > LENGTH_MAX {
                return Err(format!("the result is longer than {LENGTH_MAX} bytes"));
            }
        }
    }

    fn dollar(&mut self) -> Result<String, String> {
        self.next();
        if self.peek() == Some('{') {
            self.next();
            if self.depth == DEPTH_MAX {
                return Err(format!("substitutions are nested more than {DEPTH_MAX} deep"));
            }
            self.depth += 1;
            let value = self.braced();
            self.depth -= 1;
            return value;
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok(match self.value(name) {
            None if self.options.keeps_unset => format!("${name}"),
            value => value.unwrap_or_default(),
        })
    }

    /// Behind `${`.
    fn braced(&mut self) -> Result<String, String> {
        match self.peek() {
            None => return Err(NO_BRACE.to_owned()),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".to_owned()),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            Some('}') => Ok(match self.value(name) {
                None if self.options.keeps_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some('/') => self.replacement(name),
            Some(':') => {
                let operator = self.next().unwrap_or('\u{fffd}');
                self.operator(name, operator, true)
            }
            Some(operator @ ('+' | '-' | '?' | '#' | '%')) => self.operator(name, operator, false),
            other => {
                let modifier = other.unwrap_or('\u{fffd}');
                Err(format!("unsupported modifier ({modifier}) in substitution"))
            }
        }
    }

    /// `${name-word}` and the like; `colon` makes an empty value as good as none.
    fn operator(&mut self, name: &str, operator: char, colon: bool) -> Result<String, String> {
        let modifier = if colon { format!(":{operator}") } else { operator.to_string() };
        let unsupported = || format!("unsupported modifier ({modifier}) in substitution");
        let trims = matches!(operator, '#' | '%');
        if colon && trims {
            return Err(unsupported());
        }
        let stretch = if trims { Stretch::Pattern } else { Stretch::Plain };
        let word = self.nested('}', trims, stretch, NO_BRACE)?;
        let value = self.value(name);
        if value.is_none() && self.options.keeps_unset {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        }
        let given = value.clone().filter(|value| !(colon && value.is_empty()));
        let refused =
            |default: &str| format!("{name}: {}", if word.is_empty() { default } else { word.as_str() });
        match operator {
            '-' => Ok(given.unwrap_or(word)),
            '+' => Ok(if given.is_some() { word } else { String::new() }),
            '?' => match (given, value) {
                (Some(value), _) => Ok(value),
                (None, Some(_)) => Err(refused("is not allowed to be empty")),
                (None, None) => Err(refused("is not allowed to be unset")),
            },
            '#' | '%' => {
                let edge = if operator == '#' { Edge::Start } else { Edge::End };
                let (reach, pattern) = match word.strip_prefix(operator) {
                    Some(pattern) => (Reach::Longest, pattern),
                    None => (Reach::Shortest, word.as_str()),
                };
                pattern::trim(&value.unwrap_or_default(), pattern, edge, reach)
            }
            _ => Err(unsupported()),
        }
    }

    /// `${name/pattern/text}`, `${name//pattern/text}`; behind the first slash.
    fn replacement(&mut self, name: &str) -> Result<String, String> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let pattern = self.nested('/', true, Stretch::Pattern, "syntax error: missing '/' in ${}")?;
        let replacement = self.nested('}', true, Stretch::Plain, NO_BRACE)?;
        match self.value(name) {
            None if self.options.keeps_unset => Ok(format!("${{{name}/{pattern}/{replacement}}}")),
            value => pattern::replace(&value.unwrap_or_default(), &pattern, &replacement, all),
        }
    }

    /// A word within a substitution.
    fn nested(
        &mut self,
        stop: char,
        keeps_escapes: bool,
        stretch: Stretch,
        unfinished: &str,
    ) -> Result<String, String> {
        let outer = std::mem::replace(&mut self.keeps_escapes, keeps_escapes);
        let word = self.until(Some(stop), stretch, None);
        self.keeps_escapes = outer;
        word.map_err(|reason| if self.rest.is_empty() { unfinished.to_owned() } else { reason })
    }

    /// Letters, digits and underscores; or digits alone; or one of the shell's special parameters.
    fn name(&mut self) -> &'t str {
        let text = self.rest;
        let end = match text.chars().next() {
            Some(first) if first.is_numeric() => text.find(|letter: char| !letter.is_numeric()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => Some(1),
            _ => text.find(|letter: char| !letter.is_alphanumeric() && letter != '_'),
        };
        let (name, rest) = text.split_at(end.unwrap_or(text.len()));
        self.rest = rest;
        name
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.variables)(name);
        let names = if value.is_some() { &mut self.used } else { &mut self.undefined };
        if !names.contains(name) {
            names.insert(name.to_owned());
        }
        value
    }
}
