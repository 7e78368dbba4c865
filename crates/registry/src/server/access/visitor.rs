//! Who comes with what: the part of a request that says who asks. Reading only; whether it is true is found out elsewhere.

use std::fmt;
use std::net::IpAddr;

use corten_api::base64;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use ipnet::IpNet;

/// What is known of a request before it is understood.
#[derive(Clone, Copy, Debug)]
pub struct Visitor<'a> {
    pub headers: &'a HeaderMap,
    /// Whom the request was meant for: its `Host`, or the URI's authority.
    pub host: Option<&'a str>,
    /// The other end of the connection.
    pub address: IpAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The common name of the certificate that the connection's client has proven to have.
    pub certificate: Option<&'a str>,
    pub request_id: &'a str,
}

/// What somebody shows. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum Shown {
    Nothing,
    Password {
        name: String,
        password: String,
    },
    Token(String),
    /// What no client means.
    Unreadable(&'static str),
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Password { .. } => "Password",
            Self::Token(_) => "Token",
            Self::Unreadable(why) => why,
        })
    }
}

/// Longer ones are nobody's: our own tokens are short, and passwords have 72 bytes.
const SHOWN_BYTES_MAX: usize = 16 << 10;

impl Shown {
    pub fn read(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (value, further) = (values.next(), values.next());
        let Some(value) = value else { return Self::Nothing };
        if further.is_some() {
            return Self::Unreadable("there are several Authorization headers");
        }
        let Ok(value) = value.to_str() else {
            return Self::Unreadable("the Authorization header is no text");
        };
        if value.len() > SHOWN_BYTES_MAX {
            return Self::Unreadable("the Authorization header is too long");
        }
        let (scheme, rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() {
            return Self::Token(rest.to_owned());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Self::Unreadable("the Authorization header is neither Basic nor Bearer");
        }
        let text = base64::decode(rest).and_then(|bytes| String::from_utf8(bytes).ok());
        match text.as_deref().and_then(|text| text.split_once(':')) {
            Some((name, password)) => Self::Password { name: name.to_owned(), password: password.to_owned() },
            None => Self::Unreadable("the Authorization header is no name and password"),
        }
    }
}

impl Shown {
    /// Who somebody says to be, for the audit log.
    pub fn claimed(&self) -> String {
        match self {
            Self::Password { name, .. } => name.clone(),
            Self::Token(_) => "a token".to_owned(),
            Self::Nothing | Self::Unreadable(_) => "anonymous".to_owned(),
        }
    }
}

impl Visitor<'_> {
    /// Where a request comes from: what a proxy that is believed says, else the other end. Of what several proxies say the last is
    /// taken that isn't a proxy itself; what stands before it anybody can have written.
    pub fn origin(&self, proxies: &[IpNet]) -> IpAddr {
        let believed =
            |address: &IpAddr| proxies.iter().any(|network| network.contains(&address.to_canonical()));
        let mut origin = self.address.to_canonical();
        if !believed(&origin) {
            return origin;
        }
        let told: Vec<&str> = self
            .headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        for address in told.iter().rev() {
            let Ok(address) = address.trim().parse::<IpAddr>() else { break };
            origin = address.to_canonical();
            if !believed(&origin) {
                break;
            }
        }
        origin
    }

    /// The URL under which the client knows us; `None` if its request doesn't say.
    pub fn base_url(&self, proxies: &[IpNet]) -> Option<String> {
        let host = self.host?;
        // It goes into a header's quoted string.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        if host.is_empty() || host.len() > 261 || !host.bytes().all(plain) {
            return None;
        }
        let proxy = proxies.iter().any(|network| network.contains(&self.address.to_canonical()));
        let told = self.headers.get("x-forwarded-proto").filter(|_| proxy);
        let tls = told.map_or(self.tls, |told| told.as_bytes().eq_ignore_ascii_case(b"https"));
        Some(format!("{}://{host}", if tls { "https" } else { "http" }))
    }
}

#[cfg(test)]
mod tests;
