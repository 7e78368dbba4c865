//! What is said of an image beside it, in the forms that others read: in-toto statements (github.com/in-toto/attestation). What they say
//! is here, where they are kept is `corten_image::build`.

use corten_image::Digest;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::sbom::SbomFormat;

/// BuildKit's own, without its tag.
const SCANNER: &str = "docker/buildkit-syft-scanner";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v0.1";

/// What is to be said of the images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attestations {
    pub provenance: Option<ProvenanceWish>,
    pub sbom: Option<SbomFormat>,
    /// Whether all of it refers to the images instead of standing in their index; none where nothing was asked for yet.
    referrers: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProvenanceWish {
    /// With build arguments, labels, names of secrets and the Dockerfile.
    pub is_full: bool,
    /// SLSA's version 1 instead of 0.2.
    pub is_v1: bool,
    /// A URI; empty where nobody says who builds.
    pub builder_id: String,
    /// Who asks says that the same comes out again.
    pub is_reproducible: bool,
}

impl Attestations {
    pub fn is_empty(&self) -> bool {
        self.provenance.is_none() && self.sbom.is_none()
    }

    /// Whether there is something that refers to the images instead of standing in their index.
    pub fn are_referrers(&self) -> bool {
        !self.is_empty() && self.referrers == Some(true)
    }

    /// Takes a wish in the form that BuildKit has for it: a kind, and `name=value` pairs between commas.
    pub fn read(&mut self, kind: &str, text: &str) -> Result<()> {
        let invalid = |what: String| Error::Invalid(format!("attestation {kind}: {what}"));
        let mut pairs = Vec::new();
        for field in text.split(',').filter(|field| !field.is_empty()) {
            let pair = field.split_once('=');
            pairs.push(pair.ok_or_else(|| invalid(format!("write NAME=VALUE instead of {field:?}")))?);
        }
        let mut is_wanted = true;
        let mut wish = ProvenanceWish::default();
        let mut format = SbomFormat::default();
        let mut refers = false;
        for (name, value) in pairs {
            let flag = || match value {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
                _ => Err(invalid(format!("{name} is true or false"))),
            };
            match (kind, name, value) {
                // Clients say it again.
                (_, "type", own) if own == kind => {}
                (_, "disabled", _) => is_wanted &= !flag()?,
                (_, "referrers", _) => refers = flag()?,
                // What clients ask for by themselves, to be left out where it is not wanted.
                ("provenance", "inline-only", _) => is_wanted &= !flag()?,
                ("provenance", "mode", "min") => wish.is_full = false,
                ("provenance", "mode", "max") => wish.is_full = true,
                ("provenance", "version", "v0.2") => wish.is_v1 = false,
                ("provenance", "version", "v1") => wish.is_v1 = true,
                ("provenance", "builder-id", id) => id.clone_into(&mut wish.builder_id),
                ("provenance", "reproducible", _) => wish.is_reproducible = flag()?,
                // It is written here: nobody else's programs run for it, and that of BuildKit's is what it takes the place of.
                ("sbom", "generator", image) if image.starts_with(SCANNER) => {}
                ("sbom", "generator", image) => {
                    return Err(invalid(format!("the scanner {image} is not run: the engine looks itself")));
                }
                ("sbom", "format", text) => {
                    let known = SbomFormat::parse(text);
                    format = known.ok_or_else(|| invalid("format is spdx or cyclonedx".to_owned()))?;
                }
                _ => return Err(invalid(format!("{name}={value} is not supported"))),
            }
        }
        if is_wanted && *self.referrers.get_or_insert(refers) != refers {
            return Err(invalid("referrers=true is for all attestations of a build, or for none".to_owned()));
        }
        match kind {
            "provenance" => self.provenance = is_wanted.then_some(wish),
            "sbom" => self.sbom = is_wanted.then_some(format),
            _ if !is_wanted => {}
            _ => {
                let text =
                    format!("attestations of type {kind:?} are not supported: they are provenance and sbom");
                return Err(Error::Invalid(text));
            }
        }
        Ok(())
    }
}

/// Something that is said of what a build has made for a platform.
#[derive(Clone, Debug)]
pub struct Predicate {
    /// A URI.
    pub kind: &'static str,
    /// What it is called beside files.
    pub file_name: &'static str,
    pub content: Value,
}

/// What something is said of.
pub struct Subject {
    pub name: String,
    pub digest: Digest,
}

impl Predicate {
    /// The statement as JSON.
    pub fn statement(&self, subjects: &[Subject]) -> Vec<u8> {
        let subject =
            |subject: &Subject| json!({"name": subject.name, "digest": {"sha256": subject.digest.hex()}});
        let statement = json!({
            "_type": STATEMENT_TYPE,
            "predicateType": self.kind,
            "subject": subjects.iter().map(subject).collect::<Vec<_>>(),
            "predicate": self.content,
        });
        statement.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, text: &str) -> Result<Option<ProvenanceWish>> {
        let mut read = Attestations::default();
        read.read(kind, text).map(|()| read.provenance)
    }

    #[test]
    fn wishes_are_read() {
        assert_eq!(read("provenance", "").unwrap(), Some(ProvenanceWish::default()));
        let full = read("provenance", "mode=max,version=v1,builder-id=https://b,reproducible=true").unwrap();
        let builder_id = "https://b".to_owned();
        let expected = ProvenanceWish { is_full: true, is_v1: true, builder_id, is_reproducible: true };
        assert_eq!(full, Some(expected));
        for nothing in ["disabled=true", "mode=min,inline-only=true", "mode=max,disabled=1"] {
            assert_eq!(read("provenance", nothing).unwrap(), None, "{nothing}");
        }
        let mut wishes = Attestations::default();
        wishes.read("sbom", "type=sbom,generator=docker/buildkit-syft-scanner:stable-1").unwrap();
        assert_eq!(wishes.sbom, Some(SbomFormat::Spdx));
        wishes.read("sbom", "format=cyclonedx").unwrap();
        assert_eq!(wishes.sbom, Some(SbomFormat::CycloneDx));
        assert!(wishes.read("provenance", "referrers=true").is_err(), "all or none");
        wishes.read("sbom", "disabled=true").unwrap();
        assert!(wishes.is_empty() && !wishes.are_referrers());
        let mut wishes = Attestations::default();
        wishes.read("provenance", "mode=min,inline-only=true").unwrap();
        wishes.read("sbom", "referrers=true").unwrap();
        assert!(wishes.are_referrers());
        for (kind, text) in [
            ("provenance", "mode=some"),
            ("provenance", "mode"),
            ("provenance", "version=v2"),
            ("provenance", "disabled=perhaps"),
            ("provenance", "filename=x"),
            ("sbom", "generator=example.org/scanner"),
            ("sbom", "format=csv"),
            ("sbom", "inline-only=true"),
            ("sbom", "referrers=perhaps"),
            ("horoscope", ""),
        ] {
            assert!(matches!(read(kind, text), Err(Error::Invalid(_))), "{kind} {text}");
        }
    }
}
