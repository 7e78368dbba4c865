//! What media types mean to people. Pure.

use std::collections::BTreeMap;

/// What one manifest says of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Statement {
    Signature,
    Sbom,
    Attestation,
    Other,
}

impl Statement {
    pub fn name(self) -> &'static str {
        match self {
            Statement::Signature => "Signature",
            Statement::Sbom => "SBOM",
            Statement::Attestation => "Attestation",
            Statement::Other => "Artifact",
        }
    }

    /// As a word beside an image that has one.
    pub fn badge(self) -> &'static str {
        match self {
            Statement::Signature => "signed",
            Statement::Sbom => "SBOM",
            Statement::Attestation => "attested",
            Statement::Other => "artifacts",
        }
    }

    /// Of a referrer's type and annotations. Sigstore's bundles hold either signatures or statements; which, annotations say.
    pub fn of(artifact_type: Option<&str>, annotations: &BTreeMap<String, String>) -> Statement {
        let kind = artifact_type.unwrap_or_default().to_ascii_lowercase();
        let says = |key: &str| annotations.get(key).map(String::as_str).unwrap_or_default();
        if kind.starts_with("application/vnd.dev.sigstore.bundle") {
            return match predicate(annotations) {
                Some(predicate) => Statement::of_predicate(predicate),
                None if says("dev.sigstore.bundle.content") == "dsse-envelope" => Statement::Attestation,
                None => Statement::Signature,
            };
        }
        match kind.as_str() {
            "application/vnd.cncf.notary.signature" | "application/vnd.dev.cosign.simplesigning.v1+json" => {
                Statement::Signature
            }
            "application/vnd.in-toto+json" | "application/vnd.dsse.envelope.v1+json" => {
                predicate(annotations).map_or(Statement::Attestation, Statement::of_predicate)
            }
            _ if kind.contains("cosign.artifact.sig") => Statement::Signature,
            _ if ["spdx", "cyclonedx", "syft", "sbom"].iter().any(|name| kind.contains(name)) => {
                Statement::Sbom
            }
            _ if ["in-toto", "slsa", "attestation", "cosign.artifact.att"]
                .iter()
                .any(|name| kind.contains(name)) =>
            {
                Statement::Attestation
            }
            _ => Statement::Other,
        }
    }

    /// Of what an in-toto statement is about.
    pub fn of_predicate(predicate: &str) -> Statement {
        match predicate {
            _ if predicate.contains("sigstore.dev/cosign/sign") => Statement::Signature,
            _ if ["spdx", "cyclonedx"].iter().any(|name| predicate.contains(name)) => Statement::Sbom,
            _ => Statement::Attestation,
        }
    }

    /// Of a tag in cosign's older way.
    pub fn of_companion(tag: &str) -> Statement {
        match tag.rsplit_once('.').map(|(_, kind)| kind) {
            Some("sig") => Statement::Signature,
            Some("sbom") => Statement::Sbom,
            Some("att") => Statement::Attestation,
            _ => Statement::Other,
        }
    }
}

/// What a statement is about, where annotations say it.
pub fn predicate(annotations: &BTreeMap<String, String>) -> Option<&str> {
    let keys = ["dev.sigstore.bundle.predicateType", "in-toto.io/predicate-type", "predicateType"];
    keys.iter().find_map(|key| annotations.get(*key)).map(String::as_str)
}

/// What something can be pulled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulled {
    Image,
    Chart,
    Artifact,
}

/// A manifest's format.
pub fn manifest(media_type: &str) -> &'static str {
    match media_type {
        "application/vnd.oci.image.manifest.v1+json" => "OCI manifest",
        "application/vnd.oci.image.index.v1+json" => "OCI index",
        "application/vnd.oci.artifact.manifest.v1+json" => "OCI artifact manifest",
        "application/vnd.docker.distribution.manifest.v2+json" => "Docker manifest",
        "application/vnd.docker.distribution.manifest.list.v2+json" => "Docker manifest list",
        _ => "Manifest",
    }
}

/// Whether a configuration is that of an image to run.
pub fn is_image_config(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
    )
}

/// What an artifact is, by its type or that of its configuration; `None` for what few people know.
pub fn artifact(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "application/vnd.cncf.helm.config.v1+json" => "Helm chart",
        "application/vnd.wasm.config.v0+json" | "application/vnd.wasm.config.v1+json" => "WebAssembly module",
        "application/vnd.cncf.openpolicyagent.config.v1+json" => "OPA policy",
        "application/vnd.docker.plugin.v1+json" => "Docker plugin",
        "application/vnd.docker.compose.project" => "Compose project",
        "application/vnd.cncf.flux.config.v1+json" => "Flux source",
        "application/vnd.devcontainers" => "Dev container feature",
        _ => return None,
    })
}

/// How a layer is packed, in a word or two.
pub fn layer(media_type: &str) -> &'static str {
    match media_type {
        _ if media_type.contains("foreign") || media_type.contains("nondistributable") => "from elsewhere",
        "application/wasm" | "application/vnd.wasm.content.layer.v1+wasm" => "wasm",
        "application/vnd.docker.image.rootfs.diff.tar" => "tar",
        _ if media_type.ends_with("gzip") => "gzip",
        _ if media_type.ends_with("zstd") => "zstd",
        _ if media_type.ends_with("tar") => "tar",
        _ if media_type.ends_with("json") => "json",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements() {
        let none = BTreeMap::new();
        let about = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
        for (kind, annotations, expected) in [
            (Some(bundle), &none, Statement::Signature),
            (
                Some(bundle),
                &about("dev.sigstore.bundle.predicateType", "https://slsa.dev/provenance/v1"),
                Statement::Attestation,
            ),
            (
                Some(bundle),
                &about("dev.sigstore.bundle.predicateType", "https://sigstore.dev/cosign/sign/v1"),
                Statement::Signature,
            ),
            (Some(bundle), &about("dev.sigstore.bundle.content", "dsse-envelope"), Statement::Attestation),
            (Some("application/vnd.cncf.notary.signature"), &none, Statement::Signature),
            (Some("application/vnd.dev.cosign.artifact.sig.v1+json"), &none, Statement::Signature),
            (Some("application/spdx+json"), &none, Statement::Sbom),
            (Some("application/vnd.cyclonedx+json"), &none, Statement::Sbom),
            (
                Some("application/vnd.in-toto+json"),
                &about("in-toto.io/predicate-type", "https://spdx.dev/Document"),
                Statement::Sbom,
            ),
            (Some("application/vnd.in-toto+json"), &none, Statement::Attestation),
            (Some("application/x"), &none, Statement::Other),
            (None, &none, Statement::Other),
        ] {
            assert_eq!(Statement::of(kind, annotations), expected, "{kind:?} {annotations:?}");
        }
        assert_eq!(Statement::of_companion("sha256-00.att"), Statement::Attestation);
    }

    #[test]
    fn layers() {
        for (media_type, expected) in [
            ("application/vnd.oci.image.layer.v1.tar+gzip", "gzip"),
            ("application/vnd.oci.image.layer.v1.tar+zstd", "zstd"),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", "gzip"),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "from elsewhere"),
            ("application/vnd.oci.image.layer.v1.tar", "tar"),
            ("application/x", ""),
        ] {
            assert_eq!(layer(media_type), expected);
        }
    }
}
