//! A registry of a test's own, and what it is asked with: HTTP by hand, so that a test can also ask what no client would.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{binary, eventually};

/// How long a registry may take for one answer.
const PATIENCE: Duration = Duration::from_secs(300);

/// `corten registry serve` on a directory and a port of its own. It is killed when it goes.
pub struct TestRegistry {
    process: Child,
    address: SocketAddr,
    data: PathBuf,
    log: PathBuf,
    arguments: Vec<String>,
}

impl TestRegistry {
    /// On the directory `data`; its log lies beside it.
    pub fn start(data: &Path, arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let log = data.with_extension("log");
        let (process, address) = spawn(data, &log, &arguments);
        Self { process, address, data: data.to_owned(), log, arguments }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it as a power switch would, but for what the kernel has in memory.
    pub fn kill(&mut self) {
        self.process.kill().expect("kill the registry");
        self.process.wait().expect("the registry's end");
    }

    /// Ends it as a service manager does.
    pub fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("stop the registry");
        assert!(self.process.wait().expect("the registry's end").success(), "{}", self.log());
    }

    /// Starts it again on the same directory.
    pub fn restart(&mut self) {
        (self.process, self.address) = spawn(&self.data, &self.log, &self.arguments);
    }

    pub fn connect(&self) -> Wire {
        Wire::connect(self.address).expect("connect to the registry")
    }

    /// The most memory that it has had, in MiB.
    pub fn memory_peak_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(data: &Path, log: &Path, arguments: &[String]) -> (Child, SocketAddr) {
    let file = File::create(log).expect("a log");
    let process = Command::new(binary("corten"))
        .args(["registry", "serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .spawn()
        .expect("start a registry");
    let mut address = None;
    eventually("the registry listens", || {
        let log = std::fs::read_to_string(log).unwrap_or_default();
        address = log
            .lines()
            .filter_map(|line| line.split("address=").nth(1))
            .find_map(|rest| rest.split_whitespace().next()?.parse().ok());
        address.is_some()
    });
    (process, address.expect("an address"))
}

/// A connection that is kept from one request to the next.
pub struct Wire {
    stream: BufReader<TcpStream>,
}

/// A whole answer; names of headers in lower case.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Wire {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Waits until an answer begins.
    pub fn wait_for_answer(&mut self) -> io::Result<()> {
        self.stream.fill_buf().map(|_| ())
    }

    /// Sends a request and reads its answer; `headers` are whole lines.
    pub fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> io::Result<Reply> {
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: hub\r\n{headers}Content-Length: {length}\r\n\r\n");
        self.send(head.as_bytes())?;
        self.send(body)?;
        self.answer(method == "HEAD")
    }

    /// Reads an answer.
    pub fn answer(&mut self, bodiless: bool) -> io::Result<Reply> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("no status line"))?;
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
                None => break,
            };
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; if bodiless || status == 204 || status == 304 { 0 } else { length }];
        self.stream.read_exact(&mut body)?;
        Ok(Reply { status, headers, body })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    pub fn get(&mut self, path: &str) -> io::Result<Reply> {
        self.ask("GET", path, "", &[])
    }

    /// Pushes a blob as docker does: `POST`, `PATCH`, `PUT`. The status that ended it.
    pub fn push_blob(&mut self, repository: &str, bytes: &[u8]) -> io::Result<u16> {
        let begun = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), "", &[])?;
        if begun.status != 202 {
            return Ok(begun.status);
        }
        let sent = self.ask("PATCH", begun.header("location"), "", bytes)?;
        if sent.status != 202 {
            return Ok(sent.status);
        }
        let end = format!("{}?digest={}", sent.header("location"), digest(bytes));
        Ok(self.ask("PUT", &end, "", &[])?.status)
    }

    /// Pushes a manifest that needs these blobs. Its bytes, and the status.
    pub fn push_image(&mut self, repository: &str, tag: &str, blobs: &[&str]) -> io::Result<(Vec<u8>, u16)> {
        let bytes = image(blobs, tag);
        let path = format!("/v2/{repository}/manifests/{tag}");
        let status = self.ask("PUT", &path, &format!("Content-Type: {MANIFEST}\r\n"), &bytes)?.status;
        Ok((bytes, status))
    }
}

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A manifest; the first blob is its configuration, too.
pub fn image(blobs: &[&str], mark: &str) -> Vec<u8> {
    let descriptor =
        |digest: &str| serde_json::json!({"mediaType": "application/x", "digest": digest, "size": 1});
    let layers: Vec<_> = blobs.iter().map(|blob| descriptor(blob)).collect();
    let image = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(blobs[0]), "layers": layers,
        "annotations": {"mark": mark},
    });
    image.to_string().into_bytes()
}

/// `sha256:…` of bytes.
pub fn digest(bytes: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Bytes that no other test and no other number has.
pub fn bytes_of(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = vec![0; length];
    for chunk in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    bytes
}
