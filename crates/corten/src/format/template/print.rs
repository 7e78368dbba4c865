//! How Go writes values: `fmt.Print`, `%v`, `%q`, `%g`.

use super::value::{Kind, Nil, Value};

/// A value as the template prints it.
pub fn text(value: &Value) -> String {
    match value {
        Value::Nil(Nil::Unknown) => "<no value>".to_owned(),
        _ => plain(value),
    }
}

/// A value as `%v` writes it.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Nil(Nil::Unknown | Nil::Pointer) => "<nil>".to_owned(),
        Value::Nil(Nil::List) => "[]".to_owned(),
        Value::Nil(Nil::Map) => "map[]".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => float(*value),
        Value::Text(value) => value.clone(),
        Value::List(items) => format!("[{}]", joined(items.iter().map(plain))),
        Value::Object(object) if object.kind == Kind::Map => {
            let entries = object.ordered().into_iter().map(|(key, value)| format!("{key}:{}", plain(value)));
            format!("map[{}]", joined(entries))
        }
        Value::Object(object) => {
            format!("{{{}}}", joined(object.ordered().into_iter().map(|(_, value)| plain(value))))
        }
        Value::Lookup(_) => String::new(),
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(" ")
}

/// Go's shortest form: plain digits up to 1e21, an exponent of at least two digits beyond.
pub fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        return exponent(&format!("{value:e}"));
    }
    format!("{value}")
}

/// Rewrites Rust's `1.5e-7` as Go's `1.5e-07`.
pub fn exponent(rust: &str) -> String {
    let Some((mantissa, power)) = rust.split_once('e') else { return rust.to_owned() };
    let (sign, digits) = match power.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', power),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// `strconv.Quote`: double quotes, escapes for what doesn't print.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\x0b' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c == '\x7f' => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
