//! `EXPOSE` words: `80`, `53/udp`, `8000-8010/tcp`; with an address or a host's port only for old times' sake.

/// A word in its parts.
pub struct Parts<'t> {
    address: String,
    host: &'t str,
    container: &'t str,
    /// As written, `tcp` without one.
    pub protocol: &'t str,
}

impl Parts<'_> {
    /// It speaks of the host, which EXPOSE has no say in.
    pub fn is_mapping(&self) -> bool {
        !self.address.is_empty() || !self.host.is_empty()
    }
}

/// Cuts a word up.
pub fn split(word: &str) -> Result<Parts<'_>, String> {
    let mut parts: Vec<&str> = word.split(':').collect();
    let last = parts.pop().unwrap_or_default();
    let host = parts.pop().unwrap_or_default();
    let (container, protocol) = last.split_once('/').unwrap_or((last, ""));
    let refused = |reason: String| Err(format!("invalid port: {}: {reason}", corten_template::quote(word)));
    if container.is_empty() {
        return refused("no port specified".to_owned());
    }
    let protocol = match protocol.to_lowercase().as_str() {
        "" => "tcp",
        "tcp" | "udp" | "sctp" => protocol,
        _ => return refused(format!("invalid proto: {protocol}")),
    };
    Ok(Parts { address: parts.join(":"), host, container, protocol })
}

/// The ports that a word exposes, as `port/protocol`.
pub fn expose(word: &str) -> Result<Vec<String>, String> {
    let Parts { mut address, host, container, protocol } = split(word)?;
    if let Some(inner) = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        address = inner.to_owned();
    }
    // A zone is no part of an address for Go's parser either.
    if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address: {address}"));
    }
    let (first, last) = range(container).ok_or_else(|| format!("invalid containerPort: {container}"))?;
    if !host.is_empty() {
        let (host_first, host_last) = range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?;
        if last - first != host_last - host_first && first != last {
            return Err(format!(
                "invalid ranges specified for container and host Ports: {container} and {host}"
            ));
        }
    }
    let protocol = protocol.to_lowercase();
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}
