//! Docker's own builder clients (buildx, `docker build`, Compose) at an engine: images, outputs, progress, failures, and what is left.
//!
//! Needs the host's package sources for the clients (`scripts/docker-plugins`).

use std::fs;
use std::process::{Command, Stdio};

use corten_tests::buildx::Site;
use corten_tests::{eventually, run};
use tempfile::TempDir;

#[test]
fn docker_build_makes_an_image_and_finds_it_again() {
    let site = Site::new(
        "FROM busybox AS made\nARG WHAT=nothing\nRUN echo \"$WHAT\" >/made && echo told >&2\n\
         FROM busybox\nCOPY --from=made /made /made\nCOPY file /file\nENV A=b\nCMD [\"cat\", \"/made\", \"/file\"]\n",
    );
    site.write("file", "one\n");
    let id = site.context.path().join("../id-of-a-build");
    let id = tempfile::NamedTempFile::new_in(id.parent().expect("a parent")).expect("a file");
    let said =
        site.build(&["-t", "t", "--build-arg", "WHAT=this", "--iidfile", id.path().to_str().expect("UTF-8")]);
    let progress = said.stderr.clone();
    said.ok();
    for line in ["load build definition from Dockerfile", "RUN echo", "told", "exporting to image", "DONE"] {
        assert!(progress.contains(line), "{line}: {progress}");
    }
    assert_eq!(site.print(&[]), "this\none");
    let inspected =
        site.engine.docker(&["image", "inspect", "t", "--format", "{{.Id}} {{.Config.Env}}"]).ok();
    let known = fs::read_to_string(id.path()).expect("an id");
    assert!(inspected.starts_with(&known) && inspected.contains("A=b"), "{inspected} {known}");

    let again = site.build(&["-t", "t", "--build-arg", "WHAT=this"]);
    let progress = again.stderr.clone();
    again.ok();
    assert!(progress.contains("CACHED"), "{progress}");
    site.write("file", "two\n");
    site.build(&["-t", "t", "--build-arg", "WHAT=this"]).ok();
    assert_eq!(site.print(&[]), "this\ntwo");

    // The same image has another name: that isn't this build's.
    let metadata = tempfile::NamedTempFile::new().expect("a file");
    let path = metadata.path().to_str().expect("UTF-8");
    site.build(&["-t", "other", "--build-arg", "WHAT=this", "--metadata-file", path]).ok();
    let told = fs::read_to_string(path).expect("metadata");
    assert!(told.contains("docker.io/library/other") && !told.contains("library/t"), "{told}");

    let kept = site.docker(&["buildx", "du"]).ok();
    assert!(kept.contains("Total"), "{kept}");
    site.docker(&["buildx", "prune", "-a", "-f"]).ok();
    assert_eq!(site.print(&[]), "this\ntwo");
}

#[test]
fn a_failing_step_is_shown_where_it_stands() {
    let site = Site::new("FROM busybox\nRUN echo before && exit 3\n");
    let failed = site.build(&[]);
    let said = failed.stderr.clone();
    failed.fails(1);
    for line in ["before", "Dockerfile:2", "   2 | >>> RUN echo before && exit 3", "exit code: 3"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    site.write("Dockerfile", "FROM busybox\nFLY away\n");
    let said = site.build(&[]).stderr;
    assert!(said.contains("FLY") && said.contains("ERROR: failed to"), "{said}");
}

#[test]
fn secrets_stay_out_of_the_image() {
    let site = Site::new(
        "FROM busybox\nRUN --mount=type=secret,id=pin test \"$(cat /run/secrets/pin)\" = hush && echo seen >/seen\n",
    );
    site.write("pin", "hush");
    let secret = format!("id=pin,src={}/pin", site.path());
    site.build(&["-t", "t", "--secret", &secret]).ok();
    assert_eq!(site.print(&["cat", "/seen"]), "seen");
    assert_eq!(site.print(&["sh", "-c", "ls /run/secrets 2>/dev/null; true"]), "");
}

#[test]
fn outputs_go_where_they_are_wanted() {
    let site = Site::new(
        "FROM busybox AS all\nRUN echo text >/only\nFROM scratch\nCOPY --from=all /only /deep/only\n",
    );
    let directory = TempDir::new().expect("a directory");
    let at = |name: &str| directory.path().join(name).display().to_string();
    site.build(&["-o", &format!("type=tar,dest={}", at("files.tar"))]).ok();
    let listed = run(Command::new("tar").args(["-xOf", &at("files.tar"), "deep/only"])).ok();
    assert_eq!(listed, "text");
    let tree = "mkdir -p /out/dir && cd /out && head -c 3000001 /dev/zero >large && ln large linked && ln -s ../only link && chmod 700 dir";
    let dockerfile = format!(
        "FROM busybox AS all\nRUN echo text >/only\nRUN {tree}\nFROM scratch\n\
         COPY --from=all /only /deep/only\nCOPY --from=all /out /\n"
    );
    site.write("Dockerfile", &dockerfile);
    let said = site.build(&["-o", &at("files")]);
    assert!(said.stderr.contains("exporting to client directory"), "{}", said.stderr);
    said.ok();
    let facts = format!(
        "cd {} && cat deep/only && wc -c <large && readlink link && stat -c %a dir && test large -ef linked",
        at("files")
    );
    assert_eq!(run(Command::new("sh").args(["-c", &facts])).ok(), "text\n3000001\n../only\n700");
    site.build(&["-o", &at("files")]).ok();
    site.build(&["-t", "x:1", "-o", &format!("type=docker,dest={}", at("image.tar"))]).ok();
    site.build(&["-t", "x:1", "-o", &format!("type=oci,dest={}", at("layout.tar"))]).ok();
    site.engine.docker(&["load", "-i", &at("image.tar")]).ok();
    let names = run(Command::new("tar").args(["-tf", &at("layout.tar")])).ok();
    assert!(names.contains("oci-layout") && names.contains("index.json"), "{names}");
}

#[test]
fn questions_about_a_dockerfile_are_answered() {
    let site = Site::new("# made is made\nFROM busybox as made\nARG WHO=you\nCMD echo hi\nENV A=$NOBODY\n");
    let ask = |question: &str| {
        let mut command = site.command(&["buildx", "build", "--print", question, site.path()]);
        run(command.env("BUILDX_EXPERIMENTAL", "1"))
    };
    let targets = ask("targets").ok();
    assert!(targets.contains("made (default)") && targets.contains("is made"), "{targets}");
    let outline = ask("outline").ok();
    assert!(outline.contains("WHO") && outline.contains("you"), "{outline}");
    let json = ask("outline,format=json").ok();
    assert!(json.contains("\"name\": \"WHO\""), "{json}");
    let found = ask("lint").stdout;
    assert!(found.contains("FromAsCasing") && found.contains(">>> FROM busybox as made"), "{found}");
    assert!(found.contains("Usage of undefined variable '$NOBODY'"), "{found}");
    let unknown = ask("horoscope");
    assert!(unknown.code != 0 && unknown.stderr.contains("horoscope"), "{}", unknown.stderr);
}

#[test]
fn compose_builds_what_it_starts() {
    let site =
        Site::new("FROM busybox\nARG WHO\nRUN echo hello $WHO >/greeting\nCMD [\"cat\", \"/greeting\"]\n");
    site.write(
        "compose.yaml",
        "services:\n  greeter:\n    image: greeter\n    build:\n      context: .\n      args: {WHO: world}\n",
    );
    site.docker(&["compose", "build"]).ok();
    assert_eq!(site.engine.docker(&["run", "--rm", "greeter"]).ok(), "hello world");
}

#[test]
fn a_client_that_is_killed_takes_its_build_along() {
    let site = Site::new("FROM busybox\nRUN touch /begun && sleep 1000\n");
    let mut command = Command::new(site.plugins.join("cli-plugins/docker-buildx"));
    command.env("DOCKER_CONFIG", &site.plugins).env("DOCKER_HOST", site.engine.host());
    command.args(["build", site.path()]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = command.spawn().expect("buildx");
    let containers = || fs::read_dir(site.engine.exec_root().join("containers")).map_or(0, Iterator::count);
    eventually("the step runs", || containers() > 0);
    client.kill().expect("killed");
    client.wait().expect("ended");
    eventually("the step's container is gone", || containers() == 0);
}

#[test]
fn an_archive_on_standard_input_is_a_context() {
    let site = Site::new("FROM busybox\nCOPY . /files\nCMD [\"cat\", \"/files/file\", \"/files/by\"]\n");
    site.write("file", "one\n");
    site.write("by", "Dockerfile\n");
    site.write("left.out", "x");
    site.write(".dockerignore", "*.out\n");
    fs::create_dir(site.context.path().join("deep")).expect("a directory");
    site.write("deep/other", "FROM busybox\nCOPY file /\nCMD [\"cat\", \"/file\"]\n");
    let place = TempDir::new().expect("a place");
    for (number, compress) in ["--no-auto-compress", "-z", "-J", "-j"].into_iter().enumerate() {
        site.write("by", compress);
        let archive = place.path().join(format!("archive-{number}"));
        run(Command::new("tar").args([compress, "-cf"]).arg(&archive).args(["-C", site.path(), "."])).ok();
        let said = site.build_from(&archive, &[]);
        assert!(said.stderr.contains("[internal] load remote build context"), "{}", said.stderr);
        said.ok();
        assert_eq!(site.print(&[]), format!("one\n{compress}"));
        assert!(!site.print(&["ls", "/files"]).contains("left.out"));
    }
    let archive = place.path().join("archive-1");
    site.build_from(&archive, &["-f", "deep/other"]).ok();
    assert_eq!(site.print(&[]), "one");

    // One that breaks off, and none at all.
    let whole = fs::read(&archive).expect("the archive");
    let half = place.path().join("half");
    fs::write(&half, &whole[..whole.len() / 2]).expect("half of it");
    let said = site.build_from(&half, &[]).fails(1);
    assert!(said.contains("cannot unpack the build context"), "{said}");
    let alone = place.path().join("Dockerfile");
    fs::write(&alone, "FROM busybox\nRUN echo alone >/file\nCMD [\"cat\", \"/file\"]\n")
        .expect("a Dockerfile");
    site.build_from(&alone, &[]).ok();
    assert_eq!(site.print(&[]), "alone");
    eventually("what was unpacked is gone", || {
        fs::read_dir(site.engine.data_root().join("build/archives")).map_or(0, Iterator::count) == 0
    });
}

/// A file for `docker buildx bake` in which `two` builds on `one`, and both on `base`.
const LINKED: &str = r#"{
  "group": {"default": {"targets": ["one", "two"]}},
  "target": {
    "base": {"dockerfile": "base"},
    "one": {"dockerfile": "one", "contexts": {"base": "target:base"}, "tags": ["one"]},
    "two": {"dockerfile": "two", "contexts": {"base": "target:base", "made": "target:one"}, "tags": ["t"]}
  }
}"#;

#[test]
fn targets_build_on_each_other() {
    let site = Site::new("");
    site.write("bake.json", LINKED);
    site.write(
        "base",
        "FROM busybox\nARG WHO=base\nENV FROM_BASE=yes\n\
         RUN --mount=type=cache,target=/count echo x >>/count/runs && echo $WHO >/base\n",
    );
    site.write("one", "FROM base\nRUN test \"$FROM_BASE$WHO\" = yes && echo one >/one\nCMD [\"cat\", \"/base\", \"/one\"]\n");
    site.write(
        "two",
        "FROM busybox\nCOPY --from=base /base /copy\nRUN --mount=from=made,target=/mnt cat /mnt/base /mnt/one >/seen\n",
    );
    let bake = |more: &[&str]| {
        site.docker(&[&["buildx", "bake", "--progress=plain", "-f", "bake.json"], more].concat())
    };
    let said = bake(&[]);
    for line in
        ["[two context base] load from another build", "[base 2/2] RUN", "[one 2/2] RUN", "[two 3/3] RUN"]
    {
        assert!(said.stderr.contains(line), "{line}: {}", said.stderr);
    }
    said.ok();
    assert_eq!(site.engine.docker(&["run", "--rm", "one"]).ok(), "base\none");
    assert_eq!(site.print(&["cat", "/copy", "/seen"]), "base\nbase\none");
    assert_eq!(site.runs(), 1);
    let again = bake(&["two"]);
    assert!(again.stderr.contains("CACHED"), "{}", again.stderr);
    again.ok();
    assert_eq!(site.runs(), 1);

    // Nothing holds what they have shared.
    site.engine.docker(&["rmi", "-f", "one", "t"]).ok();
    eventually("all of it is removed", || {
        site.docker(&["buildx", "prune", "-a", "-f"]).ok();
        site.docker(&["buildx", "du", "--filter", "type=regular"]).ok().is_empty()
    });

    // The reason is that of the one which failed.
    site.write("base", "FROM busybox\nRUN sleep 1 && exit 7\n");
    let said = bake(&[]).fails(1);
    assert!(said.contains("exit code: 7"), "{said}");
}

#[test]
fn targets_of_several_platforms_build_on_each_other() {
    let site = Site::new("");
    site.write(
        "bake.json",
        &LINKED
            .replace("\"dockerfile\"", "\"platforms\": [\"linux/amd64\", \"linux/arm64\"], \"dockerfile\""),
    );
    site.write("file", "content\n");
    site.write("base", "FROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY file /$TARGETARCH\n");
    site.write("one", "FROM base\nCOPY file /one\n");
    // Both parts fit what they are for: an `arm64` is in that one alone.
    site.write("two", "FROM made\nARG TARGETARCH\nCOPY --from=base /$TARGETARCH /copied\n");
    site.docker(&["buildx", "bake", "-f", "bake.json"]).ok();
    for (platform, architecture) in [("linux/amd64", "amd64"), ("linux/arm64", "arm64")] {
        let facts = "{{.Architecture}} {{.Config.Labels.arch}} {{len .RootFS.Layers}}";
        let found = site.engine.docker(&["image", "inspect", "--platform", platform, "-f", facts, "t"]).ok();
        assert_eq!(found, format!("{architecture} {architecture} 3"));
    }

    // Files of one that is for this host alone go into all.
    site.write(
        "bake.json",
        &LINKED.replace(
            "\"two\", \"contexts\"",
            "\"two\", \"platforms\": [\"linux/amd64\", \"linux/arm64\"], \"contexts\"",
        ),
    );
    site.write("two", "FROM scratch\nCOPY --from=made /one /\n");
    site.docker(&["buildx", "bake", "-f", "bake.json"]).ok();
}

#[test]
fn several_platforms_make_one_index() {
    let site = Site::new("FROM scratch\nARG TARGETARCH\nCOPY file /$TARGETARCH\n");
    site.write("file", "content\n");
    let at = |name: &str| site.context.path().join(name).to_str().expect("UTF-8").to_owned();
    site.write(".dockerignore", "out\nid\nmetadata\n");
    let both = ["--platform", "linux/amd64,linux/arm64"];
    let build = |more: &[&str]| {
        let said = site
            .docker(&[&["buildx", "build", "--progress=plain"], &both[..], more, &[site.path()]].concat());
        (said.stderr.clone(), said)
    };
    let (progress, said) = build(&["-t", "t", "--iidfile", &at("id"), "--metadata-file", &at("metadata")]);
    said.ok();
    assert!(
        progress.contains("[linux/arm64 1/1] COPY") || progress.contains("[linux/arm64 2/2] COPY"),
        "{progress}"
    );
    let id = fs::read_to_string(at("id")).expect("an id");
    let metadata: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(at("metadata")).expect("metadata")).expect("JSON");
    assert_eq!(metadata["containerimage.digest"], id);
    // An index has many.
    assert!(metadata.get("containerimage.config.digest").is_none(), "{metadata}");
    let architecture = |platform: &str| {
        site.engine.docker(&["image", "inspect", "--platform", platform, "-f", "{{.Architecture}}", "t"]).ok()
    };
    assert_eq!((architecture("linux/amd64"), architecture("linux/arm64")), ("amd64".into(), "arm64".into()));
    build(&["-o", &at("out")]).1.ok();
    for architecture in ["amd64", "arm64"] {
        let path = format!("out/linux_{architecture}/{architecture}");
        assert_eq!(fs::read_to_string(at(&path)).expect("a file"), "content\n");
    }
    let (told, said) = build(&["-o", &format!("type=docker,dest={}", at("out.tar"))]);
    said.fails(1);
    assert!(told.contains("manifest lists"), "{told}");
}

#[test]
fn a_cache_travels_by_a_registry() {
    let site = Site::new(
        "FROM busybox\nRUN --mount=type=cache,target=/count echo x >>/count/runs && echo one >/one\n",
    );
    let place = TempDir::new().expect("a place");
    let registry = corten_tests::registry::TestRegistry::start(&place.path().join("data"), &[]);
    let name = format!("{}/cache:ci", registry.address());
    let export = ["--cache-to", &format!("type=registry,ref={name},mode=max"), "-t", "t"];
    let said = site.docker(&[&["buildx", "build", "--progress=plain"], &export[..], &[site.path()]].concat());
    assert!(said.stderr.contains("exporting build cache to"), "{}", said.stderr);
    said.ok();
    site.docker(&["buildx", "prune", "-f", "--filter", "type=regular"]).ok();
    let forget = || {
        site.engine.docker(&["rmi", "-f", "t"]).ok();
        site.docker(&["buildx", "prune", "-a", "-f", "--filter", "type=regular"]).ok();
    };
    forget();
    let said = site.build(&["-t", "t", "--cache-from", &name]);
    assert!(
        said.stderr.contains("CACHED") && said.stderr.contains("importing build cache from"),
        "{}",
        said.stderr
    );
    said.ok();
    assert_eq!((site.runs(), site.print(&["cat", "/one"])), (1, "one".to_owned()));
    // One that is not there is told of, and no more.
    forget();
    let nothing = format!("type=registry,ref={}/nothing", registry.address());
    site.build(&["-t", "t", "--cache-from", &nothing]).ok();
    assert_eq!(site.runs(), 2);
}

#[test]
fn a_cache_travels_by_a_directory() {
    let site = Site::new(
        "FROM busybox\nRUN --mount=type=cache,target=/count echo x >>/count/runs && echo one >/one\n",
    );
    let place = TempDir::new().expect("a place");
    let directory = place.path().join("cache");
    let to = format!("type=local,dest={},mode=max", directory.display());
    let build = |more: &[&str]| {
        site.docker(&[&["buildx", "build", "--progress=plain", "-t", "t"], more, &[site.path()]].concat())
    };
    let forget = || {
        site.engine.docker(&["rmi", "-f", "t"]).ok();
        site.docker(&["buildx", "prune", "-a", "-f", "--filter", "type=regular"]).ok();
    };
    let said = build(&["--cache-to", &to]);
    assert!(said.stderr.contains("exporting build cache to"), "{}", said.stderr);
    said.ok();
    let index = fs::read_to_string(directory.join("index.json")).expect("the client's list");
    assert!(index.contains("application/vnd.oci.image.manifest.v1+json"), "{index}");
    forget();
    let from = format!("type=local,src={}", directory.display());
    let said = build(&["--cache-from", &from]);
    assert!(
        said.stderr.contains("CACHED") && said.stderr.contains("importing build cache from"),
        "{}",
        said.stderr
    );
    said.ok();
    assert_eq!((site.runs(), site.print(&["cat", "/one"])), (1, "one".to_owned()));
    // Our own client reads the same.
    forget();
    site.engine.corten(&["build", "-t", "t", "--cache-from", &from, site.path()]).ok();
    assert_eq!((site.runs(), site.print(&["cat", "/one"])), (1, "one".to_owned()));
    // And writes what that one reads.
    let own = format!("type=local,dest={},tag=own", directory.display());
    site.engine.corten(&["build", "-t", "t", "--cache-from", &from, "--cache-to", &own, site.path()]).ok();
    forget();
    build(&["--cache-from", &format!("{from},tag=own")]).ok();
    assert_eq!(site.runs(), 1);
    // Blobs that have suffered are told of, and the step is done again.
    for blob in fs::read_dir(directory.join("blobs/sha256")).expect("blobs").flatten() {
        let mut bytes = fs::read(blob.path()).expect("a blob");
        // Not the texts, which the client would rather read itself.
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::remove_file(blob.path()).and_then(|()| fs::write(blob.path(), bytes)).expect("a blob");
        }
    }
    forget();
    let said = build(&["--cache-from", &from]);
    assert!(said.stderr.contains("is not used any more"), "{}", said.stderr);
    said.ok();
    assert_eq!((site.runs(), site.print(&["cat", "/one"])), (2, "one".to_owned()));
    let two = ["--cache-to", &to, "--cache-to", &format!("type=local,dest={}/b", directory.display())];
    assert!(build(&two).fails(1).contains("only one cache of type local"));
}

#[test]
fn an_image_layout_of_the_clients_is_a_base() {
    let site = Site::new("FROM busybox\nRUN echo base >/base\nENV FROM_BASE=yes\n");
    let place = TempDir::new().expect("a place");
    let layout = place.path().join("layout");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    site.engine.corten(&["build", "-t", "made:1", "-o", &output, site.path()]).ok();
    site.engine.docker(&["rmi", "-f", "made:1"]).ok();
    site.docker(&["buildx", "prune", "-a", "-f"]).ok();
    site.write(
        "Dockerfile",
        "FROM base\nRUN test \"$FROM_BASE\" = yes\nCOPY --from=base /base /copy\n\
         RUN --mount=from=base,target=/mnt cat /mnt/base >/seen\n",
    );
    let context = format!("base=oci-layout://{}:1", layout.display());
    let flags = ["buildx", "build", "--progress=plain", "-t", "t", "--build-context", &context];
    site.docker(&[&flags[..], &[site.path()]].concat()).ok();
    assert_eq!(site.print(&["cat", "/base", "/copy", "/seen"]), "base\nbase\nbase");
}

#[test]
fn cache_mounts_travel_with_a_cache() {
    let site = Site::new("FROM busybox\nRUN --mount=type=cache,id=apt,target=/c echo kept >/c/file\n");
    let place = TempDir::new().expect("a place");
    let registry = corten_tests::registry::TestRegistry::start(&place.path().join("data"), &[]);
    let name = format!("{}/cache:ci", registry.address());
    let build = |to: &str, more: &[&str]| {
        let to = format!("type=registry,ref={name},{to}");
        let flags = ["buildx", "build", "--progress=plain", "-t", "t", "--cache-to", &to];
        site.docker(&[&flags, more, &[site.path()]].concat())
    };
    let told = build("mounts=apt:pip", &[]);
    assert!(told.stderr.contains("no step of this build has the cache mount pip"), "{}", told.stderr);
    assert_ne!(told.code, 0);
    build("mounts=apt", &[]).ok();
    site.docker(&["buildx", "prune", "-a", "-f"]).ok();
    site.write("Dockerfile", "FROM busybox\nRUN --mount=type=cache,id=apt,target=/c cat /c/file >/seen\n");
    build("mounts=all", &["--cache-from", &name]).ok();
    assert_eq!(site.print(&["cat", "/seen"]), "kept");
    let listed = site.docker(&["buildx", "du", "--verbose"]).ok();
    assert!(listed.contains(&format!("cache mount apt from {name}")), "{listed}");
}
