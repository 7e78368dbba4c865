//! Caches that travel, as people ask for them: `--cache-from`, `--cache-to`. Their keys are BuildKit's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use corten_image::build::{BuildSession, CachedStep};
use corten_image::{CompressionFormat, DiffId, Digest, Reference};

use crate::error::Result;
use crate::worker::CacheWish;

/// A step that was done or found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoneStep {
    pub key: Digest,
    /// None: it changed no file.
    pub layer: Option<DiffId>,
    /// `RUN make`
    pub description: String,
}

/// A cache mount that a step has, whether it was done or found.
#[derive(Clone, Debug)]
pub struct UsedMount {
    pub wish: CacheWish,
    /// What a step that was done has used.
    pub directory: Option<PathBuf>,
}

/// Which cache mounts go along with a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MountChoice {
    #[default]
    None,
    /// All that steps of the build have.
    All,
    /// By the ids that they have in the Dockerfile.
    Named(BTreeSet<String>),
}

impl MountChoice {
    /// `all`, or ids with a colon between one and the next; a colon within one is doubled.
    fn parse(text: &str) -> Option<MountChoice> {
        if text == "all" {
            return Some(MountChoice::All);
        }
        // No id has a zero byte: it would be no text of a Dockerfile's.
        let text = text.replace("::", "\0");
        let ids: BTreeSet<String> = text.split(':').map(|id| id.replace('\0', ":")).collect();
        (!ids.contains("")).then_some(MountChoice::Named(ids))
    }

    pub fn has(&self, id: &str) -> bool {
        match self {
            MountChoice::None => false,
            MountChoice::All => true,
            MountChoice::Named(ids) => ids.contains(id),
        }
    }

    /// An id that is named and is not among those.
    pub fn unknown(&self, known: &BTreeSet<&str>) -> Option<&str> {
        match self {
            MountChoice::Named(ids) => ids.iter().map(String::as_str).find(|id| !known.contains(id)),
            _ => None,
        }
    }
}

/// The key of a step that is done with directories that came from caches; none where none did. Cache mounts are in no step's key, so
/// what is made with these must not be found by those who don't name such a cache.
pub fn with_imported(key: &Digest, mounts: &BTreeSet<DiffId>) -> Option<Digest> {
    let layers = mounts.iter().flat_map(|layer| layer.as_bytes());
    let all = b"imported mounts".iter().chain(key.as_bytes()).chain(layers);
    (!mounts.is_empty()).then(|| Digest::of(&all.copied().collect::<Vec<u8>>()))
}

/// The key of a step that is done while a cache alone has told how old its newest input is. That time is in no step's key, and bounds
/// those of the step's files: what is made with it must not be found by those who don't name such a cache.
pub fn with_told_time(key: &Digest, newest: i64) -> Digest {
    Digest::of(&[b"told time".as_slice(), key.as_bytes(), &newest.to_le_bytes()].concat())
}

/// Steps as a cache lists them: each once, and the same steps always in the same order.
pub fn listed(
    steps: &[DoneStep],
    session: &BuildSession,
    is_wanted: impl Fn(&DiffId) -> bool,
) -> Result<Vec<CachedStep>> {
    let wanted = steps.iter().filter(|step| step.layer.as_ref().is_none_or(&is_wanted));
    let by_key: BTreeMap<Digest, &DoneStep> = wanted.map(|step| (step.key, step)).collect();
    let listed = by_key.into_values().map(|DoneStep { key, layer, description }| {
        let here = layer.as_ref().map(|layer| session.find_layer(layer)).transpose()?;
        let size = here.flatten().map_or(0, |layer| layer.tar_bytes());
        Ok(CachedStep { key: *key, layer: *layer, size, description: description.clone() })
    });
    listed.collect()
}

/// A cache whose steps count as done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheSource {
    /// At a registry.
    Registry(Reference),
    /// In an image of the store, or else at its registry.
    Image(Reference),
    /// At the asker's, who knows the place by that name ([`client_store`]).
    Client { place: String, manifest: Digest },
}

/// For people.
impl fmt::Display for CacheSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CacheSource::Registry(name) | CacheSource::Image(name) => name.fmt(f),
            CacheSource::Client { place, .. } => place.fmt(f),
        }
    }
}

/// What the asker calls the blobs of a cache that is at one of its places.
pub fn client_store(place: &str) -> String {
    format!("local:{place}")
}

/// Where the steps of a build go as a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheTarget {
    pub place: CachePlace,
    /// All steps, and not only those whose layers the result has.
    pub is_whole: bool,
    pub compression: CompressionFormat,
    pub mounts: MountChoice,
    pub mount_compression: CompressionFormat,
    /// A failure is a warning.
    pub may_fail: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePlace {
    /// At a registry, by a name with a tag.
    Registry(Reference),
    /// Within the image's configuration.
    Image,
    /// At the asker's, who knows the place by that name ([`client_store`]) and has the list of what is there.
    Client(String),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheOptionError {
    #[error("a build cache of type {0:?} is not supported: use registry, local or inline")]
    Type(String),
    #[error("a build cache of type {kind} needs {name}")]
    Missing { kind: String, name: &'static str },
    #[error("a build cache of type {kind} takes no {name}={value}: {hint}")]
    Value { kind: String, name: String, value: String, hint: String },
}

/// The keys of all caches that go out whole.
const KEYS: [&str; 7] = [
    "mode",
    "compression",
    "force-compression",
    "image-manifest",
    "oci-mediatypes",
    "ignore-error",
    "mounts",
];

impl CacheSource {
    /// `type` and the other keys.
    pub fn parse(
        kind: &str,
        keys: &BTreeMap<String, String>,
    ) -> std::result::Result<CacheSource, CacheOptionError> {
        let keys = Keys { kind, keys };
        match kind {
            "registry" => {
                keys.only(&["ref"])?;
                Ok(CacheSource::Registry(keys.reference()?))
            }
            "local" => {
                // A tag is the client's to look up.
                keys.only(&["src", "digest", "tag"])?;
                let place = keys.needed("src", "src=DIRECTORY")?.to_owned();
                let digest = keys.needed("digest", "digest=DIGEST, or a tag that is there")?;
                let digest = digest.parse::<Digest>();
                let manifest = digest.map_err(|error| keys.wrong("digest", error.to_string()))?;
                Ok(CacheSource::Client { place, manifest })
            }
            _ => Err(CacheOptionError::Type(kind.to_owned())),
        }
    }
}

impl CacheTarget {
    /// `type` and the other keys.
    pub fn parse(
        kind: &str,
        keys: &BTreeMap<String, String>,
    ) -> std::result::Result<CacheTarget, CacheOptionError> {
        let keys = Keys { kind, keys };
        let place = match kind {
            "registry" => {
                keys.only(&[&["ref"], KEYS.as_slice()].concat())?;
                let reference = keys.reference()?;
                if reference.digest().is_some() {
                    return Err(keys.wrong("ref", "a cache gets a tag, no digest"));
                }
                CachePlace::Registry(reference)
            }
            "local" => {
                // What the list there calls it, and what is removed, is the client's to know.
                keys.only(&[&["dest", "tag", "reset"], KEYS.as_slice()].concat())?;
                CachePlace::Client(keys.needed("dest", "dest=DIRECTORY")?.to_owned())
            }
            "inline" => return keys.inline(),
            _ => return Err(CacheOptionError::Type(kind.to_owned())),
        };
        for name in ["image-manifest", "oci-mediatypes"] {
            if !keys.flag(name, true)? {
                return Err(keys.wrong(name, "it always is one"));
            }
        }
        // Layers are always compressed as is wanted here.
        keys.flag("force-compression", true)?;
        let compression = |default: CompressionFormat| {
            let said = keys.text("compression").map_or(Ok(default), str::parse);
            said.map_err(|_| keys.wrong("compression", "it is gzip or zstd"))
        };
        Ok(CacheTarget {
            place,
            is_whole: match keys.text("mode").unwrap_or("min") {
                "min" => false,
                "max" => true,
                _ => return Err(keys.wrong("mode", "it is min or max")),
            },
            compression: compression(CompressionFormat::Gzip)?,
            mounts: keys.mounts()?,
            // Only this kind of engine reads them.
            mount_compression: compression(CompressionFormat::Zstd)?,
            may_fail: keys.flag("ignore-error", false)?,
        })
    }
}

/// The keys of one cache.
struct Keys<'k> {
    kind: &'k str,
    keys: &'k BTreeMap<String, String>,
}

impl<'k> Keys<'k> {
    fn text(&self, name: &str) -> Option<&'k str> {
        self.keys.get(name).map(String::as_str)
    }

    fn wrong(&self, name: &str, hint: impl Into<String>) -> CacheOptionError {
        let (kind, value) = (self.kind.to_owned(), self.text(name).unwrap_or_default().to_owned());
        CacheOptionError::Value { kind, name: name.to_owned(), value, hint: hint.into() }
    }

    fn only(&self, known: &[&str]) -> std::result::Result<(), CacheOptionError> {
        match self.keys.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => {
                // What is taken for BuildKit's clients, who mean themselves, is nobody else's to say.
                let known: Vec<&str> = known.iter().copied().filter(|key| *key != "reset").collect();
                Err(self.wrong(name, format!("the keys are {}", known.join(", "))))
            }
            None => Ok(()),
        }
    }

    fn needed(&self, name: &str, hint: &'static str) -> std::result::Result<&'k str, CacheOptionError> {
        let missing = || CacheOptionError::Missing { kind: self.kind.to_owned(), name: hint };
        self.text(name).filter(|text| !text.is_empty()).ok_or_else(missing)
    }

    fn reference(&self) -> std::result::Result<Reference, CacheOptionError> {
        let name = self.needed("ref", "ref=NAME")?;
        Reference::parse(name).map_err(|error| self.wrong("ref", error.to_string()))
    }

    /// What is in the image is there with it, or not at all.
    fn inline(&self) -> std::result::Result<CacheTarget, CacheOptionError> {
        if self.text("mounts").is_some() {
            let hint = "an image has no room for directories of cache mounts: send them to a registry or a directory";
            return Err(self.wrong("mounts", hint));
        }
        self.only(&["mode", "ignore-error"])?;
        if self.text("mode").is_some_and(|mode| mode != "min") {
            return Err(self.wrong("mode", "an image has its own steps alone"));
        }
        let may_fail = self.flag("ignore-error", false)?;
        let (compression, mount_compression) = Default::default();
        let (place, mounts) = (CachePlace::Image, MountChoice::None);
        Ok(CacheTarget { place, is_whole: false, compression, mounts, mount_compression, may_fail })
    }

    fn mounts(&self) -> std::result::Result<MountChoice, CacheOptionError> {
        let Some(text) = self.text("mounts") else { return Ok(MountChoice::None) };
        let hint = "write mounts=all, or ids of cache mounts with colons between them: mounts=apt:pip (a colon within an id is \
            doubled)";
        MountChoice::parse(text).ok_or_else(|| self.wrong("mounts", hint))
    }

    /// As Go's `strconv.ParseBool`.
    fn flag(&self, name: &str, default: bool) -> std::result::Result<bool, CacheOptionError> {
        match self.text(name) {
            None => Ok(default),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(_) => Err(self.wrong(name, "it is true or false")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn what_clients_say_is_read() {
        let source = CacheSource::parse("registry", &keys(&[("ref", "r.example/c")])).unwrap();
        assert_eq!(source, CacheSource::Registry(Reference::parse("r.example/c:latest").unwrap()));
        let target = |pairs: &[(&str, &str)]| {
            CacheTarget::parse("registry", &keys(&[&[("ref", "r.example/c:1")], pairs].concat()))
        };
        let plain = target(&[]).unwrap();
        assert_eq!(
            (plain.is_whole, plain.compression, plain.may_fail),
            (false, CompressionFormat::Gzip, false)
        );
        let full = target(&[
            ("mode", "max"),
            ("compression", "zstd"),
            ("force-compression", "true"),
            ("image-manifest", "true"),
            ("oci-mediatypes", "1"),
            ("ignore-error", "true"),
        ]);
        let full = full.unwrap();
        assert_eq!((full.is_whole, full.compression, full.may_fail), (true, CompressionFormat::Zstd, true));
    }

    #[test]
    fn mounts_are_named() {
        let target = |pairs: &[(&str, &str)]| {
            CacheTarget::parse("registry", &keys(&[&[("ref", "r.example/c")], pairs].concat()))
        };
        assert_eq!(target(&[]).unwrap().mounts, MountChoice::None);
        let all = target(&[("mounts", "all")]).unwrap();
        assert_eq!((all.mounts, all.mount_compression), (MountChoice::All, CompressionFormat::Zstd));
        let two = target(&[("mounts", "/root/.npm:pip"), ("compression", "gzip")]).unwrap();
        assert!(two.mounts.has("pip") && two.mounts.has("/root/.npm") && !two.mounts.has("apt"));
        assert_eq!(two.mount_compression, CompressionFormat::Gzip);
        assert_eq!(two.mounts.unknown(&BTreeSet::from(["apt", "pip"])), Some("/root/.npm"));
        assert_eq!(two.mounts.unknown(&BTreeSet::from(["/root/.npm", "pip"])), None);
        let doubled = target(&[("mounts", "go::mod:pip")]).unwrap().mounts;
        assert_eq!(doubled, MountChoice::Named(["go:mod", "pip"].map(str::to_owned).into()));
        for empty in ["", ":", "apt:", ":apt", "apt:::pip:"] {
            let told = target(&[("mounts", empty)]).unwrap_err().to_string();
            assert!(told.contains("mounts=apt:pip"), "{told}");
        }
        let inline = CacheTarget::parse("inline", &keys(&[("mounts", "all")])).unwrap_err();
        assert!(inline.to_string().contains("an image has no room for directories"), "{inline}");
    }

    #[test]
    fn a_cache_in_the_image_is_of_its_own_steps() {
        let inline = |pairs: &[(&str, &str)]| CacheTarget::parse("inline", &keys(pairs));
        assert_eq!(inline(&[("mode", "min")]).unwrap().place, CachePlace::Image);
        assert!(inline(&[("mode", "max")]).is_err());
        assert!(inline(&[("ref", "a")]).is_err());
    }

    #[test]
    fn a_cache_may_be_at_the_clients() {
        let manifest = Digest::of(b"");
        let source = |pairs: &[(&str, &str)]| CacheSource::parse("local", &keys(pairs));
        let read = source(&[("src", "/a b"), ("digest", &manifest.to_string()), ("tag", "t")]).unwrap();
        assert_eq!(read, CacheSource::Client { place: "/a b".to_owned(), manifest });
        assert!(matches!(source(&[("src", "/a")]), Err(CacheOptionError::Missing { .. })));
        assert!(source(&[("src", "/a"), ("digest", "sha256:1")]).is_err());
        let target = |pairs: &[(&str, &str)]| CacheTarget::parse("local", &keys(pairs));
        let read = target(&[("dest", "d"), ("mode", "max"), ("tag", "t")]).unwrap();
        assert_eq!((read.place, read.is_whole), (CachePlace::Client("d".to_owned()), true));
        assert!(matches!(target(&[("dest", "")]), Err(CacheOptionError::Missing { .. })));
        let told = target(&[("dest", "d"), ("ref", "a")]).unwrap_err().to_string();
        assert!(told.contains("the keys are dest, tag, mode") && !told.contains("reset"), "{told}");
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        let source = |pairs: &[(&str, &str)]| CacheSource::parse("registry", &keys(pairs)).unwrap_err();
        assert!(matches!(source(&[]), CacheOptionError::Missing { name: "ref=NAME", .. }));
        assert!(source(&[("ref", "a b")]).to_string().contains("ref=a b"));
        assert!(source(&[("ref", "a"), ("wings", "2")]).to_string().contains("wings=2: the keys are ref"));
        assert_eq!(CacheSource::parse("gha", &keys(&[])), Err(CacheOptionError::Type("gha".to_owned())));
        for (name, value) in [
            ("mode", "med"),
            ("compression", "estargz"),
            ("compression-level", "3"),
            ("image-manifest", "false"),
            ("oci-mediatypes", "false"),
            ("ignore-error", "perhaps"),
        ] {
            let refused = CacheTarget::parse("registry", &keys(&[("ref", "a"), (name, value)]));
            let told = refused.unwrap_err().to_string();
            assert!(told.contains(&format!("{name}={value}")), "{told}");
        }
        let digest = format!("a@{}", Digest::of(b""));
        assert!(CacheTarget::parse("registry", &keys(&[("ref", &digest)])).is_err());
    }
}
