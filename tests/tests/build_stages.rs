//! Many stages, and what each of their steps finds around it: their row may be long, their host always has the same name.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use corten_tests::{Output, TestEngine};
use tempfile::TempDir;

fn context(dockerfile: &str) -> TempDir {
    let context = tempfile::tempdir().unwrap();
    fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    fs::write(context.path().join("f"), "f\n").unwrap();
    context
}

fn build(engine: &TestEngine, context: &Path, flags: &[&str]) -> Output {
    let context = context.display().to_string();
    engine.corten(&[&["build", "--progress", "plain", "-t", "t"], flags, &[&context]].concat())
}

/// What a step prints, with these flags.
fn printed(engine: &TestEngine, step: &str, flags: &[&str]) -> String {
    let context = context(&format!("FROM busybox\nRUN {step} >/out\n"));
    build(engine, context.path(), flags).ok();
    engine.corten(&["run", "--rm", "t", "cat", "/out"]).ok()
}

/// A row of stages, each with what it takes of the one before.
fn row(length: usize, stage: impl Fn(usize) -> String) -> String {
    (1..length).fold("FROM busybox AS s0\nCOPY f /f0\n".to_owned(), |mut text, number| {
        let _ = writeln!(text, "{}", stage(number));
        text
    })
}

#[test]
fn a_long_row_of_stages_is_built() {
    let engine = TestEngine::with_busybox();
    let mounts = row(80, |n| {
        format!(
            "FROM busybox AS s{n}\nRUN --mount=type=bind,from=s{},target=/m cp /m/f{} /f{n}",
            n - 1,
            n - 1
        )
    });
    build(&engine, context(&mounts).path(), &[]).ok();
    assert_eq!(engine.corten(&["run", "--rm", "t", "cat", "/f79"]).ok(), "f");
    let copies = row(400, |n| format!("FROM busybox AS s{n}\nCOPY --from=s{} /f{} /f{n}", n - 1, n - 1));
    build(&engine, context(&copies).path(), &[]).ok();
    assert_eq!(engine.corten(&["run", "--rm", "t", "cat", "/f399"]).ok(), "f");
    let bases = row(2000, |n| format!("FROM s{} AS s{n}\nENV LAST={n}", n - 1));
    let bases = context(&bases);
    build(&engine, bases.path(), &[]).ok();
    assert_eq!(engine.corten(&["run", "--rm", "t", "sh", "-c", "cat f0; echo $LAST"]).ok(), "f\n1999");
    build(&engine, bases.path(), &["--call", "outline"]).ok();
    build(&engine, bases.path(), &["--check"]).ok();
    // By the older API, too.
    let path = bases.path().display().to_string();
    let mut docker = engine.docker_command(&["build", "-t", "classic", &path]);
    corten_tests::run(docker.env("DOCKER_BUILDKIT", "0")).ok();
}

#[test]
fn what_a_failing_stage_says_ends_the_build() {
    let engine = TestEngine::with_busybox();
    let context = context(
        "FROM busybox AS bad\nRUN echo reason >&2; exit 7\nFROM busybox\nRUN sleep 1000\nCOPY --from=bad /f /f\n",
    );
    let told = build(&engine, context.path(), &[]).fails(1);
    assert!(told.contains("reason") && told.contains("exit code: 7"), "{told}");
}

#[test]
fn all_steps_are_on_a_host_of_the_same_name() {
    let engine = TestEngine::with_busybox();
    let step = "(hostname; cat /etc/hostname; grep sandbox /etc/hosts; env | grep HOSTNAME || echo none)";
    let shown = printed(&engine, step, &[]);
    assert_eq!(shown, "buildkitsandbox\nbuildkitsandbox\n127.0.0.1\tbuildkitsandbox\nnone");
    let named = printed(&engine, "hostname", &["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=tower"]);
    assert_eq!(named, "tower");
    assert_eq!(printed(&engine, "hostname", &[]), "buildkitsandbox", "it is another step");
    let told = build(
        &engine,
        context("FROM busybox\nRUN true\n").path(),
        &["--build-arg", &format!("BUILDKIT_SANDBOX_HOSTNAME={}", "x".repeat(65))],
    );
    assert!(told.fails(1).contains("invalid hostname"));
    // What a Dockerfile says itself is so.
    let context = context("FROM busybox\nENV HOSTNAME=own\nRUN echo $HOSTNAME >/out\n");
    build(&engine, context.path(), &[]).ok();
    assert_eq!(engine.corten(&["run", "--rm", "t", "cat", "/out"]).ok(), "own");
}

#[test]
fn proxies_are_told_in_both_spellings() {
    let engine = TestEngine::with_busybox();
    let given = ["--no-cache", "--build-arg", "HTTP_PROXY=http://p.example:1", "--build-arg", "no_proxy=a"];
    let step = "(env | grep -i proxy | sort)";
    let both = "HTTP_PROXY=http://p.example:1\nNO_PROXY=a\nhttp_proxy=http://p.example:1\nno_proxy=a";
    assert_eq!(printed(&engine, step, &given), both);
    let two = ["--no-cache", "--build-arg", "FTP_PROXY=upper", "--build-arg", "ftp_proxy=lower"];
    assert_eq!(printed(&engine, step, &two), "FTP_PROXY=upper\nftp_proxy=lower");
}

#[test]
fn cache_mounts_of_other_owners_and_name_spaces_are_others() {
    let engine = TestEngine::with_busybox();
    let root = context("FROM busybox\nRUN --mount=type=cache,target=/c echo root >/c/file\n");
    build(&engine, root.path(), &[]).ok();
    let own = context(
        "FROM busybox\nUSER 1000\nRUN --mount=type=cache,target=/c,uid=1000,mode=0700 test ! -e /c/file && \
         echo own >/c/file && stat -c '%u %a' /c >&2\n",
    );
    let told = build(&engine, own.path(), &[]);
    assert!(told.stderr.contains("1000 700"), "{}", told.stderr);
    let seen = |flags: &[&str]| {
        let context = context("FROM busybox\nRUN --mount=type=cache,target=/c ls /c >&2; touch /c/seen\n");
        build(&engine, context.path(), &[&["--no-cache"], flags].concat()).stderr.contains(" file")
    };
    assert!(seen(&[]));
    assert!(!seen(&["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=a"]));
}

#[test]
fn several_things_go_into_a_directory_that_is_there() {
    let engine = TestEngine::with_busybox();
    // What is there is seen in the corpus; this is what is not.
    for (dockerfile, target) in [
        ("FROM busybox\nCOPY f Dockerfile /new\n", "/new"),
        ("FROM busybox\nCOPY --link f Dockerfile /etc\n", "/etc"),
        ("FROM busybox\nCOPY * /new\n", "/new"),
    ] {
        let told = build(&engine, context(dockerfile).path(), &[]).fails(1);
        assert!(told.contains("the destination must be a directory") && told.contains(target), "{told}");
    }
}

#[test]
fn a_base_is_named_and_no_beginning_of_an_id() {
    let engine = TestEngine::with_busybox();
    let id = engine.corten(&["inspect", "-f", "{{.Id}}", "busybox"]).ok();
    let id = id.strip_prefix("sha256:").unwrap();
    let base = |name: &str| build(&engine, context(&format!("FROM {name}\nRUN true\n")).path(), &[]);
    for name in [&id[..12], id, &format!("sha256:{id}")] {
        base(name).ok();
    }
    let short = base(&id[..4]).fails(1);
    assert!(short.contains(&format!("docker.io/library/{}", &id[..4])), "{short}");
}

/// As a repository of many packages copies their manifests.
#[test]
fn stars_are_any_number_of_directories_for_parents() {
    let engine = TestEngine::with_busybox();
    let made = |copy: &str| {
        let context = context(&format!("FROM busybox AS t\nWORKDIR /w\n{copy}\nRUN find . | sort >/out\n"));
        for path in ["m", "x/m", "x/y/m", "x/y/other", "x/y/z/m", "x/node_modules/n/m", "q/m/within"] {
            let path = context.path().join("src").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::write(context.path().join(".dockerignore"), "src/x/y/z\n").unwrap();
        build(&engine, context.path(), &[]).ok();
        let listed = engine.corten(&["run", "--rm", "t", "cat", "/out"]).ok();
        listed.lines().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        made("COPY --parents --exclude=**/node_modules src/./**/m ./"),
        "./m ./q ./q/m ./q/m/within ./x ./x/m ./x/y ./x/y/m"
    );
    let within = made("COPY --parents src/x/**/m ./");
    assert_eq!(
        within,
        "./src ./src/x ./src/x/m ./src/x/node_modules ./src/x/node_modules/n ./src/x/node_modules/n/m ./src/x/y ./src/x/y/m"
    );
    assert_eq!(made("COPY --parents src/x/y/** ./"), "./src ./src/x ./src/x/y ./src/x/y/m ./src/x/y/other");
}

#[test]
fn a_step_ends_behind_what_is_told_of_it() {
    let engine = TestEngine::with_busybox();
    let told = build(&engine, context("FROM busybox\n").path(), &[]).stderr;
    let at = |text: &str| told.find(text).unwrap_or_else(|| panic!("{text}: {told}"));
    assert!(at("#1 transferring dockerfile") < at("#1 DONE"), "{told}");
}
