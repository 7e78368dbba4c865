//! What a client wants of the front end `dockerfile.v0`: attributes, as texts by name, become a build's options. An attribute that would
//! change the outcome and isn't known is refused; those that only describe the client's side are read over.

use crate::csv;
use corten_build::{CacheOptionError, CacheSource, NamedContext, Network, NoCache, Options};
use corten_image::Platform;
use std::collections::BTreeMap;

/// Front ends that are images: those whose language ours is.
const OWN_SYNTAX: [&str; 4] = [
    "docker/dockerfile",
    "docker/dockerfile-upstream",
    "docker.io/docker/dockerfile",
    "docker.io/docker/dockerfile-upstream",
];

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    #[error("invalid value {value:?} for {name}")]
    Value { name: String, value: String },
    #[error("{0} is not supported by this engine's builder")]
    Unsupported(String),
    #[error("{0}")]
    Attestation(String),
    #[error("unknown frontend attribute {0:?}")]
    Unknown(String),
    #[error(
        "the syntax {0:?} is a frontend image, which this engine does not run; its own front end answers for \
         docker/dockerfile"
    )]
    Syntax(String),
    #[error("invalid input {input} for {context}")]
    Input { input: String, context: String },
    #[error("unknown frontend: {0:?}")]
    Frontend(String),
    #[error(transparent)]
    Cache(#[from] CacheOptionError),
}

/// A cache as Go's JSON has it.
#[derive(serde::Deserialize)]
struct CachePlace {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(rename = "Attrs", default)]
    keys: BTreeMap<String, String>,
}

/// What a client wants, read.
#[derive(Clone, Debug)]
pub struct Attributes {
    pub options: Options,
    /// What the client calls the directory that holds the Dockerfile, and the one of the context.
    pub dockerfile_name: String,
    pub context_name: String,
    /// Other sessions that have directories of the client's, by its names for these.
    pub sessions: BTreeMap<String, String>,
    /// Where the context is when it is not the client's: a URL.
    pub remote: Option<String>,
    /// The Dockerfile is the client's, wherever the context is.
    pub has_own_dockerfile: bool,
    /// A question about the Dockerfile instead of a build.
    pub question: Option<String>,
}

impl Attributes {
    pub fn parse(frontend: &str, attributes: &BTreeMap<String, String>) -> Result<Self, AttributeError> {
        match frontend {
            "dockerfile.v0" => {}
            "gateway.v0" => check_syntax(attributes.get("source").map_or("", String::as_str))?,
            other => return Err(AttributeError::Frontend(other.to_owned())),
        }
        let mut read = Self {
            options: Options::default(),
            dockerfile_name: "dockerfile".into(),
            context_name: "context".into(),
            sessions: BTreeMap::new(),
            remote: None,
            has_own_dockerfile: false,
            question: None,
        };
        for (name, value) in attributes {
            read.take(name, value)?;
        }
        Ok(read)
    }

    /// Refuses contexts that are inputs which nobody has given.
    pub fn check_inputs(&self, has: impl Fn(&str) -> bool) -> Result<(), AttributeError> {
        for (context, named) in &self.options.contexts {
            if let NamedContext::Input(input) = named
                && !has(input)
            {
                return Err(AttributeError::Input { input: input.clone(), context: context.clone() });
            }
        }
        Ok(())
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), AttributeError> {
        let options = &mut self.options;
        let invalid = || AttributeError::Value { name: name.to_owned(), value: value.to_owned() };
        let unsupported = |what: &str| Err(AttributeError::Unsupported(what.to_owned()));
        if let Some(argument) = name.strip_prefix("build-arg:") {
            if argument == "BUILDKIT_SYNTAX" {
                check_syntax(value)?;
            }
            options.build_args.insert(argument.to_owned(), value.to_owned());
            return Ok(());
        }
        if let Some(label) = name.strip_prefix("label:") {
            options.labels.insert(label.to_owned(), value.to_owned());
            return Ok(());
        }
        if let Some(context) = name.strip_prefix("context:") {
            options.contexts.insert(context.to_owned(), named_context(value)?);
            return Ok(());
        }
        if let Some(directory) = name.strip_prefix("local-sessionid:") {
            self.sessions.insert(directory.to_owned(), value.to_owned());
            return Ok(());
        }
        if let Some(kind) = name.strip_prefix("attest:") {
            let read = options.attestations.read(kind, value);
            return read.map_err(|error| AttributeError::Attestation(error.to_string()));
        }
        match name {
            "filename" => value.clone_into(&mut options.dockerfile),
            "target" => value.clone_into(&mut options.target),
            "platform" if value.is_empty() => {}
            "platform" => {
                let platforms: Result<_, _> = value.split(',').map(str::parse::<Platform>).collect();
                options.platforms = platforms.map_err(|_| invalid())?;
            }
            "multi-platform" => {
                options.wants_index = match value {
                    "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                    "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                    _ => return Err(invalid()),
                };
            }
            "no-cache" if value.is_empty() => options.no_cache = NoCache::All,
            "no-cache" => options.no_cache = NoCache::Stages(csv::fields(value)),
            "image-resolve-mode" => match value {
                "" | "default" | "local" => {}
                "pull" => options.pull = true,
                _ => return Err(invalid()),
            },
            "force-network-mode" => {
                options.network = match value {
                    "" | "default" | "sandbox" => Network::Default,
                    "none" => Network::None,
                    "host" => Network::Host,
                    _ => return Err(invalid()),
                };
            }
            "add-hosts" => {
                options.extra_hosts = csv::fields(value)
                    .iter()
                    .map(|host| host.split_once('=').map(|(name, address)| format!("{name}:{address}")))
                    .collect::<Option<_>>()
                    .ok_or_else(invalid)?;
            }
            "shm-size" => options.limits.shm_bytes = value.parse().map_err(|_| invalid())?,
            "ulimit" => options.limits.ulimits = csv::fields(value),
            "cgroup-parent" => value.clone_into(&mut options.limits.cgroup_parent),
            "dockerfilekey" => {
                value.clone_into(&mut self.dockerfile_name);
                self.has_own_dockerfile = true;
            }
            "contextkey" => value.clone_into(&mut self.context_name),
            "context" => match value.strip_prefix("local:") {
                Some(name) => name.clone_into(&mut self.context_name),
                None if corten_build::is_remote(value) => self.remote = Some(value.to_owned()),
                None => return unsupported(&format!("the build context {value:?}, which is no URL,")),
            },
            "hostname" if !value.is_empty() => return unsupported("a host name for the steps"),
            "requestid" if !value.is_empty() => self.question = Some(value.to_owned()),
            "frontend.caps" => {
                if let Some(cap) = csv::fields(value).iter().find(|cap| !is_capable(cap)) {
                    return unsupported(&format!("the front end's capability {cap:?}"));
                }
            }
            "cache-imports" => {
                let places: Vec<CachePlace> = serde_json::from_str(value).map_err(|_| invalid())?;
                for place in places {
                    options.cache_from.push(CacheSource::parse(&place.kind, &place.keys)?);
                }
            }
            "cache-from" => {
                for name in csv::fields(value) {
                    let keys = BTreeMap::from([("ref".to_owned(), name)]);
                    options.cache_from.push(CacheSource::parse("registry", &keys)?);
                }
            }
            "vcs:source" | "vcs:revision" => {
                options.vcs.insert(name["vcs:".len()..].to_owned(), value.to_owned());
            }
            // They describe the client's side.
            "source" | "cmdline" | "hostname" | "requestid" => {}
            _ if ["vcs:", "sharedkey:"].iter().any(|prefix| name.starts_with(prefix)) => {}
            _ => return Err(AttributeError::Unknown(name.to_owned())),
        }
        Ok(())
    }
}

/// Refuses a front end that is an image of a language that ours is not.
pub fn check_syntax(syntax: &str) -> Result<(), AttributeError> {
    let image = syntax.split_whitespace().next().unwrap_or_default();
    let name = image.split('@').next().unwrap_or_default();
    let tag = name.rfind(':').filter(|at| !name[*at..].contains('/'));
    let name = tag.map_or(name, |at| &name[..at]);
    if name.is_empty() || OWN_SYNTAX.contains(&name) {
        return Ok(());
    }
    Err(AttributeError::Syntax(image.to_owned()))
}

fn named_context(value: &str) -> Result<NamedContext, AttributeError> {
    if let Some(name) = value.strip_prefix("local:") {
        return Ok(NamedContext::Tree(name.to_owned()));
    }
    if let Some(name) = value.strip_prefix("input:") {
        return Ok(NamedContext::Input(name.to_owned()));
    }
    if let Some(image) = value.strip_prefix("docker-image://") {
        return Ok(NamedContext::Image(image.to_owned()));
    }
    if corten_build::is_remote(value) {
        return Ok(NamedContext::Remote(value.to_owned()));
    }
    if let Some(layout) = value.strip_prefix("oci-layout://") {
        // `STORE[:TAG]@DIGEST`; the client has looked the tag up.
        let (name, digest) = layout.rsplit_once('@').unwrap_or((layout, ""));
        let store = format!("oci:{}", name.split(':').next().unwrap_or_default());
        let invalid = |_| AttributeError::Value { name: "context".to_owned(), value: value.to_owned() };
        return Ok(NamedContext::Layout { store, manifest: digest.parse().map_err(invalid)? });
    }
    Err(AttributeError::Unsupported(format!("the build context {value:?}")))
}

fn is_capable(cap: &str) -> bool {
    let cap = cap.strip_suffix("+forward").unwrap_or(cap);
    matches!(cap, "moby.buildkit.frontend.contexts" | "moby.buildkit.frontend.subrequests")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Attributes, AttributeError> {
        let attributes = pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Attributes::parse("dockerfile.v0", &attributes)
    }

    #[test]
    fn what_buildx_sends_is_read() {
        let read = parse(&[
            ("add-hosts", "db=10.0.0.1,\"v6=::1\""),
            ("build-arg:V", "1=2"),
            ("cgroup-parent", "/x"),
            ("context:base", "docker-image://debian:12"),
            ("context:other", "local:other"),
            ("filename", "Dockerfile"),
            ("force-network-mode", "none"),
            ("frontend.caps", "moby.buildkit.frontend.contexts+forward"),
            ("image-resolve-mode", "pull"),
            ("label:a.b", "c"),
            ("no-cache", "one,two"),
            ("platform", "linux/amd64,linux/arm/v7"),
            ("multi-platform", "true"),
            ("shm-size", "1024"),
            ("target", "last"),
            ("ulimit", "nofile=10:20"),
            ("vcs:localdir:context", "."),
        ])
        .unwrap();
        let options = read.options;
        assert_eq!(options.extra_hosts, ["db:10.0.0.1", "v6:::1"]);
        assert_eq!(options.build_args["V"], "1=2");
        assert_eq!(options.labels["a.b"], "c");
        let platforms: Vec<String> = options.platforms.iter().map(ToString::to_string).collect();
        assert_eq!((platforms.join(" "), options.wants_index), ("linux/amd64 linux/arm/v7".into(), true));
        assert_eq!(options.contexts["base"], NamedContext::Image("debian:12".into()));
        assert_eq!(options.contexts["other"], NamedContext::Tree("other".into()));
        assert_eq!((options.network, options.pull), (Network::None, true));
        assert_eq!(options.no_cache, NoCache::Stages(vec!["one".into(), "two".into()]));
        assert_eq!((options.limits.shm_bytes, options.limits.ulimits), (1024, vec!["nofile=10:20".into()]));
        assert_eq!((options.dockerfile.as_str(), options.target.as_str()), ("Dockerfile", "last"));
        let caches = parse(&[
            ("cache-from", "old.example/a"),
            ("cache-imports", r#"[{"Type":"registry","Attrs":{"ref":"new.example/b:1"}}]"#),
        ]);
        let name = |name: &str| CacheSource::Registry(corten_image::Reference::parse(name).unwrap());
        let expected = [name("old.example/a"), name("new.example/b:1")];
        assert_eq!(caches.unwrap().options.cache_from, expected);
        assert_eq!(parse(&[("no-cache", "")]).unwrap().options.no_cache, NoCache::All);
    }

    #[test]
    fn contexts_may_lie_elsewhere() {
        let url = "https://example.org/a.git#main:dir";
        let read = parse(&[("context", url), ("context:b", "https://example.org/b.tar")]).unwrap();
        assert_eq!((read.remote.as_deref(), read.has_own_dockerfile), (Some(url), false));
        assert_eq!(read.options.contexts["b"], NamedContext::Remote("https://example.org/b.tar".into()));
        assert!(parse(&[("context", url), ("dockerfilekey", "dockerfile")]).unwrap().has_own_dockerfile);
    }

    #[test]
    fn directories_may_be_in_other_sessions() {
        let read = parse(&[("local-sessionid:context", "abc"), ("local-sessionid:other", "def")]).unwrap();
        let sessions: Vec<(&str, &str)> =
            read.sessions.iter().map(|(name, id)| (name.as_str(), id.as_str())).collect();
        assert_eq!(sessions, [("context", "abc"), ("other", "def")]);
    }

    #[test]
    fn contexts_may_be_images_of_the_clients() {
        let manifest = corten_image::Digest::of(b"");
        for value in [format!("oci-layout://id@{manifest}"), format!("oci-layout://id:1.2@{manifest}")] {
            let read = parse(&[("context:base", &value)]).unwrap();
            let expected = NamedContext::Layout { store: "oci:id".into(), manifest };
            assert_eq!(read.options.contexts["base"], expected);
        }
    }

    #[test]
    fn contexts_may_be_what_other_builds_make() {
        let read = parse(&[("context:base", "input:0-base")]).unwrap();
        assert_eq!(read.options.contexts["base"], NamedContext::Input("0-base".into()));
        assert_eq!(read.check_inputs(|name| name == "0-base"), Ok(()));
        let missing = read.check_inputs(|_| false).unwrap_err();
        assert_eq!(missing.to_string(), "invalid input 0-base for base");
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        for (name, value) in [
            ("context", "ftp://example.org/a"),
            ("context:a", "target:b"),
            ("hostname", "h"),
            ("frontend.caps", "moby.buildkit.frontend.teleport"),
        ] {
            let refusal = parse(&[(name, value)]).map(|_| ());
            assert!(matches!(refusal, Err(AttributeError::Unsupported(_))), "{name}");
        }
        assert!(matches!(
            parse(&[("cache-imports", r#"[{"Type":"gha"}]"#)]),
            Err(AttributeError::Cache(CacheOptionError::Type(_)))
        ));
        assert!(matches!(parse(&[("wings", "2")]), Err(AttributeError::Unknown(_))));
        for (name, value) in [
            ("context:a", "oci-layout://a@sha256:00"),
            ("context:a", "oci-layout://a:latest"),
            ("platform", "a/b/c/d"),
            ("multi-platform", "x"),
            ("shm-size", "much"),
            ("force-network-mode", "x"),
            ("add-hosts", "a"),
        ] {
            assert!(matches!(parse(&[(name, value)]), Err(AttributeError::Value { .. })), "{name}");
        }
        assert!(matches!(parse(&[("attest:sbom", "wings=2")]), Err(AttributeError::Attestation(_))));
        let by_itself =
            [("attest:provenance", "mode=min,inline-only=true"), ("attest:sbom", "disabled=true")];
        assert!(parse(&by_itself).unwrap().options.attestations.is_empty());
        let asked = parse(&[("attest:provenance", "mode=max"), ("attest:sbom", "")]).unwrap().options;
        assert!(asked.attestations.provenance.is_some() && asked.attestations.sbom.is_some());
    }

    #[test]
    fn our_front_end_answers_for_dockers_only() {
        for syntax in
            ["docker/dockerfile:1", "docker.io/docker/dockerfile:1.7-labs@sha256:abc", "docker/dockerfile"]
        {
            check_syntax(syntax).unwrap();
        }
        for syntax in ["example.org/front:1", "docker/dockerfiles", "localhost:5000/docker/dockerfile"] {
            assert!(matches!(check_syntax(syntax), Err(AttributeError::Syntax(_))), "{syntax}");
        }
        let source = |image: &str| BTreeMap::from([("source".to_owned(), image.to_owned())]);
        Attributes::parse("gateway.v0", &source("docker/dockerfile:1")).unwrap();
        assert!(Attributes::parse("gateway.v0", &source("a/b")).is_err());
        assert!(Attributes::parse("cobol.v0", &BTreeMap::new()).is_err());
    }
}
