//! An engine behind SSH: the `ssh` program runs `corten system dial-stdio` there, and its streams are the connection.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// `ssh://[user@]host[:port][/path/to/socket]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshTarget {
    pub user: Option<String>,
    pub host: String,
    pub port: Option<u16>,
    /// The engine's socket there; its default one when absent.
    pub socket: Option<String>,
}

impl SshTarget {
    /// Reads what follows `ssh://`; the error is why it is no target.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (authority, path) = text.find('/').map_or((text, ""), |at| text.split_at(at));
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => return Err("a password has no place in it: use keys"),
            Some((user, address)) => (Some(user.to_owned()), address),
            None => (None, authority),
        };
        let (host, port) = match address.rfind([':', ']']) {
            Some(at) if address.as_bytes()[at] == b':' => {
                let port = address[at + 1..].parse().map_err(|_| "want ssh://user@host:port")?;
                (&address[..at], Some(port))
            }
            _ => (address, None),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        // What begins with a hyphen would be an option of ssh.
        if host.is_empty() || host.starts_with('-') || user.as_ref().is_some_and(|user| user.is_empty()) {
            return Err("want ssh://user@host");
        }
        let socket = Some(path.to_owned()).filter(|path| !matches!(path.as_str(), "" | "/"));
        Ok(Self { user, host: host.to_owned(), port, socket })
    }

    /// The arguments of `ssh`.
    fn arguments(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| all.extend(words.iter().map(|word| (*word).to_owned()));
        if let Some(user) = &self.user {
            add(&["-l", user]);
        }
        if let Some(port) = self.port {
            add(&["-p", &port.to_string()]);
        }
        add(&["-o", "ConnectTimeout=30", "-T", "--", &self.host, "corten"]);
        if let Some(socket) = &self.socket {
            add(&["--host", &quote(&format!("unix://{socket}"))]);
        }
        add(&["system", "dial-stdio"]);
        all
    }
}

/// For the shell at the other end.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

impl std::fmt::Display for SshTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?
        } else {
            f.write_str(&self.host)?
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.socket.as_deref().unwrap_or_default())
    }
}

/// A program whose standard streams are a connection.
#[derive(Debug)]
pub struct SshStream {
    /// Ended with the connection.
    _child: Child,
    /// `None` once half-closed.
    input: Option<ChildStdin>,
    output: ChildStdout,
}

impl SshStream {
    pub(super) fn open(target: &SshTarget) -> io::Result<Self> {
        let mut child = Command::new("ssh")
            .args(target.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What ssh has to say (host keys, refusals) is for the user.
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()?;
        let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
        let input = Some(child.stdin.take().ok_or_else(missing)?);
        let output = child.stdout.take().ok_or_else(missing)?;
        Ok(Self { _child: child, input, output })
    }
}

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buf)
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().map_or(Poll::Ready(Ok(())), |input| Pin::new(input).poll_flush(cx))
    }

    /// A pipe is shut by closing it.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(input) = &mut self.input else { return Poll::Ready(Ok(())) };
        let flushed = Pin::new(input).poll_flush(cx);
        if flushed.is_ready() {
            self.input = None;
        }
        flushed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_become_arguments() {
        let target = SshTarget::parse("me@box:2222/run/x.sock").unwrap();
        assert_eq!(target.to_string(), "ssh://me@box:2222/run/x.sock");
        assert_eq!(
            target.arguments().join(" "),
            "-l me -p 2222 -o ConnectTimeout=30 -T -- box corten --host 'unix:///run/x.sock' system dial-stdio"
        );
        assert_eq!(SshTarget::parse("[::1]").unwrap().host, "::1");
        for bad in ["", "-oProxyCommand=x", "me:secret@box", "@box", "box:port"] {
            assert!(SshTarget::parse(bad).is_err(), "{bad}");
        }
    }
}
