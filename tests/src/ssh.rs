//! SSH as users have it: agents with a key, and a server that lets one of them in.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::{eventually, free_port, run};

/// A key, its fingerprint as `ssh-add -l` shows it, and an agent with it.
pub struct Agent {
    directory: TempDir,
    process: Child,
    fingerprint: String,
}

impl Agent {
    /// # Panics
    /// When OpenSSH's programs don't do it.
    pub fn new() -> Agent {
        let directory = TempDir::new().expect("a directory");
        let key = directory.path().join("key");
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key)).ok();
        let told = run(Command::new("ssh-keygen").arg("-lf").arg(&key)).ok();
        let fingerprint = told.split_whitespace().nth(1).expect("a fingerprint").to_owned();
        let mut agent = Command::new("ssh-agent");
        agent.arg("-D").arg("-a").arg(directory.path().join("agent")).stdout(Stdio::null());
        let process = agent.spawn().expect("ssh-agent");
        let agent = Agent { directory, process, fingerprint };
        eventually("the agent listens", || agent.socket().exists());
        run(Command::new("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", agent.socket())).ok();
        agent
    }

    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("agent")
    }

    /// The file with the private key; the public one lies beside it with `.pub` behind its name.
    pub fn key(&self) -> PathBuf {
        self.directory.path().join("key")
    }
}

impl Default for Agent {
    fn default() -> Agent {
        Agent::new()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server on loopback where root is let in by one key: dropbear, with a home of its own in its mount namespace.
pub struct SshServer {
    process: Child,
    port: u16,
    _home: TempDir,
}

impl SshServer {
    /// # Panics
    /// When it doesn't listen after a minute.
    pub fn letting_in(agent: &Agent) -> SshServer {
        let home = TempDir::new().expect("a directory");
        let known = home.path().join(".ssh");
        std::fs::create_dir(&known).expect("a directory");
        let public = agent.key().with_extension("pub");
        std::fs::copy(public, known.join("authorized_keys")).expect("a key");
        let own = home.path().join("host");
        run(Command::new("dropbearkey").args(["-t", "ed25519", "-f"]).arg(&own)).ok();
        let port = free_port();
        let script = "mount --bind \"$1\" /root && exec dropbear -F -E -s -j -k -r \"$1/host\" -P \"$1/pid\" -p \"$2\"";
        let mut server = Command::new("unshare");
        server.args(["-m", "sh", "-c", script, "sh"]).arg(home.path()).arg(format!("127.0.0.1:{port}"));
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = server.spawn().expect("unshare");
        let server = SshServer { process, port, _home: home };
        eventually("the server listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    /// What a repository in a directory is called here.
    pub fn url(&self, repository: &Path) -> String {
        format!("ssh://root@127.0.0.1:{}{}", self.port, repository.display())
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
