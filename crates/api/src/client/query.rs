//! Paths and queries: percent-encoding.

use crate::filters::Filters;
use std::fmt::{self, Write};

/// A query in the making; what is empty, false or absent is left out.
#[derive(Clone, Debug, Default)]
pub struct Query(String);

impl Query {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn text(mut self, name: &str, value: &str) -> Self {
        if !value.is_empty() {
            self.push(name, value);
        }
        self
    }

    pub fn flag(mut self, name: &str, on: bool) -> Self {
        if on {
            self.push(name, "1");
        }
        self
    }

    /// Also when it is false: for what is on by default.
    pub fn boolean(mut self, name: &str, on: bool) -> Self {
        self.push(name, if on { "1" } else { "0" });
        self
    }

    pub fn option(mut self, name: &str, value: Option<impl fmt::Display>) -> Self {
        if let Some(value) = value {
            self.push(name, &value.to_string());
        }
        self
    }

    pub fn filters(mut self, filters: &Filters) -> Self {
        if !filters.is_empty() {
            self.push("filters", &filters.to_json());
        }
        self
    }

    fn push(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        encode(&mut self.0, name, b"");
        self.0.push('=');
        encode(&mut self.0, value, b"");
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name as part of a path; slashes and colons of image references stay, as Docker's clients have it.
pub(super) fn segment(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    encode(&mut encoded, name, b"/:@");
    encoded
}

fn encode(into: &mut String, text: &str, also: &[u8]) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || also.contains(&byte) {
            into.push(byte.into());
        } else {
            // Writing to a String cannot fail.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}
