//! Forms as they stand in queries and bodies: `application/x-www-form-urlencoded` (URL Standard, section 5.1).

/// Names and values, in their order. Values are not shown by `Debug`: one may be a password.
pub struct Form(Vec<(String, String)>);

/// More fields than any client sends.
const FIELDS_MAX: usize = 128;

impl Form {
    /// `None` when it isn't one.
    pub fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split('&').filter(|field| !field.is_empty()).collect();
        if fields.len() > FIELDS_MAX {
            return None;
        }
        let read = |field: &&str| {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            Some((decoded(name)?, decoded(value)?))
        };
        fields.iter().map(read).collect::<Option<Vec<_>>>().map(Self)
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &rest[2..];
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read() {
        let form = Form::parse("scope=a%3Ab&scope=c+d&empty=&bare&x=%C3%A9&&y=1=2").unwrap();
        assert_eq!(form.all("scope").collect::<Vec<_>>(), ["a:b", "c d"]);
        assert_eq!((form.get("empty"), form.get("bare"), form.get("none")), (Some(""), Some(""), None));
        assert_eq!((form.get("x"), form.get("y")), (Some("é"), Some("1=2")));
        for odd in ["a=%", "a=%4", "a=%zz", "a=%+1", "a=%ff", "%=x"] {
            assert!(Form::parse(odd).is_none(), "{odd}");
        }
        assert!(Form::parse(&"a&".repeat(FIELDS_MAX + 1)).is_none());
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd(text in ".{0,80}") {
            Form::parse(&text);
        }
    }
}
