//! Connections: names to addresses, addresses to streams, TLS. Knows no HTTP but the one request that a proxy takes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::proxies::Proxy;
use crate::Cause;

/// For the addresses of a name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an address is waited for before the next one is tried beside it (RFC 8305, section 8).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Of what a proxy answers.
const TUNNEL_HEAD_BYTES_MAX: usize = 16 << 10;

/// A byte stream to the other side.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}
pub(crate) type AnyStream = Box<dyn Stream>;

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub cause: Cause,
    pub why: String,
}

impl Failure {
    pub fn new(cause: Cause, why: impl Into<String>) -> Self {
        Self { cause, why: why.into() }
    }
}

/// The addresses of a host, as the system's resolver gives them.
pub(crate) async fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let found = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host, 0))).await??;
    Ok(found.map(|address| address.ip()).collect())
}

/// Connects to a host by the first of its addresses that answers.
pub(crate) async fn tcp(host: &str, port: u16, patience: Duration) -> Result<TcpStream, Failure> {
    let deadline = Instant::now() + patience;
    let addresses = resolve(host).await.map_err(|error| {
        let said = error.to_string();
        let why = match said.trim_start_matches("failed to lookup address information: ") {
            _ if error.kind() == io::ErrorKind::TimedOut => "no name server answers: i/o timeout",
            "Name or service not known" => "no such host",
            why => why,
        };
        let hint = "check the name, and the name servers in /etc/resolv.conf";
        Failure::new(Cause::Name, format!("the name {host} can't be resolved: {why}; {hint}"))
    })?;
    let late = || {
        Failure::new(Cause::Timeout, {
            format!(
                "no connection to {host} port {port} within {} s: i/o timeout; is it up?",
                patience.as_secs()
            )
        })
    };
    let attempts = race(in_turns(addresses), port);
    let stream = timeout_at(deadline, attempts).await.map_err(|_| late())?;
    let stream = stream.map_err(|error| {
        let cause = if error.kind() == io::ErrorKind::TimedOut { Cause::Timeout } else { Cause::Down };
        Failure::new(cause, format!("connect to {host} port {port}: {}", without_number(&error)))
    })?;
    // Requests are small and waited for.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// An error of the system in the words that Go's programs have for it, which scripts look for.
fn without_number(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Families by turns, in the order that the resolver prefers.
fn in_turns(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let Some(first) = addresses.first().map(IpAddr::is_ipv6) else { return addresses };
    let (one, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|ip| ip.is_ipv6() == first);
    let mut turns = Vec::new();
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    loop {
        let next = [one.next(), other.next()];
        if next == [None, None] {
            return turns;
        }
        turns.extend(next.into_iter().flatten());
    }
}

/// Starts an attempt per address, each a little after the one before it or when that has failed.
async fn race(addresses: Vec<IpAddr>, port: u16) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut under_way = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match waiting.next() {
            Some(ip) => drop(under_way.spawn(TcpStream::connect(SocketAddr::new(ip, port)))),
            None if under_way.is_empty() => return Err(last),
            None => {}
        }
        let patience = if waiting.len() == 0 { Duration::MAX } else { NEXT_ADDRESS_AFTER };
        match timeout(patience, under_way.join_next()).await {
            Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
            Ok(Some(Ok(Err(error)))) => last = error,
            Ok(Some(Err(error))) => last = io::Error::other(error),
            Ok(None) | Err(_) => {}
        }
    }
}

/// Speaks TLS on a stream; `certificates` is the name that certificates for the host are kept by.
pub(crate) async fn tls(
    stream: AnyStream,
    host: &str,
    certificates: &str,
    config: Arc<ClientConfig>,
    patience: Duration,
) -> Result<AnyStream, Failure> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| Failure::new(Cause::Certificate, format!("{host}: {error}")))?;
    let handshake = timeout(patience, TlsConnector::from(config).connect(name, stream)).await;
    match handshake {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(refused_tls(host, certificates, &error)),
        Err(_) => {
            let why =
                format!("{host} does not answer within {} s: TLS handshake timeout", patience.as_secs());
            Err(Failure::new(Cause::Timeout, why))
        }
    }
}

/// What a failed handshake means to people.
fn refused_tls(host: &str, certificates: &str, error: &io::Error) -> Failure {
    let inner = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => {
            let hint = match why {
                rustls::CertificateError::UnknownIssuer => {
                    format!(
                        "; an authority of its own belongs into /etc/corten/certs.d/{certificates}/ca.crt"
                    )
                }
                _ => String::new(),
            };
            Failure::new(
                Cause::Certificate,
                format!("tls: failed to verify certificate: x509: {}{hint}", certificate(why)),
            )
        }
        Some(rustls::Error::InvalidMessage(_)) => Failure::new(
            Cause::Plain,
            "http: server gave HTTP response to HTTPS client; a registry without TLS has to be named in insecure-registries",
        ),
        Some(rustls::Error::AlertReceived(alert)) => {
            Failure::new(Cause::Certificate, format!("tls: {host} refuses: {alert:?}"))
        }
        Some(other) => Failure::new(Cause::Certificate, format!("tls: {other}")),
        None => Failure::new(Cause::Broken, format!("tls: {error}")),
    }
}

fn certificate(why: &rustls::CertificateError) -> String {
    use rustls::CertificateError as E;
    match why {
        E::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        E::Expired | E::ExpiredContext { .. } => "certificate has expired".to_owned(),
        E::NotValidYet | E::NotValidYetContext { .. } => {
            "certificate is not valid yet: is the clock right?".to_owned()
        }
        other => other.to_string(),
    }
}

/// Has a proxy pass a stream on to a host (RFC 9110, section 9.3.6). Its answer is read byte by byte: where it ends, the
/// host's bytes begin.
pub(crate) async fn tunnel(
    mut stream: AnyStream,
    proxy: &Proxy,
    authority: &str,
    patience: Duration,
) -> Result<AnyStream, Failure> {
    let authorization = proxy.authorization.as_ref();
    let authorization =
        authorization.map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default();
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{authorization}\r\n");
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && head.len() < TUNNEL_HEAD_BYTES_MAX {
            head.push(stream.read_u8().await?);
        }
        Ok::<_, io::Error>(head)
    };
    let failed = |cause, why: &str| Failure::new(cause, format!("the proxy {proxy} {why}"));
    let head = timeout(patience, exchange).await.map_err(|_| failed(Cause::Timeout, "does not answer"))?;
    let head = head.map_err(|error| failed(Cause::Proxy, &format!("has hung up: {error}")))?;
    let line =
        String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    match line.split(' ').nth(1) {
        Some(status) if line.starts_with("HTTP/1.") && status.len() == 3 && status.starts_with('2') => {
            Ok(stream)
        }
        Some("407") => Err(failed(Cause::Proxy, "wants a name and a password: they stand in its URL")),
        _ => {
            let line: String = line.chars().filter(|c| !c.is_control()).take(100).collect();
            Err(failed(Cause::Proxy, &format!("won't connect to {authority}: {line:?}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let list = |text: &[&str]| text.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert_eq!(
            in_turns(list(&["::1", "::2", "::3", "127.0.0.1"])),
            list(&["::1", "127.0.0.1", "::2", "::3"])
        );
        assert!(in_turns(Vec::new()).is_empty());
    }

    #[tokio::test]
    async fn an_address_that_is_down_costs_nothing() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let addresses = ["::1", "127.0.0.3", "127.0.0.1"].map(|ip| ip.parse().unwrap());
        race(addresses.to_vec(), port).await.unwrap();
        drop(listener);
        assert_eq!(
            race(addresses.to_vec(), port).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        assert!(race(Vec::new(), port).await.is_err());
    }
}
