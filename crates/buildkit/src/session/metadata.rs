//! Texts in the headers of a call. What is not plain ASCII travels escaped as in a query, and a second header says so; that goes for
//! all values of a name at once.

use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};

/// Adds all values of a name. A value that can't travel at all is impossible after escaping.
pub fn append(metadata: &mut MetadataMap, name: &'static str, values: &[String]) {
    let escaped = values.iter().any(|value| !is_plain(value));
    for value in values {
        let value = if escaped { escape(value) } else { value.clone() };
        if let Ok(value) = MetadataValue::<Ascii>::try_from(value) {
            metadata.append(name, value);
        }
    }
    if escaped && let Ok(name) = MetadataKey::<Ascii>::from_bytes(format!("{name}-encoded").as_bytes()) {
        metadata.insert(name, MetadataValue::from_static("1"));
    }
}

/// Whether it may stand in a header as it is: printable ASCII without blanks at its ends, which are cut off on the way.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim() == text
}

/// As Go's `url.QueryEscape`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(byte.into()),
            b' ' => escaped.push('+'),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appended(values: &[&str]) -> (Vec<String>, bool) {
        let mut metadata = MetadataMap::new();
        append(&mut metadata, "include-patterns", &values.iter().map(|&v| v.to_owned()).collect::<Vec<_>>());
        let found = metadata.get_all("include-patterns").iter();
        let found = found.map(|value| value.to_str().unwrap().to_owned()).collect();
        (found, metadata.contains_key("include-patterns-encoded"))
    }

    #[test]
    fn plain_texts_travel_as_they_are() {
        let values = ["a", "**/b c", "!d%20", "e,f"];
        assert_eq!(appended(&values), (values.map(str::to_owned).to_vec(), false));
        assert_eq!(appended(&[]), (vec![], false));
    }

    #[test]
    fn one_odd_text_has_all_of_them_escaped() {
        assert_eq!(appended(&["a b", "ü"]), (vec!["a+b".to_owned(), "%C3%BC".to_owned()], true));
        assert_eq!(appended(&[" a"]), (vec!["+a".to_owned()], true));
        assert_eq!(appended(&["a\nb: c"]), (vec!["a%0Ab%3A+c".to_owned()], true));
    }
}
