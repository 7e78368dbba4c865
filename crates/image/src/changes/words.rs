//! Words of a Dockerfile instruction: quotes, backslashes, `$VAR` and `${VAR:-…}`.

use std::collections::BTreeMap;

pub(super) struct Pair {
    pub key: String,
    pub value: String,
}

/// The exec form `["a", "b"]`; `None` when the text is anything else.
pub(super) fn json_words(text: &str) -> Option<Vec<String>> {
    if text.starts_with('[') { serde_json::from_str(text).ok() } else { None }
}

/// Splits at blanks outside of quotes, removes quotes, replaces variables.
pub(super) fn expand(text: &str, env: &BTreeMap<String, String>) -> Result<Vec<String>, &'static str> {
    split(text)?.iter().map(|word| unquote(word, env)).collect()
}

/// `key=value …`, or the old `key the rest is the value`.
pub(super) fn pairs(text: &str, env: &BTreeMap<String, String>) -> Result<Vec<Pair>, &'static str> {
    let words = split(text)?;
    if !words.first().is_some_and(|word| word.contains('=')) {
        let (key, value) = text.split_once(char::is_whitespace).ok_or("must have two arguments")?;
        return Ok(vec![Pair { key: unquote(key, env)?, value: unquote(value.trim(), env)? }]);
    }
    words
        .iter()
        .map(|word| {
            let (key, value) = word.split_once('=').ok_or("can't find = in a word: expected name=value")?;
            let key = unquote(key, env)?;
            if key.is_empty() {
                Err("names can not be blank")
            } else {
                Ok(Pair { key, value: unquote(value, env)? })
            }
        })
        .collect()
}

/// Words with their quotes and backslashes still in them.
fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, letter) if letter.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), letter) if open == letter => quote = None,
            (None | Some('"'), '\\') => {
                word.push('\\');
                word.extend(letters.next());
                continue;
            }
            _ => {}
        }
        word.push(letter);
    }
    if quote.is_some() {
        return Err("unexpected end of statement while looking for matching quote");
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

fn unquote(word: &str, env: &BTreeMap<String, String>) -> Result<String, &'static str> {
    let mut out = String::new();
    let mut quote = None;
    let mut rest = word;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        match (quote, letter) {
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), letter) if open == letter => quote = None,
            (Some('\''), letter) => out.push(letter),
            (_, '$') => {
                let (value, after) = variable(rest, env)?;
                out.push_str(&value);
                rest = after;
            }
            (_, '\\') => {
                let Some(next) = rest.chars().next() else { break };
                rest = &rest[next.len_utf8()..];
                // Within double quotes a backslash escapes only what would mean something there.
                if quote == Some('"') && !matches!(next, '"' | '$' | '\\') {
                    out.push('\\');
                }
                out.push(next);
            }
            (_, letter) => out.push(letter),
        }
    }
    Ok(out)
}

/// The value of the variable whose name starts `text` (behind the dollar sign), and what follows it.
fn variable<'t>(text: &'t str, env: &BTreeMap<String, String>) -> Result<(String, &'t str), &'static str> {
    let name_end = |text: &str| {
        text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(text.len())
    };
    let value = |name: &str| env.get(name).cloned().unwrap_or_default();
    let Some(braced) = text.strip_prefix('{') else {
        let end = name_end(text);
        return Ok(if end == 0 { ("$".to_owned(), text) } else { (value(&text[..end]), &text[end..]) });
    };
    let (inner, after) = braced.split_once('}').ok_or("syntax error: missing '}'")?;
    let end = name_end(inner);
    let (name, modifier) = inner.split_at(end);
    if name.is_empty() {
        return Err("syntax error: bad substitution");
    }
    let set = env.get(name).is_some_and(|value| !value.is_empty());
    let value = match modifier.as_bytes() {
        [] => value(name),
        [b':', b'-', ..] => {
            if set {
                value(name)
            } else {
                modifier[2..].to_owned()
            }
        }
        [b':', b'+', ..] => {
            if set {
                modifier[2..].to_owned()
            } else {
                String::new()
            }
        }
        _ => return Err("unsupported modifier in substitution"),
    };
    Ok((value, after))
}
