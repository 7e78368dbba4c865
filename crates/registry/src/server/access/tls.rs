//! TLS for the registry's listeners: certificate and key from files, read again when they change, so that a renewal needs no restart;
//! clients' certificates, if wished. Knows nothing of HTTP.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde::Deserialize;

use super::htpasswd::Stamp;
pub use super::subject::common_name;

/// As it is written in the configuration, in the section `tls`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Our certificate, and those between it and its authority.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Whose certificates clients may have.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Whether they must.
    #[serde(default)]
    pub clients: Clients,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clients {
    /// Who shows none shows something else, or is a stranger.
    #[default]
    Optional,
    Required,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("TLS: {path}: {why}")]
    File { path: PathBuf, why: String },
    #[error("tls.clients: \"required\": there is no tls.client_ca to tell whose certificates")]
    NoAuthority,
}

/// What a listener speaks.
pub struct Tls {
    files: TlsConfig,
    current: RwLock<Arc<ServerConfig>>,
    look_every: Duration,
    /// When it was looked last, and what the files were then. Held while looking: others go on with what is there.
    looked: tokio::sync::Mutex<(Instant, Vec<Option<Stamp>>)>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls({})", self.files.certificate.display())
    }
}

impl Tls {
    /// Reads the files.
    pub fn open(files: &TlsConfig, look_every: Duration) -> Result<Self, TlsError> {
        if files.clients == Clients::Required && files.client_ca.is_none() {
            return Err(TlsError::NoAuthority);
        }
        let stamps = files.stamps();
        Ok(Self {
            current: RwLock::new(files.load()?),
            files: files.clone(),
            look_every,
            looked: tokio::sync::Mutex::new((Instant::now(), stamps)),
        })
    }

    /// What the next connection is served with.
    pub async fn current(&self) -> Arc<ServerConfig> {
        if let Ok(mut looked) = self.looked.try_lock()
            && looked.0.elapsed() >= self.look_every
        {
            let (files, before) = (self.files.clone(), looked.1.clone());
            let look = tokio::task::spawn_blocking(move || {
                let stamps = files.stamps();
                (stamps != before).then(|| (stamps, files.load()))
            });
            looked.0 = Instant::now();
            if let Ok(Some((stamps, loaded))) = look.await {
                looked.1 = stamps;
                match loaded {
                    Ok(config) => {
                        tracing::info!(certificate = %self.files.certificate.display(), "TLS: read the files again");
                        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
                    }
                    // As between the writing of a certificate and that of its key.
                    Err(error) => tracing::warn!("{error}; going on with what was there"),
                }
            }
        }
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl TlsConfig {
    fn stamps(&self) -> Vec<Option<Stamp>> {
        let paths = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        paths.into_iter().flatten().map(|path| Stamp::of(path).ok()).collect()
    }

    fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let failed =
            |path: &Path, why: &dyn Display| TlsError::File { path: path.into(), why: why.to_string() };
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| failed(&self.certificate, &e))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut authorities = RootCertStore::empty();
                for certificate in certificates(ca)? {
                    authorities.add(certificate).map_err(|e| failed(ca, &e))?;
                }
                let mut verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider);
                if self.clients == Clients::Optional {
                    verifier = verifier.allow_unauthenticated();
                }
                builder.with_client_cert_verifier(verifier.build().map_err(|e| failed(ca, &e))?)
            }
        };
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|e| failed(&self.key, &e))?;
        let config = builder.with_single_cert(certificates(&self.certificate)?, key);
        let mut config = config.map_err(|e| failed(&self.certificate, &e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |why: &dyn Display| TlsError::File { path: path.into(), why: why.to_string() };
    let found = CertificateDer::pem_file_iter(path).map_err(|e| failed(&e))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(|e| failed(&e))?;
    if found.is_empty() { Err(failed(&"there is no certificate in it")) } else { Ok(found) }
}
