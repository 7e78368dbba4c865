//! What builds say of their images: provenance and lists of packages, beside images in the store and at registries, and beside files.
//!
//! Needs the host's package sources for buildx (`scripts/docker-plugins`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use corten_tests::git::GitServer;
use corten_tests::reference::Reference;
use corten_tests::registry::TestRegistry;
use corten_tests::{Output, TestEngine, documents, run};
use serde_json::{Value, json};
use tempfile::TempDir;

const DOCKERFILE: &str = "FROM busybox:latest AS base\nFROM scratch\nARG WHO\nLABEL who=$WHO\nCOPY --from=base /bin/busybox /bin/busybox\nCOPY files /\n";

const STATUS: &str = "Package: curl\nStatus: install ok installed\nArchitecture: amd64\nVersion: 7.88.1-10\nMaintainer: Debian <a@b>\n";

/// A context with files of several package managers.
fn context() -> TempDir {
    let context = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = context.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("Dockerfile", DOCKERFILE);
    write("files/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
    write("files/var/lib/dpkg/status", STATUS);
    write(
        "files/venv/lib/python3/site-packages/six-1.16.0.dist-info/METADATA",
        "Name: six\nVersion: 1.16.0\nLicense: MIT\n",
    );
    write(
        "files/app/node_modules/left-pad/package.json",
        r#"{"name":"left-pad","version":"1.3.0","license":"WTFPL"}"#,
    );
    write("files/app/package-lock.json", "{");
    context
}

fn build(engine: &TestEngine, context: &Path, flags: &[&str]) -> Output {
    let context = context.display().to_string();
    engine.corten(&[&["build", "--progress", "plain"], flags, &[&context]].concat())
}

fn read(path: &Path) -> Value {
    json(&fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn purls(document: &Value) -> Vec<String> {
    let packages = document["packages"].as_array().unwrap().iter();
    let purl = |package: &Value| Some(package["externalRefs"][0]["referenceLocator"].as_str()?.to_owned());
    packages.filter_map(purl).collect()
}

const PURLS: [&str; 3] = [
    "pkg:deb/debian/curl@7.88.1-10?arch=amd64&distro=debian-12",
    "pkg:npm/left-pad@1.3.0",
    "pkg:pypi/six@1.16.0",
];

#[test]
fn what_is_said_of_an_image_goes_with_it() {
    let engine = TestEngine::with_busybox();
    let (context, place) = (context(), tempfile::tempdir().unwrap());
    let registry = TestRegistry::start(&place.path().join("registry"), &[]);
    let metadata = place.path().join("metadata");
    let name = format!("{}/app:1", registry.address());
    let flags = [
        "--platform",
        "linux/amd64,linux/arm64",
        "-t",
        &name,
        "--build-arg",
        "WHO=me",
        "--metadata-file",
        metadata.to_str().unwrap(),
        "--attest",
        "type=provenance,mode=max,builder-id=https://example.org/b",
        "--sbom",
    ];
    // What is copied has no platform: files of the other one come along.
    fs::write(
        context.path().join("Dockerfile"),
        DOCKERFILE.replace("FROM busybox", "FROM --platform=$BUILDPLATFORM busybox"),
    )
    .unwrap();
    build(&engine, context.path(), &flags).ok();
    // It goes where the image goes, also later.
    engine.docker(&["push", &name]).ok();
    let index = registry.connect().get("/v2/app/manifests/1").unwrap();
    assert_eq!(
        index.header("docker-content-digest"),
        read(&metadata)["containerimage.digest"].as_str().unwrap()
    );
    let index = json(&index.text());
    let manifests = index["manifests"].as_array().unwrap();
    assert_eq!(manifests.len(), 4, "{index}");
    for (image, said) in manifests[..2].iter().zip(&manifests[2..]) {
        assert_eq!(said["platform"], json!({"architecture": "unknown", "os": "unknown"}));
        assert_eq!(said["annotations"]["vnd.docker.reference.type"], "attestation-manifest");
        assert_eq!(said["annotations"]["vnd.docker.reference.digest"], image["digest"]);
        let path = format!("/v2/app/manifests/{}", said["digest"].as_str().unwrap());
        let said = json(&registry.connect().get(&path).unwrap().text());
        let kinds: Vec<&str> = said["layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|layer| layer["annotations"]["in-toto.io/predicate-type"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["https://spdx.dev/Document", "https://slsa.dev/provenance/v0.2"]);
        let blob = format!("/v2/app/blobs/{}", said["layers"][1]["digest"].as_str().unwrap());
        let statement = json(&registry.connect().get(&blob).unwrap().text());
        assert_eq!(documents::statement(&statement), [] as [String; 0]);
        let digest = image["digest"].as_str().unwrap().trim_start_matches("sha256:");
        assert_eq!(statement["subject"][0]["digest"]["sha256"], digest);
        let subject = statement["subject"][0]["name"].as_str().unwrap();
        let architecture = image["platform"]["architecture"].as_str().unwrap();
        assert_eq!(
            subject,
            format!("pkg:docker/{}/app@1?platform=linux%2F{architecture}", registry.address())
        );
        let predicate = &statement["predicate"];
        assert_eq!(predicate["builder"]["id"], "https://example.org/b");
        assert_eq!(predicate["invocation"]["parameters"]["args"]["build-arg:WHO"], "me");
        assert_eq!(predicate["materials"][0]["uri"], "pkg:docker/busybox@latest?platform=linux%2Famd64");
        assert_eq!(predicate["materials"][0]["digest"]["sha256"].as_str().map(str::len), Some(64));
    }
    // Docker's own client reads it from there.
    let plugins = plugins();
    let inspect = |format: &str| {
        let mut command =
            engine.docker_command(&["buildx", "imagetools", "inspect", "--format", format, &name]);
        json(&run(command.env("DOCKER_CONFIG", &plugins)).ok())
    };
    let provenance = inspect("{{json .Provenance}}");
    assert_eq!(
        provenance["linux/arm64"]["SLSA"]["buildType"], "https://mobyproject.org/buildkit@v1",
        "{provenance}"
    );
    assert_eq!(purls(&inspect("{{json .SBOM}}")["linux/amd64"]["SPDX"]), PURLS);
    // And so does the engine.
    let told = engine.curl(&[], &format!("/v1.55/images/{name}/attestations")).ok();
    assert!(told.contains("spdx.dev") && told.contains("slsa.dev"), "{told}");
}

fn plugins() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let plugins = top.join("target/clients");
    run(Command::new(top.join("scripts/docker-plugins")).arg(&plugins)).ok();
    plugins
}

#[test]
fn what_is_said_of_files_lies_beside_them() {
    let engine = TestEngine::with_busybox();
    let (context, place) = (context(), tempfile::tempdir().unwrap());
    let at = |name: &str| place.path().join(name);
    let out = at("out").display().to_string();
    let flags = ["--provenance=version=v1", "--sbom", "--build-arg", "WHO=me", "-o", &out];
    build(&engine, context.path(), &flags).ok();
    let provenance = read(&at("out/provenance.json"));
    assert_eq!(provenance["predicateType"], "https://slsa.dev/provenance/v1");
    let request = &provenance["predicate"]["buildDefinition"]["externalParameters"]["request"];
    assert_eq!(request["args"], json!({}), "a build argument is for mode=max");
    let sum = run(Command::new("sha256sum").arg(at("out/bin/busybox"))).ok();
    let subjects = provenance["subject"].as_array().unwrap();
    let busybox = subjects.iter().find(|subject| subject["name"] == "bin/busybox").unwrap();
    assert_eq!(busybox["digest"]["sha256"], sum.split(' ').next().unwrap());
    let sbom = read(&at("out/sbom.spdx.json"));
    for statement in [&provenance, &sbom] {
        assert_eq!(documents::statement(statement), [] as [String; 0]);
    }
    assert_eq!(purls(&sbom["predicate"]), PURLS);
    assert!(
        sbom["predicate"]["comment"].as_str().unwrap().contains("/app/package-lock.json"),
        "what broke is told"
    );
    fs::write(at("document.json"), sbom["predicate"].to_string()).unwrap();
    // An image tells the same, whoever has made it.
    build(&engine, context.path(), &["-t", "app:1"]).ok();
    let shown = json(&engine.corten(&["image", "sbom", "app:1"]).ok());
    assert_eq!(purls(&shown), PURLS);
    assert_eq!(shown["creationInfo"], sbom["predicate"]["creationInfo"]);
    let other = json(&engine.corten(&["image", "sbom", "--format", "cyclonedx", "app:1"]).ok());
    assert_eq!(other["components"][2]["purl"], PURLS[2]);
    assert_eq!((documents::cyclonedx(&other), documents::spdx(&shown)), (Vec::new(), Vec::new()));
    engine.corten(&["image", "sbom", "none:1"]).fails(1);
    engine.corten(&["image", "sbom", "--format", "csv", "app:1"]).fails(1);
    let tar = format!("type=tar,dest={}", at("files.tar").display());
    build(&engine, context.path(), &["--platform", "linux/amd64", "--sbom=format=cyclonedx", "-o", &tar])
        .ok();
    let document = run(Command::new("tar").arg("-xOf").arg(at("files.tar")).arg("sbom.cdx.json")).ok();
    assert_eq!(json(&document)["predicate"]["components"][0]["purl"], PURLS[0]);
    assert_eq!(documents::statement(&json(&document)), [] as [String; 0]);
}

/// With times that are given, what is said is the same every time, and nobody who doesn't ask gets any of it.
#[test]
fn the_same_is_said_every_time() {
    let engine = TestEngine::with_busybox();
    let (context, place) = (context(), tempfile::tempdir().unwrap());
    let digest = |more: &[&str]| {
        let file = place.path().join("metadata");
        let flags = [&["-t", "t", "--metadata-file", file.to_str().unwrap()], more].concat();
        build(&engine, context.path(), &flags).ok();
        let metadata = read(&file);
        assert_eq!(metadata["containerimage.config.digest"].is_null(), !more.is_empty());
        metadata["containerimage.digest"].as_str().unwrap().to_owned()
    };
    let said = ["--provenance", "--sbom", "--build-arg", "SOURCE_DATE_EPOCH=1700000000"];
    let first = digest(&said);
    assert_eq!(first, digest(&said));
    assert_ne!(digest(&["--provenance"]), digest(&["--provenance"]), "a build's times and its number");
    assert_eq!(digest(&["--sbom"]), digest(&["--sbom"]));
    let plain = digest(&[]);
    assert_eq!(plain, digest(&[]));
    // BuildKit's clients ask for provenance by themselves: that is no wish.
    let buildx = |more: &[&str]| {
        let file = place.path().join("buildx");
        let path = context.path().display().to_string();
        let flags =
            [&["buildx", "build", "-t", "x", "--metadata-file", file.to_str().unwrap()], more, &[&path]]
                .concat();
        run(engine.docker_command(&flags).env("DOCKER_CONFIG", plugins())).ok();
        read(&file)
    };
    assert_eq!(buildx(&[])["containerimage.digest"], plain);
    let asked = buildx(&["--provenance=mode=max", "--sbom=true"]);
    assert_eq!(asked["containerimage.descriptor"]["mediaType"], "application/vnd.oci.image.index.v1+json");
    let told = engine.curl(&[], "/v1.55/images/x/attestations").ok();
    assert!(told.contains("spdx.dev") && told.contains("slsa.dev"), "{told}");
    let told = build(&engine, context.path(), &["--attest", "type=horoscope"]).fails(1);
    assert!(told.contains("horoscope"), "{told}");
}

/// What a build says of itself, by a client, of an empty directory to begin with.
fn provenance(build: impl FnOnce(&str) -> Output) -> Value {
    let out = tempfile::tempdir().unwrap();
    build(out.path().to_str().unwrap()).ok();
    let text = fs::read_to_string(out.path().join("provenance.json")).unwrap();
    assert!(!text.contains("hush"), "no password is told: {text}");
    assert_eq!(documents::statement(&json(&text)), [] as [String; 0]);
    json(&text)["predicate"].clone()
}

fn sha256(file: &Path) -> Value {
    json!({"sha256": run(Command::new("sha256sum").arg(file)).ok().split(' ').next().unwrap()})
}

#[test]
fn contexts_of_other_hosts_are_materials() {
    let engine = TestEngine::with_busybox();
    let server = GitServer::new();
    let dockerfile = "FROM scratch\nCOPY --from=more Dockerfile /more\nCOPY . /\n";
    let files = [("Dockerfile", dockerfile), ("sub/Other", "FROM scratch\nCOPY . /\n"), ("sub/file", "one")];
    let commit = server.with("a.git", &files);
    let served = |name: &str| server.root().join(name);
    fs::write(served("Own"), "FROM scratch\nCOPY <<end /a\nb\nend\n").unwrap();
    run(Command::new("tar")
        .arg("-cf")
        .arg(served("a.tar"))
        .arg("-C")
        .arg(server.work("a.git"))
        .arg("Dockerfile"))
    .ok();
    let url = server.url("a.git");
    let with_password = url.replace("http://", "http://joe:hush@");
    let ours = |arguments: &[&str], to: &str| {
        engine.corten(&[&["build", "--progress", "plain", "-o", to], arguments].concat())
    };
    // A repository, and an archive beside it.
    let archive = server.url("plain/a.tar");
    let more = format!("more={}", archive.replace("http://", "http://joe:hush@"));
    let context = format!("{with_password}#main");
    let flags = ["--provenance=mode=max", "--build-context", &more, &context];
    let told = provenance(|out| ours(&flags, out));
    let uri = format!("{url}#main");
    let source = json!({"uri": uri, "digest": {"sha1": commit}});
    assert_eq!(
        told["invocation"]["configSource"],
        json!({"uri": uri, "digest": {"sha1": commit}, "entryPoint": "Dockerfile"})
    );
    let archived = json!({"uri": archive, "digest": sha256(&served("a.tar"))});
    assert_eq!(told["materials"], json!([archived, source]));
    assert_eq!(told["invocation"]["parameters"]["locals"], json!([]));
    assert_eq!(told["metadata"]["completeness"]["materials"], true);
    // A directory of it, with another Dockerfile; BuildKit's clients say the same.
    let context = format!("{with_password}#main:sub");
    let flags = ["--provenance=version=v1", "-f", "Other", &context];
    let told = provenance(|out| ours(&flags, out));
    let definition = &told["buildDefinition"];
    let expected = json!({"uri": format!("{url}#main:sub"), "digest": {"sha1": commit}, "path": "Other"});
    assert_eq!(definition["externalParameters"]["configSource"], expected);
    assert_eq!(definition["resolvedDependencies"], json!([source]));
    let plugins = plugins();
    let theirs = provenance(|out| {
        let mut docker = engine.docker_command(&[&["buildx", "build", "-o", out], &flags[..]].concat());
        run(docker.env("DOCKER_CONFIG", &plugins))
    });
    assert_eq!(theirs["buildDefinition"]["externalParameters"]["configSource"], expected);
    assert_eq!(theirs["buildDefinition"]["resolvedDependencies"], json!([source]));
    // An archive is known by what it holds, and a Dockerfile alone, too.
    let ours_too = format!("more={}", server.work("a.git").display());
    let told = provenance(|out| ours(&["--provenance", "--build-context", &ours_too, &archive], out));
    let expected = json!({"uri": archive, "digest": sha256(&served("a.tar")), "entryPoint": "Dockerfile"});
    assert_eq!(told["invocation"]["configSource"], expected);
    assert_eq!(told["invocation"]["parameters"]["locals"], json!([{"name": "context more"}]));
    assert_eq!(told["metadata"]["completeness"]["materials"], false, "of the client's own");
    let alone = server.url("plain/Own");
    let told = provenance(|out| ours(&["--provenance", &alone], out));
    let expected = json!({"uri": alone, "digest": sha256(&served("Own")), "entryPoint": "Own"});
    assert_eq!(told["invocation"]["configSource"], expected);
    // The client's own Dockerfile is from nowhere else, though the context is.
    let own = tempfile::tempdir().unwrap();
    let file = own.path().join("Mine");
    fs::write(&file, "FROM scratch\nCOPY . /\n").unwrap();
    let told = provenance(|out| ours(&["--provenance", "-f", file.to_str().unwrap(), &with_password], out));
    assert_eq!(told["invocation"]["configSource"], json!({"entryPoint": "Mine"}));
    assert_eq!(told["invocation"]["parameters"]["args"]["context"], url);
    assert_eq!(told["materials"], json!([{"uri": url, "digest": {"sha1": commit}}]));
}

/// Provenance travels with the image: it is for everybody.
#[test]
fn secrets_in_arguments_are_not_told() {
    let engine = TestEngine::with_busybox();
    let context = tempfile::tempdir().unwrap();
    let dockerfile = "FROM scratch\nARG DB_PASSWORD\nARG NPM_TOKEN=hush-hush\nARG WHO\nCOPY Dockerfile /\n";
    fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    let path = context.path().to_str().unwrap();
    let said = |mode: &str| {
        let mut flags = vec![mode, path];
        for arg in ["DB_PASSWORD=hush", "WHO=me", "HTTP_PROXY=http://me:hush@127.0.0.1:9"] {
            flags.extend(["--build-arg", arg]);
        }
        flags.extend(["--label", "from=https://127.0.0.1/?token=hush"]);
        provenance(|out| engine.corten(&[&["build", "--progress", "plain", "-o", out], &flags[..]].concat()))
    };
    let told = said("--provenance=mode=max");
    let args = json!({
        "build-arg:WHO": "me",
        "build-arg:HTTP_PROXY": "http://127.0.0.1:9",
        "label:from": "https://127.0.0.1/?token=***",
    });
    assert_eq!(told["invocation"]["parameters"]["args"], args);
    assert_eq!(told["metadata"]["completeness"]["parameters"], false, "not all is told, and that is");
    let metadata = &told["metadata"]["https://mobyproject.org/buildkit@v1#metadata"];
    assert_eq!(
        metadata["redacted"]["values"],
        json!(["build-arg:DB_PASSWORD", "build-arg:HTTP_PROXY", "label:from", "NPM_TOKEN in line 3"])
    );
    let source = context.path().join("source");
    fs::write(&source, metadata["source"]["infos"][0]["data"].as_str().unwrap()).unwrap();
    let source = run(Command::new("base64").arg("-d").arg(&source)).ok();
    assert_eq!(source, dockerfile.replace("hush-hush", "***").trim_end());
    let told = said("--provenance=mode=max,version=v1");
    let metadata = &told["runDetails"]["metadata"];
    assert_eq!(metadata["buildkit_completeness"]["request"], false);
    assert_eq!(metadata["buildkit_metadata"]["redacted"]["values"][0], "build-arg:DB_PASSWORD");
    let told = said("--provenance=mode=min");
    assert_eq!(told["metadata"]["https://mobyproject.org/buildkit@v1#metadata"], json!({}));
}

/// What the engine has of an image that was pulled: kinds of predicates, in their order.
fn attached(engine: &TestEngine, name: &str) -> Vec<String> {
    let told = json(&engine.curl(&[], &format!("/v1.55/images/{name}/attestations?statement=1")).ok());
    let kind = |said: &Value| {
        assert_eq!(documents::statement(&said["Statement"]), [] as [String; 0]);
        said["PredicateType"].as_str().unwrap().to_owned()
    };
    told.as_array().unwrap().iter().map(kind).collect()
}

const KINDS: [&str; 2] = ["https://spdx.dev/Document", "https://slsa.dev/provenance/v0.2"];

#[test]
fn what_is_said_of_an_image_comes_with_it() {
    let (builder, other) = (TestEngine::with_busybox(), TestEngine::start());
    let (context, place) = (context(), tempfile::tempdir().unwrap());
    let registry = TestRegistry::start(&place.path().join("registry"), &[]);
    let name = format!("{}/app:1", registry.address());
    build(&builder, context.path(), &["-t", &name, "--provenance", "--sbom", "--push"]).ok();
    other.corten(&["pull", &name]).ok();
    assert_eq!(attached(&other, &name), KINDS);
    let provenance = json(&other.corten(&["image", "provenance", &name]).ok());
    assert_eq!(provenance["predicate"]["invocation"]["configSource"]["entryPoint"], "Dockerfile");
    let sbom = json(&other.corten(&["image", "sbom", "--attached", &name]).ok());
    assert_eq!(purls(&sbom), PURLS);
    assert_eq!(purls(&json(&other.corten(&["image", "sbom", &name]).ok())), PURLS, "and what is found here");
    let told = other.corten(&["image", "sbom", "--attached", "--format", "spdx", &name]);
    assert_ne!(told.code, 0, "what came is in the format in which it came");
    // It goes on from here, with the same digest.
    let digest = |path: &str| {
        let reply = registry.connect().get(path).unwrap();
        reply.header("docker-content-digest").to_owned()
    };
    let second = format!("{}/second:1", registry.address());
    other.corten(&["tag", &name, &second]).ok();
    other.corten(&["push", &second]).ok();
    assert_eq!(digest("/v2/second/manifests/1"), digest("/v2/app/manifests/1"));
    // Of an image that nothing is said of.
    other.add_busybox();
    let told = other.corten(&["image", "provenance", "busybox"]).fails(1);
    assert!(told.contains("no provenance came with busybox"), "{told}");
    assert!(told.contains("remove the image and pull it again"), "{told}");
}

const ATTESTATION: &str = "application/vnd.docker.attestation.manifest.v1+json";

#[test]
fn what_refers_to_an_image_leaves_it_as_it_is() {
    let engine = TestEngine::with_busybox();
    let (context, place) = (context(), tempfile::tempdir().unwrap());
    let registry = TestRegistry::start(&place.path().join("registry"), &[]);
    let named = |name: &str| format!("{}/{name}", registry.address());
    let get = |path: &str| registry.connect().get(path).unwrap();
    let digest_of = |name: &str| {
        let reply = get(&format!("/v2/{name}/manifests/1"));
        assert!(reply.header("content-type").contains("image.manifest"), "{}", reply.text());
        reply.header("docker-content-digest").to_owned()
    };
    build(&engine, context.path(), &["-t", &named("plain:1"), "--push"]).ok();
    let metadata = place.path().join("metadata");
    let referring = ["--attest", "type=provenance,referrers=true", "--attest", "type=sbom,referrers=true"];
    let app = named("app:1");
    let flags = ["-t", &app, "--push", "--metadata-file", metadata.to_str().unwrap()];
    build(&engine, context.path(), &[&flags[..], &referring].concat()).ok();
    let digest = digest_of("app");
    assert_eq!(digest, digest_of("plain"), "the image is the same");
    assert_eq!(read(&metadata)["containerimage.digest"], digest.as_str());
    let referrers = |name: &str, of: &str| {
        let list = json(&get(&format!("/v2/{name}/referrers/{of}")).text());
        list["manifests"].as_array().unwrap().clone()
    };
    let listed = referrers("app", &digest);
    assert_eq!((listed.len(), &listed[0]["artifactType"]), (1, &json!(ATTESTATION)));
    let manifest = json(&get(&format!("/v2/app/manifests/{}", listed[0]["digest"].as_str().unwrap())).text());
    assert_eq!(manifest["subject"]["digest"], digest.as_str());
    for (layer, kind) in manifest["layers"].as_array().unwrap().iter().zip(KINDS) {
        assert_eq!(layer["annotations"]["in-toto.io/predicate-type"], kind);
        let statement = get(&format!("/v2/app/blobs/{}", layer["digest"].as_str().unwrap()));
        let statement = json(&statement.text());
        assert_eq!(documents::statement(&statement), [] as [String; 0]);
        assert_eq!(statement["subject"][0]["digest"]["sha256"], digest.trim_start_matches("sha256:"));
    }
    // The engine has it, and every later push takes it along; what the build before said is gone.
    build(&engine, context.path(), &[&["-t", &app], &referring[..]].concat()).ok();
    assert_eq!(attached(&engine, &app), KINDS);
    engine.docker(&["tag", &app, &named("later:1")]).ok();
    engine.docker(&["push", &named("later:1")]).ok();
    assert_eq!((digest_of("later"), referrers("later", &digest).len()), (digest.clone(), 1));
    // The same content by another name, where something is said in the index: what refers to the first one's stays.
    build(&engine, context.path(), &["-t", "beside:1", "--sbom"]).ok();
    engine.docker(&["tag", &app, &named("kept:1")]).ok();
    engine.docker(&["push", &named("kept:1")]).ok();
    let kept = referrers("kept", &digest);
    assert_eq!(kept.len(), 1);
    // An archive has what it leads to.
    let archive = place.path().join("beside.tar").display().to_string();
    engine.docker(&["save", "-o", &archive, "beside:1"]).ok();
    let files = run(Command::new("tar").args(["-tf", &archive])).ok();
    let file = |digest: &str| format!("blobs/{}", digest.replace(':', "/"));
    assert!(files.contains(&file(&digest)), "{files}");
    assert!(!files.contains(&file(kept[0]["digest"].as_str().unwrap())), "{files}");
    // Several platforms: an index of images alone, each of which is referred to.
    let dockerfile = DOCKERFILE.replace("FROM busybox", "FROM --platform=$BUILDPLATFORM busybox");
    fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    let several = named("several:1");
    let flags = ["--platform", "linux/amd64,linux/arm64", "-t", &several, "--push"];
    build(&engine, context.path(), &[&flags[..], &referring].concat()).ok();
    let index = json(&get("/v2/several/manifests/1").text());
    let images = index["manifests"].as_array().unwrap();
    assert_eq!(images.len(), 2, "{index}");
    for image in images {
        assert_eq!(referrers("several", image["digest"].as_str().unwrap()).len(), 1);
    }
    let told = engine.corten(&["artifact", "ls", &several]);
    assert!(told.stderr.contains(" is an index: "), "{}", told.stderr);
    // BuildKit's clients say it in the same words. What was said of the same image by another name goes along.
    let theirs = named("theirs:1");
    let path = context.path().display().to_string();
    let flags = ["buildx", "build", "--push", "-t", &theirs, "--sbom=referrers=true", &path];
    run(engine.docker_command(&flags).env("DOCKER_CONFIG", plugins())).ok();
    assert_eq!(referrers("theirs", &digest_of("theirs")).len(), 2);
    // Where nothing can refer, and where one thing would and another not.
    let out = place.path().join("out").display().to_string();
    let oci = format!("type=oci,dest={out}.tar");
    for output in [&out, &oci] {
        let told = build(&engine, context.path(), &["-o", output, "--sbom=referrers=true"]).fails(1);
        assert!(told.contains("leave referrers out"), "{told}");
    }
    let told = build(&engine, context.path(), &["--sbom=referrers=true", "--provenance"]).fails(1);
    assert!(told.contains("for all attestations of a build, or for none"), "{told}");
    // A registry that keeps no such account has it in a tag.
    if let Some(reference) = Reference::start() {
        let name = format!("{}/app:1", reference.address());
        engine.docker(&["tag", &app, &name]).ok();
        engine.docker(&["push", &name]).ok();
        let tag = digest.replace(':', "-");
        let mut wire = corten_tests::registry::Wire::connect(reference.address()).unwrap();
        let accept = "Accept: application/vnd.oci.image.index.v1+json\r\n";
        let index = wire.ask("GET", &format!("/v2/app/manifests/{tag}"), accept, b"").unwrap();
        assert_eq!(json(&index.text())["manifests"][0]["artifactType"], ATTESTATION);
    }
}
