//! TLS on TCP: our certificate, and which clients' certificates are believed.

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::listen::TcpPolicy;

/// The files, as daemon.json names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Whose certificates clients must have; `None`: none are asked for.
    pub ca: Option<PathBuf>,
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// What TCP ports ask of their clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpAccess {
    /// There may be none: it was not said what to ask.
    Refused,
    Tls(TlsFiles),
    /// Said in so many words.
    Plain,
}

impl TcpAccess {
    /// Reads the files.
    pub fn load(&self) -> Result<TcpPolicy, TlsError> {
        Ok(match self {
            Self::Refused => TcpPolicy::Refused,
            Self::Tls(files) => TcpPolicy::Tls(files.load()?),
            Self::Plain => TcpPolicy::Plain,
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("TLS: {path}: {why}")]
pub struct TlsError {
    path: PathBuf,
    why: String,
}

impl TlsFiles {
    /// Reads them.
    fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let failed = |path: &Path, why: &dyn Display| TlsError { path: path.into(), why: why.to_string() };
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| failed(&self.cert, &e))?;
        let builder = match &self.ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut authorities = RootCertStore::empty();
                for certificate in certificates(ca)? {
                    authorities.add(certificate).map_err(|e| failed(ca, &e))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider);
                builder.with_client_cert_verifier(verifier.build().map_err(|e| failed(ca, &e))?)
            }
        };
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|e| failed(&self.key, &e))?;
        let config = builder.with_single_cert(certificates(&self.cert)?, key);
        config.map(Arc::new).map_err(|e| failed(&self.cert, &e))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |why: &dyn Display| TlsError { path: path.into(), why: why.to_string() };
    let found = CertificateDer::pem_file_iter(path).map_err(|e| failed(&e))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(|e| failed(&e))?;
    if found.is_empty() { Err(failed(&"there is no certificate in it")) } else { Ok(found) }
}
