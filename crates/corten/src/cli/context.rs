//! What every command works with: the host to talk to, a client, a runtime.
//!
//! Nothing is opened before it is asked for: `corten version --client` touches neither the network nor a file.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use corten_api::client::{Client, Host};
use tokio::runtime::{Builder, Runtime};

use super::autostart;
use super::{Failure, Globals};

/// Where the engine listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/corten/corten.sock";

pub struct Context {
    host: Result<Host, String>,
    /// The host is the default one, so that an engine may be started there.
    default_host: bool,
    globals: Globals,
    runtime: OnceCell<Runtime>,
}

impl Context {
    pub fn new(globals: &Globals) -> Context {
        let from_environment = || {
            let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
            set("CORTEN_HOST").or_else(|| set("DOCKER_HOST"))
        };
        let named = globals.host.last().cloned().or_else(from_environment);
        let host = match &named {
            None => Ok(Host::Unix(DEFAULT_SOCKET.into())),
            Some(text) => {
                Host::parse_with_env(text, |name| std::env::var(name).ok()).map_err(|error| error.to_string())
            }
        };
        let default_host = host == Ok(Host::Unix(DEFAULT_SOCKET.into()));
        Context { host, default_host, globals: globals.clone(), runtime: OnceCell::new() }
    }

    /// The options that stood before the command.
    pub fn globals(&self) -> &Globals {
        &self.globals
    }

    /// The engine's address.
    pub fn host(&self) -> Result<&Host, Failure> {
        self.host.as_ref().map_err(|message| Failure::new(message.clone()))
    }

    /// A client; the engine is started first when its socket isn't even there.
    pub fn client(&self) -> Result<Client, Failure> {
        let host = self.host()?.clone();
        if let Host::Unix(path) = &host
            && self.may_start()
            && !path.exists()
        {
            self.start_engine()?;
        }
        Ok(Client::new(host))
    }

    /// As `client`, but makes sure that somebody listens: for commands that can't be tried twice.
    pub fn probed_client(&self) -> Result<Client, Failure> {
        if let Host::Unix(path) = self.host()?
            && self.may_start()
            && std::os::unix::net::UnixStream::connect(path).is_err()
        {
            self.start_engine()?;
        }
        self.client()
    }

    /// Whether a missing engine may be started by this command.
    pub fn may_start(&self) -> bool {
        self.default_host && !self.globals.no_autostart && rustix::process::geteuid().is_root()
    }

    /// Starts the engine and waits until it listens.
    pub fn start_engine(&self) -> Result<(), Failure> {
        autostart::start(Path::new(DEFAULT_SOCKET))
    }

    /// Runs a future to its end on this thread.
    pub fn block_on<F: Future>(&self, future: F) -> Result<F::Output, Failure> {
        let runtime = match self.runtime.get() {
            Some(runtime) => runtime,
            None => {
                let built = Builder::new_current_thread().enable_all().build();
                let built =
                    built.map_err(|error| Failure::from(error).while_doing("starting the event loop"))?;
                self.runtime.get_or_init(|| built)
            }
        };
        Ok(runtime.block_on(future))
    }

    /// A setting of the client's configuration file, if there is one.
    pub fn setting(&self, name: &str) -> Option<String> {
        let dir = match &self.globals.config {
            Some(dir) => dir.clone(),
            None => match std::env::var_os("CORTEN_CONFIG") {
                Some(dir) => dir.into(),
                None => PathBuf::from(std::env::var_os("HOME")?).join(".corten"),
            },
        };
        let text = std::fs::read_to_string(dir.join("config.json")).ok()?;
        let settings: serde_json::Value = serde_json::from_str(&text).ok()?;
        settings.get(name)?.as_str().map(str::to_owned)
    }
}

impl Drop for Context {
    /// Doesn't wait for a thread that still reads its input.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
