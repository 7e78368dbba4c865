//! SSH agents that a build may use (`--ssh`): the user's own, or one that holds some keys for the time of the build.
//!
//! The engine asks for each connection (`BuildEvent::Agent`); neither the agent's path nor a key ever goes there.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use corten_api::build::BuildAgent;
use corten_api::client::Client;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::cli::Failure;
use crate::output;

/// The agent lives as long as its command, and that as long as our end of its input: whatever ends us ends them.
const UNTIL_END_OF_INPUT: &str = "echo; cat >/dev/null; kill \"$SSH_AGENT_PID\"";

/// By id.
#[derive(Default)]
pub struct Agents {
    sockets: BTreeMap<String, PathBuf>,
    own: Vec<OwnAgent>,
}

impl Agents {
    /// Reads `default`, `id=SOCKET`, `id=KEY[,KEY]`.
    pub fn new(flags: &[String]) -> Result<Agents, Failure> {
        let mut agents = Agents::default();
        for flag in flags {
            let (id, paths) = flag.split_once('=').unwrap_or((flag, ""));
            let id = if id.is_empty() { "default" } else { id };
            let socket = match paths {
                "" => users_agent(id)?,
                paths => agents.socket(id, paths)?,
            };
            if agents.sockets.insert(id.to_owned(), socket).is_some() {
                return Err(Failure::new(format!("--ssh {flag}: there is another agent with the id {id}")));
            }
        }
        Ok(agents)
    }

    pub fn ids(&self) -> Vec<String> {
        self.sockets.keys().cloned().collect()
    }

    fn socket(&mut self, id: &str, paths: &str) -> Result<PathBuf, Failure> {
        let paths: Vec<&Path> = paths.split(',').map(Path::new).collect();
        for path in &paths {
            let found = path.metadata().map_err(|error| {
                Failure::new(format!("--ssh {id}: cannot read {}: {error}", path.display()))
            })?;
            if found.file_type().is_socket() {
                return match paths.len() {
                    1 => Ok(path.to_path_buf()),
                    _ => Err(Failure::new(format!(
                        "--ssh {id}: {} is a socket, which goes alone",
                        path.display()
                    ))),
                };
            }
        }
        let agent = OwnAgent::start(id, &paths)?;
        let socket = agent.socket();
        self.own.push(agent);
        Ok(socket)
    }

    /// Connects an agent with whoever has asked for it, in a task of its own.
    pub fn connect(&self, client: &Client, asked: BuildAgent) {
        let socket = self.sockets.get(&asked.id).cloned();
        let client = client.clone();
        tokio::spawn(async move {
            let Some(socket) = socket else { return };
            if let Err(error) = connect(&client, &asked.connection, &socket).await {
                output::talk(&format!("the SSH agent {}: {error}\n", socket.display()));
            }
        });
    }
}

fn users_agent(id: &str) -> Result<PathBuf, Failure> {
    let socket = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty());
    socket.map(PathBuf::from).ok_or_else(|| {
        Failure::new(format!(
            "--ssh {id}: there is no SSH agent: start one (eval $(ssh-agent); ssh-add), or name a key: --ssh {id}=FILE"
        ))
    })
}

async fn connect(
    client: &Client,
    connection: &str,
    socket: &Path,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut line = client.post(format!("/corten/build/connections/{connection}")).hijack().await?;
    // Where it fails the line is closed: nobody waits for an agent that is not there.
    let mut agent = UnixStream::connect(socket).await?;
    agent.write_all(&line.head).await?;
    // What breaks off is seen by the step.
    let _ = tokio::io::copy_bidirectional(&mut line.socket, &mut agent).await;
    Ok(())
}

/// An `ssh-agent` of ours.
struct OwnAgent {
    directory: TempDir,
    /// The command that it lives with.
    child: Child,
}

impl OwnAgent {
    fn start(id: &str, keys: &[&Path]) -> Result<OwnAgent, Failure> {
        let failed = |program: &str, error: &dyn std::fmt::Display| {
            Failure::new(format!(
                "--ssh {id}: cannot run {program}: {error}; install OpenSSH's client, or name an agent's socket"
            ))
        };
        let directory = tempfile::tempdir()
            .map_err(|error| Failure::from(error).while_doing("making a temporary directory"))?;
        let mut agent = Command::new("ssh-agent");
        agent.arg("-a").arg(directory.path().join("agent")).args(["sh", "-c", UNTIL_END_OF_INPUT]);
        agent.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = agent.spawn().map_err(|error| failed("ssh-agent", &error))?;
        let mut own = OwnAgent { directory, child };
        // Its command has begun: the socket is there.
        let mut line = String::new();
        let output = own.child.stdout.take();
        let begun = output.map(|output| BufReader::new(output).read_line(&mut line));
        if !matches!(begun, Some(Ok(1..))) {
            return Err(Failure::new(format!("--ssh {id}: ssh-agent does not start")));
        }
        let mut add = Command::new("ssh-add");
        add.arg("-q").arg("--").args(keys).env("SSH_AUTH_SOCK", own.socket());
        let added = add.status().map_err(|error| failed("ssh-add", &error))?;
        match added.success() {
            true => Ok(own),
            false => {
                let keys: Vec<String> = keys.iter().map(|key| key.display().to_string()).collect();
                Err(Failure::new(format!("--ssh {id}: ssh-add takes no key of {}", keys.join(", "))))
            }
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("agent")
    }
}

impl Drop for OwnAgent {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
