//! `ps`: its filters, and what they refuse, as with Docker.

use corten_tests::{TestEngine, eventually};

#[test]
fn filters_choose_as_dockers_do() {
    let engine = TestEngine::with_busybox();
    engine.corten(&["create", "--name", "first", "--label", "tier=a", "busybox"]).ok();
    let publish = ["-p", "127.0.0.1::80", "--expose", "90/udp", "-v", "data:/data", "--label", "tier=b"];
    engine.background("web-1", &publish, "sleep 1000");
    engine.background("web-2", &["--network", "none"], "sleep 1000");
    engine.corten(&["run", "--name", "broken", "busybox", "sh", "-c", "exit 3"]);
    let id = engine.corten(&["inspect", "-f", "{{.Id}}", "web-1"]).ok();
    let port = engine.corten(&["port", "web-1", "80"]).ok().rsplit(':').next().unwrap().to_owned();
    let published = format!("publish={port}");
    let by_id = format!("id={}", &id[..12]);
    let inner_id = format!("id={}", &id[20..30]);
    for (filters, wanted) in [
        (&["name=web"][..], "web-2 web-1"),
        (&["name=^/web-1$"], "web-1"),
        (&["name=w.b-[2-9]|first"], "web-2 first"),
        (&[by_id.as_str()], "web-1"),
        (&[inner_id.as_str()], "web-1"),
        (&["label=tier"], "web-1 first"),
        (&["label=tier=b"], "web-1"),
        (&["status=created"], "first"),
        (&["status=running", "status=exited"], "broken web-2 web-1"),
        (&["exited=3"], "broken"),
        (&["exited=0"], ""),
        (&["before=web-2"], "web-1 first"),
        (&["since=first", "name=web"], "web-2 web-1"),
        (&["ancestor=busybox", "name=first"], "first"),
        (&["ancestor=nothing"], ""),
        (&["volume=data"], "web-1"),
        (&["volume=/data"], "web-1"),
        (&["network=none"], "web-2"),
        (&["network=bridge", "status=running"], "web-1"),
        (&[published.as_str()], "web-1"),
        (&["expose=80"], "web-1"),
        (&["expose=85-95/udp"], "web-1"),
        (&["publish=1-2"], ""),
        (&["health=none", "name=first"], "first"),
        (&["health=healthy"], ""),
        (&["is-task=true"], ""),
        (&["is-task=false", "name=first"], "first"),
    ] {
        let mut args = vec!["ps", "-a", "--format", "{{.Names}}"];
        args.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
        let names = |output: String| output.lines().collect::<Vec<_>>().join(" ");
        assert_eq!(names(engine.docker(&args).ok()), wanted, "{filters:?}");
        assert_eq!(names(engine.corten(&args).ok()), wanted, "{filters:?}");
    }
    // A state is asked for, and so those that do not run.
    assert_eq!(engine.docker(&["ps", "--filter", "status=exited", "--format", "{{.Names}}"]).ok(), "broken");
    assert_eq!(engine.docker(&["ps", "--filter", "exited=3", "--format", "{{.Names}}"]).ok(), "");
}

#[test]
fn filters_that_make_no_sense_are_refused() {
    let engine = TestEngine::start();
    for (filter, text) in [
        ("colour=red", "invalid filter 'colour'"),
        ("status=sleeping", "invalid filter 'status=sleeping'"),
        ("health=fine", "invalid filter 'health=fine'"),
        ("exited=many", "invalid filter 'exited=many'"),
        ("before=nobody", "No such container: nobody"),
        ("publish=127.0.0.1:80", "should not contain ':'"),
        ("expose=90-80", "error while looking up for expose 90-80"),
        ("is-task=perhaps", "is-task"),
    ] {
        let output = engine.docker(&["ps", "--filter", filter]);
        assert!(output.code != 0 && output.stderr.contains(text), "{filter}: {}", output.stderr);
    }
}

#[test]
fn a_brief_list_shows_the_same_table() {
    let engine = TestEngine::with_busybox();
    engine.background("web", &["--label", "tier=a", "-v", "data:/data", "-p", "127.0.0.1::80"], "sleep 1000");
    let list = |query: &str| -> serde_json::Value {
        serde_json::from_str(&engine.curl(&[], &format!("/containers/json{query}")).ok()).unwrap()
    };
    let (whole, brief) = (list(""), list("?brief=1"));
    assert_eq!(whole[0]["Labels"]["tier"], "a");
    assert!(brief[0]["Labels"]["tier"].is_null() && !brief[0]["Ports"].as_array().unwrap().is_empty());
    // Ages are told to the second.
    eventually("a second in which both are asked", || {
        let before = engine.docker(&["ps"]).ok();
        let ours = engine.corten(&["ps"]).ok();
        let same_second = engine.docker(&["ps"]).ok() == before;
        assert!(!same_second || ours == before, "{ours}\n{before}");
        same_second
    });
    let format = "{{.Names}} {{.Labels}} {{.Label \"tier\"}} {{.Mounts}} {{.LocalVolumes}} {{.Networks}}";
    assert_eq!(engine.corten(&["ps", "--format", format]).ok(), "web tier=a a data 1 bridge");
}
