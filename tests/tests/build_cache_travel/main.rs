//! Build caches that travel from one engine to another by way of a registry, or of a directory.

mod crashes;
mod directories;
mod hostile;
mod mounts;
mod mounts_alone;
mod mounts_hostile;
mod trips;

use std::fs;
use std::path::{Path, PathBuf};

use corten_tests::registry::TestRegistry;
use corten_tests::{Output, TestEngine};
use tempfile::TempDir;

/// Two stages; what a RUN does is counted in a cache mount, which is in no key and travels with no step. `BASE` is the base image.
const DOCKERFILE: &str = "FROM BASE AS made\n\
    RUN --mount=type=cache,target=/count echo made >>/count/runs && mkdir /out && echo made >/out/file && : >/only\n\
    RUN --mount=type=cache,target=/count echo big >>/count/runs && dd if=/dev/urandom of=/big bs=64k count=16 2>/dev/null\n\
    FROM BASE\n\
    RUN --mount=type=cache,target=/count echo own >>/count/runs && echo own >/own\n\
    COPY --from=made /out /out\n\
    COPY file /file\n\
    WORKDIR /work\n";

/// A registry with a base image, and a context.
struct Site {
    registry: TestRegistry,
    place: TempDir,
}

impl Site {
    /// The engine is one with busybox, which the registry gets as the base image.
    fn new(engine: &TestEngine) -> Site {
        let place = TempDir::with_prefix_in("corten-test-", "/var/tmp").expect("a place");
        fs::create_dir(place.path().join("context")).expect("a context");
        let registry = TestRegistry::start(&place.path().join("registry"), &[]);
        let site = Site { registry, place };
        engine.corten(&["tag", "busybox", &site.name("base:1")]).ok();
        engine.corten(&["push", &site.name("base:1")]).ok();
        site.dockerfile(DOCKERFILE);
        site.write("file", "text\n");
        site
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.address())
    }

    fn context(&self) -> PathBuf {
        self.place.path().join("context")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.context().join(name), text).expect("a file of the context");
    }

    fn dockerfile(&self, text: &str) {
        self.write("Dockerfile", &text.replace("BASE", &self.name("base:1")));
    }

    fn build(&self, engine: &TestEngine, flags: &[&str]) -> Output {
        let context = self.context().display().to_string();
        engine.corten(&[&["build", "--progress", "plain", "-t", "t"], flags, &[&context]].concat())
    }

    /// `--cache-to` the repository `cache`.
    fn export(&self, engine: &TestEngine, keys: &str) -> Output {
        self.build(engine, &["--cache-to", &format!("type=registry,ref={}{keys}", self.name("cache"))])
    }

    /// `--cache-from` the repository `cache`.
    fn import(&self, engine: &TestEngine) -> Output {
        self.build(engine, &["--cache-from", &self.name("cache")])
    }

    /// The configuration of the repository `cache`.
    fn cached(&self) -> serde_json::Value {
        let (_, config) = self.manifest("cache");
        config
    }

    /// Manifest and configuration of what a repository has as `latest`.
    fn manifest(&self, repository: &str) -> (serde_json::Value, serde_json::Value) {
        let mut wire = self.registry.connect();
        let manifest = wire.get(&format!("/v2/{repository}/manifests/latest")).expect("the manifest");
        let manifest: serde_json::Value = serde_json::from_slice(&manifest.body).expect("JSON");
        let digest = manifest["config"]["digest"].as_str().expect("a digest");
        let config = wire.get(&format!("/v2/{repository}/blobs/{digest}")).expect("the configuration");
        (manifest, serde_json::from_slice(&config.body).expect("JSON"))
    }
}

/// What RUN steps have noted in their cache mount.
fn runs(engine: &TestEngine) -> Vec<String> {
    let mounts = fs::read_dir(engine.data_root().join("build/caches")).into_iter().flatten().flatten();
    let texts = mounts.filter_map(|mount| fs::read_to_string(mount.path().join("runs")).ok());
    let mut runs: Vec<String> =
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    runs.sort();
    runs
}

fn image_id(engine: &TestEngine) -> String {
    engine.corten(&["inspect", "-f", "{{.Id}}", "t"]).ok()
}

/// How many layers an engine has.
fn layers(engine: &TestEngine) -> usize {
    fs::read_dir(engine.data_root().join("image/layers"))
        .map_or(0, |entries| entries.flatten().filter(|entry| is_layer(&entry.path())).count())
}

fn is_layer(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().len() >= 64)
}
