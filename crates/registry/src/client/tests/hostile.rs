//! A server that says byte by byte what a test wants it to say, and notes what it was asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::{Client, ClientOptions, Insecure, Patience, RegistryAddress, Trust};

#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    /// The how many-th request of all, from 0 on.
    pub number: usize,
    pub port: u16,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    /// The first and, where there is one, the last byte that is asked for.
    pub fn range(&self) -> Option<(usize, Option<usize>)> {
        let (from, to) = self.header("range").strip_prefix("bytes=")?.split_once('-')?;
        Some((from.parse().ok()?, to.parse().ok()))
    }
}

/// What a server does, step by step. The connection stays open for more unless it is told to hang up.
pub(super) enum Step {
    Say(Vec<u8>),
    Wait(Duration),
    /// Says that again and again.
    Repeat(Vec<u8>),
    HangUp,
}

pub(super) struct Hostile {
    pub address: RegistryAddress,
    pub port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hostile {
    pub async fn start(answer: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::start_with(None, answer).await
    }

    /// The same by TLS.
    pub async fn start_with(
        tls: Option<Arc<rustls::ServerConfig>>,
        answer: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (log, count, answer) = (asked.clone(), connections.clone(), Arc::new(answer));
        let task = tokio::spawn(async move {
            let mut served = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (log, count, answer, tls) = (log.clone(), count.clone(), answer.clone(), tls.clone());
                served.spawn(async move {
                    match tls {
                        None => serve(stream, port, &log, &count, &*answer).await,
                        Some(config) => {
                            let stream = tokio_rustls::TlsAcceptor::from(config).accept(stream).await?;
                            serve(stream, port, &log, &count, &*answer).await
                        }
                    }
                });
            }
        });
        let address = RegistryAddress::parse(&format!("127.0.0.1:{port}")).unwrap();
        Self { address, port, asked, connections, task: task.abort_handle() }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often it was asked for a path that contains this.
    pub fn count(&self, part: &str) -> usize {
        self.asked().iter().filter(|asked| asked.target.contains(part)).count()
    }

    /// Those that had a request of HTTP.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    port: u16,
    log: &Mutex<Vec<Asked>>,
    connections: &AtomicUsize,
    answer: &(dyn Fn(&Asked) -> Vec<Step> + Send + Sync),
) -> std::io::Result<()> {
    let mut is_first = true;
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
            // An attempt by TLS, where there is none.
            if head[0] == 0x16 {
                return Ok(());
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.lines();
        let mut line = lines.next().unwrap().split(' ').map(str::to_owned);
        let (method, target) = (line.next().unwrap(), line.next().unwrap());
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let mut asked = Asked { method, target, headers, port, ..Asked::default() };
        if let Ok(length) = asked.header("content-length").parse::<usize>() {
            asked.body = vec![0; length];
            stream.read_exact(&mut asked.body).await?;
        }
        {
            let mut log = log.lock().unwrap();
            asked.number = log.len();
            log.push(asked.clone());
        }
        connections.fetch_add(usize::from(std::mem::take(&mut is_first)), Ordering::SeqCst);
        for step in answer(&asked) {
            match step {
                Step::Say(bytes) => stream.write_all(&bytes).await?,
                Step::Wait(time) => tokio::time::sleep(time).await,
                Step::HangUp => return Ok(()),
                Step::Repeat(bytes) => loop {
                    stream.write_all(&bytes).await?;
                },
            }
        }
    }
}

/// An answer with a proper length.
pub(super) fn reply(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<Step> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    vec![Step::Say([head.as_bytes(), body].concat())]
}

/// A blob as a proper server gives it, or the part of it that is asked for.
pub(super) fn blob(asked: &Asked, blob: &[u8]) -> Vec<Step> {
    let Some((from, to)) = asked.range() else { return reply("200 OK", "", blob) };
    let to = to.unwrap_or(blob.len() - 1).min(blob.len() - 1);
    let range = format!("Content-Range: bytes {from}-{to}/{}\r\n", blob.len());
    reply("206 Partial Content", &range, &blob[from..=to])
}

/// One that waits for a server as long as a busy machine may need.
pub(super) fn options() -> ClientOptions {
    patient_for(Duration::from_secs(30))
}

fn patient_for(time: Duration) -> ClientOptions {
    ClientOptions {
        insecure: Insecure::default(),
        trust: Trust { directories: Vec::new(), ..Trust::default() },
        patience: Patience { connect: time, answer: time, stall: time },
        ..ClientOptions::default()
    }
}

pub(super) fn client() -> Client {
    Client::new(options())
}

/// For servers that are silent: one that waits for nobody for long.
pub(super) fn impatient() -> Client {
    Client::new(patient_for(Duration::from_millis(400)))
}
