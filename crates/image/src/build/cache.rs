//! Build caches that travel: which steps there are, and which layers they made. The format is docs/build-cache.md's.
//!
//! Who reads one believes nothing of it but what is bounded here; that a layer is what is said of it is seen when it comes.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::config::RootFs;
use crate::digest::{DiffId, Digest};
use crate::manifest::{Descriptor, Manifest, media};

/// The media type of a cache's configuration.
pub const CACHE_CONFIG: &str = "application/vnd.corten.build-cache.v1+json";
/// What it begins with in all versions.
const CACHE_CONFIG_FAMILY: &str = "application/vnd.corten.build-cache.";
/// Bytes of a configuration that are read at most.
pub const CACHE_CONFIG_BYTES_MAX: u64 = 8 << 20;

const VERSION: u32 = 1;
const STEPS_MAX: usize = 20_000;
const LAYERS_MAX: usize = 20_000;
const MOUNTS_MAX: usize = 1_000;
const SOURCES_MAX: usize = 20_000;
/// The end of the year 9999 in Unix seconds: later times can't be written in RFC 3339.
const NEWEST_MAX: i64 = 253_402_300_799;
/// Of a step's description; commands may be whole scripts.
const DESCRIPTION_CHARS_MAX: usize = 400;

/// A step of a build, as a cache has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedStep {
    pub key: Digest,
    /// None: it changed no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<DiffId>,
    /// Bytes of the layer's tar stream.
    #[serde(default)]
    pub size: u64,
    /// For people: `RUN make`
    #[serde(default)]
    pub description: String,
}

/// The directory of a cache mount, as a cache has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedMount {
    /// As the Dockerfile calls it; for people.
    #[serde(default)]
    pub id: String,
    /// What tells it from others: of the id, and of what it begins as where it is a copy.
    pub key: Digest,
    /// What is in the directory, packed.
    pub layer: DiffId,
    /// Bytes of the layer's tar stream.
    #[serde(default)]
    pub size: u64,
}

/// What COPY has read of layers, as a cache has it: who knows it needs no layers to see that the same was put before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedSource {
    /// What was to be read: of which layers, by which names, and with what left out.
    pub request: Digest,
    /// What was found.
    pub fingerprint: Digest,
    /// When the newest of it was changed, Unix seconds; none where nothing was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<i64>,
}

/// What the configuration holds; fields that are not known are read over.
#[derive(Debug, Serialize, Deserialize)]
struct CacheConfig {
    /// In the order of the manifest's layers.
    rootfs: RootFs,
    #[serde(flatten)]
    list: CacheList,
}

/// The steps of a cache: the field `corten.build-cache` of an image's configuration has them of the image's own layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheList {
    version: u32,
    steps: Vec<CachedStep>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<CachedMount>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sources: Vec<CachedSource>,
}

/// An image's configuration, as far as it is a cache.
#[derive(Deserialize)]
struct ImageCache {
    rootfs: RootFs,
    #[serde(rename = "corten.build-cache")]
    list: Option<CacheList>,
}

/// Why something is no cache that can be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("it is no build cache of this kind, but {0:?}")]
    Foreign(String),
    #[error("the image has no build cache in it: build it with --cache-to type=inline")]
    NotInline,
    #[error("it is a build cache of a newer version ({0}): use a newer engine")]
    Newer(String),
    #[error("its list of steps can't be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it has more than {max} {what}")]
    Limit { what: &'static str, max: usize },
    #[error("it lists {listed} layers, and has {there}")]
    Layers { listed: usize, there: usize },
}

/// A cache that was read.
#[derive(Debug, Default)]
pub struct BuildCache {
    pub steps: HashMap<Digest, CachedStep>,
    /// By their keys.
    pub mounts: HashMap<Digest, CachedMount>,
    /// By their requests.
    pub sources: HashMap<Digest, CachedSource>,
    /// How each layer is transported.
    pub layers: HashMap<DiffId, Descriptor>,
}

impl BuildCache {
    /// Whether a manifest is a cache's, or an image's that may be one, by what it says of its configuration.
    ///
    /// # Errors
    /// Says what it is otherwise.
    pub fn check(manifest: &Manifest) -> Result<(), CacheError> {
        let kind = manifest.config.media_type.as_str();
        match kind {
            CACHE_CONFIG => {}
            _ if media::kind(kind) == Some(media::Kind::Config) => {}
            _ if kind.starts_with(CACHE_CONFIG_FAMILY) => return Err(CacheError::Newer(kind.to_owned())),
            _ => return Err(CacheError::Foreign(kind.to_owned())),
        }
        at_most("layers", manifest.layers.len(), LAYERS_MAX)
    }

    /// Reads a cache by its manifest, which was checked, and its configuration.
    pub fn read(manifest: &Manifest, config: &[u8]) -> Result<BuildCache, CacheError> {
        if manifest.config.media_type != CACHE_CONFIG {
            return BuildCache::of_image(config, &manifest.layers);
        }
        let CacheConfig { rootfs, list } = serde_json::from_slice(config)?;
        list.with(rootfs, &manifest.layers)
    }

    /// The cache that is in an image's configuration; without the image's manifest its layers are here.
    pub fn of_image(config: &[u8], layers: &[Descriptor]) -> Result<BuildCache, CacheError> {
        let ImageCache { rootfs, list } = serde_json::from_slice(config)?;
        let rootfs = if layers.is_empty() { RootFs::default() } else { rootfs };
        list.ok_or(CacheError::NotInline)?.with(rootfs, layers)
    }
}

impl CacheList {
    pub fn new(
        mut steps: Vec<CachedStep>,
        mounts: Vec<CachedMount>,
        sources: Vec<CachedSource>,
    ) -> Result<CacheList, CacheError> {
        at_most("steps", steps.len(), STEPS_MAX)?;
        at_most("cache mounts", mounts.len(), MOUNTS_MAX)?;
        at_most("sources", sources.len(), SOURCES_MAX)?;
        steps.iter_mut().for_each(|step| step.description = shortened(&step.description));
        Ok(CacheList { version: VERSION, steps, mounts, sources })
    }

    fn with(self, rootfs: RootFs, layers: &[Descriptor]) -> Result<BuildCache, CacheError> {
        if self.version != VERSION {
            return Err(CacheError::Newer(self.version.to_string()));
        }
        at_most("steps", self.steps.len(), STEPS_MAX)?;
        at_most("cache mounts", self.mounts.len(), MOUNTS_MAX)?;
        at_most("sources", self.sources.len(), SOURCES_MAX)?;
        let (listed, there) = (rootfs.diff_ids.len(), layers.len());
        if listed > there {
            return Err(CacheError::Layers { listed, there });
        }
        let clean = |mut step: CachedStep| {
            step.description = shortened(&step.description);
            (step.key, step)
        };
        let clean_mount = |mount: CachedMount| (mount.key, CachedMount { id: shortened(&mount.id), ..mount });
        let clean_source = |source: CachedSource| {
            let newest = source.newest.map(|newest| newest.min(NEWEST_MAX));
            (source.request, CachedSource { newest, ..source })
        };
        Ok(BuildCache {
            steps: self.steps.into_iter().map(clean).collect(),
            mounts: self.mounts.into_iter().map(clean_mount).collect(),
            sources: self.sources.into_iter().map(clean_source).collect(),
            layers: rootfs.diff_ids.into_iter().zip(layers.iter().cloned()).collect(),
        })
    }
}

/// Writes a cache's configuration, of layers in the order of the manifest's.
pub fn compose_cache(
    layers: Vec<DiffId>,
    steps: Vec<CachedStep>,
    mounts: Vec<CachedMount>,
    sources: Vec<CachedSource>,
) -> Result<Vec<u8>, CacheError> {
    at_most("layers", layers.len(), LAYERS_MAX)?;
    let rootfs = RootFs { kind: "layers".to_owned(), diff_ids: layers };
    Ok(serde_json::to_vec(&CacheConfig { rootfs, list: CacheList::new(steps, mounts, sources)? })?)
}

fn at_most(what: &'static str, count: usize, max: usize) -> Result<(), CacheError> {
    if count > max { Err(CacheError::Limit { what, max }) } else { Ok(()) }
}

/// One line that is safe to show.
fn shortened(text: &str) -> String {
    let plain = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    plain.take(DESCRIPTION_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ImageConfig;

    fn manifest(config: &str, layers: usize) -> Manifest {
        let layer = |number: usize| Descriptor::of(media::OCI_LAYER_GZIP, number.to_string().as_bytes());
        Manifest {
            schema_version: 2,
            media_type: None,
            artifact_type: None,
            config: Descriptor::of(config, b""),
            layers: (0..layers).map(layer).collect(),
            subject: None,
            annotations: None,
        }
    }

    fn step(name: &str, layer: Option<DiffId>) -> CachedStep {
        CachedStep { key: Digest::of(name.as_bytes()), layer, size: 7, description: name.to_owned() }
    }

    #[test]
    fn what_was_written_is_read() {
        let layer = Digest::of(b"layer");
        let steps = vec![step("RUN make", Some(layer)), step("WORKDIR /", None)];
        let mount = CachedMount {
            id: "apt".to_owned(),
            key: Digest::of(b"apt"),
            layer: Digest::of(b"mount"),
            size: 9,
        };
        let sources = [Some(1_700_000_000), None].map(|newest| CachedSource {
            request: Digest::of(format!("{newest:?}").as_bytes()),
            fingerprint: Digest::of(b"files"),
            newest,
        });
        let mounts = vec![mount.clone()];
        let config =
            compose_cache(vec![layer, mount.layer], steps.clone(), mounts, sources.to_vec()).unwrap();
        let manifest = manifest(CACHE_CONFIG, 2);
        BuildCache::check(&manifest).unwrap();
        let read = BuildCache::read(&manifest, &config).unwrap();
        assert_eq!(read.layers[&layer], manifest.layers[0]);
        assert_eq!(read.layers[&mount.layer], manifest.layers[1]);
        assert_eq!(read.mounts[&mount.key], mount);
        assert_eq!(sources.map(|source| read.sources[&source.request]), sources);
        assert_eq!(
            steps.iter().map(|step| &read.steps[&step.key]).collect::<Vec<_>>(),
            [&steps[0], &steps[1]]
        );
    }

    #[test]
    fn fields_of_later_times_are_read_over() {
        let key = Digest::of(b"key");
        let config = format!(
            r#"{{"version":1,"wings":2,"rootfs":{{"type":"layers"}},"steps":[{{"key":"{key}","colour":"red"}}]}}"#
        );
        let read = BuildCache::read(&manifest(CACHE_CONFIG, 1), config.as_bytes()).unwrap();
        assert_eq!(read.steps[&key].layer, None);
        assert!(read.layers.is_empty());
    }

    #[test]
    fn an_image_may_be_one() {
        let layer = Digest::of(b"layer");
        let list = CacheList::new(vec![step("RUN make", Some(layer))], Vec::new(), Vec::new()).unwrap();
        let rootfs = RootFs { kind: "layers".to_owned(), diff_ids: vec![layer] };
        let config =
            ImageConfig { rootfs: rootfs.clone(), build_cache: Some(list), ..ImageConfig::default() };
        let bytes = serde_json::to_vec(&config).unwrap();
        let manifest = manifest(media::OCI_CONFIG, 1);
        BuildCache::check(&manifest).unwrap();
        let read = BuildCache::read(&manifest, &bytes).unwrap();
        assert_eq!(read.layers[&layer], manifest.layers[0]);
        assert_eq!(read.steps.len(), 1);
        assert_eq!(BuildCache::of_image(&bytes, &[]).unwrap().steps.len(), 1);
        // What is said of a cache is no part of what images made on top of this one begin with.
        let view: ImageConfig = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(view.build_cache, None);
        let plain = serde_json::to_vec(&ImageConfig { rootfs, ..ImageConfig::default() }).unwrap();
        assert!(matches!(BuildCache::read(&manifest, &plain), Err(CacheError::NotInline)));
    }

    #[test]
    fn what_is_no_cache_is_refused() {
        let check = |kind: &str| BuildCache::check(&manifest(kind, 0));
        assert!(matches!(check("application/vnd.buildkit.cacheconfig.v0"), Err(CacheError::Foreign(_))));
        assert!(matches!(check("application/vnd.corten.build-cache.v2+json"), Err(CacheError::Newer(_))));
        assert!(matches!(
            BuildCache::check(&manifest(CACHE_CONFIG, LAYERS_MAX + 1)),
            Err(CacheError::Limit { .. })
        ));
        let read = |config: &str| BuildCache::read(&manifest(CACHE_CONFIG, 1), config.as_bytes());
        assert!(matches!(read(r#"{"version":2,"rootfs":{},"steps":[]}"#), Err(CacheError::Newer(_))));
        assert!(matches!(read(r#"{"version":1,"rootfs":{},"st"#), Err(CacheError::Json(_))));
        assert!(matches!(
            read(r#"{"version":1,"rootfs":{},"steps":[{"key":"sha256:xyz"}]}"#),
            Err(CacheError::Json(_))
        ));
        let id = Digest::of(b"");
        let two = format!(r#"{{"version":1,"rootfs":{{"diff_ids":["{id}","{id}"]}},"steps":[]}}"#);
        assert!(matches!(read(&two), Err(CacheError::Layers { listed: 2, there: 1 })));
        let entry = format!(r#"{{"key":"{id}"}}"#);
        let many = vec![entry; STEPS_MAX + 1].join(",");
        let many = format!(r#"{{"version":1,"rootfs":{{}},"steps":[{many}]}}"#);
        assert!(matches!(read(&many), Err(CacheError::Limit { what: "steps", .. })));
        let mount = format!(r#"{{"key":"{id}","layer":"{id}"}}"#);
        let many = vec![mount; MOUNTS_MAX + 1].join(",");
        let many = format!(r#"{{"version":1,"rootfs":{{}},"steps":[],"mounts":[{many}]}}"#);
        assert!(matches!(read(&many), Err(CacheError::Limit { what: "cache mounts", .. })));
        let source = format!(r#"{{"request":"{id}","fingerprint":"{id}"}}"#);
        let many = vec![source; SOURCES_MAX + 1].join(",");
        let many = format!(r#"{{"version":1,"rootfs":{{}},"steps":[],"sources":[{many}]}}"#);
        assert!(matches!(read(&many), Err(CacheError::Limit { what: "sources", .. })));
        let bad = format!(
            r#"{{"version":1,"rootfs":{{}},"steps":[],"sources":[{{"request":"{id}","fingerprint":7}}]}}"#
        );
        assert!(matches!(read(&bad), Err(CacheError::Json(_))));
    }

    #[test]
    fn no_source_is_of_a_time_that_nobody_can_write() {
        let (request, latest) = (Digest::of(b""), i64::MAX);
        let config = format!(
            r#"{{"version":1,"rootfs":{{}},"steps":[],"sources":[{{"request":"{request}","fingerprint":"{request}","newest":{latest}}}]}}"#
        );
        let read = BuildCache::read(&manifest(CACHE_CONFIG, 0), config.as_bytes()).unwrap();
        assert_eq!(read.sources[&request].newest, Some(NEWEST_MAX));
    }

    #[test]
    fn descriptions_are_short_and_harmless() {
        let long = format!("RUN \u{1b}[2J\n{}", "x".repeat(10_000));
        let config = compose_cache(Vec::new(), vec![step(&long, None)], Vec::new(), Vec::new()).unwrap();
        let read = BuildCache::read(&manifest(CACHE_CONFIG, 0), &config).unwrap();
        let description = &read.steps.values().next().unwrap().description;
        assert!(description.starts_with("RUN  [2J ") && description.chars().count() == DESCRIPTION_CHARS_MAX);
    }
}
