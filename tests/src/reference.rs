//! The registry that others measure themselves by: Docker's, of Debian's package `docker-registry`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::eventually;

/// A process of it with a directory of its own. It is killed when it goes.
pub struct Reference {
    process: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Reference {
    /// None, with a word, where Debian's package is not installed.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start() -> Option<Reference> {
        let program = Path::new("/usr/bin/docker-registry");
        if !program.exists() {
            eprintln!("skipped: docker-registry is not installed");
            return None;
        }
        let directory = TempDir::new().unwrap();
        let config = directory.path().join("config.yml");
        let data = directory.path().join("data");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:0}}\n",
            data.display()
        );
        std::fs::write(&config, text).unwrap();
        let log = directory.path().join("log");
        let output = std::fs::File::create(&log).unwrap();
        let mut command = Command::new(program);
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(output);
        let process = command.spawn().unwrap();
        let mut address = None;
        eventually("the registry listens", || {
            let told = std::fs::read_to_string(&log).unwrap();
            let of_address = |c: &char| c.is_ascii_digit() || matches!(c, '.' | ':');
            let at = told.split_once("listening on ").map(|(_, rest)| rest.chars().take_while(of_address));
            address = at.and_then(|at| at.collect::<String>().parse().ok());
            address.is_some()
        });
        Some(Reference { process, address: address.unwrap(), _directory: directory })
    }

    /// Host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
