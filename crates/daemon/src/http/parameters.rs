//! Query parameters, with the notions of truth and number that Docker's server has.

use super::ApiError;
use corten_api::Filters;
use corten_api::time::Timestamp;
use std::borrow::Cow;

/// A decoded query, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name, true).into_owned(), decode(value, true).into_owned())
        });
        Self(pairs.collect())
    }

    /// The first value; empty when it isn't there.
    pub fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// The first value, when there is one that isn't empty.
    pub fn option(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|value| !value.is_empty())
    }

    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    /// False is nothing, `0`, `no`, `false` and `none`; everything else is true.
    pub fn flag(&self, name: &str) -> bool {
        !matches!(self.text(name).trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// As `flag`, but what isn't there has a default.
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        if self.has(name) { self.flag(name) } else { default }
    }

    /// A whole number, when it is there; anything else is refused in the words of Go's strconv.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        match self.option(name) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                ApiError::bad_request(format!(
                    "invalid value for {name}: strconv.Atoi: parsing {text:?}: invalid syntax"
                ))
            }),
        }
    }

    /// `since` and `until`: none when absent; zero is the beginning of time, which is no bound.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        match self.option(name) {
            None | Some("0") => Ok(None),
            Some(text) => match Timestamp::parse_bound(text, Timestamp::now()) {
                Some(time) => Ok(Some(time)),
                None => {
                    Err(ApiError::bad_request(format!("invalid value for {name:?}: {text:?} is not a time")))
                }
            },
        }
    }

    pub fn filters(&self) -> Result<Filters, ApiError> {
        Filters::parse(self.text("filters")).map_err(|e| ApiError::bad_request(e.to_string()))
    }
}

/// Undoes percent-encoding; a `%` without two hexadecimal digits stays as it is, bytes that aren't UTF-8 become U+FFFD.
pub fn decode(text: &str, plus_is_space: bool) -> Cow<'_, str> {
    if !text.bytes().any(|b| b == b'%' || (plus_is_space && b == b'+')) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).and_then(|&b| (b as char).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
                continue;
            }
            (b'+', ..) if plus_is_space => decoded.push(b' '),
            (byte, ..) => decoded.push(byte),
        }
        at += 1;
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}
