//! TLS to an engine: whom to believe, and what to show.

use super::Error;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;

/// What a connection is to be made with; all in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Authorities; those of the host when absent.
    pub ca: Option<Vec<u8>>,
    /// Authorities beside those.
    pub further_ca: Vec<u8>,
    /// Our certificate with its chain, and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// Whether the server has to prove who it is.
    pub verify: bool,
}

/// Where hosts keep the authorities that they trust.
const HOST_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

impl TlsOptions {
    /// What rustls takes.
    ///
    /// # Errors
    /// When a certificate or key can't be read, or there is nobody to trust.
    pub fn config(&self) -> Result<ClientConfig, Error> {
        let failed = |what: &str, why: &dyn std::fmt::Display| Error::Tls(format!("{what}: {why}"));
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| failed("protocol versions", &e))?;
        let builder = if self.verify {
            builder.with_root_certificates(self.authorities()?)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
        };
        let Some((certificate, key)) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let chain = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| failed("the client's certificate", &e))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| failed("the client's key", &e))?;
        builder.with_client_auth_cert(chain, key).map_err(|e| failed("the client's certificate", &e))
    }

    fn authorities(&self) -> Result<RootCertStore, Error> {
        let unreadable = |e: &dyn std::fmt::Display| Error::Tls(format!("the authority's certificate: {e}"));
        let mut store = RootCertStore::empty();
        if self.ca.is_none() {
            let of_host = HOST_AUTHORITIES.iter().find_map(|path| std::fs::read(path).ok());
            for certificate in CertificateDer::pem_slice_iter(&of_host.unwrap_or_default()).flatten() {
                // Hosts trust some that this library can't read.
                let _ = store.add(certificate);
            }
        }
        for text in [self.ca.as_deref().unwrap_or_default(), &self.further_ca] {
            for certificate in CertificateDer::pem_slice_iter(text) {
                store.add(certificate.map_err(|e| unreadable(&e))?).map_err(|e| unreadable(&e))?;
            }
        }
        match (store.is_empty(), &self.ca) {
            (false, _) => Ok(store),
            (true, Some(_)) => Err(unreadable(&"there is none in the file")),
            (true, None) => Err(Error::Tls(
                "there is no authority to verify the server with; name one with --tlscacert".into(),
            )),
        }
    }
}

/// `--tls` without `--tlsverify`: encrypted, to whoever answers.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
