//! From one machine to another.

use corten_tests::TestEngine;

use super::{Site, image_id, layers, runs};

#[test]
fn a_second_machine_does_no_step_again() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    let told = site.export(&first, ",mode=max");
    assert!(told.stderr.contains("exporting build cache to"), "{}", told.stderr);
    told.ok();
    assert_eq!(runs(&first), ["big", "made", "own"]);

    let second = TestEngine::start();
    let told = site.import(&second);
    let progress = told.stderr.clone();
    told.ok();
    assert_eq!(runs(&second), [""; 0], "{progress}");
    assert!(progress.contains("importing build cache from") && !progress.contains("WARN"), "{progress}");
    for step in ["RUN", "COPY", "WORKDIR"] {
        assert!(progress.contains(step), "{progress}");
    }
    assert_eq!(progress.matches("CACHED").count(), 8, "six steps, and two FROM: {progress}");
    assert_eq!(image_id(&first), image_id(&second), "the same image");
    let shown = second.corten(&["run", "--rm", "t", "cat", "/own", "/out/file", "/file"]).ok();
    assert_eq!(shown, "own\nmade\ntext");

    // A change in the last step but one: what is before it is still found.
    site.write("file", "other\n");
    let third = TestEngine::start();
    site.import(&third).ok();
    assert_eq!(runs(&third), [""; 0]);
    assert_eq!(third.corten(&["run", "--rm", "t", "cat", "/file"]).ok(), "other");
}

#[test]
fn a_cache_of_the_least_has_the_steps_of_the_result() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    site.export(&first, ",compression=zstd").ok();
    let cached = site.cached();
    let text = cached.to_string();
    assert!(text.contains("/own") && !text.contains("/dev/urandom"), "{text}");
    assert_eq!(cached["version"], 1);
    let (manifest, _) = site.manifest("cache");
    for layer in manifest["layers"].as_array().expect("layers") {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    }
    let second = TestEngine::start();
    let told = site.import(&second);
    assert!(!told.stderr.contains("WARN"), "{}", told.stderr);
    told.ok();
    assert_eq!(runs(&second), ["big", "made"]);
    // Its own cache, made on top of the other one, has all.
    site.build(
        &second,
        &[
            "--cache-from",
            &site.name("cache"),
            "--cache-to",
            &format!("type=registry,mode=max,ref={}", site.name("whole")),
        ],
    )
    .ok();
    let third = TestEngine::start();
    site.build(&third, &["--cache-from", &format!("type=registry,ref={}", site.name("whole"))]).ok();
    assert_eq!(runs(&third), [""; 0]);
}

#[test]
fn layers_that_nobody_needs_stay_where_they_are() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    // Nothing of the first stage is in the result.
    site.dockerfile(
        "FROM BASE AS made\nRUN echo x >/x\nRUN dd if=/dev/urandom of=/big bs=64k count=16 2>/dev/null\n\
         FROM BASE\nRUN --mount=type=bind,from=made,target=/made cp /made/x /y\n",
    );
    site.export(&first, ",mode=max").ok();
    let before = site.cached();
    assert_eq!(before["steps"].as_array().expect("steps").len(), 3);
    let second = TestEngine::start();
    site.import(&second).ok();
    assert_eq!(layers(&second), 2, "the base image's, and the one of the result");
    assert_eq!(second.corten(&["run", "--rm", "t", "cat", "/y"]).ok(), "x");
    // Its cache has the other ones nevertheless, and nothing had to come for it: in the same repository, and in another one.
    for name in ["cache", "elsewhere"] {
        let to = format!("type=registry,mode=max,ref={}", site.name(name));
        site.corten_again(&second, &to);
        let (_, after) = site.manifest(name);
        assert_eq!(after["steps"].as_array().expect("steps").len(), 3, "{after}");
        assert_eq!(layers(&second), 2);
    }
    // When a step needs them they come.
    site.dockerfile(
        "FROM BASE AS made\nRUN echo x >/x\nRUN dd if=/dev/urandom of=/big bs=64k count=16 2>/dev/null\n\
         FROM BASE\nRUN --mount=type=bind,from=made,target=/made test -s /made/big && cp /made/x /z\n",
    );
    site.build(&second, &["--cache-from", &site.name("elsewhere")]).ok();
    assert_eq!(second.corten(&["run", "--rm", "t", "cat", "/z"]).ok(), "x");
    assert_eq!(layers(&second), 5);
}

/// What is copied of the first stage is all that the second one has of it.
const COPIES: &str = "FROM BASE AS made\n\
    RUN mkdir /out && echo made >/out/file && echo left >/out/out && : >/only\n\
    RUN dd if=/dev/urandom of=/big bs=64k count=16 2>/dev/null\n\
    FROM BASE\n\
    FIRST\
    COPY --from=made --exclude=out /out /out\n\
    COPY --from=made --parents /out/./f* <<more /parents/\ntext\nmore\n\
    RUN echo LAST >/last && echo $SOURCE_DATE_EPOCH >/epoch\n";

#[test]
fn what_was_copied_of_a_stage_is_known_without_its_layers() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    let dockerfile = |before: &str, last: &str| {
        site.dockerfile(&COPIES.replace("FIRST", before).replace("LAST", last));
    };
    dockerfile("", "one");
    site.export(&first, ",mode=max").ok();
    assert_eq!(site.cached()["sources"].as_array().expect("sources").len(), 2);

    dockerfile("", "two");
    site.build(&first, &[]).ok();
    let second = TestEngine::start();
    let onwards = format!("type=registry,mode=max,ref={}", site.name("onwards"));
    site.build(&second, &["--cache-from", &site.name("cache"), "--cache-to", &onwards]).ok();
    assert_eq!(layers(&second), 4, "the base image's, the two copies, and what was made on top of them");
    assert_eq!(image_id(&first), image_id(&second), "the same image");
    let shown = second.corten(&["run", "--rm", "t", "sh", "-c", "cat /parents/* /last; ls /out"]).ok();
    assert_eq!(shown, "made\ntext\ntwo\nfile");

    // What was found without the layers goes on.
    dockerfile("", "three");
    let third = TestEngine::start();
    site.build(&third, &["--cache-from", &site.name("onwards")]).ok();
    assert_eq!(layers(&third), 4);

    // What nobody has made yet is made of the files themselves.
    dockerfile("RUN echo before >/before\n", "four");
    let fourth = TestEngine::start();
    site.import(&fourth).ok();
    assert_eq!(layers(&fourth), 7);
    let shown = fourth.corten(&["run", "--rm", "t", "cat", "/out/file", "/parents/file", "/last"]).ok();
    assert_eq!(shown, "made\nmade\nfour");
    site.build(&first, &[]).ok();
    assert_eq!(image_id(&first), image_id(&fourth), "the same image");
}

#[test]
fn a_stage_that_is_built_on_what_was_told_is_found_again() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    let dockerfile = |last: &str| {
        let rest = "WORKDIR /made/here\nFROM BASE\nCOPY --from=middle /made /made\n\
            RUN --mount=type=cache,target=/count echo end >>/count/runs && echo end >/end\n";
        let middle = COPIES.replace("FROM BASE\nFIRST", "FROM BASE AS middle\n").replace("LAST", last);
        site.dockerfile(&format!("{middle}{rest}"));
    };
    dockerfile("one");
    site.export(&first, ",mode=max").ok();
    dockerfile("two");
    site.build(&first, &[]).ok();
    let second = TestEngine::start();
    for _ in 0..2 {
        site.import(&second).ok();
        assert_eq!(image_id(&first), image_id(&second), "the same image");
    }
    let again = site.import(&second);
    // All but the two FROM of the last stages and `made`'s own are steps.
    assert_eq!(again.stderr.matches("CACHED").count(), 11, "{}", again.stderr);
    again.ok();
}

impl Site {
    /// Once more without what this host remembers, so that all comes from the cache, and goes on.
    fn corten_again(&self, engine: &TestEngine, to: &str) {
        engine.corten(&["builder", "prune", "-af"]).ok();
        self.build(engine, &["--cache-from", &self.name("cache"), "--cache-to", to]).ok();
    }
}

#[test]
fn a_cache_without_layers_is_one() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    site.dockerfile("FROM BASE\nRUN --mount=type=cache,target=/count echo none >>/count/runs\n");
    site.export(&first, "").ok();
    let second = TestEngine::start();
    site.import(&second).ok();
    assert_eq!(runs(&second), [""; 0]);
}

#[test]
fn a_registry_that_is_down_ends_no_import_and_an_export_unless_it_may() {
    let engine = TestEngine::with_busybox();
    let site = Site::new(&engine);
    let nobody = format!("127.0.0.1:{}/cache", corten_tests::free_port());
    let told = site.build(&engine, &["--cache-from", &nobody, "--cache-from", &site.name("nothing")]);
    let progress = told.stderr.clone();
    told.ok();
    assert_eq!(progress.matches("WARN: BuildCache: ").count(), 2, "{progress}");
    let to = format!("type=registry,ref={nobody}");
    engine.corten(&["rmi", "-f", "t"]).ok();
    let told = site.build(&engine, &["--cache-to", &to]).fails(1);
    assert!(told.contains("failed to export the build cache to 127.0.0.1"), "{told}");
    engine.corten(&["inspect", "t"]).ok();
    let told = site.build(&engine, &["--cache-to", &format!("{to},ignore-error=true")]);
    assert!(told.stderr.contains("WARN: BuildCache: failed to export"), "{}", told.stderr);
    told.ok();
    for (flag, place, why) in [
        ("--cache-to", "type=registry,ref=a,compression-level=3", "takes no compression-level=3"),
        ("--cache-to", "type=s3,bucket=a", "type \"s3\" is not supported"),
        ("--cache-from", "type=registry", "needs ref=NAME"),
    ] {
        let told = site.build(&engine, &[flag, place]).fails(1);
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn an_image_brings_its_own_steps_along() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    let push = |name: &str, flags: &[&str]| {
        let context = site.context().display().to_string();
        first.corten(&[&["build", "--push", "-t", name], flags, &[&context]].concat()).ok();
    };
    let (named, plain) = (site.name("app:1"), site.name("plain:1"));
    push(&named, &["--cache-to", "type=inline"]);
    push(&plain, &[]);
    let second = TestEngine::start();
    let told = site.build(&second, &["--cache-from", &plain]);
    assert!(told.stderr.contains("has no build cache in it"), "{}", told.stderr);
    told.ok();
    assert_eq!(runs(&second), ["big", "made", "own"]);

    let third = TestEngine::start();
    let told = site.build(&third, &["--cache-from", &named, "--build-arg", "BUILDKIT_INLINE_CACHE=1"]);
    let progress = told.stderr.clone();
    told.ok();
    assert_eq!(runs(&third), ["big", "made"], "{progress}");
    let id = |engine: &TestEngine, name: &str| engine.corten(&["inspect", "-f", "{{.Id}}", name]).ok();
    assert_eq!(id(&third, "t"), id(&first, &named), "as it was first made");
    // The older API names images of the store, and those of registries.
    let classic = |engine: &TestEngine| {
        let mut command = engine.docker_command(&["build", "-t", "t", "--cache-from", &named]);
        corten_tests::run(command.env("DOCKER_BUILDKIT", "0").arg(site.context())).ok();
    };
    let fourth = TestEngine::start();
    classic(&fourth);
    assert_eq!(runs(&fourth), ["big", "made"]);
    fourth.corten(&["rmi", "-f", "t"]).ok();
    fourth.corten(&["builder", "prune", "-af"]).ok();
    fourth.corten(&["pull", &named]).ok();
    classic(&fourth);
    assert_eq!(runs(&fourth), ["big", "made"]);
}
