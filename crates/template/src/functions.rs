//! What a template can call: Go's built-in functions and those that Docker adds.
//!
//! `and` and `or` are not here: they don't always evaluate their arguments, so the evaluator owns them.

use std::cmp::Ordering;

use crate::eval::BYTES_MAX;
use crate::print::{plain, text};
use crate::value::{Kind, Nil, Object, Value};

mod printf;

/// Which meaning the functions have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionSet {
    /// Over data.
    Data,
    /// Over column titles, which `json`, `split`, `upper` and the like leave alone.
    Header,
}

/// Nobody has a wider terminal; templates may come from strangers.
const PAD_MAX: usize = 10_000;
/// Nor does anybody look at more parts of one text.
const PARTS_MAX: usize = 100_000;

type Outcome = Result<Value, String>;

/// Calls `name`; the error says what was wrong, without a position.
pub fn call(name: &str, arguments: Vec<Value>, set: FunctionSet) -> Outcome {
    if set == FunctionSet::Header
        && matches!(name, "json" | "split" | "join" | "title" | "lower" | "upper" | "pad" | "truncate")
    {
        return arguments.into_iter().next().ok_or_else(|| wants(name, "at least one argument"));
    }
    match name {
        "not" => Ok(Value::Bool(!one(name, &arguments)?.truth())),
        "len" => length(one(name, &arguments)?),
        "index" => index(&arguments),
        "slice" => slice(&arguments),
        "eq" => equals_any(&arguments),
        "ne" => two(name, &arguments).and_then(|(a, b)| Ok(Value::Bool(!equal(a, b)?))),
        "lt" => compared(name, &arguments, Ordering::is_lt),
        "le" => compared(name, &arguments, Ordering::is_le),
        "gt" => compared(name, &arguments, Ordering::is_gt),
        "ge" => compared(name, &arguments, Ordering::is_ge),
        "print" => Ok(Value::Text(print(&arguments))),
        "println" => Ok(Value::Text(println(&arguments))),
        "printf" => printf::printf(&arguments).map(Value::Text),
        "json" => to_json(one(name, &arguments)?, false),
        "prettyjson" => to_json(one(name, &arguments)?, true),
        "split" => two_texts(name, &arguments).and_then(|(text, separator)| split(text, separator)),
        "join" => join(&arguments),
        "lower" => one_text(name, &arguments).map(|text| Value::Text(text.to_lowercase())),
        "upper" => one_text(name, &arguments).map(|text| Value::Text(text.to_uppercase())),
        "title" => one_text(name, &arguments).map(|text| Value::Text(title(text))),
        "pad" => pad(&arguments),
        "truncate" => truncate(&arguments),
        "html" => Ok(Value::Text(html(&print(&arguments)))),
        "js" => Ok(Value::Text(js(&print(&arguments)))),
        "urlquery" => Ok(Value::Text(urlquery(&print(&arguments)))),
        "call" => Err(format!("the function {name} is not supported in a format")),
        _ => Err(format!("there is no function {name:?}")),
    }
}

fn wants(name: &str, what: &str) -> String {
    format!("{name} needs {what}")
}

fn one<'a>(name: &str, arguments: &'a [Value]) -> Result<&'a Value, String> {
    match arguments {
        [only] => Ok(only),
        _ => Err(wants(name, &format!("one argument, not {}", arguments.len()))),
    }
}

fn two<'a>(name: &str, arguments: &'a [Value]) -> Result<(&'a Value, &'a Value), String> {
    match arguments {
        [first, second] => Ok((first, second)),
        _ => Err(wants(name, &format!("two arguments, not {}", arguments.len()))),
    }
}

fn as_text<'a>(name: &str, value: &'a Value) -> Result<&'a str, String> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(wants(name, &format!("a string, not a {}", other.type_name()))),
    }
}

fn as_count(name: &str, value: &Value) -> Result<usize, String> {
    match value {
        Value::Int(count) if *count >= 0 => Ok(*count as usize),
        _ => Err(wants(name, "a whole number")),
    }
}

fn one_text<'a>(name: &str, arguments: &'a [Value]) -> Result<&'a str, String> {
    as_text(name, one(name, arguments)?)
}

fn two_texts<'a>(name: &str, arguments: &'a [Value]) -> Result<(&'a str, &'a str), String> {
    let (first, second) = two(name, arguments)?;
    Ok((as_text(name, first)?, as_text(name, second)?))
}

/// Escaped for a string of JavaScript, as Go does it.
fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => out.extend(['\\', c]),
            '<' | '>' | '&' | '=' | '\0'..='\x1f' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// Escaped for the query of a URL.
fn urlquery(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn length(value: &Value) -> Outcome {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Object(object) => object.fields.len(),
        Value::Nil(_) => 0,
        other => return Err(format!("a {} has no length", other.type_name())),
    };
    Ok(Value::Int(length as i64))
}

fn index(arguments: &[Value]) -> Outcome {
    let [base, keys @ ..] = arguments else { return Err(wants("index", "a list or map")) };
    let mut value = base.clone();
    for key in keys {
        value = index_one(&value, key)?;
    }
    Ok(value)
}

fn index_one(value: &Value, key: &Value) -> Outcome {
    match (value, key) {
        (Value::List(items), Value::Int(at)) => {
            let found = usize::try_from(*at).ok().and_then(|at| items.get(at));
            found.cloned().ok_or_else(|| format!("index {at} is out of range: the list has {}", items.len()))
        }
        (Value::Text(text), Value::Int(at)) => {
            let found = usize::try_from(*at).ok().and_then(|at| text.as_bytes().get(at));
            let missing = || format!("index {at} is out of range: the string has {} bytes", text.len());
            found.map(|byte| Value::Int(i64::from(*byte))).ok_or_else(missing)
        }
        (Value::Object(object), Value::Text(key)) => Ok(match object.get(key) {
            Some(found) => found.clone(),
            // The zero value of the map's element type.
            None if object.fields.iter().all(|(_, value)| matches!(value, Value::Text(_))) => "".into(),
            None => Value::Nil(Nil::Unknown),
        }),
        (Value::Nil(Nil::Map), Value::Text(_)) => Ok("".into()),
        (Value::Nil(_), _) => Err("can't index an empty value; guard it with {{if}}".to_owned()),
        (value, key) => Err(format!("can't index a {} with a {}", value.type_name(), key.type_name())),
    }
}

fn slice(arguments: &[Value]) -> Outcome {
    let [base, bounds @ ..] = arguments else { return Err(wants("slice", "a list or string")) };
    let length = match base {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        other => return Err(format!("can't slice a {}", other.type_name())),
    };
    let (from, to) = match bounds {
        [] => (0, length),
        [from] => (as_count("slice", from)?, length),
        [from, to] => (as_count("slice", from)?, as_count("slice", to)?),
        _ => return Err(wants("slice", "at most two bounds")),
    };
    let outside = || format!("slice {from}:{to} is out of range: the length is {length}");
    match base {
        Value::Text(text) => text.get(from..to).map(Value::from).ok_or_else(outside),
        Value::List(items) => items.get(from..to).map(|part| Value::List(part.to_vec())).ok_or_else(outside),
        _ => Err(outside()),
    }
}

fn equals_any(arguments: &[Value]) -> Outcome {
    let [first, others @ ..] = arguments else { return Err(wants("eq", "two arguments")) };
    if others.is_empty() {
        return Err(wants("eq", "two arguments"));
    }
    for other in others {
        if equal(first, other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Int(_), Value::Int(_))
        | (Value::Bool(_), Value::Bool(_))
        | (Value::Float(_), Value::Float(_))
        | (Value::Text(_), Value::Text(_)) => Ok(a == b),
        (Value::Nil(_), other) | (other, Value::Nil(_)) => Ok(matches!(other, Value::Nil(_))),
        _ => Err(format!("can't compare a {} with a {}", a.type_name(), b.type_name())),
    }
}

fn compared(name: &str, arguments: &[Value], holds: fn(Ordering) -> bool) -> Outcome {
    let (a, b) = two(name, arguments)?;
    let order = match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        _ => return Err(format!("can't compare a {} with a {}", a.type_name(), b.type_name())),
    };
    Ok(Value::Bool(order.is_some_and(holds)))
}

/// `fmt.Sprint`: a space between neighbours when neither is a string.
fn print(arguments: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in arguments.iter().enumerate() {
        let both_other = |a: &Value, b: &Value| !matches!(a, Value::Text(_)) && !matches!(b, Value::Text(_));
        if at > 0 && both_other(&arguments[at - 1], value) {
            out.push(' ');
        }
        out.push_str(&plain(value));
    }
    out
}

fn println(arguments: &[Value]) -> String {
    let words: Vec<String> = arguments.iter().map(plain).collect();
    format!("{}\n", words.join(" "))
}

fn to_json(value: &Value, pretty: bool) -> Outcome {
    let written = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    let written = written.map_err(|error| error.to_string())?;
    // Go escapes these in what marshals itself, as Docker's rows do, and only there.
    let escapes = matches!(value, Value::Object(Object { kind: Kind::Row, .. }));
    Ok(Value::Text(match escapes {
        true => written.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"),
        false => written,
    }))
}

fn split(text: &str, separator: &str) -> Outcome {
    let parts: Vec<Value> = if separator.is_empty() {
        text.chars().take(PARTS_MAX + 1).map(|c| Value::Text(c.to_string())).collect()
    } else {
        text.split(separator).take(PARTS_MAX + 1).map(Value::from).collect()
    };
    match parts.len() > PARTS_MAX {
        true => Err(wants("split", &format!("a string of at most {PARTS_MAX} parts"))),
        false => Ok(Value::List(parts)),
    }
}

fn join(arguments: &[Value]) -> Outcome {
    let (list, separator) = two("join", arguments)?;
    let separator = as_text("join", separator)?;
    match list {
        Value::List(items) if items.len().saturating_mul(separator.len()) > BYTES_MAX => {
            Err(wants("join", "a shorter separator for so long a list"))
        }
        Value::List(items) => Ok(items.iter().map(text).collect::<Vec<_>>().join(separator).into()),
        Value::Nil(_) => Ok("".into()),
        other => Err(wants("join", &format!("a list, not a {}", other.type_name()))),
    }
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at_start = true;
    for c in text.chars() {
        if at_start {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        at_start = !(c.is_alphanumeric() || c == '_' || c == '\'');
    }
    out
}

fn pad(arguments: &[Value]) -> Outcome {
    let [text, before, after] = arguments else { return Err(wants("pad", "a string and two numbers")) };
    let text = as_text("pad", text)?;
    if text.is_empty() {
        return Ok("".into());
    }
    let (before, after) = (as_count("pad", before)?, as_count("pad", after)?);
    if before.max(after) > PAD_MAX {
        return Err(wants("pad", &format!("at most {PAD_MAX} spaces")));
    }
    Ok(format!("{}{text}{}", " ".repeat(before), " ".repeat(after)).into())
}

fn truncate(arguments: &[Value]) -> Outcome {
    let (text, length) = two("truncate", arguments)?;
    let (text, length) = (as_text("truncate", text)?, as_count("truncate", length)?);
    Ok(text.chars().take(length).collect::<String>().into())
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
