//! A registry by hand that does what a test wants it to do.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use corten_tests::eventually;
use corten_tests::registry::{MANIFEST, digest, image};

/// What an upstream does with a request; the path and the `Range` header go in.
pub type Behaviour = Box<dyn Fn(&Fake, &str, &str, &str, &mut TcpStream) + Send + Sync>;

/// A registry by hand: what it has, and what it was asked for.
pub struct Fake {
    pub address: SocketAddr,
    /// Bodies with their types, by path.
    pub content: Mutex<BTreeMap<String, (Vec<u8>, &'static str)>>,
    /// `METHOD path`.
    pub asked: Mutex<Vec<String>>,
    pub behaviour: Mutex<Arc<Behaviour>>,
    stopping: AtomicBool,
}

impl Fake {
    pub fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let fake = Arc::new(Self {
            address: listener.local_addr().expect("address"),
            content: Mutex::default(),
            asked: Mutex::default(),
            behaviour: Mutex::new(Arc::new(Box::new(Fake::answer))),
            stopping: AtomicBool::new(false),
        });
        let serving = fake.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.stopping.load(Ordering::Relaxed) {
                    return;
                }
                let serving = serving.clone();
                thread::spawn(move || serving.serve(stream));
            }
        });
        fake
    }

    /// Has it do something else from now on.
    pub fn behave(
        &self,
        behaviour: impl Fn(&Fake, &str, &str, &str, &mut TcpStream) + Send + Sync + 'static,
    ) {
        *self.behaviour.lock().expect("lock") = Arc::new(Box::new(behaviour));
    }

    /// An image of one blob under a tag. The blob's digest and the manifest's.
    pub fn put(&self, repository: &str, tag: &str, blob: &[u8]) -> (String, String) {
        let manifest = image(&[&digest(blob)], tag);
        let mut content = self.content.lock().expect("lock");
        let name = digest(&manifest);
        content.insert(
            format!("/v2/{repository}/blobs/{}", digest(blob)),
            (blob.to_vec(), "application/octet-stream"),
        );
        for reference in [tag, &name] {
            content.insert(format!("/v2/{repository}/manifests/{reference}"), (manifest.clone(), MANIFEST));
        }
        (digest(blob), name)
    }

    /// Answers nobody any more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        eventually("it is gone", || TcpStream::connect(self.address).is_err());
    }

    pub fn asked(&self, what: &str) -> usize {
        self.asked.lock().expect("lock").iter().filter(|asked| asked.starts_with(what)).count()
    }

    pub fn serve(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).expect("nodelay");
        let mut reader = BufReader::new(stream.try_clone().expect("clone"));
        loop {
            let mut head = String::new();
            loop {
                let before = head.len();
                match reader.read_line(&mut head) {
                    Ok(0) | Err(_) => return,
                    Ok(_) if head[before..].trim().is_empty() => break,
                    Ok(_) => {}
                }
            }
            let mut words = head.split(' ');
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let range = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("range").then(|| value.trim().to_owned())
            });
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            self.asked.lock().expect("lock").push(format!("{method} {path}"));
            let behaviour = self.behaviour.lock().expect("lock").clone();
            behaviour(self, method, path, &range.unwrap_or_default(), &mut stream);
        }
    }

    /// As a registry should.
    pub fn answer(&self, method: &str, path: &str, range: &str, stream: &mut TcpStream) {
        let found =
            self.content.lock().expect("lock").get(path.split('?').next().unwrap_or_default()).cloned();
        let (status, kind, body) = match found {
            _ if path == "/v2/" => ("200 OK".to_owned(), "application/json", b"{}".to_vec()),
            Some((body, kind)) => {
                match range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-')) {
                    Some(from) => {
                        let from: usize = from.parse().expect("a number");
                        let told = format!(
                            "206 Partial Content\r\nContent-Range: bytes {from}-{}/{}",
                            body.len() - 1,
                            body.len()
                        );
                        (told, kind, body[from..].to_vec())
                    }
                    None => ("200 OK".to_owned(), kind, body),
                }
            }
            None => ("404 Not Found".to_owned(), "application/json", b"{\"errors\":[]}".to_vec()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\n\r\n",
            body.len(),
            digest(&body),
        );
        let body = if method == "HEAD" { &[] } else { &body[..] };
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    }
}

/// Refuses everything with a status.
pub fn refuse(
    status: &'static str,
) -> impl Fn(&Fake, &str, &str, &str, &mut TcpStream) + Send + Sync + 'static {
    move |_, _, _, _, stream| {
        let _ = stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes());
    }
}
