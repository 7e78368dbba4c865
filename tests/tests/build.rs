//! Builds: Docker's client by the older API and our own, from the same Dockerfiles to images that run.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use corten_tests::{Output, TestEngine, eventually, run};
use tempfile::TempDir;

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn context(dockerfile: &str) -> TempDir {
    let context = tempfile::tempdir().unwrap();
    write(context.path(), "Dockerfile", dockerfile);
    context
}

fn build(engine: &TestEngine, context: &Path, flags: &[&str]) -> Output {
    let context = context.display().to_string();
    engine.corten(&[&["build", "-t", "test", "--progress", "plain"], flags, &[&context]].concat())
}

/// What was told of a build that succeeded.
fn told(output: Output) -> String {
    assert_eq!(output.code, 0, "{}", output.stderr);
    output.stderr
}

/// Docker's client, by the API that it used before BuildKit.
fn classic(engine: &TestEngine, context: &Path, flags: &[&str]) -> Output {
    let mut docker = Command::new("docker");
    docker.env("DOCKER_BUILDKIT", "0").args(["-H", &engine.host(), "build", "-t", "classic"]);
    run(docker.args(flags).arg(context))
}

fn runs(engine: &TestEngine, image: &str, script: &str) -> String {
    engine.corten(&["run", "--rm", image, "sh", "-c", script]).ok()
}

fn id(engine: &TestEngine, image: &str) -> String {
    engine.corten(&["inspect", "-f", "{{.Id}}", image]).ok()
}

const EVERYTHING: &str = "
ARG BASE=busybox
FROM $BASE AS tools
RUN echo tool > /tool && chmod 700 /tool
FROM busybox
ARG COLOUR=blue
ENV SHADE=dark-$COLOUR
LABEL of=$SHADE
WORKDIR /srv/app
COPY src ./src/
COPY --chown=7:8 --chmod=640 note.txt notes/
COPY --from=tools /tool /usr/bin/tool
COPY <<DOC here.txt
shade is $SHADE
DOC
RUN <<SH
echo \"$COLOUR\" > colour
cat here.txt >> colour
SH
RUN [\"sh\", \"-c\", \"ls src > listing\"]
EXPOSE 80 53/udp
VOLUME /data
USER 7
HEALTHCHECK --interval=5s CMD true
STOPSIGNAL SIGINT
ENTRYPOINT [\"sh\", \"-c\"]
CMD [\"cat /srv/app/colour\"]
";

#[test]
fn both_ways_make_the_same_image() {
    let engine = TestEngine::with_busybox();
    let context = context(EVERYTHING);
    write(context.path(), "src/a", "a");
    write(context.path(), "src/deep/b", "b");
    write(context.path(), "note.txt", "note");
    let told = told(build(&engine, context.path(), &["--build-arg", "COLOUR=red"]));
    assert!(told.contains("RUN echo tool"), "{told}");
    assert_eq!(engine.corten(&["run", "--rm", "test"]).ok(), "red\nshade is dark-red");
    let facts = "cat src/a src/deep/b listing; stat -c '%a %u:%g %n' notes/note.txt /usr/bin/tool; pwd";
    let script = engine.corten(&["run", "--rm", "--entrypoint", "sh", "test", "-c", facts]).ok();
    assert_eq!(script, "aba\ndeep\n640 7:8 notes/note.txt\n700 0:0 /usr/bin/tool\n/srv/app");
    let inspected = engine.corten(&[
        "inspect",
        "-f",
        "{{.Config.User}} {{json .Config.ExposedPorts}} {{json .Config.Volumes}} {{.Config.StopSignal}} {{json .Config.Labels}} {{json .Config.Healthcheck}}",
        "test",
    ]);
    let wanted = "7 {\"53/udp\":{},\"80/tcp\":{}} {\"/data\":{}} SIGINT {\"of\":\"dark-red\"} {\"Test\":[\"CMD-SHELL\",\"true\"],\"Interval\":5000000000}";
    assert_eq!(inspected.ok(), wanted);
    let told = classic(&engine, context.path(), &["--build-arg", "COLOUR=red"]).ok();
    assert!(told.contains("Using cache") && told.contains("Successfully tagged classic:latest"), "{told}");
    assert_eq!(id(&engine, "test"), id(&engine, "classic"));
    // Nothing of the steps is left: neither a container nor a directory.
    assert_eq!(engine.corten(&["ps", "-aq"]).ok(), "");
    eventually("the containers of the steps go", || {
        fs::read_dir(engine.data_root().join("snapshots")).unwrap().count() == 0
            && fs::read_dir(engine.data_root().join("build/archives")).unwrap().count() == 0
    });
}

#[test]
fn what_is_known_is_not_done_again() {
    let mut engine = TestEngine::with_busybox();
    let context = context(
        "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /made\nCOPY a /a\nRUN cat /proc/sys/kernel/random/uuid > /later\n",
    );
    write(context.path(), "a", "1");
    write(context.path(), "b", "1");
    let made_by = |engine: &TestEngine, flags: &[&str]| {
        build(engine, context.path(), flags).ok();
        runs(engine, "test", "cat /made /later").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let made = |flags: &[&str]| made_by(&engine, flags);
    let first = made(&[]);
    assert_eq!(made(&[]), first);
    // Times and what is not copied don't matter.
    let touched = fs::File::open(context.path().join("a")).unwrap();
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    write(context.path(), "b", "2");
    assert_eq!(made(&[]), first);
    write(context.path(), "a", "2");
    let second = made(&[]);
    assert_eq!((&second[0], second[1] == first[1]), (&first[0], false));
    let third = made(&["--no-cache"]);
    assert!(third[0] != first[0] && third[1] != second[1], "{third:?}");
    let fourth = made(&["--build-arg", "UNUSED=1"]);
    assert_eq!(fourth, third, "what was made again is what is known");
    engine.stop();
    engine.restart();
    assert_eq!(made_by(&engine, &[]), third, "known after a restart");
    let told = engine.docker(&["builder", "prune", "-af"]).ok();
    assert!(told.contains("Total"), "{told}");
    assert_ne!(made_by(&engine, &[]), third);
}

#[test]
fn the_same_files_later_make_the_same_image() {
    let engine = TestEngine::with_busybox();
    let context = context(
        "FROM busybox\nCOPY . /src\nRUN ls -R /src > /list && mkdir -p /etc/more && touch /etc/more/x\n",
    );
    write(context.path(), "d/f", "f");
    let made = || {
        build(&engine, context.path(), &["--no-cache"]).ok();
        id(&engine, "test")
    };
    let first = made();
    assert_eq!(made(), first);
    // With a bound for times the image does not depend on when the files were written either.
    let bounded = || {
        build(&engine, context.path(), &["--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1000000000"]).ok();
        id(&engine, "test")
    };
    let first = bounded();
    fs::remove_file(context.path().join("d/f")).unwrap();
    write(context.path(), "d/f", "f");
    assert_eq!(bounded(), first);
    assert_eq!(runs(&engine, "test", "stat -c %Y /src/d/f /list"), "1000000000\n1000000000");
}

#[test]
fn dockerignore_leaves_out_and_takes_back() {
    let engine = TestEngine::with_busybox();
    let context = context("FROM busybox\nCOPY . /all\nCOPY --exclude=*.md docs /docs\n");
    write(context.path(), ".dockerignore", "node_modules\n*.log\n!keep.log\nsecret/*\n!secret/public\n");
    for path in
        ["node_modules/x", "a.log", "keep.log", "secret/key", "secret/public", "docs/a.md", "docs/b.txt"]
    {
        write(context.path(), path, "x");
    }
    build(&engine, context.path(), &[]).ok();
    let found = runs(&engine, "test", "cd /all; find . -type f | sort; ls /docs");
    assert_eq!(
        found,
        "./.dockerignore\n./Dockerfile\n./docs/a.md\n./docs/b.txt\n./keep.log\n./secret/public\nb.txt"
    );
    write(context.path(), "Dockerfile", "FROM busybox\nCOPY a.log /\n");
    let told = build(&engine, context.path(), &[]).fails(1);
    assert!(told.contains("Dockerfile:2") && told.contains("excluded by .dockerignore"), "{told}");
}

#[test]
fn steps_have_mounts_and_leave_nothing_of_them() {
    let engine = TestEngine::with_busybox();
    let context = context(
        "FROM busybox AS made\nRUN mkdir /out && echo 7 > /out/seven\nFROM busybox\n\
         RUN --mount=type=cache,target=/cache echo x >> /cache/count; cp /cache/count /count\n\
         RUN --mount=type=bind,target=/ctx --mount=type=bind,from=made,source=/out,target=/from cat /ctx/f /from/seven > /read\n\
         RUN --mount=type=secret,id=key --mount=type=secret,id=key,env=KEY test $(wc -c < /run/secrets/key) = 11 && test ${#KEY} = 11\n\
         RUN --mount=type=tmpfs,target=/fast touch /fast/x && grep ' /fast ' /proc/mounts | cut -d' ' -f3 > /kind\n",
    );
    write(context.path(), "f", "file\n");
    let key = context.path().join("key");
    fs::write(&key, "very-hush-9").unwrap();
    write(context.path(), ".dockerignore", "key\n");
    let secret = format!("id=key,src={}", key.display());
    build(&engine, context.path(), &["--secret", &secret]).ok();
    build(&engine, context.path(), &["--secret", &secret, "--no-cache"]).ok();
    let found = runs(
        &engine,
        "test",
        "cat /count /read /kind; ls -d /cache /ctx /from /run/secrets /fast 2>/dev/null; true",
    );
    assert_eq!(found, "x\nx\nfile\n7\ntmpfs", "the cache stayed, the rest left nothing");
    let told = build(&engine, context.path(), &["--no-cache"]);
    let told = told.fails(1);
    assert!(!told.contains("very-hush"), "{told}");
    // No secret is anywhere on the disk.
    let grep = run(Command::new("grep").args(["-rl", "very-hush"]).arg(engine.data_root()));
    assert_eq!(grep.stdout, "", "{}", grep.stdout);
}

#[test]
fn mistakes_are_told_with_their_place() {
    let engine = TestEngine::with_busybox();
    for (dockerfile, wanted) in [
        ("FROM busybox\nRUNN true\n", vec!["unknown instruction: RUNN", "RUN"]),
        (
            "FROM busybox\nRUN echo before; exit 3\n",
            vec!["Dockerfile:2", ">>> RUN echo before; exit 3", "exit code: 3"],
        ),
        ("FROM busybox\nCOPY nowhere /\n", vec!["Dockerfile:2", "\"/nowhere\": not found"]),
        ("FROM busybox\nCOPY --from=later / /\n", vec!["Dockerfile:2", "later"]),
        ("FROM busybox\nUSER nobody-here\nWORKDIR /x\n", vec!["Dockerfile:3", "nobody-here"]),
        ("", vec!["cannot be empty"]),
    ] {
        let context = context(dockerfile);
        let told = build(&engine, context.path(), &[]).fails(1);
        for part in wanted {
            assert!(told.contains(part), "{part:?} of {dockerfile:?}: {told}");
        }
    }
    let broken = context("FROM busybox\nRUN exit 9\n");
    let told = classic(&engine, broken.path(), &[]).fails(9);
    assert!(told.contains("returned a non-zero code: 9"), "{told}");
    assert_eq!(engine.corten(&["images", "-aq", "-f", "dangling=true"]).ok(), "", "nothing half-made");
}

#[test]
fn links_do_not_lead_out() {
    let engine = TestEngine::with_busybox();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "hush").unwrap();
    let context = context("FROM busybox\nRUN ln -s /tmp /place\nCOPY up/secret /got\n");
    std::os::unix::fs::symlink(outside.path(), context.path().join("up")).unwrap();
    let told = build(&engine, context.path(), &[]).fails(1);
    assert!(told.contains("not found"), "{told}");
    // A link of the image is followed within the image.
    write(context.path(), "Dockerfile", "FROM busybox\nRUN ln -s /tmp /place\nCOPY f /place/f\n");
    let before =
        fs::read_dir("/tmp").unwrap().filter(|entry| entry.as_ref().unwrap().file_name() == "f").count();
    write(context.path(), "f", "f");
    build(&engine, context.path(), &[]).ok();
    assert_eq!(runs(&engine, "test", "readlink /place; cat /tmp/f"), "/tmp\nf");
    let after =
        fs::read_dir("/tmp").unwrap().filter(|entry| entry.as_ref().unwrap().file_name() == "f").count();
    assert_eq!(before, after);
}

#[test]
fn a_build_ends_with_its_client_and_with_its_engine() {
    let mut engine = TestEngine::with_busybox();
    let context = context("FROM busybox\nRUN touch /done\nRUN echo begun; sleep 1000\n");
    let start = |engine: &TestEngine| {
        let mut corten = Command::new(corten_tests::binary("corten"));
        corten.args(["-H", &engine.host(), "build", "-t", "never"]).arg(context.path());
        corten.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut client = start(&engine);
    eventually("the step runs", || steps(&engine) > 0);
    client.kill().unwrap();
    client.wait().unwrap();
    eventually("the step ends with its client", || steps(&engine) == 0);
    let mut client = start(&engine);
    eventually("the step runs again", || steps(&engine) > 0);
    engine.kill();
    let _ = client.wait();
    engine.restart();
    eventually("the next engine ends the step", || steps(&engine) == 0);
    // What was done stays done.
    write(context.path(), "Dockerfile", "FROM busybox\nRUN touch /done\n");
    let told = told(build(&engine, context.path(), &[]));
    assert!(told.contains("CACHED"), "{told}");
}

/// How many containers of steps there are.
fn steps(engine: &TestEngine) -> usize {
    let snapshots = fs::read_dir(engine.data_root().join("snapshots"));
    snapshots.map_or(0, |entries| {
        entries.flatten().filter(|e| !e.file_name().to_string_lossy().starts_with('.')).count()
    })
}

#[test]
fn archives_are_unpacked_and_files_keep_their_modes() {
    let engine = TestEngine::with_busybox();
    let context = context("FROM busybox\nADD tree.tar.gz /tree/\nADD plain.txt /\nCOPY tree.tar.gz /kept/\n");
    write(context.path(), "in/bin/tool", "#!/bin/sh\n");
    fs::set_permissions(context.path().join("in/bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(context.path().join("in/bin/tool"), Some(42), Some(43)).unwrap();
    run(Command::new("tar")
        .arg("-C")
        .arg(context.path().join("in"))
        .args(["-czf"])
        .arg(context.path().join("tree.tar.gz"))
        .arg("."))
    .ok();
    write(context.path(), "plain.txt", "plain");
    assert_eq!(fs::metadata(context.path().join("in/bin/tool")).unwrap().uid(), 42);
    build(&engine, context.path(), &[]).ok();
    let found = runs(&engine, "test", "stat -c '%a %u:%g' /tree/bin/tool; cat /plain.txt; ls /kept");
    assert_eq!(found, "755 42:43\nplaintree.tar.gz");
}

#[test]
fn one_layer_may_come_twice() {
    let engine = TestEngine::with_busybox();
    let context = context(
        "FROM busybox\nCOPY a /x\nRUN rm /x && mkdir /dir\nCOPY a /x\nCOPY b /dir/y\nRUN echo more >/dir/y\nCOPY b /dir/y\n",
    );
    write(context.path(), "a", "first\n");
    write(context.path(), "b", "second\n");
    told(build(&engine, context.path(), &[]));
    let layers = engine.corten(&["inspect", "-f", "{{json .RootFS.Layers}}", "test"]).ok();
    let layers: Vec<String> = serde_json::from_str(&layers).unwrap();
    assert_eq!(layers.len(), 7, "{layers:?}");
    assert_eq!((&layers[1], &layers[4]), (&layers[3], &layers[6]), "they are the same");
    assert_eq!(runs(&engine, "test", "cat /x /dir/y"), "first\nsecond");
}

#[test]
fn archives_are_unpacked_however_they_are_compressed() {
    let engine = TestEngine::with_busybox();
    let context = context(
        "FROM busybox\nADD a.tar.xz /xz/\nADD a.tar.bz2 /bz2/\nADD broken.tar.xz /kept/\nADD greedy.xz /kept/\n",
    );
    write(context.path(), "in/file", "text");
    let tar = |flag: &str, name: &str| {
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(context.path().join("in")).arg(flag).arg(context.path().join(name)).arg(".");
        run(&mut tar).ok();
    };
    tar("-cJf", "a.tar.xz");
    tar("-cjf", "a.tar.bz2");
    // What is none is a file as others: broken in its first block, and one whose dictionary would take 1.5 GiB.
    let mut broken = fs::read(context.path().join("a.tar.xz")).unwrap();
    broken[12..].fill(7);
    fs::write(context.path().join("broken.tar.xz"), broken).unwrap();
    let xz = "tar -C in -c . | xz --format=xz --lzma2=preset=0,dict=1536MiB > greedy.xz";
    run(Command::new("sh").args(["-c", xz]).current_dir(context.path())).ok();
    build(&engine, context.path(), &[]).ok();
    assert_eq!(runs(&engine, "test", "cat /xz/file /bz2/file; ls /kept"), "texttextbroken.tar.xz\ngreedy.xz");
}

#[test]
fn permissions_are_changed_by_clauses() {
    let engine = TestEngine::with_busybox();
    let context = context(
        "FROM busybox\nARG RIGHTS=u=rwX,go=rX\nCOPY --chmod=$RIGHTS tree /tree\nCOPY --chmod=+x tree/plain /run\n",
    );
    write(context.path(), "tree/plain", "");
    write(context.path(), "tree/deep/tool", "");
    let set = |path: &str, mode| {
        fs::set_permissions(context.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    set("tree/plain", 0o600);
    set("tree/deep/tool", 0o700);
    set("tree/deep", 0o700);
    build(&engine, context.path(), &[]).ok();
    let found = runs(&engine, "test", "stat -c %a /tree/plain /tree/deep/tool /tree/deep /run");
    assert_eq!(found, "644\n755\n755\n711");
    write(context.path(), "Dockerfile", "FROM busybox\nCOPY --chmod=u=q tree /tree\n");
    let told = build(&engine, context.path(), &[]).fails(1);
    assert!(told.contains("Dockerfile:2") && told.contains("'u=q'"), "{told}");
}

#[test]
fn mounts_that_are_written_to_and_caches_that_begin_as_a_copy() {
    let engine = TestEngine::with_busybox();
    let context = context(
        "FROM busybox AS made\nRUN mkdir -p /out/deep && echo seed > /out/deep/f && chown 7 /out/deep/f\nFROM busybox\nARG TURN\n\
         RUN --mount=type=bind,target=/ctx,rw echo more >> /ctx/f && touch /ctx/new && cat /ctx/f > /read\n\
         RUN --mount=type=bind,target=/ctx,rw cat /ctx/f >> /read && ls /ctx >> /read\n\
         RUN --mount=type=bind,from=made,source=/out,target=/from,rw rm -r /from/deep && touch /from/x && ls /from >> /read\n\
         RUN --mount=type=cache,from=made,source=/out,target=/cache echo $TURN >> /cache/deep/f && stat -c %u /cache/deep/f > /count && cat /cache/deep/f >> /count\n",
    );
    write(context.path(), "f", "file\n");
    build(&engine, context.path(), &["--build-arg", "TURN=1"]).ok();
    build(&engine, context.path(), &["--build-arg", "TURN=2"]).ok();
    let found = runs(&engine, "test", "cat /read /count");
    assert_eq!(found, "file\nmore\nfile\nDockerfile\nf\nx\n7\nseed\n1\n2");
    // Another origin makes another cache.
    let text =
        fs::read_to_string(context.path().join("Dockerfile")).unwrap().replace("echo seed", "echo other");
    write(context.path(), "Dockerfile", &text);
    build(&engine, context.path(), &["--build-arg", "TURN=3"]).ok();
    assert_eq!(runs(&engine, "test", "cat /count"), "7\nother\n3");
    write(
        context.path(),
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=cache,from=busybox,source=/nowhere,target=/c true\n",
    );
    let told = build(&engine, context.path(), &[]).fails(1);
    assert!(told.contains("copy of /nowhere"), "{told}");
    write(context.path(), "Dockerfile", "FROM busybox\nRUN --mount=type=cache,source=/x,target=/c true\n");
    let told = build(&engine, context.path(), &[]).fails(1);
    assert!(told.contains("from="), "{told}");
    eventually("what was written is thrown away", || {
        fs::read_dir(engine.data_root().join("build/archives")).map_or(0, Iterator::count) == 0
    });
}

#[test]
fn a_dockerfile_gets_no_more_than_its_user_allows() {
    let engine = TestEngine::with_busybox();
    let insecure = context("FROM busybox\nRUN --security=insecure true\n");
    let refused = build(&engine, insecure.path(), &[]).fails(1);
    assert!(refused.contains("--security=insecure is not allowed"), "{refused}");
    let host = context("FROM busybox\nRUN --network=host cat /proc/net/unix > /seen\n");
    let refused = build(&engine, host.path(), &[]).fails(1);
    assert!(refused.contains("build with --network host"), "{refused}");
    build(&engine, host.path(), &["--network", "host"]).ok();
    assert_ne!(runs(&engine, "test", "wc -l < /seen"), "1", "the host's sockets");
}

/// An image is as old as its newest input, and still new here.
#[test]
fn a_fresh_image_is_not_pruned_as_an_old_one() {
    let engine = TestEngine::with_busybox();
    let context = context("FROM busybox\nRUN true\n");
    build(&engine, context.path(), &["--build-arg", "SOURCE_DATE_EPOCH=1000000000"]).ok();
    let created = engine.corten(&["inspect", "-f", "{{.Created}}", "test"]).ok();
    assert!(created.starts_with("2001-"), "{created}");
    engine.corten(&["image", "prune", "-af", "--filter", "until=1h"]).ok();
    id(&engine, "test");
    engine.corten(&["image", "prune", "-af"]).ok();
    assert_eq!(engine.corten(&["images", "-q"]).ok(), "");
}

#[test]
fn questions_are_answered_without_building() {
    let engine = TestEngine::with_busybox();
    let context = context("ARG WHO=you\n# made is made\nFROM nowhere.invalid/$WHO as made\nCMD echo hi\n");
    let ask = |flags: &[&str]| build(&engine, context.path(), flags);
    let found = ask(&["--check"]);
    assert_eq!(found.code, 1, "{}", found.stderr);
    for line in [
        "Check complete, 2 warnings have been found!",
        "WARNING: FromAsCasing - https://",
        "Dockerfile:3",
        "   3 | >>> FROM nowhere.invalid/$WHO as made",
        "WARNING: JSONArgsRecommended",
    ] {
        assert!(found.stdout.contains(line), "{line}: {}", found.stdout);
    }
    let all = ["--check", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all"];
    assert_eq!(ask(&all).ok(), "Check complete, no warnings found.");
    let found = ask(&["--call", "check,format=json,ignorestatus"]).ok();
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["warnings"][0]["ruleName"], "FromAsCasing");
    assert_eq!(ask(&["--call=targets"]).ok(), "TARGET           DESCRIPTION\nmade (default)   is made");
    let outline = ask(&["--call=outline", "--build-arg", "WHO=me"]).ok();
    assert!(outline.contains("BUILD ARG   VALUE") && outline.contains("WHO         me"), "{outline}");
    write(context.path(), "Dockerfile", "FROM busybox\nFLY away\n");
    let wrong = ask(&["--check"]);
    assert!(wrong.code == 1 && wrong.stdout.contains("   2 | >>> FLY away"), "{}", wrong.stdout);
    assert!(ask(&["--call=fly"]).stderr.contains("unknown method"));
}

#[test]
fn checks_know_the_variables_of_bases() {
    let engine = TestEngine::with_busybox();
    let lines = "ENV X=$YY Z=$KNOWN\nWORKDIR /$PAHT\n";
    let context = context("FROM busybox\nENV KNOWN=1\nONBUILD ENV LATER=1\n");
    build(&engine, context.path(), &["-t", "own"]).ok();
    write(context.path(), "Dockerfile", &format!("FROM own AS base\nFROM base\n{lines}ENV A=$LATER\n"));
    let own =
        ["Usage of undefined variable '$YY'", "Usage of undefined variable '$PAHT' (did you mean $PATH?)"];
    let found = build(&engine, context.path(), &["--check"]);
    assert_eq!(found.code, 1, "{}", found.stderr);
    assert!(own.iter().all(|text| found.stdout.contains(text)), "{}", found.stdout);
    assert!(found.stdout.contains("Check complete, 2 warnings have been found!"), "{}", found.stdout);
    for progress in ["plain", "rawjson"] {
        let told = told(build(&engine, context.path(), &["--progress", progress]));
        for text in own {
            let coded = corten_api::base64::encode(format!("UndefinedVar: {text}").as_bytes());
            let count = told.matches(text).count() + told.matches(&coded).count();
            assert_eq!(count, 1, "{progress}: {text}: {told}");
        }
    }
    // An error of it stops the build before its steps.
    let strict = format!("# check=error=true\nFROM own\nRUN echo ran\n{lines}");
    write(context.path(), "Dockerfile", &strict);
    let told = build(&engine, context.path(), &[]).fails(1);
    assert!(
        told.contains("lint violation found for rules: UndefinedVar") && !told.contains("echo ran"),
        "{told}"
    );
    // A target is all that counts then; and what isn't here isn't known.
    let target = format!("FROM own AS made\nFROM nowhere.invalid/x\n{lines}FROM own\n{lines}");
    write(context.path(), "Dockerfile", &target);
    assert_eq!(build(&engine, context.path(), &["--check", "--target", "made"]).code, 0);
    let found = build(&engine, context.path(), &["--check"]).stdout;
    assert!(found.contains("2 warnings") && found.contains("Dockerfile:6"), "{found}");
    write(context.path(), "Dockerfile", "FROM own\n");
    let found = build(&engine, context.path(), &["--check", "--platform", "linux/s390x"]).stdout;
    assert!(found.contains("InvalidBaseImagePlatform"), "{found}");
}

#[test]
fn what_steps_may_use_is_bounded() {
    let engine = TestEngine::with_busybox();
    let memory = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null";
    let processors = "cat /sys/fs/cgroup/cpuset.cpus /sys/fs/cgroup/cpuset/cpuset.cpus 2>/dev/null";
    let context = context(&format!("FROM busybox\nRUN {memory} >/memory; {processors} >/cpus; true\n"));
    // What is so anyway is taken from scripts.
    let flags = [
        "--rm",
        "--force-rm",
        "--compress",
        "-m",
        "64m",
        "--memory-swap",
        "-1",
        "--cpuset-cpus",
        "0",
        "-c",
        "512",
    ];
    build(&engine, context.path(), &flags).ok();
    assert_eq!(runs(&engine, "test", "cat /memory /cpus"), format!("{}\n0", 64 << 20));
    let path = context.path().display().to_string();
    let again = ["buildx", "build", "-t", "again", "--no-cache", "--rm=true", "--cpu-quota", "1", &path];
    let told = engine.corten(&again).fails(1);
    assert!(told.contains("CPU cfs quota"), "{told}");
}

#[test]
fn the_hosts_network_is_for_who_allows_it() {
    let engine = TestEngine::with_busybox();
    let context = context("FROM busybox\nRUN --network=host readlink /proc/self/ns/net >/net\n");
    let told = build(&engine, context.path(), &[]).fails(1);
    assert!(told.contains("RUN --network=host is not allowed"), "{told}");
    let told = build(&engine, context.path(), &["--allow", "security.insecure"]).fails(125);
    assert!(told.contains("--allow security.insecure is not supported"), "{told}");
    build(&engine, context.path(), &["--allow", "network.host"]).ok();
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(runs(&engine, "test", "cat /net"), own.to_str().unwrap());
}

#[test]
fn a_warning_fails_a_build_where_it_is_to() {
    let engine = TestEngine::with_busybox();
    let context = context("FROM busybox as made\nRUN true\n");
    let strict = ["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true"];
    let told = build(&engine, context.path(), &strict).fails(1);
    assert!(told.contains("lint violation found for rules: FromAsCasing"), "{told}");
    build(&engine, context.path(), &[]).ok();
    write(context.path(), "Dockerfile", "# check=error=true\nFROM busybox as made\n");
    build(&engine, context.path(), &[]).fails(1);
    let lax = ["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true;skip=FromAsCasing"];
    build(&engine, context.path(), &lax).ok();
}

#[test]
fn what_comes_out_differently_is_found() {
    let engine = TestEngine::with_busybox();
    let context = context(
        "FROM busybox AS same\nRUN echo same >/same\nFROM busybox AS made\nRUN echo one >/one\n\
         RUN printf x >/made && cat /proc/sys/kernel/random/uuid >>/made\nFROM same\nCOPY --from=made /made /copy\n",
    );
    let output = tempfile::tempdir().unwrap();
    let flags = ["--verify-reproducible", "-o", output.path().to_str().unwrap()];
    let told = build(&engine, context.path(), &flags).fails(1);
    for part in ["not reproducible", "stage made, layer 3: RUN", "/made: its contents differ from byte"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(fs::read_dir(output.path()).unwrap().count(), 0);
    write(
        context.path(),
        "Dockerfile",
        "FROM busybox\nRUN ln -s $(cat /proc/sys/kernel/random/uuid) /link\n",
    );
    let told = build(&engine, context.path(), &["--verify-reproducible"]).fails(1);
    assert!(told.contains("/link: its link is"), "{told}");
    write(
        context.path(),
        "Dockerfile",
        "FROM busybox\nRUN date >/dev/null; echo a >/a\nWORKDIR /b\nCOPY Dockerfile /c\n",
    );
    let told = told_of(&engine, context.path());
    assert!(told.contains("again: [2/4] RUN date") && !told.contains("CACHED [2"), "{told}");
}

fn told_of(engine: &TestEngine, context: &Path) -> String {
    told(build(engine, context, &["--verify-reproducible"]))
}

/// Docker's client ends such an archive right behind the Dockerfile that it puts in.
#[test]
fn the_older_client_takes_dockerfiles_from_elsewhere() {
    let engine = TestEngine::with_busybox();
    let site = context("FROM scratch\n");
    write(site.path(), "file", "text\n");
    let text = "FROM busybox\nCOPY file /file\nCMD [\"cat\", \"/file\"]\n";
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    fs::write(elsewhere.path(), text).unwrap();
    classic(&engine, site.path(), &["-f", elsewhere.path().to_str().unwrap()]).ok();
    assert_eq!(engine.corten(&["run", "--rm", "classic"]).ok(), "text");
    engine.corten(&["rmi", "classic"]).ok();
    let mut docker = Command::new("docker");
    docker.env("DOCKER_BUILDKIT", "0").args(["-H", &engine.host(), "build", "-t", "classic", "-f", "-"]);
    docker.arg(site.path()).stdin(fs::File::open(elsewhere.path()).unwrap());
    let output = docker.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(engine.corten(&["run", "--rm", "classic"]).ok(), "text");
}
