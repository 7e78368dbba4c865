//! A receiver's address as drivers' options spell it.

/// `scheme://host:port` or `scheme:///path`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url<'a> {
    pub scheme: &'a str,
    pub host: &'a str,
    pub port: Option<u16>,
    pub path: &'a str,
}

/// The error is why it is none.
pub fn parse(text: &str) -> Result<Url<'_>, String> {
    let broken = |why: &str| format!("parse \"{text}\": {why}");
    let (scheme, rest) = text.split_once("://").ok_or_else(|| broken("missing protocol scheme"))?;
    if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) {
        return Err(broken("missing protocol scheme"));
    }
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (host, port) = match authority.rfind([':', ']']) {
        Some(at) if authority.as_bytes()[at] == b':' => (&authority[..at], &authority[at + 1..]),
        _ => (authority, ""),
    };
    let port = match port {
        "" => None,
        digits => {
            Some(digits.parse().map_err(|_| broken(&format!("invalid port \":{digits}\" after host")))?)
        }
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(Url { scheme, host, port, path })
}
