//! Registries as a client sees them (OCI distribution specification 1.1): which address a name means, whom to believe there, and
//! who we are to them. `client` is what pull and push stand on, `server` the other side, a registry of one's own. Knows nothing of
//! the engine.

mod address;
mod challenge;
mod client;
mod error;
pub mod server;
mod share;
mod signature;
mod trust;

pub use address::{Insecure, RegistryAddress};
pub use client::{
    Client, ClientOptions, Credentials, Document, Download, Found, Login, Mirror, Mirrors, Mounted, Page,
    Patience, Proxies, Repository, Upload,
};
pub use error::{Action, Cause, Error, Result};
pub use signature::{Key, KeyError, SignatureMode, SignaturePolicy, SignatureRule, Verdict};
pub use trust::{Trust, TrustFiles};
