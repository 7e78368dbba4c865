//! What an upstream says and shows: tags, lists, certificates, mirrors, nonsense.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, thread};

use corten_tests::registry::{MANIFEST, TestRegistry, bytes_of, digest, image};
use corten_tests::tls::certificates;
use corten_tests::{binary, eventually, run_with_input};
use serde_json::{Value, json};

use super::fake::{Behaviour, Fake, refuse};
use super::{get, hub, place, push_busybox, upstream};

#[test]
fn tags_are_served_stale_unless_they_are_gone() {
    let place = place();
    let fake = Fake::start();
    let (_, first) = fake.put("team/app", "1", &bytes_of(5, 1000));
    let patient = json!({"upstreams": {"up": upstream(fake.address)}, "fresh": "0", "patience": "10s"});
    let mut hub = hub(place.path(), &json!({"cache": patient}));
    let tag = "/v2/up/team/app/manifests/1";
    let look = |hub: &TestRegistry| {
        let reply = get(hub, tag);
        (reply.status, reply.header("docker-content-digest").to_owned(), reply.header("warning").to_owned())
    };
    let stale = "110 - \"Response is Stale\"".to_owned();
    assert_eq!(look(&hub), (200, first.clone(), String::new()));
    // The same is found out by HEAD; another one is fetched.
    assert_eq!(look(&hub).1, first);
    assert_eq!((fake.asked("GET /v2/team"), fake.asked("HEAD /v2/team")), (1, 1));
    let (_, second) = fake.put("team/app", "1", &bytes_of(6, 1000));
    assert_eq!(look(&hub), (200, second.clone(), String::new()));
    for (what, behaviour) in [
        ("busy", Box::new(refuse("429 Too Many Requests\r\nRetry-After: 1")) as Behaviour),
        ("broken", Box::new(refuse("500 Internal Server Error"))),
        (
            "slow",
            Box::new(|_: &Fake, _: &str, _: &str, _: &str, _: &mut TcpStream| {
                thread::sleep(Duration::from_secs(600))
            }),
        ),
    ] {
        // What an upstream has done wrong is forgotten by a restart.
        hub.kill();
        hub.restart();
        *fake.behaviour.lock().expect("lock") = Arc::new(behaviour);
        assert_eq!(look(&hub), (200, second.clone(), stale.clone()), "{what}: {}", hub.log());
        // Not everybody waits for it.
        let asked = fake.asked("");
        assert_eq!(look(&hub), (200, second.clone(), stale.clone()));
        assert_eq!(fake.asked(""), asked, "{what}");
        let listed = get(&hub, "/v2/up/team/app/tags/list");
        assert_eq!((listed.status, listed.header("warning")), (200, stale.as_str()));
        assert!(listed.text().contains("[\"1\"]"), "{}", listed.text());
    }
    fake.behave(Fake::answer);
    hub.kill();
    hub.restart();
    fake.content.lock().expect("lock").clear();
    assert_eq!(look(&hub).0, 404);
    fake.stop();
    assert_eq!(look(&hub).0, 502, "it was gone, so it isn't stale");
    assert_eq!(get(&hub, &format!("/v2/up/team/app/manifests/{second}")).status, 200, "a digest is for ever");
}

#[test]
fn an_upstream_that_names_a_digest_gets_nothing_of_ones_own() {
    let place = place();
    let fake = Fake::start();
    let secret = bytes_of(32, 1000);
    let (layer, _) = fake.put("team/app", "1", &secret);
    fake.content.lock().expect("lock").remove(&format!("/v2/team/app/blobs/{layer}"));
    let hub = hub(place.path(), &json!({"cache": {"upstreams": {"up": upstream(fake.address)}}}));
    let mut wire = hub.connect();
    assert_eq!(wire.push_blob("secret/app", &secret).expect("push"), 201);
    assert_eq!(wire.get("/v2/up/team/app/manifests/1").expect("GET").status, 200);
    let path = format!("/v2/up/team/app/blobs/{layer}");
    assert_eq!(wire.get(&path).expect("GET").status, 404);
    // Nor does one that lies about having it.
    fake.behave(|fake, method, path, range, stream| {
        if path.contains("/blobs/") && method == "HEAD" {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        } else {
            fake.answer(method, path, range, stream);
        }
    });
    assert_eq!(wire.get(&path).expect("GET").status, 404);
}

#[test]
fn certificates_and_dockers_file_open_an_upstream() {
    let place = place();
    certificates(place.path(), &["server", "client", "pusher"]);
    let file = |name: &str| place.path().join(name).display().to_string();
    let users = file("users");
    let mut add = Command::new(binary("corten"));
    add.args(["registry", "user", "add", "--file", &users, "--password-stdin", "alice"]);
    assert_eq!(run_with_input(&mut add, "elephant").code, 0);
    let config = json!({
        "tls": {"certificate": file("server.cert"), "key": file("server.key"), "client_ca": file("ca.crt"), "clients": "required"},
        "access": {"htpasswd": users, "rules": [
            {"repositories": ["**"], "who": ["user:alice"], "may": ["read"]},
            {"repositories": ["**"], "who": ["certificate:pusher"], "may": ["write"]}]},
    });
    fs::write(file("guarded.json"), config.to_string()).expect("configuration");
    let guarded = TestRegistry::start(&place.path().join("guarded"), &["--config", &file("guarded.json")]);
    for name in ["ca.crt", "pusher.cert", "pusher.key"] {
        fs::create_dir_all(file("certs")).expect("directory");
        fs::copy(file(name), place.path().join("certs").join(name)).expect("copy");
    }
    let certs = file("certs");
    let there = format!("{}/team/busybox:1", guarded.address());
    push_busybox(place.path(), &there, &["--dest-cert-dir", &certs, "--dest-tls-verify=true"]);
    // "alice:elephant"
    let auths = json!({"auths": {guarded.address().to_string(): {"auth": "YWxpY2U6ZWxlcGhhbnQ="}}});
    fs::write(file("config.json"), auths.to_string()).expect("docker's file");
    let upstream = json!({
        "registry": guarded.address().to_string(), "docker_config": file("config.json"),
        "ca": file("ca.crt"), "certificate": file("client.cert"), "key": file("client.key"),
    });
    let tag = "/v2/up/team/busybox/manifests/1";
    let with = |change: fn(&mut Value)| {
        let mut upstream = upstream.clone();
        change(&mut upstream);
        let place = tempfile::tempdir_in(place.path()).expect("directory");
        let hub = hub(place.path(), &json!({"cache": {"upstreams": {"up": upstream}}}));
        (get(&hub, tag).status, hub.log())
    };
    let (status, log) = with(|_| {});
    assert_eq!(status, 200, "{log}");
    let (status, log) = with(|upstream| drop(upstream.as_object_mut().expect("object").remove("ca")));
    assert_eq!(status, 502, "{log}");
    let without = |upstream: &mut Value| {
        for key in ["certificate", "key"] {
            upstream.as_object_mut().expect("object").remove(key);
        }
    };
    let (status, log) = with(without);
    assert_eq!(status, 502, "{log}");
    // It doesn't say who we are: then it isn't there, as for everybody else.
    let (status, log) =
        with(|upstream| drop(upstream.as_object_mut().expect("object").remove("docker_config")));
    assert!(status == 404 && log.contains("the upstream refuses"), "{log}");
}

#[test]
fn lists_come_from_the_upstream_and_blobs_are_shared_within_it() {
    let place = place();
    let mut up = TestRegistry::start(&place.path().join("up"), &[]);
    let mut wire = up.connect();
    let blob = bytes_of(40, 200_000);
    let mut subject = Vec::new();
    for repository in ["team/a", "team/b"] {
        assert_eq!(wire.push_blob(repository, &blob).expect("push"), 201);
        for tag in ["one", "three", "two"] {
            subject = wire.push_image(repository, tag, &[&digest(&blob)]).expect("push").0;
        }
    }
    let mut referrer: Value = serde_json::from_slice(&image(&[&digest(&blob)], "signature")).expect("JSON");
    referrer["subject"] = json!({"mediaType": MANIFEST, "digest": digest(&subject), "size": subject.len()});
    referrer["artifactType"] = "application/signature".into();
    let referrer = referrer.to_string().into_bytes();
    let path = format!("/v2/team/a/manifests/{}", digest(&referrer));
    let put = wire.ask("PUT", &path, &format!("Content-Type: {MANIFEST}\r\n"), &referrer).expect("PUT");
    assert_eq!(put.status, 201);
    drop(wire);
    let config = json!({"cache": {"upstreams": {"up": upstream(up.address())}, "patience": "30s"}});
    let mut hub = hub(place.path(), &config);
    // Page by page, by links of our own.
    let (mut path, mut tags) = ("/v2/up/team/a/tags/list?n=1".to_owned(), Vec::new());
    loop {
        let page = get(&hub, &path);
        let list: Value = serde_json::from_slice(&page.body).expect("JSON");
        assert_eq!(list["name"], "up/team/a");
        tags.extend(
            list["tags"].as_array().expect("tags").iter().map(|tag| tag.as_str().expect("text").to_owned()),
        );
        match page.header("link").strip_prefix('<').and_then(|link| link.split('>').next()) {
            Some(next) => next.clone_into(&mut path),
            None => break,
        }
    }
    assert_eq!(tags, ["one", "three", "two"]);
    let listed = |hub: &TestRegistry, filter: &str| {
        let reply = get(hub, &format!("/v2/up/team/a/referrers/{}{filter}", digest(&subject)));
        let list: Value = serde_json::from_slice(&reply.body).expect("JSON");
        let digests =
            list["manifests"].as_array().expect("manifests").iter().map(|one| one["digest"].clone());
        (digests.collect::<Vec<_>>(), reply.header("warning").to_owned())
    };
    assert_eq!(listed(&hub, ""), (vec![digest(&referrer).into()], String::new()));
    assert_eq!(listed(&hub, "?artifactType=application/signature").0.len(), 1);
    assert_eq!(listed(&hub, "?artifactType=application/other").0.len(), 0);
    assert_eq!(get(&hub, &format!("/v2/up/team/a/manifests/{}", digest(&referrer))).status, 200);
    // A blob that another repository of the upstream has is asked for only.
    for repository in ["team/a", "team/b"] {
        assert!(get(&hub, &format!("/v2/up/{repository}/blobs/{}", digest(&blob))).body == blob);
    }
    let fetched = || hub.log().matches("blob fetched").count();
    eventually("it was fetched", || fetched() > 0);
    assert!(get(&hub, &format!("/v2/up/team/b/blobs/{}", digest(&blob))).body == blob);
    assert_eq!(fetched(), 1);
    assert_eq!(get(&hub, &format!("/v2/up/team/c/blobs/{}", digest(&blob))).status, 404);
    up.kill();
    let (found, warning) = listed(&hub, "");
    assert!(found.len() == 1 && warning.contains("Stale"), "{found:?} {warning}");
    // An upstream that is taken out of the configuration leaves nothing behind that anybody sees.
    hub.stop();
    fs::write(place.path().join("hub.json"), json!({"cache": {"upstreams": {}}}).to_string())
        .expect("configuration");
    hub.restart();
    assert!(hub.log().contains("forgotten"), "{}", hub.log());
    assert_eq!(get(&hub, "/v2/_catalog").text(), r#"{"repositories":[]}"#);
    assert_eq!(hub.connect().push_blob("up/team/a", &blob).expect("push"), 201);
}

#[test]
fn mirrors_of_an_upstream_come_first_and_are_not_what_is_believed() {
    let place = place();
    let (mirror, real) = (Fake::start(), Fake::start());
    let blob = bytes_of(41, 300_000);
    let (layer, _) = real.put("team/app", "1", &blob);
    mirror.put("team/app", "1", &blob);
    let mut with_mirror = upstream(real.address);
    with_mirror["mirrors"] = json!([format!("http://{}", mirror.address)]);
    let hub = hub(place.path(), &json!({"cache": {"upstreams": {"up": with_mirror}}}));
    let path = format!("/v2/up/team/app/blobs/{layer}");
    assert_eq!(get(&hub, "/v2/up/team/app/manifests/1").status, 200);
    assert_eq!((mirror.asked("GET"), real.asked("GET")), (1, 0));
    let mut wrong = blob.clone();
    wrong[0] ^= 1;
    mirror
        .content
        .lock()
        .expect("lock")
        .insert(format!("/v2/team/app/blobs/{layer}"), (wrong, "application/octet-stream"));
    hub.connect().get(&path).expect_err("a body that breaks off");
    // It isn't asked again for a while.
    eventually("the registry itself is asked", || hub.connect().get(&path).is_ok_and(|got| got.body == blob));
    assert_eq!(mirror.asked(&format!("GET /v2/team/app/blobs/{layer}")), 1);
}

#[test]
fn odd_upstreams_cost_an_error() {
    let place = place();
    let fake = Fake::start();
    let (layer, _) = fake.put("team/app", "1", &bytes_of(42, 1000));
    let hub = hub(place.path(), &json!({"cache": {"upstreams": {"up": upstream(fake.address)}}}));
    let put = |path: &str, body: Vec<u8>, kind| {
        fake.content.lock().expect("lock").insert(format!("/v2/team/app/{path}"), (body, kind));
    };
    put(
        "manifests/huge",
        [b"{\"schemaVersion\": 2, \"x\": \"", &vec![b'x'; 5 << 20][..], b"\"}"].concat(),
        MANIFEST,
    );
    put("manifests/none", b"<html>".to_vec(), "text/html");
    put(
        "manifests/old",
        b"{\"schemaVersion\": 1}".to_vec(),
        "application/vnd.docker.distribution.manifest.v1+json",
    );
    put("tags/list", b"[]".to_vec(), "application/json");
    for path in ["manifests/huge", "manifests/none", "manifests/old"] {
        let reply = get(&hub, &format!("/v2/up/team/app/{path}"));
        assert_eq!(reply.status, 502, "{path}: {}", reply.text());
    }
    let log = hub.log();
    assert!(log.contains("the upstream failed"), "{log}");
    // Without a length, or with another one than there is.
    let path = format!("/v2/up/team/app/blobs/{layer}");
    for head in [
        "Transfer-Encoding: chunked\r\n\r\n3e8\r\n",
        "Content-Length: 0\r\n\r\n",
        "Content-Length: 10\r\n\r\n",
    ] {
        fake.behave(move |fake, method, path, range, stream| {
            if !path.contains("/blobs/") || method == "HEAD" {
                return fake.answer(method, path, range, stream);
            }
            let body = fake.content.lock().expect("lock")[path].0.clone();
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}").as_bytes());
            let length = if head.contains(": 0") {
                0
            } else if head.contains(": 10") {
                10
            } else {
                body.len()
            };
            let _ = stream.write_all(&body[..length]);
            if head.starts_with("Transfer") {
                let _ = stream.write_all(b"\r\n0\r\n\r\n");
            }
        });
        let reply = get(&hub, &path);
        assert_eq!(reply.status, 502, "{head:?}: {}", reply.text());
    }
    fake.behave(Fake::answer);
    assert_eq!(get(&hub, &path).status, 200);
    assert!(hub.memory_peak_mib() < 120, "{} MiB", hub.memory_peak_mib());
}
