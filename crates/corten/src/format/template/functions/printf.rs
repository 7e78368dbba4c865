//! `printf`: Go's verbs, flags, width and precision, over template values.

use crate::format::size::general;
use crate::format::template::print::{exponent, float, plain, quote};
use crate::format::template::value::Value;

/// What stands between `%` and the verb.
#[derive(Default)]
struct Directive {
    minus: bool,
    plus: bool,
    zero: bool,
    space: bool,
    sharp: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Formats `arguments[1..]` by the format in `arguments[0]`. Mistakes show in the output, as in Go.
pub fn printf(arguments: &[Value]) -> Result<String, String> {
    let [Value::Text(format), values @ ..] = arguments else {
        return Err("printf needs a format string first".to_owned());
    };
    let mut out = String::new();
    let mut values = values.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let directive = directive(&mut chars, &mut values);
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match values.next() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => out.push_str(&directive.padded(&directive.format(verb, value), verb)),
            },
        }
    }
    let rest: Vec<String> = values.map(|value| format!("{}={}", value.type_name(), plain(value))).collect();
    if !rest.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", rest.join(", ")));
    }
    Ok(out)
}

fn directive<'a>(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    values: &mut impl Iterator<Item = &'a Value>,
) -> Directive {
    let mut directive = Directive::default();
    while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '+' | '0' | ' ' | '#')) {
        match flag {
            '-' => directive.minus = true,
            '+' => directive.plus = true,
            '0' => directive.zero = true,
            ' ' => directive.space = true,
            _ => directive.sharp = true,
        }
    }
    directive.width = number(chars, values);
    if chars.next_if_eq(&'.').is_some() {
        directive.precision = Some(number(chars, values).unwrap_or(0));
    }
    directive
}

/// Digits, or `*` for the next value. More than four digits are cut: a format is no way to fill memory.
fn number<'a>(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    values: &mut impl Iterator<Item = &'a Value>,
) -> Option<usize> {
    if chars.next_if_eq(&'*').is_some() {
        return match values.next() {
            Some(Value::Int(width)) => usize::try_from(*width).ok().map(|width| width.min(9999)),
            _ => None,
        };
    }
    let mut found = None;
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        let digit = digit as usize - '0' as usize;
        found = Some((found.unwrap_or(0) * 10 + digit).min(9999));
    }
    found
}

impl Directive {
    fn format(&self, verb: char, value: &Value) -> String {
        match (verb, value) {
            ('v', Value::Text(text)) if self.sharp => quote(text),
            ('v', Value::Int(value)) => self.signed(*value, |magnitude| magnitude.to_string()),
            ('v', value) => plain(value),
            ('T', value) => value.type_name().to_owned(),
            (_, Value::List(items)) => {
                let words: Vec<String> = items.iter().map(|item| self.format(verb, item)).collect();
                format!("[{}]", words.join(" "))
            }
            ('s', Value::Text(text)) => self.cut(text),
            ('q', Value::Text(text)) if self.sharp && !text.contains('`') => format!("`{}`", self.cut(text)),
            ('q', Value::Text(text)) => quote(&self.cut(text)),
            ('q', Value::Int(value)) => match u32::try_from(*value).ok().and_then(char::from_u32) {
                Some(c) => format!("'{c}'"),
                None => "'\u{fffd}'".to_owned(),
            },
            ('x', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            ('X', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
            ('t', Value::Bool(value)) => value.to_string(),
            ('d', Value::Int(value)) => self.signed(*value, |magnitude| magnitude.to_string()),
            ('x', Value::Int(value)) => {
                self.signed(*value, |magnitude| self.prefixed("0x", format!("{magnitude:x}")))
            }
            ('X', Value::Int(value)) => {
                self.signed(*value, |magnitude| self.prefixed("0X", format!("{magnitude:X}")))
            }
            ('o', Value::Int(value)) => {
                self.signed(*value, |magnitude| self.prefixed("0", format!("{magnitude:o}")))
            }
            ('b', Value::Int(value)) => self.signed(*value, |magnitude| format!("{magnitude:b}")),
            ('c', Value::Int(value)) => {
                let c = u32::try_from(*value).ok().and_then(char::from_u32);
                c.unwrap_or('\u{fffd}').to_string()
            }
            ('U', Value::Int(value)) => format!("U+{value:04X}"),
            ('f' | 'F', Value::Float(value)) => {
                self.plus_sign(format!("{:.*}", self.precision.unwrap_or(6), value))
            }
            ('e', Value::Float(value)) => {
                self.plus_sign(exponent(&format!("{:.*e}", self.precision.unwrap_or(6), value)))
            }
            ('g' | 'G', Value::Float(value)) => self.plus_sign(match self.precision {
                Some(precision) => general(*value, precision),
                None => float(*value),
            }),
            (_, Value::Nil(_)) => format!("%!{verb}(<nil>)"),
            (verb, value) => format!("%!{verb}({}={})", value.type_name(), plain(value)),
        }
    }

    fn cut(&self, text: &str) -> String {
        match self.precision {
            Some(length) => text.chars().take(length).collect(),
            None => text.to_owned(),
        }
    }

    fn prefixed(&self, prefix: &str, digits: String) -> String {
        if self.sharp { format!("{prefix}{digits}") } else { digits }
    }

    fn signed(&self, value: i64, digits: impl Fn(u64) -> String) -> String {
        let sign = match value {
            ..0 => "-",
            _ if self.plus => "+",
            _ if self.space => " ",
            _ => "",
        };
        format!("{sign}{}", digits(value.unsigned_abs()))
    }

    fn plus_sign(&self, number: String) -> String {
        if self.plus && !number.starts_with('-') { format!("+{number}") } else { number }
    }

    fn padded(&self, text: &str, verb: char) -> String {
        let missing = self.width.unwrap_or(0).saturating_sub(text.chars().count());
        if missing == 0 {
            return text.to_owned();
        }
        if self.minus {
            return format!("{text}{}", " ".repeat(missing));
        }
        let numeric = matches!(verb, 'd' | 'x' | 'X' | 'o' | 'b' | 'f' | 'F' | 'e' | 'g' | 'G' | 'v');
        if self.zero && numeric {
            let sign = if text.starts_with(['-', '+']) { 1 } else { 0 };
            return format!("{}{}{}", &text[..sign], "0".repeat(missing), &text[sign..]);
        }
        format!("{}{text}", " ".repeat(missing))
    }
}
