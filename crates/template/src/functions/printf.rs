//! `printf`: Go's verbs, flags, width, precision and numbered arguments, over template values.
//!
//! What Go writes of its types is not there: `%T` and `%#v` of lists, maps and objects are refused, and `%v` of an object that
//! is a pointer in Go has no `&` before it.

use crate::eval::BYTES_MAX;
use crate::print::{exponent, float, general, plain, quote, quote_ascii};
use crate::value::{Kind, Nil, Object, Value};

/// A format is no way to fill memory: wider or more precise than this is cut.
const WIDTH_MAX: usize = 9999;

/// Formats `arguments[1..]` by the format in `arguments[0]`. Mistakes show in the output, as in Go.
pub fn printf(arguments: &[Value]) -> Result<String, String> {
    let [Value::Text(format), values @ ..] = arguments else {
        return Err("printf needs a format string first".to_owned());
    };
    let chars = format.chars().collect();
    Reader { chars, at: 0, values, next: 0, reordered: false, good: true, out: String::new() }.run()
}

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

/// Goes through a format.
struct Reader<'a> {
    chars: Vec<char>,
    at: usize,
    values: &'a [Value],
    /// The argument that comes next.
    next: usize,
    /// Arguments were named by number: then none is superfluous.
    reordered: bool,
    /// The directive's numbers name arguments that are there.
    good: bool,
    out: String,
}

impl Reader<'_> {
    fn run(mut self) -> Result<String, String> {
        while let Some(c) = self.take() {
            if c == '%' {
                self.directive()?
            } else {
                self.out.push(c)
            }
            bounded(self.out.len())?;
        }
        let rest = self.values.get(self.next..).unwrap_or_default();
        if !rest.is_empty() && !self.reordered {
            let rest: Vec<String> = rest.iter().map(described).collect();
            self.out.push_str(&format!("%!(EXTRA {})", rest.join(", ")));
        }
        Ok(self.out)
    }

    fn directive(&mut self) -> Result<(), String> {
        let mut directive = Directive::default();
        while let Some(flag) = self.take_if(|c| matches!(c, '-' | '+' | '0' | ' ' | '#')) {
            match flag {
                '-' => directive.minus = true,
                '+' => directive.plus = true,
                '0' => directive.zero = true,
                ' ' => directive.space = true,
                _ => directive.sharp = true,
            }
        }
        self.good = true;
        self.index();
        match self.number() {
            Number::Given(width) => directive.width = Some(width),
            Number::Negative(width) => (directive.width, directive.minus) = (Some(width), true),
            Number::Bad => self.out.push_str("%!(BADWIDTH)"),
            Number::None => {}
        }
        if self.take_if(|c| c == '.').is_some() {
            self.index();
            match self.number() {
                Number::Given(precision) => directive.precision = Some(precision),
                Number::None => directive.precision = Some(0),
                Number::Bad => self.out.push_str("%!(BADPREC)"),
                Number::Negative(_) => {}
            }
        }
        self.index();
        let Some(verb) = self.take() else {
            self.out.push_str("%!(NOVERB)");
            return Ok(());
        };
        match self.values.get(self.next) {
            _ if verb == '%' => self.out.push('%'),
            _ if !self.good => self.out.push_str(&format!("%!{verb}(BADINDEX)")),
            None => self.out.push_str(&format!("%!{verb}(MISSING)")),
            Some(value) => {
                self.next += 1;
                self.out.push_str(&directive.format(verb, value)?);
            }
        }
        Ok(())
    }

    /// `[n]`: the argument that comes next.
    fn index(&mut self) {
        if self.take_if(|c| c == '[').is_none() {
            return;
        }
        self.reordered = true;
        let digits: String = std::iter::from_fn(|| self.take_if(|c| c != ']')).collect();
        let closed = self.take().is_some();
        match digits.parse::<usize>() {
            Ok(number) if closed && (1..=self.values.len()).contains(&number) => self.next = number - 1,
            _ => self.good = false,
        }
    }

    /// Digits, or `*` for the next argument.
    fn number(&mut self) -> Number {
        if self.take_if(|c| c == '*').is_some() {
            let value = self.values.get(self.next);
            self.next += usize::from(value.is_some());
            return match value {
                Some(Value::Int(number)) => {
                    let size = usize::try_from(number.unsigned_abs()).unwrap_or(WIDTH_MAX).min(WIDTH_MAX);
                    if *number < 0 { Number::Negative(size) } else { Number::Given(size) }
                }
                _ => Number::Bad,
            };
        }
        let mut found = Number::None;
        while let Some(digit) = self.take_if(|c| c.is_ascii_digit()) {
            let before = if let Number::Given(before) = found { before } else { 0 };
            found = Number::Given((before * 10 + digit as usize - '0' as usize).min(WIDTH_MAX));
        }
        found
    }

    fn take(&mut self) -> Option<char> {
        self.take_if(|_| true)
    }

    fn take_if(&mut self, wanted: impl Fn(char) -> bool) -> Option<char> {
        let c = self.chars.get(self.at).copied().filter(|c| wanted(*c))?;
        self.at += 1;
        Some(c)
    }
}

/// Short directives make long texts, of each item of a list.
fn bounded(bytes: usize) -> Result<(), String> {
    match bytes > BYTES_MAX {
        true => Err("printf would write too much".to_owned()),
        false => Ok(()),
    }
}

/// A width or a precision.
enum Number {
    None,
    Given(usize),
    Negative(usize),
    Bad,
}

/// A value with its type, for complaints.
fn described(value: &Value) -> String {
    match value {
        Value::Nil(_) => "<nil>".to_owned(),
        value => format!("{}={}", value.type_name(), plain(value)),
    }
}

impl Directive {
    fn format(&self, verb: char, value: &Value) -> Result<String, String> {
        match (verb, value) {
            ('T' | 'v', Value::List(_) | Value::Object(_)) if verb == 'T' || self.sharp => {
                let verb = if verb == 'T' { "%T" } else { "%#v" };
                Err(format!(
                    "printf's {verb} of a {} is not supported: it has no Go type here",
                    value.type_name()
                ))
            }
            ('T', Value::Nil(_)) => Ok(self.padded("<nil>")),
            ('T', value) => Ok(self.padded(value.type_name())),
            (_, Value::List(items)) => {
                let (mut words, mut bytes) = (Vec::with_capacity(items.len()), 0);
                for item in items {
                    words.push(self.format(verb, item)?);
                    bytes += words.last().map_or(0, String::len);
                    bounded(bytes)?;
                }
                Ok(format!("[{}]", words.join(" ")))
            }
            (_, Value::Object(object)) => self.object(verb, object),
            (verb, value) => Ok(self.scalar(verb, value)),
        }
    }

    fn object(&self, verb: char, object: &Object) -> Result<String, String> {
        let named = object.kind == Kind::Map || (verb == 'v' && self.plus);
        let mut words = Vec::with_capacity(object.fields.len());
        for (key, value) in object.ordered() {
            let text = self.format(verb, value)?;
            let key = match object.kind {
                Kind::Map => self.format(verb, &key.into())?,
                _ => key.to_owned(),
            };
            words.push(if named { format!("{key}:{text}") } else { text });
        }
        let words = words.join(" ");
        Ok(if object.kind == Kind::Map { format!("map[{words}]") } else { format!("{{{words}}}") })
    }

    fn scalar(&self, verb: char, value: &Value) -> String {
        match (verb, value) {
            ('v', Value::Nil(Nil::List)) => "[]".to_owned(),
            ('v', Value::Nil(Nil::Map)) => "map[]".to_owned(),
            ('v', Value::Nil(_)) => self.padded("<nil>"),
            (verb, Value::Nil(_)) => format!("%!{verb}(<nil>)"),
            ('v' | 't', Value::Bool(value)) => self.padded(&value.to_string()),
            (verb, Value::Text(text)) => self.text(verb, text).unwrap_or_else(|| self.bad(verb, value)),
            (verb, Value::Int(number)) => self.whole(verb, *number).unwrap_or_else(|| self.bad(verb, value)),
            (verb, Value::Float(number)) => {
                self.fraction(verb, *number).unwrap_or_else(|| self.bad(verb, value))
            }
            (verb, value) => self.bad(verb, value),
        }
    }

    /// A verb that the value has no use for.
    fn bad(&self, verb: char, value: &Value) -> String {
        format!("%!{verb}({}={})", value.type_name(), self.scalar('v', value))
    }

    fn text(&self, verb: char, text: &str) -> Option<String> {
        let cut: String = match self.precision {
            Some(length) => text.chars().take(length).collect(),
            None => text.to_owned(),
        };
        Some(match verb {
            'v' if self.sharp => self.padded(&quote(text)),
            'v' | 's' => self.padded(&cut),
            'q' if self.sharp && !cut.contains(['`', '\n', '\r']) => self.padded(&format!("`{cut}`")),
            'q' if self.plus => self.padded(&quote_ascii(&cut)),
            'q' => self.padded(&quote(&cut)),
            'x' => self.padded(&self.hexadecimal(text, "0x", |byte| format!("{byte:02x}"))),
            'X' => self.padded(&self.hexadecimal(text, "0X", |byte| format!("{byte:02X}"))),
            _ => return None,
        })
    }

    fn hexadecimal(&self, text: &str, prefix: &str, digits: fn(u8) -> String) -> String {
        let bytes = text.bytes().take(self.precision.unwrap_or(usize::MAX)).map(digits);
        let prefix = if self.sharp { prefix } else { "" };
        match self.space {
            true => bytes.map(|byte| format!("{prefix}{byte}")).collect::<Vec<_>>().join(" "),
            false if text.is_empty() => String::new(),
            false => format!("{prefix}{}", bytes.collect::<String>()),
        }
    }

    fn whole(&self, verb: char, value: i64) -> Option<String> {
        let magnitude = value.unsigned_abs();
        let (prefix, digits) = match verb {
            'v' | 'd' => ("", magnitude.to_string()),
            'x' => ("0x", format!("{magnitude:x}")),
            'X' => ("0X", format!("{magnitude:X}")),
            'o' => ("0", format!("{magnitude:o}")),
            'O' => ("0o", format!("{magnitude:o}")),
            'b' => ("0b", format!("{magnitude:b}")),
            'c' => return Some(self.padded(&character(value).to_string())),
            'q' => {
                let quoted = match character(value) {
                    '\'' => "\"\\'\"".to_owned(),
                    '"' => "\"\"\"".to_owned(),
                    c if self.plus => quote_ascii(&c.to_string()),
                    c => quote(&c.to_string()),
                };
                return Some(self.padded(&format!("'{}'", &quoted[1..quoted.len() - 1])));
            }
            'U' => {
                let known = if self.sharp { format!(" '{}'", character(value)) } else { String::new() };
                return Some(self.padded(&format!("U+{value:04X}{known}")));
            }
            _ => return None,
        };
        let prefix = if self.sharp || verb == 'O' { prefix } else { "" };
        let plus = self.plus && verb != 'v';
        let sign = if value < 0 { "-" } else { self.sign(plus) };
        let digits = match self.precision {
            Some(0) if value == 0 => String::new(),
            Some(least) => format!("{digits:0>least$}"),
            // Zeros fill the width behind the sign, in front of digits.
            None if self.zero && !self.minus => {
                let room = self.width.unwrap_or(0).saturating_sub(sign.len());
                format!("{digits:0>room$}")
            }
            None => digits,
        };
        Some(self.spaced(&format!("{sign}{prefix}{digits}")))
    }

    fn fraction(&self, verb: char, value: f64) -> Option<String> {
        let digits = match (verb, self.precision) {
            ('f' | 'F', precision) => format!("{:.*}", precision.unwrap_or(6), value.abs()),
            ('e' | 'E', precision) => exponent(&format!("{:.*e}", precision.unwrap_or(6), value.abs())),
            ('g' | 'G' | 'v', Some(precision)) => general(value.abs(), precision),
            ('g' | 'G' | 'v', None) => float(value.abs()),
            _ => return None,
        };
        let digits = if matches!(verb, 'E' | 'G') { digits.to_uppercase() } else { digits };
        let plus = self.plus && verb != 'v';
        let sign = if value.is_sign_negative() { "-" } else { self.sign(plus) };
        if !self.zero || self.minus {
            return Some(self.spaced(&format!("{sign}{digits}")));
        }
        let room = self.width.unwrap_or(0).saturating_sub(sign.len());
        Some(format!("{sign}{digits:0>room$}"))
    }

    fn sign(&self, plus: bool) -> &'static str {
        match (plus, self.space) {
            (true, _) => "+",
            (false, true) => " ",
            (false, false) => "",
        }
    }

    /// As wide as wished: texts are filled with zeros where that is wished, too.
    fn padded(&self, text: &str) -> String {
        let missing = self.width.unwrap_or(0).saturating_sub(text.chars().count());
        if self.zero && !self.minus {
            return format!("{}{text}", "0".repeat(missing));
        }
        self.spaced(text)
    }

    fn spaced(&self, text: &str) -> String {
        let width = self.width.unwrap_or(0);
        if self.minus { format!("{text:<width$}") } else { format!("{text:>width$}") }
    }
}

fn character(value: i64) -> char {
    u32::try_from(value).ok().and_then(char::from_u32).unwrap_or('\u{fffd}')
}
