//! Signatures of images: whether somebody whose key is known has signed what a name stands for. Knows two forms, both of cosign: the
//! bundles that are referrers of the image (Sigstore bundle 0.3, with a public key), and the older image under a tag made of the digest.

mod key;

use std::path::PathBuf;

use corten_api::base64;
use corten_image::Digest;
use corten_image::manifest::{self, Descriptor};
use serde::Deserialize;

use crate::{Document, Error, Repository, Result};

pub use key::{Key, KeyError};

/// Signatures of one image that are looked at.
const CANDIDATES_MAX: usize = 64;
/// A bundle, or what an older signature signs.
const SIGNED_BYTES_MAX: u64 = 1 << 20;

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIMPLE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
const STATEMENT: &str = "application/vnd.in-toto+json";
const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

/// What is done about images without a valid signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureMode {
    #[default]
    Off,
    /// It is said.
    Warn,
    /// They are not pulled.
    Enforce,
}

/// For some repositories.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureRule {
    /// The whole name, `docker.io/library/busybox`; `*` stands for any text.
    pub repository: String,
    pub mode: SignatureMode,
    /// Files with public keys (PEM); any of them may have signed.
    #[serde(default)]
    pub keys: Vec<PathBuf>,
}

/// The first rule that fits counts; none is off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SignaturePolicy(pub Vec<SignatureRule>);

impl SignaturePolicy {
    /// The rule for a repository, when it asks for anything.
    pub fn rule(&self, repository: &str) -> Option<&SignatureRule> {
        let rule = self.0.iter().find(|rule| matches(&rule.repository, repository));
        rule.filter(|rule| rule.mode != SignatureMode::Off)
    }

    /// What is wrong with it: a rule that could never be kept.
    ///
    /// # Errors
    /// A text for whoever wrote it.
    pub fn check(&self) -> std::result::Result<(), String> {
        for rule in &self.0 {
            if rule.repository.is_empty() {
                return Err("a rule without a repository".to_owned());
            }
            if rule.mode != SignatureMode::Off && rule.keys.is_empty() {
                return Err(format!("the rule for {:?} names no keys", rule.repository));
            }
        }
        Ok(())
    }
}

/// Whether a text fits a pattern in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

/// What looking for signatures found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Signed,
    /// With what was found in its place, for people.
    Unsigned(String),
}

impl Repository {
    /// Looks for a signature of a manifest or an index by one of the keys.
    ///
    /// # Errors
    /// When the registry fails. What it gives that is no signature is passed over.
    pub async fn verify(&self, signed: &Document, keys: &[Key]) -> Result<Verdict> {
        let mut looked_at = 0;
        for referrer in self.referrers(&signed.digest, None).await? {
            if !referrer.artifact_type.as_deref().unwrap_or(&referrer.media_type).starts_with(BUNDLE) {
                continue;
            }
            if looked_at == CANDIDATES_MAX {
                break;
            }
            looked_at += 1;
            let Some(bundle) = self.bundle(&referrer.digest).await? else { continue };
            if bundle_signs(&bundle, signed, keys) {
                return Ok(Verdict::Signed);
            }
        }
        let tag = format!("sha256-{}.sig", signed.digest.hex());
        for layer in self.layers(&tag).await?.unwrap_or_default().iter().take(CANDIDATES_MAX) {
            if layer.media_type != SIMPLE_SIGNING {
                continue;
            }
            looked_at += 1;
            let Some(payload) = self.small_blob(layer).await? else { continue };
            if payload_signs(&payload, layer.annotation(SIMPLE_ANNOTATION), &signed.digest, keys) {
                return Ok(Verdict::Signed);
            }
        }
        Ok(Verdict::Unsigned(match looked_at {
            0 => "nobody has signed it".to_owned(),
            count => format!("{count} signatures were found, none of them by one of the keys"),
        }))
    }

    async fn bundle(&self, manifest: &Digest) -> Result<Option<Vec<u8>>> {
        let layers = self.layers(&manifest.to_string()).await?.unwrap_or_default();
        match layers.iter().find(|layer| layer.media_type.starts_with(BUNDLE)) {
            Some(layer) => self.small_blob(layer).await,
            None => Ok(None),
        }
    }

    /// The layers of a manifest; none when there is no such manifest.
    async fn layers(&self, reference: &str) -> Result<Option<Vec<Descriptor>>> {
        let document = match self.manifest(reference).await {
            Ok(document) => document,
            Err(Error::ManifestUnknown { .. } | Error::RepositoryUnknown { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(match manifest::Document::parse(&document.bytes, &document.media_type) {
            Ok(manifest::Document::Manifest(manifest)) => Some(manifest.layers),
            _ => None,
        })
    }

    /// A whole blob, when it is small and what it is called.
    async fn small_blob(&self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
        if descriptor.size > SIGNED_BYTES_MAX {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut download = self.download(descriptor, 0);
        while let Some(piece) = download.chunk().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok((Digest::of(&bytes) == descriptor.digest).then_some(bytes))
    }
}

/// `critical` of the simple signing format.
#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: CriticalImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct CriticalImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

fn payload_signs(payload: &[u8], signature: Option<&str>, digest: &Digest, keys: &[Key]) -> bool {
    let Some(signature) = signature.and_then(base64::decode) else { return false };
    let Ok(Payload { critical }) = serde_json::from_slice(payload) else { return false };
    critical.kind == "cosign container image signature"
        && critical.image.digest == digest.to_string()
        && keys.iter().any(|key| key.has_signed(payload, &signature))
}

/// Sigstore bundle, version 0.3, as far as it is about a public key.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    message_signature: Option<MessageSignature>,
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
struct MessageSignature {
    signature: String,
}

/// Dead Simple Signing Envelope, version 1.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

/// in-toto Statement, version 1.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    digest: std::collections::BTreeMap<String, String>,
}

fn bundle_signs(bundle: &[u8], signed: &Document, keys: &[Key]) -> bool {
    let Ok(bundle) = serde_json::from_slice::<Bundle>(bundle) else { return false };
    if let Some(message) = bundle.message_signature {
        let signature = base64::decode(&message.signature);
        return signature
            .is_some_and(|signature| keys.iter().any(|key| key.has_signed(&signed.bytes, &signature)));
    }
    bundle.dsse_envelope.is_some_and(|envelope| envelope_signs(&envelope, &signed.digest, keys))
}

fn envelope_signs(envelope: &Envelope, digest: &Digest, keys: &[Key]) -> bool {
    let Some(payload) = base64::decode(&envelope.payload) else { return false };
    let message = authenticated(&envelope.payload_type, &payload);
    let signatures = envelope.signatures.iter().filter_map(|signature| base64::decode(&signature.sig));
    let is_signed =
        signatures.take(16).any(|signature| keys.iter().any(|key| key.has_signed(&message, &signature)));
    let Ok(statement) = serde_json::from_slice::<Statement>(&payload) else { return false };
    is_signed
        && envelope.payload_type == STATEMENT
        // Statements of other kinds say something about the image, not that it is somebody's.
        && statement.predicate_type == SIGN_PREDICATE
        && statement.subject.iter().any(|subject| subject.digest.get("sha256") == Some(&digest.hex()))
}

/// What is signed of an envelope: its "pre-authentication encoding".
fn authenticated(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

#[cfg(test)]
mod tests;
