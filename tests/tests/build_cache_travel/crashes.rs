//! Engines that are killed while caches are on their way.

use std::fs;
use std::process::{Child, Stdio};

use corten_tests::proxy::{Mood, Proxy};
use corten_tests::{TestEngine, eventually};
use rustix::process::{Pid, Signal, kill_process};

use super::{Site, runs};

impl Site {
    pub fn start(&self, engine: &TestEngine, flags: &[&str], told: &fs::File) -> Child {
        let context = self.context().display().to_string();
        let arguments = [&["build", "--progress", "plain", "-t", "t"], flags, &[&context]].concat();
        let output = || Stdio::from(told.try_clone().expect("a file"));
        engine.command(&arguments).stdout(output()).stderr(output()).spawn().expect("a client")
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.registry.pid().cast_signed()).expect("the registry");
        kill_process(pid, signal).expect("signal the registry");
    }
}

/// A client's build comes to a line, at which the registry stops; then the engine is killed.
fn killed_at(site: &Site, engine: &mut TestEngine, flags: &[&str], line: &str) {
    let told = tempfile::NamedTempFile::new().expect("a file");
    site.signal(Signal::STOP);
    let mut client = site.start(engine, flags, told.as_file());
    eventually("the build comes to it", || fs::read_to_string(told.path()).expect("text").contains(line));
    engine.kill();
    client.wait().expect("the client's end");
    site.signal(Signal::CONT);
    engine.restart();
}

#[test]
fn an_engine_that_is_killed_leaves_a_cache_whole_or_none() {
    let mut first = TestEngine::with_busybox();
    let site = Site::new(&first);
    site.build(&first, &[]).ok();
    let to = format!("type=registry,mode=max,ref={}", site.name("cache"));
    killed_at(&site, &mut first, &["--cache-to", &to], "exporting build cache to");
    let known = site.registry.connect().get("/v2/cache/manifests/latest").expect("an answer").status;
    assert_eq!(known, 404, "a manifest comes last");
    site.build(&first, &["--cache-to", &to]).ok();

    let mut second = TestEngine::start();
    second.corten(&["pull", &site.name("base:1")]).ok();
    let from = ["--cache-from", &site.name("cache")];
    killed_at(&site, &mut second, &from, "importing build cache from");
    site.build(&second, &from).ok();
    assert_eq!(runs(&second), [""; 0]);
    assert_eq!(second.corten(&["run", "--rm", "t", "cat", "/own", "/out/file"]).ok(), "own\nmade");
}

#[test]
fn half_of_a_layer_goes_with_the_engine() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    let dockerfile = "FROM BASE\nRUN dd if=/dev/urandom of=/big bs=64k count=64\nRUN md5sum /big > /sum\n";
    site.dockerfile(dockerfile);
    site.export(&first, ",mode=max").ok();
    let sum = first.corten(&["run", "--rm", "t", "cat", "/sum"]).ok();

    let mut second = TestEngine::start();
    second.corten(&["pull", &site.name("base:1")]).ok();
    let proxy = Proxy::before(site.registry.address());
    proxy.set(Mood::StallDown(1 << 20));
    let from = ["--cache-from", &format!("{}/cache", proxy.address())];
    let told = tempfile::NamedTempFile::new().expect("a file");
    let mut client = site.start(&second, &from, told.as_file());
    eventually("a half is there", || proxy.has_stalled());
    second.kill();
    client.wait().expect("the client's end");
    proxy.set(Mood::Pass);
    second.restart();
    let told = site.build(&second, &from);
    // The base and both steps.
    assert_eq!(told.stderr.matches("CACHED").count(), 3, "{}", told.stderr);
    assert_eq!(second.corten(&["run", "--rm", "t", "cat", "/sum"]).ok(), sum);
    assert_eq!(second.corten(&["run", "--rm", "t", "md5sum", "/big"]).ok(), sum);
}
