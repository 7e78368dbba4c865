//! An S3 server of a test's own (s3s-fs).

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{eventually, free_port};

pub const ACCESS_KEY: &str = "test-key";
pub const SECRET_KEY: &str = "test-secret";
pub const BUCKET: &str = "hub";

/// The S3 server's program: what `$CORTEN_S3_SERVER` says, or what `scripts/s3-server target/clients` has built. None where it
/// can't be had; a test says so then.
pub fn s3_server() -> Option<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a parent");
    let built = repository.join("target/clients/bin/s3s-fs");
    let found = std::env::var_os("CORTEN_S3_SERVER").map_or(built, PathBuf::from);
    if !found.is_file() {
        eprintln!("no s3s-fs: scripts/s3-server target/clients builds it; not tested");
        return None;
    }
    Some(found)
}

/// A server with one bucket, on a directory.
pub struct Store {
    process: Child,
    address: SocketAddr,
    root: PathBuf,
}

impl Store {
    pub fn start(program: &Path, root: &Path) -> Self {
        fs::create_dir_all(root.join(BUCKET)).expect("a bucket");
        // It takes no port of the system's choice. Somebody else may be quicker to take the one that was just free.
        for _ in 0..20 {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            let mut process = Command::new(program)
                .args(["--host", "127.0.0.1", "--port", &address.port().to_string()])
                .args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY])
                .arg(root)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("start s3s-fs");
            let mut has_ended = false;
            eventually("the S3 server listens", || {
                has_ended = process.try_wait().expect("its state").is_some();
                has_ended || TcpStream::connect(address).is_ok()
            });
            if !has_ended {
                return Self { process, address, root: root.to_owned() };
            }
        }
        panic!("s3s-fs does not start");
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the bucket's objects lie as files.
    pub fn bucket(&self) -> PathBuf {
        self.root.join(BUCKET)
    }

    /// Names of the objects in the bucket, in order.
    pub fn objects(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.bucket(), &self.bucket(), &mut found);
        found.sort();
        found
    }

    /// Of uploads in parts that nobody has ended, what lies about.
    pub fn unfinished(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.root).expect("root").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(".upload") && !name.contains("internal")).collect()
    }
}

fn walk(root: &Path, directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(root, &path, found);
        } else if let Ok(name) = path.strip_prefix(root) {
            found.push(name.display().to_string());
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
