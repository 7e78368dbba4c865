//! Cache mounts that travel, and others who want them at the same time, or never.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use corten_tests::registry::digest;
use corten_tests::{TestEngine, eventually};
use tempfile::NamedTempFile;

use super::Site;
use super::mounts::{directories, only_directory};

const FILL: &str = "FROM BASE\nRUN --mount=type=cache,id=a,target=/c echo theirs >/c/file && dd if=/dev/urandom of=/c/big bs=1M count=8 2>/dev/null\n";
const LOOK: &str =
    "FROM BASE\nARG N\nRUN --mount=type=cache,id=a,target=/c cat /c/file >/seen; echo $N; true\n";

/// A build on its way, with what it tells.
struct Going {
    client: Child,
    told: NamedTempFile,
}

impl Going {
    fn told(&self) -> String {
        fs::read_to_string(self.told.path()).expect("text")
    }

    fn ends_well(mut self) -> String {
        assert!(self.client.wait().expect("its end").success(), "{}", self.told());
        self.told()
    }
}

impl Site {
    fn going(&self, engine: &TestEngine, flags: &[&str]) -> Going {
        let told = NamedTempFile::new().expect("a file");
        Going { client: self.start(engine, flags, told.as_file()), told }
    }
}

/// The host's own directory of a cache mount.
fn own(engine: &TestEngine, id: &str) -> std::path::PathBuf {
    engine.data_root().join("build/caches").join(digest(id.as_bytes()).trim_start_matches("sha256:"))
}

#[test]
fn what_comes_from_a_cache_is_for_those_who_name_it() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    site.dockerfile(FILL);
    site.export(&first, ",mounts=all").ok();
    let second = TestEngine::start();
    site.dockerfile(LOOK);
    site.import(&second).ok();
    assert_eq!(site.seen(&second), "theirs");
    // Neither the directory is others', nor what was made with it.
    site.build(&second, &[]).ok();
    assert_eq!(site.seen(&second), "");
    assert!(fs::read_dir(own(&second, "a")).expect("it").next().is_none(), "there is one of its own");
    // Who names the cache finds what was made by others who did; once the host has made it itself that counts.
    eventually("all is forgotten", || {
        second.corten(&["builder", "prune", "-af"]).ok();
        directories(&second).is_empty() && !second.corten(&["builder", "du"]).ok().contains("RUN")
    });
    site.import(&second).ok();
    let told = site.import(&second);
    assert!(told.stderr.contains("CACHED"), "{}", told.stderr);
    told.ok();
    assert_eq!((site.seen(&second).as_str(), directories(&second).len()), ("theirs", 1));
    // What the host has of its own comes first.
    site.dockerfile("FROM BASE\nRUN --mount=type=cache,id=a,target=/c echo ours >/c/file\n");
    site.build(&second, &[]).ok();
    site.dockerfile(&format!("{LOOK}RUN --mount=type=cache,id=a,target=/c cat /c/file >/seen\n"));
    site.import(&second).ok();
    assert_eq!(site.seen(&second), "ours");
}

#[test]
fn two_builds_at_once_have_it_once() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    site.dockerfile(FILL);
    site.export(&first, ",mounts=all").ok();
    let second = TestEngine::start();
    site.dockerfile(LOOK);
    let from = site.name("cache");
    let going: Vec<Going> = ["N=1", "N=2", "N=3"]
        .iter()
        .map(|number| site.going(&second, &["--cache-from", &from, "--build-arg", number]))
        .collect();
    for going in going {
        let told = going.ends_well();
        assert!(!told.contains("WARN"), "{told}");
    }
    assert_eq!(site.seen(&second), "theirs");
    only_directory(&second);
}

#[test]
fn a_directory_is_packed_while_no_step_uses_it() {
    let engine = TestEngine::with_busybox();
    let site = Site::new(&engine);
    site.dockerfile(
        "FROM BASE\nRUN --mount=type=cache,id=busy,target=/c : >/c/begun; \
         while ! test -e /c/go; do sleep 0.1; done; echo x >/c/late\n",
    );
    let user = site.going(&engine, &[]);
    let directory = own(&engine, "busy");
    eventually("the step has begun", || directory.join("begun").exists());
    site.dockerfile("FROM BASE\nRUN --mount=type=cache,id=busy,target=/c : >/c/other\n");
    let to = format!("type=registry,mounts=busy,ref={}", site.name("cache"));
    let exporter = site.going(&engine, &["--cache-to", &to]);
    eventually("the export waits", || exporter.told().contains("waiting for the cache mount busy"));
    fs::write(directory.join("go"), "").expect("a file");
    user.ends_well();
    exporter.ends_well();
    let second = TestEngine::start();
    site.dockerfile("FROM BASE\nRUN --mount=type=cache,id=busy,target=/c ls /c >/seen\n");
    site.import(&second).ok();
    assert_eq!(site.seen(&second), "begun\ngo\nlate\nother");
}

/// A way to the registry that lets so many bytes of answers through, and holds the rest.
struct Narrow {
    address: SocketAddr,
    left: Arc<AtomicI64>,
    is_held: Arc<AtomicBool>,
}

impl Narrow {
    fn new(registry: SocketAddr) -> Narrow {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let (left, is_held) = (Arc::new(AtomicI64::new(i64::MAX)), Arc::new(AtomicBool::new(false)));
        let (bytes, held) = (left.clone(), is_held.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(there) = TcpStream::connect(registry) else { return };
                let (mut asks, mut asked) =
                    (client.try_clone().expect("a socket"), there.try_clone().expect("a socket"));
                thread::spawn(move || std::io::copy(&mut asks, &mut asked));
                let (bytes, held) = (bytes.clone(), held.clone());
                thread::spawn(move || answer(there, client, &bytes, &held));
            }
        });
        Narrow { address, left, is_held }
    }
}

fn answer(mut from: TcpStream, mut to: TcpStream, left: &AtomicI64, held: &AtomicBool) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while left.load(Ordering::SeqCst) <= 0 {
            held.store(true, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(10));
        }
        left.fetch_sub(count as i64, Ordering::SeqCst);
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

#[test]
fn an_engine_that_is_killed_meanwhile_leaves_nothing_half() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    site.dockerfile(FILL);
    site.export(&first, ",mounts=all").ok();
    let narrow = Narrow::new(site.registry.address());
    let mut second = TestEngine::start();
    site.dockerfile(
        "FROM BASE\nRUN --mount=type=cache,id=gate,target=/gate while ! test -e /gate/go; do sleep 0.1; done\n\
         RUN --mount=type=cache,id=a,target=/c cat /c/file >/seen\n",
    );
    let from = format!("{}/cache", narrow.address);
    let mut going = site.going(&second, &["--cache-from", &from]);
    let gate = own(&second, "gate");
    eventually("the first step is there", || gate.is_dir());
    narrow.left.store(1 << 20, Ordering::SeqCst);
    fs::write(gate.join("go"), "").expect("a file");
    eventually("a part has come", || narrow.is_held.load(Ordering::SeqCst));
    second.kill();
    going.client.wait().expect("its end");
    assert_eq!(only_directory(&second), gate, "half of it has no name");
    second.restart();
    let caches = second.data_root().join("build/caches");
    eventually("what was half is swept", || fs::read_dir(&caches).expect("it").count() == 1);
    narrow.left.store(i64::MAX, Ordering::SeqCst);
    site.build(&second, &["--cache-from", &from]).ok();
    assert_eq!(site.seen(&second), "theirs");
}

#[test]
fn one_that_can_not_be_read_stays_behind() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    // A path of more than 4096 bytes.
    site.dockerfile(
        "FROM BASE\nRUN --mount=type=cache,id=deep,target=/c --mount=type=cache,id=flat,target=/f \
         : >/f/file; cd /c; name=$(printf %0200d 0); \
         for number in $(seq 25); do mkdir $name && cd -P $name || exit; done\n",
    );
    let told = site.export(&first, ",mounts=all");
    assert!(
        told.stderr.contains("the cache mount deep is not in the cache: ")
            && !told.stderr.contains("build/caches"),
        "{}",
        told.stderr
    );
    told.ok();
    let mounts = site.mounts();
    assert_eq!((mounts.len(), &mounts[0]["id"]), (1, &serde_json::Value::from("flat")));
}
