//! Blobs on their way: one fetch for many, broken ones, slow readers, a kill.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

use corten_tests::registry::{MANIFEST, bytes_of, digest, image};
use corten_tests::{eventually, run};
use serde_json::json;

use super::fake::Fake;
use super::{bytes_in, get, hub, place, upstream};

#[test]
fn a_crowd_costs_one_fetch() {
    let place = place();
    let fake = Fake::start();
    let blob = bytes_of(1, 5_000_000);
    let (layer, manifest) = fake.put("team/app", "1", &blob);
    // Slow enough that all of them come while it does.
    fake.behave(|fake, method, path, range, stream| {
        if path.contains("/blobs/") {
            thread::sleep(Duration::from_millis(500));
        }
        fake.answer(method, path, range, stream);
    });
    let hub = hub(place.path(), &json!({"cache": {"upstreams": {"up": upstream(fake.address)}}}));
    let path = format!("/v2/up/team/app/blobs/{layer}");
    thread::scope(|scope| {
        for number in 0..32 {
            let (hub, path, blob) = (&hub, &path, &blob);
            scope.spawn(move || {
                let mut wire = hub.connect();
                assert_eq!(wire.get("/v2/up/team/app/manifests/1").expect("GET").status, 200);
                // Some want a part of it only.
                if number % 4 == 0 {
                    let got = wire.ask("GET", path, "Range: bytes=1000000-\r\n", &[]).expect("GET");
                    assert_eq!(got.status, 206);
                    assert!(got.body == blob[1_000_000..]);
                } else {
                    let got = wire.get(path).expect("GET");
                    assert_eq!(got.status, 200);
                    assert!(got.body == *blob);
                }
            });
        }
    });
    assert_eq!(fake.asked(&format!("GET /v2/team/app/blobs/{layer}")), 1);
    assert_eq!(fake.asked("GET /v2/team/app/manifests/"), 1);
    // By digest, by tag while it is fresh, and the blob: nothing more is asked.
    for path in [&path, &format!("/v2/up/team/app/manifests/{manifest}"), "/v2/up/team/app/manifests/1"] {
        assert_eq!(get(&hub, path).status, 200);
    }
    assert_eq!(fake.asked(""), 2 + fake.asked("GET /v2/ "), "{:?}", fake.asked.lock());
}

#[test]
fn wrong_bytes_are_never_whole_and_never_kept() {
    let place = place();
    let fake = Fake::start();
    let (small, large) = (bytes_of(2, 10_000), bytes_of(3, 3_000_000));
    for (tag, blob) in [("small", &small), ("large", &large)] {
        let (name, _) = fake.put("team/app", tag, blob);
        let mut wrong = blob.clone();
        wrong[5000] ^= 1;
        fake.content
            .lock()
            .expect("lock")
            .insert(format!("/v2/team/app/blobs/{name}"), (wrong, "application/octet-stream"));
    }
    let hub = hub(place.path(), &json!({"cache": {"upstreams": {"up": upstream(fake.address)}}}));
    // What is small is verified before a word is said of it.
    let refused = get(&hub, &format!("/v2/up/team/app/blobs/{}", digest(&small)));
    assert_eq!(refused.status, 502, "{}", refused.text());
    let path = format!("/v2/up/team/app/blobs/{}", digest(&large));
    for range in ["", "Range: bytes=2000000-\r\n"] {
        let mut wire = hub.connect();
        let broken = wire.ask("GET", &path, range, &[]).expect_err("a body that breaks off");
        assert_eq!(broken.kind(), std::io::ErrorKind::UnexpectedEof);
    }
    // So has a manifest that isn't what it is called.
    let wrong = format!("sha256:{}", "1".repeat(64));
    let manifest = image(&[&digest(&small)], "x");
    fake.content
        .lock()
        .expect("lock")
        .insert(format!("/v2/team/app/manifests/{wrong}"), (manifest, MANIFEST));
    assert_eq!(get(&hub, &format!("/v2/up/team/app/manifests/{wrong}")).status, 502);
    eventually("nothing of it is kept", || {
        bytes_in(&hub.data().join("ingest")) == 0 && bytes_in(&hub.data().join("blobs/sha256")) == 0
    });
    fake.put("team/app", "large", &large);
    assert!(get(&hub, &path).body == large);
}

#[test]
fn a_fetch_goes_on_where_it_broke_and_when_its_client_has_gone() {
    let place = place();
    let fake = Fake::start();
    let blob = bytes_of(4, 4_000_000);
    let (layer, _) = fake.put("team/app", "1", &blob);
    let path = format!("/v2/up/team/app/blobs/{layer}");
    fake.behave(|fake, method, path, range, stream| {
        if !path.contains("/blobs/") || !range.is_empty() {
            thread::sleep(Duration::from_millis(500));
            return fake.answer(method, path, range, stream);
        }
        // A third of it, and then nothing more.
        let body = fake.content.lock().expect("lock")[path].0.clone();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..1_500_000]));
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    let hub = hub(place.path(), &json!({"cache": {"upstreams": {"up": upstream(fake.address)}}}));
    let mut leaving = TcpStream::connect(hub.address()).expect("connect");
    leaving.write_all(format!("GET {path} HTTP/1.1\r\nHost: hub\r\n\r\n").as_bytes()).expect("send");
    let mut some = [0; 100_000];
    leaving.read_exact(&mut some).expect("the beginning");
    drop(leaving);
    assert!(get(&hub, &path).body == blob);
    let asked = fake.asked(&format!("GET /v2/team/app/blobs/{layer}"));
    assert_eq!(asked, 2, "once, and once more from where it broke: {:?}", fake.asked.lock());
}

#[test]
fn a_kill_in_the_middle_of_a_fetch_leaves_nothing() {
    let place = place();
    let fake = Fake::start();
    let blob = bytes_of(30, 3_000_000);
    let (layer, _) = fake.put("team/app", "1", &blob);
    fake.behave(|fake, method, path, range, stream| {
        if !path.contains("/blobs/") {
            return fake.answer(method, path, range, stream);
        }
        let body = fake.content.lock().expect("lock")[path].0.clone();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..2_000_000]));
        thread::sleep(Duration::from_secs(20));
    });
    let mut hub = hub(place.path(), &json!({"cache": {"upstreams": {"up": upstream(fake.address)}}}));
    let path = format!("/v2/up/team/app/blobs/{layer}");
    let mut waiting = TcpStream::connect(hub.address()).expect("connect");
    waiting.write_all(format!("GET {path} HTTP/1.1\r\nHost: hub\r\n\r\n").as_bytes()).expect("send");
    let mut some = vec![0; 1_500_000];
    waiting.read_exact(&mut some).expect("the beginning, while the rest is on its way");
    assert_eq!(bytes_in(&hub.data().join("ingest")), 1);
    hub.kill();
    fake.behave(Fake::answer);
    hub.restart();
    assert_eq!(bytes_in(&hub.data().join("ingest")), 0);
    assert_eq!(bytes_in(&hub.data().join("blobs/sha256")), 0);
    assert!(get(&hub, &path).body == blob);
}

#[test]
fn what_is_on_its_way_goes_by_tls_too_and_waits_for_no_slow_reader() {
    let place = place();
    let script = r#"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=hub \
        -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem 2>/dev/null"#;
    run(Command::new("sh").args(["-e", "-c", script]).current_dir(place.path())).ok();
    let file = |name: &str| place.path().join(name).display().to_string();
    let fake = Fake::start();
    let blob = bytes_of(50, 30_000_000);
    let (layer, _) = fake.put("team/app", "1", &blob);
    // In two halves.
    fake.behave(|fake, method, path, range, stream| {
        if !path.contains("/blobs/") {
            return fake.answer(method, path, range, stream);
        }
        let body = fake.content.lock().expect("lock")[path].0.clone();
        let (first, second) = body.split_at(body.len() / 2);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(first));
        thread::sleep(Duration::from_millis(500));
        let _ = stream.write_all(second);
    });
    let config = json!({"cache": {"upstreams": {"up": upstream(fake.address)}},
        "tls": {"certificate": file("cert.pem"), "key": file("key.pem")}});
    let hub = hub(place.path(), &config);
    let url = format!("https://{}/v2/up/team/app/blobs/{layer}", hub.address());
    let curl = |name: String, more: &[&str]| {
        let to = file(&name);
        run(Command::new("curl").args(["-sS", "--fail", "-k", "-o", &to]).args(more).arg(&url)).ok();
        fs::read(to).expect("what it got")
    };
    thread::scope(|scope| {
        // One that would take hours, and is given up.
        let limits = ["-sS", "-k", "--limit-rate", "1k", "-o", "/dev/null"];
        let mut slow = Command::new("curl").args(limits).arg(&url).spawn().expect("curl");
        let others: Vec<_> = (0..4)
            .map(|number| {
                let (curl, blob) = (&curl, &blob);
                scope.spawn(move || match number {
                    0 => assert!(curl("part".to_owned(), &["-r", "20000000-"]) == blob[20_000_000..]),
                    _ => assert!(curl(format!("whole-{number}"), &[]) == *blob),
                })
            })
            .collect();
        for other in others {
            other.join().expect("it got it");
        }
        assert!(slow.try_wait().expect("its state").is_none(), "it was slow");
        slow.kill().and_then(|()| slow.wait()).expect("its end");
    });
    // One fetch, which may have asked for parts beside, as the upstream was slow.
    eventually("it was fetched", || hub.log().contains("blob fetched"));
    assert_eq!(hub.log().matches("blob fetched").count(), 1);
    assert!(hub.memory_peak_mib() < 100, "{} MiB", hub.memory_peak_mib());
}
