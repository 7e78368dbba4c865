//! Patterns of substitutions: `*`, `?` and backslashes, matched at a value's edges or anywhere within.
//!
//! They become regular expressions, as in BuildKit: a wildcard stops at the end of a line there, and so here.

use regex_lite::Regex;

/// Bytes of a pattern times bytes of a value; beyond that a build would hang.
const WORK_MAX: usize = 64 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    Start,
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Shortest,
    Longest,
}

/// The value without what the pattern matches at one edge.
pub(super) fn trim(value: &str, pattern: &str, edge: Edge, reach: Reach) -> Result<String, String> {
    bound(value, pattern)?;
    let elements = elements(pattern)?;
    match edge {
        Edge::Start => {
            let found = regex(pattern, elements.into_iter(), reach, true)?.find(value);
            Ok(value[found.map_or(0, |found| found.end())..].to_owned())
        }
        // From the right, so that the shortest match is the first.
        Edge::End => {
            let reversed: String = value.chars().rev().collect();
            let found = regex(pattern, elements.into_iter().rev(), reach, true)?.find(&reversed);
            Ok(value[..value.len() - found.map_or(0, |found| found.end())].to_owned())
        }
    }
}

/// The value with the first match, or all, replaced.
pub(super) fn replace(value: &str, pattern: &str, replacement: &str, all: bool) -> Result<String, String> {
    bound(value, pattern)?;
    let regex = regex(pattern, elements(pattern)?.into_iter(), Reach::Longest, false)?;
    if all && value.len().saturating_mul(replacement.len()) > super::LENGTH_MAX {
        let matches = regex.find_iter(value).count();
        if matches.saturating_mul(replacement.len()) > super::LENGTH_MAX {
            return Err(format!("the result is longer than {} bytes", super::LENGTH_MAX));
        }
    }
    let limit = if all { 0 } else { 1 };
    Ok(regex.replacen(value, limit, regex_lite::NoExpand(replacement)).into_owned())
}

fn bound(value: &str, pattern: &str) -> Result<(), String> {
    match value.len().saturating_mul(pattern.len()) > WORK_MAX {
        true => Err("the pattern and the value in a substitution are too long".to_owned()),
        false => Ok(()),
    }
}

enum Element {
    Any,
    AnyLetter,
    Letter(char),
}

fn elements(pattern: &str) -> Result<Vec<Element>, String> {
    let mut elements = Vec::new();
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        elements.push(match letter {
            '*' => Element::Any,
            '?' => Element::AnyLetter,
            // These two had to be escaped to get here.
            '\\' if matches!(letters.peek(), Some('}' | '/')) => continue,
            '\\' => match letters.next() {
                Some(escaped @ ('*' | '?' | '\\')) => Element::Letter(escaped),
                other => {
                    let escaped = other.unwrap_or('\u{fffd}');
                    return Err(invalid(pattern, &format!("invalid escape '\\{escaped}'")));
                }
            },
            letter => Element::Letter(letter),
        });
    }
    Ok(elements)
}

fn regex(
    pattern: &str,
    elements: impl Iterator<Item = Element>,
    reach: Reach,
    anchored: bool,
) -> Result<Regex, String> {
    let mut expression = String::with_capacity(pattern.len() + 4);
    if anchored {
        expression.push('^');
    }
    for element in elements {
        match (element, reach) {
            (Element::Any, Reach::Longest) => expression.push_str(".*"),
            (Element::Any, Reach::Shortest) => expression.push_str(".*?"),
            (Element::AnyLetter, _) => expression.push('.'),
            (Element::Letter(letter), _) => {
                let mut bytes = [0; 4];
                expression.push_str(&regex_lite::escape(letter.encode_utf8(&mut bytes)));
            }
        }
    }
    Regex::new(&expression).map_err(|_| invalid(pattern, "it is too long"))
}

fn invalid(pattern: &str, reason: &str) -> String {
    format!("invalid pattern ({pattern}) in substitution: {reason}")
}
