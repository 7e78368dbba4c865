//! How Go writes values: `fmt.Print`, `%v`, `%q`, `%g`.

use crate::value::{Kind, Nil, Value};

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

/// Go's shortest form: plain digits below a million, an exponent of at least two digits from there on.
pub fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e6).contains(&magnitude) {
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

/// `strconv.QuoteToASCII`: as [`quote`], with escapes for all that is not ASCII.
pub fn quote_ascii(text: &str) -> String {
    let mut out = String::new();
    for c in quote(text).chars() {
        match u32::from(c) {
            0..0x80 => out.push(c),
            code @ 0x80..0x1_0000 => out.push_str(&format!("\\u{code:04x}")),
            code => out.push_str(&format!("\\U{code:08x}")),
        }
    }
    out
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

/// Go's `%.<digits>g`: significant digits without trailing zeros, an exponent when they don't suffice.
pub fn general(value: f64, digits: usize) -> String {
    let digits = digits.max(1);
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let scientific = format!("{value:.*e}", digits - 1);
    let Some((mantissa, power)) = scientific.split_once('e') else { return scientific };
    let power: i32 = power.parse().unwrap_or(0);
    let mantissa =
        if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    let significant = mantissa.chars().filter(char::is_ascii_digit).count() as i32;
    let mut limit = digits as i32;
    if limit > significant && significant > power {
        limit = significant;
    }
    if power < -4 || power >= limit {
        return exponent(&format!("{mantissa}e{power}"));
    }
    let decimals = (significant - 1 - power).max(0) as usize;
    let rounded: f64 = scientific.parse().unwrap_or(value);
    format!("{rounded:.decimals$}")
}
