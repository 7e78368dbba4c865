//! Repositories at registries: what pull and push stand on. A `Client` has the connections, tokens and settings of one process; a
//! `Repository` is one name at one registry as somebody sees it.
//!
//! Below: `repository` speaks the distribution protocol, `visit` gets one request through (credentials, redirects, tries),
//! `transport` sends it, `pool` and `connect` have the connections. Nothing here knows what is in an image.

mod connect;
mod download;
mod known;
mod login;
mod mirrors;
mod origin;
mod page;
mod payload;
mod pool;
mod proxies;
mod redirect;
mod refusal;
mod repository;
mod retry;
mod search;
mod tokens;
mod transport;
mod upload;
mod visit;

use std::sync::Arc;
use std::time::Duration;

pub use download::Download;
pub use login::{Credentials, Login};
pub use mirrors::{Mirror, Mirrors};
pub use page::Page;
pub use proxies::Proxies;
pub use repository::{Document, Repository};
pub use search::Found;
pub use upload::{Mounted, Upload};
// For the server, whose object storage is asked as registries are.
pub(crate) use origin::Channel;
pub(crate) use payload::Payload;
pub(crate) use pool::Limits;
pub(crate) use transport::{Body, Request, Transport};

use crate::{Insecure, RegistryAddress, Trust};

use tokens::Tokens;
use tokio::sync::Semaphore;
use visit::Endpoint;

/// How a client is set up.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    pub insecure: Insecure,
    pub trust: Trust,
    pub mirrors: Mirrors,
    pub proxies: Proxies,
    pub user_agent: String,
    pub patience: Patience,
}

/// How long is waited for others. What they send is bounded in size, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a connection; once more for TLS.
    pub connect: Duration,
    /// For the head of an answer.
    pub answer: Duration,
    /// For 4 KiB more of a body.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let [connect, answer, stall] = [15, 30, 30].map(Duration::from_secs);
        Self { connect, answer, stall }
    }
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            insecure: Insecure::default(),
            trust: Trust::default(),
            mirrors: Mirrors::default(),
            proxies: Proxies::default(),
            user_agent: concat!("corten/", env!("CARGO_PKG_VERSION")).to_owned(),
            patience: Patience::default(),
        }
    }
}

/// Connections, tokens and settings of one process. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    transport: Transport,
    tokens: Tokens,
    /// Memory for what is fetched ahead, in pieces.
    pieces: Arc<Semaphore>,
}

impl Client {
    pub fn new(options: ClientOptions) -> Self {
        let pieces = Arc::new(Semaphore::new(download::PIECES_OF_CLIENT_MAX));
        let (transport, tokens) = (Transport::new(options, Limits::default()), Tokens::default());
        Self { shared: Arc::new(Shared { transport, tokens, pieces }) }
    }

    pub fn options(&self) -> Arc<ClientOptions> {
        self.shared.transport.options()
    }

    /// Has other settings from now on.
    pub fn reconfigure(&self, options: ClientOptions) {
        self.shared.transport.set_options(options);
    }

    /// A repository as somebody with these credentials sees it. `path` is its name at the registry: `library/busybox`.
    pub fn repository(
        &self,
        registry: &RegistryAddress,
        path: &str,
        credentials: Option<Credentials>,
    ) -> Repository {
        let options = self.shared.transport.options();
        let endpoints = options.mirrors.of(registry).iter().map(Endpoint::of_mirror);
        let endpoints = endpoints.chain([Endpoint::of_registry(registry, credentials)]).collect();
        Repository::new(self.shared.clone(), registry, path, endpoints)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("options", &self.shared.transport.options()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
