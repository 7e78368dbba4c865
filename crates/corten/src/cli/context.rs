//! What every command works with: the host to talk to, a client, a runtime.
//!
//! Nothing is opened before it is asked for: `corten version --client` touches neither the network nor a file.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use corten_api::client::{Client, Host};
use tokio::runtime::{Builder, Runtime};

use super::autostart;
use super::endpoint::{Endpoint, Outside};
use super::settings::Settings;
use super::{Failure, Globals, Outcome};
use crate::contexts::Store;
use crate::output;

/// Where the engine listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/corten/corten.sock";

pub struct Context {
    endpoint: OnceCell<Result<Endpoint, Failure>>,
    globals: Globals,
    runtime: OnceCell<Runtime>,
    settings: OnceCell<Settings>,
    /// The API version of an engine that turned out to be older than this program.
    version: OnceCell<String>,
}

impl Context {
    pub fn new(globals: &Globals) -> Context {
        Context {
            endpoint: OnceCell::new(),
            globals: globals.clone(),
            runtime: OnceCell::new(),
            settings: OnceCell::new(),
            version: OnceCell::new(),
        }
    }

    /// The options that stood before the command.
    pub fn globals(&self) -> &Globals {
        &self.globals
    }

    /// The engine's address.
    pub fn host(&self) -> Result<&Host, Failure> {
        Ok(&self.endpoint()?.host)
    }

    fn endpoint(&self) -> Result<&Endpoint, Failure> {
        let resolved = self.endpoint.get_or_init(|| self.outside(|outside| outside.resolve()));
        resolved.as_ref().map_err(Failure::clone)
    }

    fn outside<T>(&self, ask: impl FnOnce(Outside<'_>) -> T) -> T {
        let environment = |name: &str| std::env::var(name).ok();
        let current = || self.settings().text("currentContext");
        ask(Outside {
            globals: &self.globals,
            environment: &environment,
            config: self.config_dir(),
            current: &current,
        })
    }

    /// The name of the context in use.
    pub fn name(&self) -> String {
        self.outside(|outside| outside.context_name())
    }

    /// The variable that names a host, and what it says.
    pub fn host_of_environment(&self) -> Option<(&'static str, String)> {
        self.outside(|outside| outside.host_of_environment())
    }

    /// What the default context stands for.
    pub fn default_host(&self) -> String {
        let named = self.globals.host.last().cloned();
        let named = named.or_else(|| self.host_of_environment().map(|(_, host)| host));
        named.unwrap_or_else(|| format!("unix://{DEFAULT_SOCKET}"))
    }

    /// The contexts, which Docker's client shares.
    pub fn contexts(&self) -> Result<Store, Failure> {
        let missing =
            || Failure::new("there is no home directory to keep contexts in").hint("name one with --config");
        self.config_dir().map(Store::new).ok_or_else(missing)
    }

    /// A client; the engine is started first when its socket isn't even there.
    pub fn client(&self) -> Result<Client, Failure> {
        if let Host::Unix(path) = self.host()?
            && self.may_start()
            && !path.exists()
        {
            self.start_engine()?;
        }
        self.client_as_it_is()
    }

    /// A client, whether or not somebody listens.
    pub fn client_as_it_is(&self) -> Result<Client, Failure> {
        let mut client = self.endpoint()?.client()?;
        client.set_headers(self.settings().headers());
        let named = || std::env::var("DOCKER_API_VERSION").ok().filter(|version| !version.is_empty());
        if let Some(version) = self.version.get().cloned().or_else(named) {
            client.set_api_version(version.trim_start_matches('v'));
        }
        Ok(client)
    }

    /// Names an older API version from now on. False when that has been done before.
    pub fn go_down_to(&self, version: &str) -> bool {
        self.version.set(version.to_owned()).is_ok()
    }

    /// As `client`, but makes sure that somebody listens, in the version in which requests come: for commands that can't be tried
    /// twice. What is wrong shows before anything is read.
    pub fn probed_client(&self) -> Result<Client, Failure> {
        let client = self.client()?;
        match self.block_on(client.ping())? {
            Ok(_) => Ok(client),
            Err(error) if error.newest_version().is_some_and(|version| self.go_down_to(version)) => {
                self.client()
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a missing engine may be started by this command.
    pub fn may_start(&self) -> bool {
        self.endpoint().is_ok_and(|endpoint| endpoint.is_default)
            && !self.globals.no_autostart
            && rustix::process::geteuid().is_root()
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

    /// As [`Context::block_on`], for what goes on until somebody ends it: also when nobody reads our output any more.
    pub fn block_on_while_read(&self, future: impl Future<Output = Outcome>) -> Outcome {
        self.block_on(async {
            tokio::select! {
                outcome = future => outcome,
                () = output::unread() => Ok(0),
            }
        })?
    }

    /// The client's configuration file; empty when there is none.
    pub fn settings(&self) -> &Settings {
        let read = || Some(Settings::read(&self.config_dir()?.join("config.json")));
        self.settings.get_or_init(|| read().unwrap_or_default())
    }

    /// How a listing is shown: as `--format` says, else as the configuration file has it under `setting`. Empty for the
    /// listing's own way, and for `--quiet`.
    pub fn format(&self, given: Option<&str>, quiet: bool, setting: &str) -> String {
        match given {
            Some(format) => format.to_owned(),
            None if quiet => String::new(),
            None => self.settings().text(setting).unwrap_or_default(),
        }
    }

    /// Where the client's configuration is: the one of Docker's client, unless another is named.
    fn config_dir(&self) -> Option<PathBuf> {
        let named = || ["CORTEN_CONFIG", "DOCKER_CONFIG"].into_iter().find_map(std::env::var_os);
        match &self.globals.config {
            Some(directory) => Some(directory.clone()),
            None => match named().filter(|directory| !directory.is_empty()) {
                Some(directory) => Some(directory.into()),
                None => Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker")),
            },
        }
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
