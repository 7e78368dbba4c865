//! Clients through a cache, by all the ways in which they name an upstream; what they may, and what is counted.

use std::net::SocketAddr;
use std::process::Command;
use std::{fs, thread};

use corten_tests::reference::Reference;
use corten_tests::registry::{TestRegistry, Wire, bytes_of};
use corten_tests::{TestEngine, binary, eventually, run, run_with_input};
use serde_json::{Value, json};

use super::fake::Fake;
use super::{bytes_in, get, guarded, hub, place, push_busybox, skopeo, upstream};

#[test]
fn clients_pull_from_two_upstreams_at_once() {
    let place = place();
    let Some(debian) = Reference::start() else { return };
    let mut team = guarded(place.path());
    push_busybox(place.path(), &format!("{}/library/busybox:1", debian.address()), &[]);
    push_busybox(
        place.path(),
        &format!("{}/team/busybox:1", team.address()),
        &["--dest-creds", "alice:elephant"],
    );
    let password = place.path().join("password");
    fs::write(&password, "elephant\n").expect("password");
    let mut guarded = upstream(team.address());
    guarded["user"] = "alice".into();
    guarded["password_file"] = password.display().to_string().into();
    let config = json!({"cache": {"upstreams": {"debian": upstream(debian.address()), "guarded": guarded}, "fresh": "0"}});
    let mut hub = hub(place.path(), &config);
    let names = ["debian/library/busybox:1", "guarded/team/busybox:1"]
        .map(|name| format!("{}/{name}", hub.address()));
    thread::scope(|scope| {
        for (number, name) in names.iter().enumerate() {
            let to = format!("dir:{}", place.path().join(format!("copy-{number}")).display());
            scope.spawn(move || {
                skopeo(&["copy", "-q", "--src-tls-verify=false", &format!("docker://{name}"), &to]).ok();
            });
        }
    });
    let listed = skopeo(&[
        "list-tags",
        "--tls-verify=false",
        &format!("docker://{}", names[0].trim_end_matches(":1")),
    ]);
    assert!(listed.ok().contains("\"1\""));
    // One copy of the blobs, though two upstreams have them.
    // A client has a blob before the disk has it.
    eventually("they are there", || bytes_in(&hub.data().join("ingest")) == 0);
    assert_eq!(bytes_in(&hub.data().join("blobs/sha256")), 2, "{}", hub.log());
    let engine = TestEngine::start();
    engine.corten(&["pull", "-q", &names[0]]).ok();
    assert_eq!(engine.corten(&["run", "--rm", &names[1], "echo", "here"]).ok(), "here");
    drop(debian);
    team.kill();
    engine.corten(&["rmi", "-f", &names[0], &names[1]]).ok();
    let stale = hub.connect().get("/v2/guarded/team/busybox/manifests/1").expect("GET");
    assert_eq!(
        (stale.status, stale.header("warning")),
        (200, "110 - \"Response is Stale\""),
        "{}",
        hub.log()
    );
    // The upstreams are gone; what was pulled is still there, after a restart, too.
    hub.kill();
    hub.restart();
    let name = format!("{}/guarded/team/busybox:1", hub.address());
    assert_eq!(engine.corten(&["run", "--rm", &name, "echo", "there"]).ok(), "there");
    assert_eq!(get(&hub, "/v2/guarded/team/other/manifests/1").status, 502);
}

#[test]
fn dockers_engine_pulls_through_it() {
    let place = place();
    let Some(debian) = Reference::start() else { return };
    push_busybox(place.path(), &format!("{}/library/busybox:docker", debian.address()), &[]);
    let hub = hub(place.path(), &json!({"cache": {"upstreams": {"debian": upstream(debian.address())}}}));
    let engine = TestEngine::start();
    let name = format!("{}/debian/library/busybox:docker", hub.address());
    engine.docker(&["pull", "-q", &name]).ok();
    assert_eq!(engine.docker(&["run", "--rm", &name, "echo", "docker"]).ok(), "docker");
    let refused = engine.docker(&["push", &name]);
    assert!(refused.code != 0 && refused.stderr.contains("copy of another registry"), "{refused:?}");
}

#[test]
fn mirrors_of_one_registry_may_say_which_in_their_own_ways() {
    let place = place();
    let Some(debian) = Reference::start() else { return };
    push_busybox(place.path(), &format!("{}/team/busybox:1", debian.address()), &[]);
    let hub = hub(place.path(), &json!({"cache": {"upstreams": {"debian": upstream(debian.address())}}}));
    // As our engine's mirrors do: nothing is pulled from the registry itself.
    let file = place.path().join("daemon.json");
    let mirror = format!("http://{}/debian", hub.address());
    let elsewhere = "registry.example.com";
    fs::write(&file, json!({"mirrors": {elsewhere: [mirror]}}).to_string()).expect("daemon.json");
    let engine = TestEngine::start_with(&["--config-file", &file.display().to_string()]);
    let name = format!("{elsewhere}/team/busybox:1");
    engine.corten(&["pull", "-q", &name]).ok();
    assert_eq!(engine.corten(&["run", "--rm", &name, "echo", "mirrored"]).ok(), "mirrored");
    // As containerd does.
    assert_eq!(get(&hub, "/v2/team/busybox/manifests/1?ns=debian").status, 200);
    assert_eq!(get(&hub, "/v2/team/busybox/manifests/1?ns=other").status, 404);
    assert_eq!(get(&hub, "/debian/v2/").status, 200);
}

#[test]
fn dockers_mirrors_have_an_address_of_their_own() {
    let place = place();
    let Some(debian) = Reference::start() else { return };
    push_busybox(place.path(), &format!("{}/library/busybox:mirrored", debian.address()), &[]);
    let users = place.path().join("users");
    fs::write(&users, "").expect("users");
    let mut hub_docker = upstream(debian.address());
    hub_docker["listen"] = json!(["127.0.0.1:0"]);
    let rules = json!([{"repositories": ["debian/library/**"], "who": ["anonymous"], "may": ["read"]}]);
    let config = json!({"cache": {"upstreams": {"debian": hub_docker}},
        "access": {"htpasswd": users.display().to_string(), "rules": rules}});
    let hub = hub(place.path(), &config);
    let mut mirror: Option<SocketAddr> = None;
    eventually("the mirror listens", || {
        let log = hub.log();
        let told = log.lines().find_map(|line| line.split(" mirror=").nth(1)?.split_whitespace().next());
        mirror = told.and_then(|address| address.parse().ok());
        mirror.is_some()
    });
    let mirror = mirror.expect("an address");
    let engine = TestEngine::start_with(&["--registry-mirror", &format!("http://{mirror}")]);
    engine.corten(&["pull", "-q", "busybox:mirrored"]).ok();
    assert_eq!(engine.corten(&["run", "--rm", "busybox:mirrored", "echo", "mirrored"]).ok(), "mirrored");
    let ask = |method: &str, path: &str| {
        Wire::connect(mirror).and_then(|mut wire| wire.ask(method, path, "", &[])).expect("an answer").status
    };
    // It is nothing else than that, and rules are for the name here.
    assert_eq!((ask("GET", "/v2/"), ask("GET", "/v2/_catalog")), (200, 404));
    assert_eq!(ask("GET", "/v2/library/busybox/tags/list"), 200);
    assert_eq!(ask("GET", "/v2/team/busybox/tags/list"), 401);
    assert_eq!(ask("POST", "/v2/library/busybox/blobs/uploads/"), 401);
}

#[test]
fn clients_push_nothing_there_and_may_have_it_fetched_anew() {
    let place = place();
    let fake = Fake::start();
    let blob = bytes_of(31, 1000);
    let (layer, manifest) = fake.put("team/app", "1", &blob);
    let mut allowed = upstream(fake.address);
    allowed["allow"] = json!(["team/*"]);
    let hub = hub(place.path(), &json!({"cache": {"upstreams": {"up": allowed}}}));
    let mut wire = hub.connect();
    for (method, path) in [
        ("POST", "/v2/up/team/app/blobs/uploads/".to_owned()),
        ("PUT", "/v2/up/team/app/manifests/1".to_owned()),
        ("POST", "/v2/up/other/blobs/uploads/".to_owned()),
        ("POST", format!("/v2/team/app/blobs/uploads/?mount={layer}&ns=up")),
    ] {
        let refused = wire.ask(method, &path, "", b"x").expect("an answer");
        assert_eq!(refused.status, 405, "{method} {path}");
        assert!(refused.text().contains("copy of another registry"), "{}", refused.text());
    }
    assert_eq!(wire.get("/v2/up/other/x/manifests/1").expect("GET").status, 404);
    assert_eq!(fake.asked("GET /v2/other"), 0, "it isn't among what may be had");
    let blob_path = format!("/v2/up/team/app/blobs/{layer}");
    assert_eq!(wire.ask("HEAD", &blob_path, "", &[]).expect("HEAD").header("content-length"), "1000");
    assert_eq!(fake.asked("GET /v2/team"), 0, "a blob that is only looked for isn't fetched");
    for number in 1..=2 {
        assert_eq!(wire.get("/v2/up/team/app/manifests/1").expect("GET").status, 200);
        assert!(wire.get(&blob_path).expect("GET").body == blob);
        assert_eq!(fake.asked("GET /v2/team/app/manifests/"), number);
        assert_eq!(fake.asked("GET /v2/team/app/blobs/"), number);
        for path in [&format!("/v2/up/team/app/manifests/{manifest}"), &blob_path] {
            // A client has a blob before the disk has it.
            eventually("it is there", || wire.ask("DELETE", path, "", &[]).expect("DELETE").status == 202);
        }
    }
    assert_eq!(wire.get("/v2/up/team/app/blobs/sha512:00").expect("GET").status, 400);
    let sha512 = format!("/v2/up/team/app/blobs/sha512:{}", "0".repeat(128));
    assert_eq!(wire.get(&sha512).expect("GET").status, 404);
}

#[test]
fn rules_come_before_anything_is_fetched() {
    let place = place();
    let fake = Fake::start();
    let (layer, _) = fake.put("team/app", "1", &bytes_of(33, 1000));
    fake.put("open/app", "1", &bytes_of(34, 1000));
    let users = place.path().join("users").display().to_string();
    let mut add = Command::new(binary("corten"));
    add.args(["registry", "user", "add", "--file", &users, "--password-stdin", "alice"]);
    assert_eq!(run_with_input(&mut add, "elephant").code, 0);
    let rules = json!([{"repositories": ["up/team/**"], "who": ["user:alice"], "may": ["read"]},
        {"repositories": ["up/open/**"], "who": ["anonymous"], "may": ["read"]}]);
    let config = json!({"cache": {"upstreams": {"up": upstream(fake.address)}}, "access": {"htpasswd": users, "rules": rules}});
    let hub = hub(place.path(), &config);
    for path in [
        "/v2/up/team/app/manifests/1",
        "/v2/up/team/app/tags/list",
        "/v2/team/app/manifests/1?ns=up",
        "/up/v2/team/app/manifests/1",
        &format!("/v2/up/team/app/blobs/{layer}"),
        &format!("/v2/up/team/app/referrers/{layer}"),
    ] {
        assert_eq!(get(&hub, path).status, 401, "{path}");
    }
    assert_eq!(fake.asked(""), 0);
    assert_eq!(get(&hub, "/v2/open/app/manifests/1?ns=up").status, 200);
    let from = format!("docker://{}/up/team/app:1", hub.address());
    skopeo(&["inspect", "--raw", "--tls-verify=false", "--creds", "alice:elephant", &from]).ok();
    assert_eq!(get(&hub, "/v2/up/team/app/manifests/1").status, 401, "though it is here now");
}

#[test]
fn what_makes_no_sense_is_said_at_the_start() {
    let place = place();
    let start = |config: Value| {
        let file = place.path().join("wrong.json");
        fs::write(&file, config.to_string()).expect("configuration");
        let data = place.path().join("hub").display().to_string();
        let file = file.display().to_string();
        let listen = ["registry", "serve", "--listen", "127.0.0.1:0", "--data", &data, "--config", &file];
        run(Command::new(binary("corten")).args(listen)).fails(1)
    };
    let told = start(json!({"cache": {"upstreams": {"docker.io": {"pasword_file": "/x"}}}}));
    assert!(told.contains("pasword_file"), "{told}");
    let nowhere = json!({"user": "me", "password_file": "/nowhere/password"});
    let told = start(json!({"cache": {"upstreams": {"docker.io": nowhere}}}));
    assert!(told.contains("docker.io") && told.contains("/nowhere/password"), "{told}");
    // Nobody could tell one's own repository from the upstream's.
    let own = TestRegistry::start(&place.path().join("hub"), &[]);
    assert_eq!(own.connect().push_blob("docker.io/app", b"own").expect("push"), 201);
    drop(own);
    let told = start(json!({"cache": {"upstreams": {"docker.io": {}}}}));
    assert!(told.contains("docker.io/app is a repository of this registry"), "{told}");
}

#[test]
fn metrics_tell_of_each_upstream() {
    let place = place();
    let fake = Fake::start();
    let (layer, _) = fake.put("team/app", "1", &bytes_of(35, 100_000));
    let file = place.path().join("hub.json");
    let config = json!({"cache": {"upstreams": {"up": upstream(fake.address)}}, "metrics": "127.0.0.1:0"});
    fs::write(&file, config.to_string()).expect("configuration");
    let hub = TestRegistry::start(&place.path().join("hub"), &["--config", &file.display().to_string()]);
    for _ in 0..3 {
        for path in ["manifests/1".to_owned(), format!("blobs/{layer}"), "manifests/2".to_owned()] {
            get(&hub, &format!("/v2/up/team/app/{path}"));
        }
    }
    let log = hub.log();
    let metrics = log.lines().find_map(|line| line.split("metrics=").nth(1)?.split_whitespace().next());
    let metrics: SocketAddr = metrics.expect("an address").parse().expect("an address");
    let mut told = String::new();
    eventually("the fetch has come to its end", || {
        told = Wire::connect(metrics).and_then(|mut wire| wire.get("/metrics")).expect("metrics").text();
        told.contains("corten_registry_cache_fetches{upstream=\"up\"} 0")
    });
    for line in [
        "corten_registry_cache_hits_total{upstream=\"up\",kind=\"manifest\"} 2",
        "corten_registry_cache_hits_total{upstream=\"up\",kind=\"blob\"} 2",
        "corten_registry_cache_misses_total{upstream=\"up\",kind=\"manifest\"} 4",
        "corten_registry_cache_misses_total{upstream=\"up\",kind=\"blob\"} 1",
        "corten_registry_cache_bytes_max 50000000000",
    ] {
        assert!(told.lines().any(|found| found == line), "{line}\n{told}");
    }
}
