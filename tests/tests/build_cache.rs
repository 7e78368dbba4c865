//! What builds leave for the next ones: counted, pruned, kept to a budget, and shared by builds that go on at the same time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use corten_tests::{Output, TestEngine, binary, eventually, run};
use tempfile::TempDir;

fn context(dockerfile: &str) -> TempDir {
    let context = tempfile::tempdir().unwrap();
    fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    context
}

fn build(engine: &TestEngine, context: &Path, flags: &[&str]) -> Output {
    let context = context.display().to_string();
    engine.corten(&[&["build", "--progress", "plain"], flags, &[&context]].concat())
}

/// The directories of cache mounts.
fn mounts(engine: &TestEngine) -> Vec<PathBuf> {
    let entries = fs::read_dir(engine.data_root().join("build/caches")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Bytes below a directory of the data root.
fn disk_bytes(engine: &TestEngine, directory: &str) -> u64 {
    let path = engine.data_root().join(directory);
    // What goes meanwhile is no longer there for it.
    let told = run(Command::new("du").args(["-s", "-B1"]).arg(path)).stdout;
    told.split_whitespace().next().unwrap().parse().unwrap()
}

fn ids(engine: &TestEngine, kind: &str) -> Vec<String> {
    let told = engine.corten(&["builder", "du", "--format", "{{.CacheType}} {{.ID}}"]).ok();
    let lines = told.lines().filter_map(|line| line.split_once(' '));
    lines.filter(|(own, _)| *own == kind).map(|(_, id)| id.to_owned()).collect()
}

/// Files of the same size and time, in layers that are mounted one after the other: nothing but their contents tells them apart.
#[test]
fn what_is_copied_of_a_stage_is_told_by_its_contents() {
    let engine = TestEngine::with_busybox();
    let words: Vec<String> = ('a'..='t').map(|letter| format!("word-{letter}")).collect();
    for word in &words {
        let context = context(&format!(
            "FROM busybox AS made\nRUN mkdir /out && echo {word} >/out/file\n\
             FROM busybox\nCOPY --from=made /out /out\nRUN cp /out/file /copy\n"
        ));
        build(&engine, context.path(), &["-t", word]).ok();
    }
    let shown = |word: &String| engine.corten(&["run", "--rm", word, "cat", "/out/file", "/copy"]).ok();
    let wanted: Vec<String> = words.iter().map(|word| format!("{word}\n{word}")).collect();
    assert_eq!(words.iter().map(shown).collect::<Vec<_>>(), wanted);
}

/// What was read of layers is known the next time: they never change.
#[test]
fn what_is_copied_of_a_stage_is_read_once() {
    const BYTES: u64 = 64 << 20;
    let engine = TestEngine::with_busybox();
    let copied = |last: &str| {
        let context = context(&format!(
            "FROM busybox AS made\nRUN head -c {BYTES} /dev/urandom >/file\n\
             FROM busybox\nCOPY --from=made /file /file\nRUN {last}\n"
        ));
        let read = || {
            let io = fs::read_to_string(format!("/proc/{}/io", engine.pid().unwrap())).unwrap();
            io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse::<u64>().unwrap()
        };
        let before = read();
        build(&engine, context.path(), &["-t", "app"]).ok();
        read() - before
    };
    let first = copied("true");
    assert!(first > BYTES, "{first} bytes read to see what there is");
    let again = copied("wc -c /file");
    assert!(again < BYTES / 4, "{again} bytes read to see that it is the same");
}

#[test]
fn cache_mounts_are_counted_and_pruned_like_steps() {
    let engine = TestEngine::with_busybox();
    let context = context(
        "FROM busybox\nRUN --mount=type=cache,target=/cache dd if=/dev/urandom of=/cache/big bs=1M count=4 2>/dev/null\n\
         RUN dd if=/dev/urandom of=/big bs=1M count=3 2>/dev/null\n",
    );
    build(&engine, context.path(), &["-t", "t"]).ok();
    assert_eq!(mounts(&engine).len(), 1);
    let df = engine.corten(&["system", "df", "--format", "{{.Type}}: {{.TotalCount}} {{.Size}}"]).ok();
    let row = df.lines().find(|line| line.starts_with("Build Cache")).unwrap();
    assert!(row.starts_with("Build Cache: 3 4."), "the image has the second step's layer: {row}");
    for verbose in [engine.corten(&["system", "df", "-v"]).ok(), engine.docker(&["system", "df", "-v"]).ok()]
    {
        assert!(
            verbose.contains("exec.cachemount") && verbose.contains("Build cache usage: 4."),
            "{verbose}"
        );
    }
    let told = engine.corten(&["builder", "du", "--verbose"]).ok();
    assert!(told.contains("Description:\tcache mount /cache") && told.contains("Type:\t\tregular"), "{told}");
    let listed = |filter: &str| {
        let flags = ["builder", "du", "--filter", filter, "--format", "{{.CacheType}}"];
        engine.corten(&flags).ok().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(listed("type=exec.cachemount"), ["exec.cachemount"]);
    assert_eq!(listed("shared=true"), ["regular"]);
    assert_eq!(listed("until=24h").len(), 0);
    let own = &ids(&engine, "exec.cachemount")[0];
    assert_eq!(listed(&format!("id={own}")), ["exec.cachemount"]);
    assert_eq!(engine.corten(&["buildx", "du", "--format", "{{.ID}}"]).ok().lines().count(), 3);
    // Only what is meant goes.
    engine.corten(&["builder", "prune", "-f", "--filter", "until=24h"]).ok();
    engine.corten(&["builder", "prune", "-f", "--filter", "colour=red"]).fails(1);
    engine.corten(&["builder", "prune", "-f", "--reserved-space", "100m"]).ok();
    assert_eq!((mounts(&engine).len(), ids(&engine, "regular").len()), (1, 2));
    let told = engine.corten(&["builder", "prune", "-f", "--filter", "type=exec.cachemount"]).ok();
    assert!(told.contains("Deleted build cache objects:") && told.contains("space: 4."), "{told}");
    assert_eq!((mounts(&engine).len(), ids(&engine, "exec.cachemount").len()), (0, 0));
    assert!(build(&engine, context.path(), &["-t", "t"]).stderr.contains("CACHED"));
    // What the image had is the step's alone when the image is gone.
    engine.corten(&["rmi", "-f", "t"]).ok();
    let before = disk_bytes(&engine, "image/layers");
    let told = engine.docker(&["builder", "prune", "-f"]).ok();
    assert!(told.contains("3.1"), "{told}");
    eventually("the layer is gone", || disk_bytes(&engine, "image/layers") + (3 << 20) <= before);
    assert_eq!(ids(&engine, "regular"), [""; 0]);
    // The rest of the system is told to prune it, too.
    build(&engine, context.path(), &["-t", "t"]).ok();
    let asked = engine.corten(&["system", "prune"]);
    assert!(asked.stderr.contains("unused build cache"), "{}", asked.stderr);
    engine.corten(&["system", "prune", "-f", "--filter", "label=a"]).ok();
    assert_eq!(mounts(&engine).len(), 1);
    engine.corten(&["system", "prune", "-af"]).ok();
    assert_eq!((mounts(&engine).len(), ids(&engine, "regular").len()), (0, 0));
}

/// A build of which the only step, when it runs, tells so in its cache mount and waits there to be let go.
const WAITS: &str = "FROM busybox\nRUN --mount=type=cache,target=/c echo x >> /c/begun; \
    while [ ! -e /c/go ]; do sleep 0.1; done; echo x >> /c/done; cp /c/done /done\n";

fn begun(engine: &TestEngine) -> usize {
    let files = mounts(engine).into_iter().map(|mount| mount.join("begun"));
    files.filter_map(|file| fs::read_to_string(file).ok()).map(|text| text.lines().count()).sum()
}

fn let_go(engine: &TestEngine) {
    fs::write(mounts(engine)[0].join("go"), "").unwrap();
}

/// A client, and what it has told so far.
struct Client {
    child: Child,
    told: tempfile::NamedTempFile,
}

impl Client {
    fn start(mut command: Command, context: &Path) -> Client {
        let told = tempfile::NamedTempFile::new().unwrap();
        let output = || Stdio::from(told.reopen().unwrap());
        let child = command.arg(context).stdout(output()).stderr(output()).spawn().unwrap();
        Client { child, told }
    }

    fn corten(engine: &TestEngine, context: &Path, tag: &str) -> Client {
        let mut command = Command::new(binary("corten"));
        command.args(["-H", &engine.host(), "build", "--progress", "plain", "-t", tag]);
        Client::start(command, context)
    }

    fn docker(engine: &TestEngine, context: &Path, tag: &str) -> Client {
        let mut command = engine.docker_command(&["build", "-t", tag]);
        command.env("DOCKER_BUILDKIT", "0");
        Client::start(command, context)
    }

    fn told(&self) -> String {
        fs::read_to_string(self.told.path()).unwrap()
    }

    fn ends_well(mut self) {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{}", self.told());
    }
}

#[test]
fn a_step_that_two_builds_want_is_done_once() {
    let engine = TestEngine::with_busybox();
    let context = context(WAITS);
    let first = Client::corten(&engine, context.path(), "first");
    eventually("the step begins", || begun(&engine) == 1);
    let second = Client::docker(&engine, context.path(), "second");
    eventually("the second comes to it", || second.told().contains("RUN --mount"));
    // In use: nobody prunes it.
    engine.corten(&["builder", "prune", "-af"]).ok();
    assert_eq!(mounts(&engine).len(), 1);
    let_go(&engine);
    first.ends_well();
    second.ends_well();
    assert_eq!(begun(&engine), 1);
    assert_eq!(engine.corten(&["run", "--rm", "second", "cat", "/done"]).ok(), "x");
}

#[test]
fn a_step_that_was_given_up_is_done_by_the_next() {
    let engine = TestEngine::with_busybox();
    let context = context(WAITS);
    let mut first = Client::corten(&engine, context.path(), "first");
    eventually("the step begins", || begun(&engine) == 1);
    let second = Client::docker(&engine, context.path(), "second");
    eventually("the second comes to it", || second.told().contains("RUN --mount"));
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    eventually("the second does it", || begun(&engine) == 2);
    let_go(&engine);
    second.ends_well();
    // One that fails is done again by the next, and its failure is each one's own.
    let broken = self::context("FROM busybox\nRUN sleep 1; exit 3\n");
    let clients = ["a", "b"].map(|tag| Client::corten(&engine, broken.path(), tag));
    for mut client in clients {
        assert!(!client.child.wait().unwrap().success());
        assert!(client.told().contains("exit code: 3"), "{}", client.told());
    }
}

#[test]
fn builds_go_on_while_what_they_use_is_pruned() {
    let engine = TestEngine::with_busybox();
    let over = AtomicBool::new(false);
    let contexts = ["one", "two"].map(|name| {
        let context = context(&format!(
            "FROM busybox AS base\nRUN echo {name} > /a\nFROM base\nCOPY f /f\nWORKDIR /w\nRUN cat /a /f > b\nRUN cat b > c\n"
        ));
        fs::write(context.path().join("f"), name).unwrap();
        context
    });
    std::thread::scope(|scope| {
        let pruning = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                engine.corten(&["builder", "prune", "-af"]).ok();
                engine.corten(&["image", "prune", "-f"]);
            }
        });
        let builds = contexts.each_ref().map(|context| {
            scope.spawn(|| (0..8).map(|_| build(&engine, context.path(), &[])).collect::<Vec<_>>())
        });
        let outputs: Vec<Output> = builds.into_iter().flat_map(|build| build.join().unwrap()).collect();
        over.store(true, Ordering::Relaxed);
        pruning.join().unwrap();
        for output in outputs {
            assert_eq!(output.code, 0, "{}", output.stderr);
        }
    });
    for (context, name) in contexts.iter().zip(["one", "two"]) {
        build(&engine, context.path(), &["-t", "t"]).ok();
        assert_eq!(engine.corten(&["run", "--rm", "t", "cat", "c"]).ok(), format!("{name}\n{name}"));
    }
}

#[test]
fn the_cache_keeps_to_its_budget() {
    const BUDGET: u64 = 8 << 20;
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("daemon.json");
    fs::write(&config, r#"{"builder": {"gc": {"enabled": true, "defaultMaxUsedSpace": "8MB"}}}"#).unwrap();
    let mut engine = TestEngine::start_with(&["--config-file", config.to_str().unwrap()]);
    engine.add_busybox();
    let steps = |numbers: std::ops::Range<usize>| {
        let dockerfile: String = numbers
            .map(|number| format!("RUN dd if=/dev/urandom of=/{number} bs=1M count=3 2>/dev/null\n"))
            .collect();
        context(&format!("FROM busybox\n{dockerfile}"))
    };
    let small = context("FROM busybox\nRUN true\n");
    let fill = |engine: &TestEngine, context: &TempDir| {
        // As long as an image has the layers they cost nothing.
        build(engine, context.path(), &["-t", "filled"]).ok();
        engine.corten(&["rmi", "filled"]).ok();
    };
    let is_within = |engine: &TestEngine| {
        let busybox = 4 << 20;
        disk_bytes(engine, "image/layers") <= BUDGET + busybox
    };
    build(&engine, steps(0..6).path(), &["-t", "filled"]).ok();
    build(&engine, small.path(), &[]).ok();
    assert_eq!(ids(&engine, "regular").len(), 7, "what an image has is kept");
    engine.corten(&["rmi", "filled"]).ok();
    build(&engine, small.path(), &[]).ok();
    eventually("the cache is within its budget", || is_within(&engine));
    assert!(!ids(&engine, "regular").is_empty(), "but not empty");
    // Killed in the middle of it, the next engine goes on.
    fill(&engine, &steps(10..40));
    build(&engine, small.path(), &["--no-cache"]).ok();
    engine.kill();
    engine.restart();
    eventually("the next engine goes on with it", || is_within(&engine));
    let rest = steps(50..52);
    fill(&engine, &rest);
    assert!(build(&engine, rest.path(), &["-t", "t"]).stderr.contains("CACHED"), "what was used last stays");
    assert_eq!(
        engine.corten(&["run", "--rm", "t", "sh", "-c", "cat /51 | wc -c"]).ok(),
        (3 << 20).to_string()
    );
}
