//! What registries have, asked by this program itself: with the user's credentials, and the environment's proxies.

use corten_image::manifest::Descriptor;
use corten_image::{Digest, Reference};
use corten_registry::{
    Client, ClientOptions, Credentials, Document, Error, Insecure, Proxies, RegistryAddress, Repository,
};

use super::login::credentials_for;
use crate::cli::{Context, Failure};
use crate::credentials::Secret;

/// Of a configuration; real ones have some kilobytes.
const BLOB_BYTES_MAX: u64 = 4 << 20;

pub struct Remote<'a> {
    context: &'a Context,
    client: Client,
}

impl<'a> Remote<'a> {
    /// The registries of some names may be spoken to without TLS, or without proof of who they are.
    pub fn new(context: &'a Context, insecure: &[Reference]) -> Result<Self, Failure> {
        let insecure: Vec<String> = insecure.iter().map(|name| name.domain().to_owned()).collect();
        let environment = |name: &str| {
            let value = std::env::var(name.to_lowercase()).ok().filter(|value| !value.is_empty());
            value.or_else(|| std::env::var(name).ok()).filter(|value| !value.is_empty())
        };
        let [http, https, none_for] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"].map(environment);
        let options = ClientOptions {
            insecure: Insecure::parse(&insecure)?,
            proxies: Proxies::new(http.as_deref(), https.as_deref(), none_for.as_deref())?,
            ..ClientOptions::default()
        };
        Ok(Self { context, client: Client::new(options) })
    }

    /// For the registry of a name.
    pub fn of(context: &'a Context, name: &Reference, insecure: bool) -> Result<Self, Failure> {
        Self::new(context, if insecure { std::slice::from_ref(name) } else { &[] })
    }

    pub fn repository(&self, name: &Reference) -> Result<Repository, Failure> {
        let registry = RegistryAddress::parse(name.domain())?;
        let known = credentials_for(self.context, name.domain())?;
        let credentials = known.map(|known| match known.secret {
            Secret::Password(password) => Credentials::Password { name: known.name, password },
            Secret::Identity(token) => Credentials::Identity(token),
        });
        Ok(self.client.repository(&registry, name.path(), credentials))
    }

    /// What a name stands for, and its repository.
    pub async fn document(&self, name: &Reference) -> Result<(Repository, Document), Failure> {
        let repository = self.repository(name)?;
        match repository.manifest(&tag_or_digest(name)).await {
            Err(Error::ManifestUnknown { .. } | Error::RepositoryUnknown { .. }) => {
                Err(Failure::new(format!("no such manifest: {}", name.familiar())))
            }
            found => Ok((repository, found?)),
        }
    }
}

/// What of a name a registry is asked for.
pub fn tag_or_digest(name: &Reference) -> String {
    match (name.digest(), name.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or_default().to_owned(),
    }
}

/// A small blob, which is in memory as a whole.
pub async fn small_blob(repository: &Repository, blob: &Descriptor) -> Result<Vec<u8>, Failure> {
    let failed = |why: String| Failure::new(format!("{} {why}", blob.digest));
    if blob.size > BLOB_BYTES_MAX {
        return Err(failed(format!("has {} bytes, which is more than any needs", blob.size)));
    }
    let mut bytes = Vec::new();
    let mut download = repository.download(blob, 0);
    while let Some(chunk) = download.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    match Digest::of(&bytes) == blob.digest {
        true => Ok(bytes),
        false => Err(failed("was damaged on the way or at the registry".to_owned())),
    }
}
