//! Caches of those who mean no good, and such that have suffered.

use std::fs;

use corten_tests::registry::{MANIFEST, digest};
use corten_tests::{TestEngine, eventually};
use serde_json::{Value, json};

use super::{Site, image_id, runs};

pub const CONFIG: &str = "application/vnd.corten.build-cache.v1+json";

impl Site {
    /// Puts a manifest with these layers and this configuration where the cache is.
    pub fn put_cache(&self, kind: &str, config: &[u8], layers: &Value) {
        let mut wire = self.registry.connect();
        assert_eq!(wire.push_blob("cache", config).expect("a blob"), 201);
        let config = json!({"mediaType": kind, "digest": digest(config), "size": config.len()});
        self.put_manifest(
            &json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}),
        );
    }

    fn put_manifest(&self, manifest: &Value) {
        let bytes = manifest.to_string().into_bytes();
        let mut wire = self.registry.connect();
        let header = format!("Content-Type: {MANIFEST}\r\n");
        let status =
            wire.ask("PUT", "/v2/cache/manifests/latest", &header, &bytes).expect("a manifest").status;
        assert_eq!(status, 201);
    }
}

#[test]
fn a_cache_decides_nothing_for_those_who_do_not_name_it() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    site.dockerfile(
        "FROM BASE\nRUN --mount=type=cache,target=/count echo a >>/count/runs && echo good >/file\n\
         RUN --mount=type=cache,target=/count echo b >>/count/runs && cp /file /copy\n",
    );
    site.export(&first, "").ok();
    // Somebody else's step in the place of the first one.
    let mut config = site.cached();
    site.dockerfile("FROM BASE\nRUN echo evil >/file\n");
    site.export(&first, "").ok();
    let (evil_manifest, evil) = site.manifest("cache");
    let (evil_layer, evil_blob) = (evil["rootfs"]["diff_ids"][0].clone(), evil_manifest["layers"][0].clone());
    let steps = config["steps"].as_array_mut().expect("steps");
    steps.retain(|step| step["description"].as_str().expect("text").contains("echo good"));
    steps[0]["layer"] = evil_layer.clone();
    config["rootfs"]["diff_ids"] = json!([evil_layer]);
    site.put_cache(CONFIG, config.to_string().as_bytes(), &json!([evil_blob]));

    let victim = TestEngine::start();
    site.dockerfile(
        "FROM BASE\nRUN --mount=type=cache,target=/count echo a >>/count/runs && echo good >/file\n\
         RUN --mount=type=cache,target=/count echo b >>/count/runs && cp /file /copy\n",
    );
    let copy = || victim.corten(&["run", "--rm", "t", "cat", "/copy"]).ok();
    site.import(&victim).ok();
    assert_eq!(
        (copy().as_str(), runs(&victim)),
        ("evil", vec!["b".to_owned()]),
        "who names a cache trusts it"
    );
    // Who doesn't has nothing of it, neither the step nor what was made on top of it.
    site.build(&victim, &[]).ok();
    assert_eq!((copy().as_str(), runs(&victim).join("")), ("good", "abb".to_owned()));
    // When what this host remembers is gone, it is again as who asks has it.
    eventually("it is gone", || {
        victim.corten(&["builder", "prune", "-af"]).ok();
        !victim.corten(&["builder", "du"]).ok().contains("RUN")
    });
    site.import(&victim).ok();
    assert_eq!(copy(), "evil");
    site.build(&victim, &[]).ok();
    assert_eq!(copy(), "good");
    site.import(&victim).ok();
    assert_eq!(copy(), "good", "what this host has made itself comes first");
}

#[test]
fn what_a_cache_says_of_files_counts_for_those_who_name_it() {
    const FAR: u64 = 4_102_444_800;
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    let dockerfile = |word: &str| {
        site.dockerfile(&format!(
            "FROM BASE AS made\nRUN mkdir /out && echo {word} >/out/file && : >/only\n\
             FROM BASE\nCOPY --from=made /out /out\nRUN cp /out/file /copy && echo $SOURCE_DATE_EPOCH >/epoch\n",
        ));
    };
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let export = |word: &str| {
        dockerfile(word);
        site.export(&first, ",mode=max").ok();
        let (manifest, config) = site.manifest("cache");
        let layers: Vec<(Value, Value)> =
            list(&config["rootfs"]["diff_ids"]).into_iter().zip(list(&manifest["layers"])).collect();
        (config, layers)
    };
    let (evil, evil_layers) = export("evil");
    let (good, good_layers) = export("good");
    // Both in one, but for what is done last.
    let mut all = good.clone();
    let (ids, blobs): (Vec<Value>, Vec<Value>) = good_layers.into_iter().chain(evil_layers).unzip();
    let steps = list(&good["steps"]).into_iter().chain(list(&evil["steps"]));
    let is_early = |step: &Value| !step["description"].as_str().expect("text").contains("/copy");
    all["rootfs"]["diff_ids"] = Value::from(ids);
    all["steps"] = steps.filter(is_early).collect();
    let put = |change: &dyn Fn(&mut Value)| {
        let mut config = all.clone();
        change(&mut config["sources"][0]);
        site.put_cache(CONFIG, config.to_string().as_bytes(), &Value::from(blobs.clone()));
    };
    let mut victim = TestEngine::start();
    let shown = |victim: &TestEngine| victim.corten(&["run", "--rm", "t", "cat", "/copy", "/epoch"]).ok();
    // What a step's container still holds, which goes behind the build, is not pruned. An engine that has seen the files itself believes
    // nobody else.
    let forget = |victim: &mut TestEngine| {
        eventually("all is forgotten", || {
            victim.corten(&["system", "prune", "-af"]).ok();
            victim.corten(&["builder", "prune", "-af"]).ok();
            !victim.corten(&["builder", "du"]).ok().contains("RUN")
        });
        victim.stop();
        victim.restart();
    };
    site.build(&victim, &[]).ok();
    let truth = shown(&victim);
    assert!(truth.starts_with("good\n"), "{truth}");

    // Other files.
    put(&|source| source["fingerprint"] = evil["sources"][0]["fingerprint"].clone());
    forget(&mut victim);
    site.import(&victim).ok();
    assert!(shown(&victim).starts_with("evil\n"), "who names a cache trusts it");
    site.build(&victim, &[]).ok();
    assert_eq!(shown(&victim), truth);

    // Another time: it is in no step's key.
    put(&|source| source["newest"] = json!(FAR));
    forget(&mut victim);
    for _ in 0..2 {
        site.import(&victim).ok();
        assert_eq!(shown(&victim), format!("good\n{FAR}"), "who names a cache trusts it");
    }
    site.build(&victim, &[]).ok();
    assert_eq!(shown(&victim), truth);
    site.import(&victim).ok();
    assert_eq!(shown(&victim), truth, "what this host has made itself comes first");

    // Files of which nothing was made.
    put(&|source| source["fingerprint"] = json!(digest(b"nothing")));
    forget(&mut victim);
    site.import(&victim).ok();
    assert_eq!(shown(&victim), truth);
    // Times that nobody can write.
    for newest in [json!(i64::MAX), json!(i64::MIN)] {
        put(&|source| source["newest"] = newest.clone());
        forget(&mut victim);
        site.import(&victim).ok();
        assert!(shown(&victim).starts_with("good\n"), "{newest}");
        site.build(&victim, &[]).ok();
        assert_eq!(shown(&victim), truth);
    }
}

#[test]
fn a_layer_that_is_another_one_is_made_again() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    site.export(&first, ",mode=max").ok();
    let (manifest, config) = site.manifest("cache");
    // Each blob is what its digest says, but not what the list says of it.
    let mut layers = manifest["layers"].as_array().expect("layers").clone();
    layers.rotate_left(1);
    site.put_cache(CONFIG, config.to_string().as_bytes(), &Value::from(layers));
    let second = TestEngine::start();
    let told = site.import(&second);
    assert!(told.stderr.contains("is not used any more"), "{}", told.stderr);
    told.ok();
    assert_eq!(second.corten(&["run", "--rm", "t", "cat", "/own", "/out/file"]).ok(), "own\nmade");
    // A blob that the registry's disk has changed.
    site.put_manifest(&manifest);
    for layer in manifest["layers"].as_array().expect("layers") {
        let hex = layer["digest"].as_str().expect("a digest").trim_start_matches("sha256:");
        let path = site.registry.data().join("blobs/sha256").join(hex);
        let mut bytes = fs::read(&path).expect("the blob");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).expect("the blob");
    }
    let third = TestEngine::start();
    let told = site.import(&third);
    assert!(told.stderr.contains("is not used any more"), "{}", told.stderr);
    told.ok();
    assert_eq!(third.corten(&["run", "--rm", "t", "cat", "/own", "/out/file"]).ok(), "own\nmade");
    assert!(runs(&third).contains(&"own".to_owned()));
}

#[test]
fn what_is_no_cache_is_told_of_and_left() {
    let engine = TestEngine::with_busybox();
    let site = Site::new(&engine);
    site.export(&engine, "").ok();
    let id = image_id(&engine);
    let (manifest, config) = site.manifest("cache");
    let whole = config.to_string().into_bytes();
    let layers = manifest["layers"].clone();
    let key = digest(b"key");
    let step =
        |text: &str| format!(r#"{{"version":1,"rootfs":{{"type":"layers"}},"steps":[{text}]}}"#).into_bytes();
    let million = step(&vec![format!(r#"{{"key":"{key}"}}"#); 1_000_000].join(","));
    let many = step(&vec![format!(r#"{{"key":"{key}"}}"#); 50_000].join(","));
    let source = format!(r#"{{"request":"{key}","fingerprint":"{key}"}}"#);
    let sources = vec![source; 20_001].join(",");
    let sources = format!(r#"{{"version":1,"rootfs":{{"type":"layers"}},"steps":[],"sources":[{sources}]}}"#);
    let sources = sources.into_bytes();
    let mut newer = config.clone();
    newer["version"] = json!(2);
    for (kind, config, layers, why) in [
        (CONFIG, &whole[..whole.len() / 2], &layers, "can't be read"),
        (CONFIG, b"\0\xff".as_slice(), &layers, "can't be read"),
        (CONFIG, &million, &layers, "larger than 8 MiB"),
        (CONFIG, &many, &layers, "more than 20000 steps"),
        (CONFIG, &sources, &layers, "more than 20000 sources"),
        (CONFIG, &step(r#"{"key":"sha256:wings"}"#), &layers, "can't be read"),
        (CONFIG, &step(r#"{"key":7}"#), &layers, "can't be read"),
        (CONFIG, newer.to_string().as_bytes(), &layers, "newer version"),
        (CONFIG, &whole, &json!([]), "layers"),
        ("application/vnd.buildkit.cacheconfig.v0", &whole, &layers, "no build cache of this kind"),
        ("application/vnd.corten.build-cache.v7+json", &whole, &layers, "newer version"),
    ] {
        site.put_cache(kind, config, layers);
        let told = site.import(&engine);
        let progress = told.stderr.clone();
        told.ok();
        assert!(progress.contains("WARN: BuildCache: ") && progress.contains(why), "{why}: {progress}");
        assert_eq!(image_id(&engine), id);
    }
    // Sizes that no blob has.
    let second = TestEngine::start();
    for size in [1, u64::MAX / 2, u64::MAX] {
        let mut layers = layers.clone();
        for layer in layers.as_array_mut().expect("layers") {
            layer["size"] = json!(size);
        }
        second.corten(&["builder", "prune", "-af"]).ok();
        second.corten(&["system", "prune", "-af"]).ok();
        site.put_cache(CONFIG, &whole, &layers);
        let told = site.import(&second);
        assert!(told.stderr.contains("WARN: BuildCache: "), "{}", told.stderr);
        told.ok();
        assert_eq!(second.corten(&["run", "--rm", "t", "cat", "/own"]).ok(), "own");
    }
    let mut big = manifest;
    big["config"]["size"] = json!(u64::MAX);
    site.put_manifest(&big);
    let told = site.import(&second);
    assert!(told.stderr.contains("larger than 8 MiB"), "{}", told.stderr);
    told.ok();
    // An image is none either.
    let told = site.build(&second, &["--cache-from", &site.name("base:1")]);
    assert!(told.stderr.contains("has no build cache in it"), "{}", told.stderr);
    told.ok();
}
