//! What manifests and configurations say, read so that nothing odd in them is an error: whoever looks at a page wants to see what is
//! there. What is missing, or of another kind than it should be, counts as not said. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::kinds::{self, Pulled};
use crate::server::digest::Digest;

/// More of one kind is not looked at.
const ENTRIES_MAX: usize = 4096;

/// What a manifest refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    pub media_type: String,
    /// None: it has none that we know.
    pub digest: Option<Digest>,
    /// As it is said; the catalogue knows better.
    pub size: u64,
    pub platform: Option<Platform>,
    pub artifact_type: Option<String>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: String,
    pub os_version: String,
}

impl Platform {
    fn of(value: &Value) -> Option<Platform> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (os, architecture) = (text("os"), text("architecture"));
        let (variant, os_version) = (text("variant"), text("os.version"));
        let said = !(os.is_empty() && architecture.is_empty());
        said.then_some(Platform { os, architecture, variant, os_version })
    }
}

/// `linux/arm64/v8`, as clients write it; with a Windows version behind.
impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        if !self.os_version.is_empty() {
            write!(f, " {}", self.os_version)?;
        }
        Ok(())
    }
}

/// A manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    pub artifact_type: Option<String>,
    pub config: Option<Descriptor>,
    pub layers: Vec<Descriptor>,
    pub manifests: Vec<Descriptor>,
    pub annotations: BTreeMap<String, String>,
}

impl Document {
    /// None when it is no JSON object.
    pub fn parse(bytes: &[u8]) -> Option<Document> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        value.as_object()?;
        let list = |key: &str| -> Vec<Descriptor> {
            let entries = value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            entries.iter().take(ENTRIES_MAX).map(Descriptor::of).collect()
        };
        let mut layers = list("layers");
        layers.extend(list("blobs"));
        Some(Document {
            artifact_type: text(&value, "artifactType"),
            config: value.get("config").filter(|config| config.is_object()).map(Descriptor::of),
            layers,
            manifests: list("manifests"),
            annotations: texts(value.get("annotations")),
        })
    }

    /// The platforms that an index lists; what isn't an image for one is left away.
    pub fn platforms(&self) -> Vec<&Descriptor> {
        self.manifests.iter().filter(|child| !child.is_attestation()).collect()
    }

    /// What can pull it.
    pub fn pulled(&self) -> Pulled {
        let config = self.config.as_ref().map(|config| config.media_type.as_str()).unwrap_or_default();
        match self.artifact() {
            None => Pulled::Image,
            Some(_) if config == "application/vnd.cncf.helm.config.v1+json" => Pulled::Chart,
            Some(_) => Pulled::Artifact,
        }
    }

    /// What it is, if it isn't an image to run.
    pub fn artifact(&self) -> Option<String> {
        let config = self.config.as_ref().map(|config| config.media_type.as_str()).unwrap_or_default();
        if !self.manifests.is_empty() || (kinds::is_image_config(config) && self.artifact_type.is_none()) {
            return None;
        }
        let kind = self.artifact_type.as_deref().unwrap_or(config);
        Some(
            kinds::artifact(kind)
                .or_else(|| kinds::artifact(config))
                .map_or_else(|| kind.to_owned(), str::to_owned),
        )
    }
}

impl Descriptor {
    fn of(value: &Value) -> Descriptor {
        Descriptor {
            media_type: text(value, "mediaType").unwrap_or_default(),
            digest: value.get("digest").and_then(Value::as_str).and_then(|digest| digest.parse().ok()),
            size: value.get("size").and_then(Value::as_u64).unwrap_or_default(),
            platform: value.get("platform").and_then(Platform::of),
            artifact_type: text(value, "artifactType"),
            annotations: texts(value.get("annotations")),
        }
    }

    /// BuildKit lists what it says of an image beside it, for a platform that there isn't.
    pub fn is_attestation(&self) -> bool {
        self.annotations.get("vnd.docker.reference.type").is_some_and(|kind| kind == "attestation-manifest")
    }

    /// The image that an attestation is about.
    pub fn about(&self) -> Option<Digest> {
        self.annotations.get("vnd.docker.reference.digest")?.parse().ok()
    }
}

/// What an image is to do when it runs, and how it was built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    pub platform: Option<Platform>,
    pub created: Option<String>,
    pub author: Option<String>,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub shell: Vec<String>,
    pub health: Vec<String>,
    pub environment: Vec<String>,
    pub user: Option<String>,
    pub directory: Option<String>,
    pub stop_signal: Option<String>,
    pub ports: Vec<String>,
    pub volumes: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub history: Vec<Step>,
}

/// A step of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub command: String,
    pub comment: Option<String>,
    /// Whether it made no layer.
    pub is_empty: bool,
}

impl ImageConfig {
    /// None when it is no JSON object.
    pub fn parse(bytes: &[u8]) -> Option<ImageConfig> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        value.as_object()?;
        let run = value.get("config").unwrap_or(&Value::Null);
        let history = value.get("history").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Some(ImageConfig {
            platform: Platform::of(&value),
            created: text(&value, "created"),
            author: text(&value, "author"),
            entrypoint: list(run.get("Entrypoint")),
            command: list(run.get("Cmd")),
            shell: list(run.get("Shell")),
            health: list(run.get("Healthcheck").and_then(|health| health.get("Test"))),
            environment: list(run.get("Env")),
            user: text(run, "User"),
            directory: text(run, "WorkingDir"),
            stop_signal: text(run, "StopSignal"),
            ports: keys(run.get("ExposedPorts")),
            volumes: keys(run.get("Volumes")),
            labels: texts(run.get("Labels")),
            history: history.iter().take(ENTRIES_MAX).map(Step::of).collect(),
        })
    }

    /// The steps that made layers, one for each of so many; none when they don't fit together.
    pub fn steps_of_layers(&self, layers: usize) -> Option<Vec<&Step>> {
        let steps: Vec<&Step> = self.history.iter().filter(|step| !step.is_empty).collect();
        (steps.len() == layers).then_some(steps)
    }
}

impl Step {
    fn of(value: &Value) -> Step {
        Step {
            command: instruction(value.get("created_by").and_then(Value::as_str).unwrap_or_default()),
            comment: text(value, "comment"),
            is_empty: value.get("empty_layer").and_then(Value::as_bool).unwrap_or_default(),
        }
    }
}

/// A step as it stood in the file that the image was built from, as far as builders leave it to be seen.
fn instruction(created_by: &str) -> String {
    let text = created_by.trim();
    let text = text.strip_suffix("# buildkit").unwrap_or(text).trim_end();
    if let Some(rest) = text.strip_prefix("/bin/sh -c #(nop)") {
        return rest.trim_start().to_owned();
    }
    if let Some(rest) = text.strip_prefix("RUN /bin/sh -c ").or_else(|| text.strip_prefix("/bin/sh -c ")) {
        return format!("RUN {rest}");
    }
    // Arguments of a build stand before what they were for: `RUN |1 A=b /bin/sh -c …`.
    if (text.starts_with("RUN |") || text.starts_with('|'))
        && let Some((_, rest)) = text.split_once("/bin/sh -c ")
    {
        return format!("RUN {rest}");
    }
    text.to_owned()
}

/// A text that isn't empty.
fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn texts(value: Option<&Value>) -> BTreeMap<String, String> {
    let entries = value.and_then(Value::as_object).into_iter().flatten().take(ENTRIES_MAX);
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn list(value: Option<&Value>) -> Vec<String> {
    match value {
        // As it was allowed once.
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(entries)) => {
            entries.iter().take(ENTRIES_MAX).filter_map(|entry| entry.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    }
}

fn keys(value: Option<&Value>) -> Vec<String> {
    value
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(|map| map.keys().take(ENTRIES_MAX).cloned())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_image() {
        let config = r#"{"os": "linux", "architecture": "arm64", "variant": "v8", "created": "2026-01-02T03:04:05Z", "config": {
            "Entrypoint": ["/bin/app"], "Cmd": "serve", "Env": ["A=b", 7], "ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "b", "c": 1}},
            "history": [{"created_by": "ADD file:1 in / # buildkit"}, {"created_by": "CMD [\"sh\"]", "empty_layer": true},
                {"created_by": "RUN |1 V=1 /bin/sh -c make # buildkit"}, {"created_by": "/bin/sh -c #(nop)  COPY a b"}]}"#;
        let config = ImageConfig::parse(config.as_bytes()).unwrap();
        assert_eq!(config.platform.as_ref().unwrap().to_string(), "linux/arm64/v8");
        assert_eq!(
            (config.command.as_slice(), config.environment.as_slice()),
            (&["serve".to_owned()][..], &["A=b".to_owned()][..])
        );
        assert_eq!(config.labels.len(), 1);
        let steps: Vec<&str> =
            config.steps_of_layers(3).unwrap().iter().map(|step| step.command.as_str()).collect();
        assert_eq!(steps, ["ADD file:1 in /", "RUN make", "COPY a b"]);
        assert_eq!(config.steps_of_layers(2), None);
    }

    #[test]
    fn artifacts_say_what_they_are() {
        let of = |text: &str| Document::parse(text.as_bytes()).unwrap().artifact();
        let helm =
            r#"{"config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": "sha256:0"}}"#;
        assert_eq!(of(helm).unwrap(), "Helm chart");
        assert_eq!(of(r#"{"artifactType": "application/x", "config": {}}"#).unwrap(), "application/x");
        assert_eq!(of(r#"{"config": {"mediaType": "application/vnd.oci.image.config.v1+json"}}"#), None);
        assert_eq!(of(r#"{"manifests": [{}]}"#), None);
    }

    proptest! {
        #[test]
        fn nothing_is_too_odd(text in "\\{(\"(config|layers|manifests|history|os|platform|annotations)\":(\\[\\{\\}\\]|\\{\\}|1|null|\"x\"),){0,5}\"z\":0\\}") {
            Document::parse(text.as_bytes()).unwrap();
            ImageConfig::parse(text.as_bytes()).unwrap();
        }
    }
}
