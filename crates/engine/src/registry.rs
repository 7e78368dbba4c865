//! What the engine does with registries: to show credentials to one.

use std::sync::PoisonError;

use corten_api::auth::{AuthConfig, AuthReply};
use corten_api::json::List;
use corten_api::stream::JsonMessage;
use corten_api::system::{IndexInfo, RegistryConfig};
use corten_registry::{Action, Client, ClientOptions, Credentials, RegistryAddress};
use tokio::sync::mpsc::Sender;

use crate::{Engine, Error, ErrorKind, RegistryOptions, Result};

/// What all pulls and pushes go through.
pub(crate) fn client(options: &RegistryOptions) -> Client {
    Client::new(client_options(options.clone()))
}

fn client_options(options: RegistryOptions) -> ClientOptions {
    let RegistryOptions { insecure, mirrors, proxies, signatures: _ } = options;
    ClientOptions { insecure, mirrors, proxies, ..ClientOptions::default() }
}

/// What a client shows, if anything.
pub(crate) fn credentials(auth: AuthConfig) -> Option<Credentials> {
    match auth {
        AuthConfig { registrytoken, .. } if !registrytoken.is_empty() => {
            Some(Credentials::Token(registrytoken))
        }
        AuthConfig { identitytoken, .. } if !identitytoken.is_empty() => {
            Some(Credentials::Identity(identitytoken))
        }
        AuthConfig { username, .. } if username.is_empty() => None,
        AuthConfig { username: name, password, .. } => Some(Credentials::Password { name, password }),
    }
}

/// Passes on what a client should know while a registry makes it wait. It keeps no progress open for that.
pub(crate) fn notices(progress: &Sender<JsonMessage>) -> impl Fn(String) + Send + Sync + 'static {
    let progress = progress.downgrade();
    move |notice| {
        if let Some(progress) = progress.upgrade() {
            // Who reads nothing for so long isn't told of this either.
            let _ = progress.try_send(JsonMessage::status(notice));
        }
    }
}

impl Engine {
    /// Whether a registry accepts these credentials. Nothing of them is kept.
    pub async fn login(&self, wanted: AuthConfig) -> Result<AuthReply> {
        let registry = RegistryAddress::parse(&wanted.serveraddress)?;
        let none = || Credentials::Password { name: String::new(), password: String::new() };
        let credentials = credentials(wanted).unwrap_or_else(none);
        let login = self.registries.login(&registry, &credentials).await?;
        let identity_token = login.identity.unwrap_or_default();
        Ok(AuthReply { status: "Login Succeeded".to_owned(), identity_token })
    }

    /// The one registry that names without a host mean, and who may be spoken to without TLS.
    pub(crate) fn registry_config(&self) -> RegistryConfig {
        let options = self.registries.options();
        let insecure = &options.insecure;
        let mirrors: Vec<String> = RegistryAddress::parse("")
            .map(|hub| options.mirrors.of(&hub).iter().map(ToString::to_string).collect())
            .unwrap_or_default();
        let index = |name: String, official: bool| {
            let mirrors = if official { mirrors.clone().into() } else { List::empty() };
            (name.clone(), IndexInfo { mirrors, name, official, secure: official })
        };
        let others =
            insecure.registries.iter().map(|registry| index(registry.to_string(), registry.is_hub()));
        RegistryConfig {
            index_configs: others.chain([index("docker.io".to_owned(), true)]).collect(),
            insecure_registry_cidrs: insecure
                .networks
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .into(),
            mirrors: mirrors.clone().into(),
        }
    }

    /// Has other settings for registries from now on.
    pub fn reload_registries(&self, options: RegistryOptions) {
        *self.signatures.write().unwrap_or_else(PoisonError::into_inner) = options.signatures.clone();
        self.registries.reconfigure(client_options(options));
    }
}

impl From<corten_registry::Error> for Error {
    fn from(error: corten_registry::Error) -> Self {
        let kind = match error {
            corten_registry::Error::Address(..) => ErrorKind::InvalidParameter,
            corten_registry::Error::Unauthorized { .. } | corten_registry::Error::NoCredentials { .. } => {
                ErrorKind::Unauthorized
            }
            corten_registry::Error::ManifestUnknown { .. }
            | corten_registry::Error::RepositoryUnknown { .. }
            | corten_registry::Error::BlobUnknown { .. }
            // What is not to be seen is as good as not there.
            | corten_registry::Error::Denied { action: Action::Pull, .. } => ErrorKind::NotFound,
            corten_registry::Error::Denied { .. } => ErrorKind::Forbidden,
            corten_registry::Error::RateLimited { .. } | corten_registry::Error::Unavailable { .. } => {
                ErrorKind::Unavailable
            }
            _ => ErrorKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}
