//! Where an image comes from: what went in, and what was asked for, as predicates of SLSA (slsa.dev/provenance) in the form that
//! BuildKit gives them (docs/attestations/slsa-definitions.md there).

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use corten_image::Platform;
use serde_json::{Map, Value, json};

use crate::attest::{Predicate, ProvenanceWish};
use crate::build::Shared;
use crate::material::Material;
use crate::platform::Build;
use crate::remote::name_of;
use crate::remote_context::Origin;
use crate::request::{NamedContext, Network, NoCache, Options};
use crate::secrets::{Public, is_secret_name, public_value, without_secrets};

const V02: &str = "https://slsa.dev/provenance/v0.2";
const V1: &str = "https://slsa.dev/provenance/v1";
const BUILD_TYPE_V02: &str = "https://mobyproject.org/buildkit@v1";
const BUILD_TYPE_V1: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";

/// Why values are left out that were asked for: who has the image need not be who may know them.
const REDACTED: &str = "values of names that speak of secrets, and what opens URLs, are told to nobody";

/// What is said of one platform's build; `source` is the Dockerfile, if it is to be told.
pub fn predicate(build: &Build, wish: &ProvenanceWish, source: Option<Public>) -> Predicate {
    let facts = Facts::of(build, wish, source);
    let (kind, content) = if wish.is_v1 { (V1, facts.v1(wish)) } else { (V02, facts.v02(wish)) };
    Predicate { kind, file_name: "provenance.json", content }
}

/// What both versions tell, each in its own place.
struct Facts {
    /// The Dockerfile's path, and where it is from.
    entry_point: String,
    config_source: Map<String, Value>,
    /// As a client of BuildKit would have asked for it.
    parameters: Value,
    has_all_parameters: bool,
    has_all_materials: bool,
    materials: Vec<Value>,
    /// When it began and ended, RFC 3339, and what tells this build from others. None where the same bytes are wanted every time.
    run: Option<(String, String, String)>,
    /// BuildKit's own.
    metadata: Value,
}

impl Facts {
    fn of(build: &Build, wish: &ProvenanceWish, source: Option<Public>) -> Facts {
        let shared: &Shared = build;
        let mut arguments = arguments(shared);
        let count = arguments.len();
        let mut left_out = Vec::new();
        let mut parameters = json!({"frontend": "dockerfile.v0"});
        let asked = shared.asked_for.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if wish.is_full {
            arguments.retain(|name, _| {
                let is_secret = name.strip_prefix("build-arg:").is_some_and(is_secret_name);
                left_out.extend(is_secret.then(|| name.clone()));
                !is_secret
            });
            for (kind, name) in [("secret", "secrets"), ("ssh", "ssh")] {
                let ids = asked.iter().filter(|(known, _)| *known == kind);
                let ids: Vec<Value> = ids.map(|(_, id)| json!({"id": id, "optional": true})).collect();
                if !ids.is_empty() {
                    parameters[name] = ids.into();
                }
            }
        } else {
            // They may hold what is nobody's business.
            arguments.retain(|name, _| !name.starts_with("build-arg:") && !name.starts_with("label:"));
        }
        for (name, value) in &mut arguments {
            let public = public_value(name, value);
            if public != *value {
                left_out.push(name.clone());
                *value = public;
            }
        }
        let has_all_parameters = arguments.len() == count && left_out.is_empty();
        let origin = shared.options.origin.as_ref().filter(|origin| origin.has_dockerfile);
        let mut locals: Vec<&str> =
            asked.iter().filter(|(kind, _)| *kind == "local").map(|(_, name)| name.as_str()).collect();
        let takes_files = asked.iter().any(|(kind, _)| *kind == "local");
        if origin.is_none() && !locals.contains(&"dockerfile") {
            locals.push("dockerfile");
        }
        parameters["args"] =
            arguments.into_iter().map(|(name, value)| (name, value.into())).collect::<Map<_, _>>().into();
        parameters["locals"] = locals.iter().map(|name| json!({"name": name})).collect();
        let mut metadata = json!({});
        if !shared.options.vcs.is_empty() {
            let vcs = shared.options.vcs.iter().map(|(name, value)| (name.clone(), without_secrets(value)));
            metadata["vcs"] = json!(vcs.collect::<BTreeMap<_, _>>());
        }
        if let Some(public) = source {
            if let Some(text) = public.text {
                let data = crate::base64(text.as_bytes());
                let name = &shared.source.name;
                metadata["source"] =
                    json!({"infos": [{"filename": name, "language": "Dockerfile", "data": data}]});
            }
            left_out.extend(public.left_out);
        }
        if !left_out.is_empty() {
            metadata["redacted"] = json!({"reason": REDACTED, "values": left_out});
        }
        let materials = build.materials.lock().unwrap_or_else(PoisonError::into_inner);
        Facts {
            entry_point: entry_point(shared),
            config_source: origin.map(config_source).unwrap_or_default(),
            parameters,
            has_all_parameters,
            has_all_materials: !takes_files && !build.has_network.load(Ordering::Relaxed),
            materials: materials.iter().map(material).collect(),
            run: shared.epoch.is_none().then(|| {
                let time = |time| jiff::Timestamp::try_from(time).unwrap_or_default().to_string();
                (time(shared.started), time(SystemTime::now()), shared.invocation.clone())
            }),
            metadata,
        }
    }

    fn v02(mut self, wish: &ProvenanceWish) -> Value {
        self.config_source.insert("entryPoint".to_owned(), self.entry_point.into());
        let mut metadata = json!({
            "completeness": {
                "parameters": self.has_all_parameters,
                "environment": true,
                "materials": self.has_all_materials,
            },
            "reproducible": wish.is_reproducible,
            "https://mobyproject.org/buildkit@v1#metadata": self.metadata,
        });
        if let Some((started, finished, id)) = self.run {
            metadata["buildInvocationID"] = id.into();
            metadata["buildStartedOn"] = started.into();
            metadata["buildFinishedOn"] = finished.into();
        }
        json!({
            "builder": {"id": wish.builder_id},
            "buildType": BUILD_TYPE_V02,
            "materials": self.materials,
            "invocation": {
                "configSource": self.config_source,
                "parameters": self.parameters,
                "environment": {"platform": Platform::host().to_string()},
            },
            "metadata": metadata,
        })
    }

    fn v1(mut self, wish: &ProvenanceWish) -> Value {
        self.config_source.insert("path".to_owned(), self.entry_point.into());
        let mut metadata = json!({
            "buildkit_completeness": {
                "request": self.has_all_parameters,
                "resolvedDependencies": self.has_all_materials,
            },
            "buildkit_hermetic": false,
            "buildkit_reproducible": wish.is_reproducible,
            "buildkit_metadata": self.metadata,
        });
        if let Some((started, finished, id)) = self.run {
            metadata["invocationId"] = id.into();
            metadata["startedOn"] = started.into();
            metadata["finishedOn"] = finished.into();
        }
        json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE_V1,
                "externalParameters": {
                    "configSource": self.config_source,
                    "request": self.parameters,
                },
                "internalParameters": {"builderPlatform": Platform::host().to_string()},
                "resolvedDependencies": self.materials,
            },
            "runDetails": {"builder": {"id": wish.builder_id}, "metadata": metadata},
        })
    }
}

/// The Dockerfile's path where it is from; that of a Dockerfile alone is how its URL ends.
fn entry_point(shared: &Shared) -> String {
    let Options { origin, dockerfile, .. } = &shared.options;
    match origin {
        Some(origin) if origin.is_dockerfile && origin.has_dockerfile => name_of(&origin.uri),
        Some(origin) if origin.has_dockerfile && !dockerfile.is_empty() => dockerfile.clone(),
        _ => shared.source.name.clone(),
    }
}

fn config_source(origin: &Origin) -> Map<String, Value> {
    let uri = ("uri".to_owned(), origin.uri.clone().into());
    Map::from_iter([uri, ("digest".to_owned(), digest_set(&origin.material))])
}

fn material(material: &Material) -> Value {
    json!({"uri": material.uri, "digest": digest_set(material)})
}

fn digest_set(material: &Material) -> Value {
    let (algorithm, digest) = material.digest.split_once(':').unwrap_or(("sha256", &material.digest));
    json!({algorithm: digest})
}

/// The options by the names that BuildKit's front end has for them; defaults are left out.
fn arguments(shared: &Shared) -> BTreeMap<String, String> {
    let options = &shared.options;
    let mut arguments = BTreeMap::new();
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            arguments.insert(name.to_owned(), value);
        }
    };
    add("target", options.target.clone());
    // One with the Dockerfile in it is its source.
    if let Some(origin) = options.origin.as_ref().filter(|origin| !origin.has_dockerfile) {
        add("context", origin.uri.clone());
    }
    add("platform", options.platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
    add("add-hosts", options.extra_hosts.join(","));
    add("image-resolve-mode", if options.pull { "pull" } else { "" }.to_owned());
    match &options.network {
        Network::Default => {}
        Network::None => add("force-network-mode", "none".to_owned()),
        Network::Host => add("force-network-mode", "host".to_owned()),
        Network::Named(name) => add("force-network-mode", name.clone()),
    }
    if let NoCache::Stages(stages) = &options.no_cache {
        add("no-cache", stages.join(","));
    }
    for (name, context) in &options.contexts {
        let value = match context {
            NamedContext::Tree(tree) => format!("local:{tree}"),
            NamedContext::Image(image) => format!("docker-image://{image}"),
            NamedContext::Layout { manifest, .. } => format!("oci-layout://{name}@{manifest}"),
            NamedContext::Remote(url) => url.clone(),
            NamedContext::Input(input) => format!("input:{input}"),
        };
        add(&format!("context:{name}"), value);
    }
    for (name, value) in &options.build_args {
        arguments.insert(format!("build-arg:{name}"), value.clone());
    }
    for (name, value) in &options.labels {
        arguments.insert(format!("label:{name}"), value.clone());
    }
    if options.no_cache == NoCache::All {
        arguments.insert("no-cache".to_owned(), String::new());
    }
    arguments
}
