//! Certificates for tests, and TLS before servers that don't speak it.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::run;

/// Makes an authority (`ca.crt`, `ca.key`) in a directory, and of each name a certificate (`NAME.cert`, `NAME.key`) that is
/// good for 127.0.0.1.
///
/// # Panics
/// When openssl can't.
pub fn certificates(directory: &Path, names: &[&str]) {
    let script = r#"
        key() { openssl req "$@" -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes 2>/dev/null; }
        key -x509 -days 2 -subj /CN=authority -keyout ca.key -out ca.crt
        echo subjectAltName=IP:127.0.0.1 > names
        for name; do
            key -new -subj "/CN=$name" -keyout "$name.key" -out "$name.csr"
            openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out "$name.cert" 2>/dev/null
        done"#;
    run(Command::new("sh").args(["-e", "-c", script, "sh"]).args(names).current_dir(directory)).ok();
}

/// A process that speaks TLS and passes on to a server of this host what it hears. It is killed when it goes.
pub struct TlsFront {
    process: Child,
    address: SocketAddr,
}

impl TlsFront {
    /// With the certificate `NAME.cert` and `NAME.key` of a directory.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn before(server: SocketAddr, directory: &Path, name: &str) -> TlsFront {
        let file = |extension: &str| directory.join(format!("{name}.{extension}"));
        let mut process = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/tls_front.py"))
            .args([file("cert"), file("key")])
            .arg(server.port().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut port = String::new();
        let told = process.stdout.take().expect("its output");
        BufReader::new(told).read_line(&mut port).expect("its port");
        let port: u16 = port.trim().parse().expect("a port");
        TlsFront { process, address: (Ipv4Addr::LOCALHOST, port).into() }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
