//! `network …` by our command line and by Docker's: the same words, outcomes and exit statuses.

use corten_tests::{Output, TestEngine, free_subnet};

/// The same arguments to both, ours first.
fn both(engine: &TestEngine, arguments: &[&str]) -> [Output; 2] {
    [engine.corten(arguments), engine.docker(arguments)]
}

#[test]
fn networks_are_made_listed_and_removed() {
    let engine = TestEngine::with_busybox();
    for [create, name] in [["corten", "one"], ["docker", "two"]] {
        let arguments = ["network", "create", "--label", "kind=test", "--internal", name];
        let output = if create == "corten" { engine.corten(&arguments) } else { engine.docker(&arguments) };
        let id = output.ok();
        assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        assert_eq!(engine.corten(&["network", "inspect", "-f", "{{.Id}}", name]).ok(), id);
    }
    let formats = [
        vec!["network", "ls"],
        vec!["network", "ls", "-q", "--no-trunc"],
        vec![
            "network",
            "ls",
            "--filter",
            "label=kind=test",
            "--format",
            "{{.Name}} {{.Driver}} {{.Internal}} {{.Labels}}",
        ],
        vec![
            "network",
            "ls",
            "--filter",
            "type=custom",
            "--format",
            "table {{.Name}}\t{{.Scope}}\t{{.IPv6}}",
        ],
        vec!["network", "ls", "--filter", "dangling=true", "-q"],
        vec![
            "network",
            "inspect",
            "-f",
            "{{.Name}} {{json .Labels}} {{.Internal}} {{.EnableIPv6}}",
            "one",
            "two",
        ],
    ];
    for arguments in formats {
        let [ours, theirs] = both(&engine, &arguments);
        assert_eq!(ours.ok(), theirs.ok(), "{arguments:?}");
    }
    for output in both(&engine, &["network", "create", "one"]) {
        assert!(output.fails(1).contains("network with name one already exists"));
    }
    for output in both(&engine, &["network", "rm", "nobody"]) {
        assert!(output.fails(1).contains("network nobody not found"));
    }
    for output in both(&engine, &["network", "rm", "bridge"]) {
        assert!(output.fails(1).contains("bridge is a pre-defined network and cannot be removed"));
    }
    assert_eq!(engine.corten(&["network", "rm", "-f", "nobody"]).code, 0);
    assert_eq!(engine.corten(&["network", "remove", "one", "two"]).ok(), "one\ntwo");
}

#[test]
fn addresses_are_what_was_asked_for() {
    let engine = TestEngine::with_busybox();
    let [a, b, c, _] = free_subnet().octets();
    let net = format!("{a}.{b}.{c}.0/24");
    let (range, gateway) = (format!("{a}.{b}.{c}.64/26"), format!("{a}.{b}.{c}.254"));
    let reserved = format!("router={a}.{b}.{c}.65");
    let create = ["network", "create", "--subnet", &net, "--ip-range", &range, "--gateway", &gateway];
    engine.corten(&[&create[..], &["--aux-address", &reserved, "lan"]].concat()).ok();
    let shown = engine.docker(&["network", "inspect", "-f", "{{json .IPAM.Config}}", "lan"]).ok();
    for word in [&net, &range, &gateway, &format!("{a}.{b}.{c}.65")] {
        assert!(shown.contains(word.as_str()), "{shown}: {word}");
    }
    let address = |name: &str| {
        let format = "{{.NetworkSettings.Networks.lan.IPAddress}} {{.NetworkSettings.Networks.lan.Gateway}}";
        engine.corten(&["inspect", "-f", format, name]).ok()
    };
    engine.background("any", &["--network", "lan"], "exec sleep 1000");
    assert_eq!(address("any"), format!("{a}.{b}.{c}.64 {gateway}"));
    engine.background("next", &["--network", "lan"], "exec sleep 1000");
    assert_eq!(address("next"), format!("{a}.{b}.{c}.66 {gateway}"), "the router's is left out");
    let own = format!("{a}.{b}.{c}.200");
    let long = format!("name=lan,ip={own},alias=fixed,mac-address=02:00:00:00:00:17");
    engine.background("fixed", &["--network", &long], "exec sleep 1000");
    assert_eq!(address("fixed"), format!("{own} {gateway}"));
    let mac = engine.corten(&["exec", "fixed", "cat", "/sys/class/net/eth0/address"]).ok();
    assert_eq!(mac, "02:00:00:00:00:17");
    for output in both(&engine, &["network", "create", "--gateway", &gateway, "bad"]) {
        assert!(output.fails(1).contains("every ip-range or gateway must have a corresponding subnet"));
    }
    for output in both(&engine, &["run", "--rm", "--network", "lan", "--ip", "192.0.2.9", "busybox", "true"])
    {
        assert!(output.fails(125).contains("no configured subnet"), "a foreign address");
    }
}

#[test]
fn containers_are_connected_and_disconnected() {
    let engine = TestEngine::with_busybox();
    for name in ["front", "back"] {
        engine.corten(&["network", "create", name]).ok();
    }
    engine.background("box", &["--network", "front"], "exec sleep 1000");
    let networks = || {
        engine
            .corten(&[
                "inspect",
                "-f",
                "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}",
                "box",
            ])
            .ok()
    };
    assert_eq!(engine.corten(&["network", "connect", "--alias", "second", "back", "box"]).ok(), "");
    assert_eq!(networks(), "back front");
    let aliases = "{{json (index .NetworkSettings.Networks \"back\").DNSNames}}";
    assert!(engine.docker(&["inspect", "-f", aliases, "box"]).ok().contains("\"second\""));
    for arguments in [
        ["network", "connect", "back", "nobody"],
        ["network", "connect", "nobody", "box"],
        ["network", "connect", "back", "box"],
        ["network", "disconnect", "back", "nobody"],
        ["network", "disconnect", "bridge", "box"],
        ["network", "disconnect", "nobody", "box"],
    ] {
        let [ours, theirs] = both(&engine, &arguments);
        let (ours, theirs) = (ours.fails(1), theirs.fails(1));
        let said = theirs.trim().trim_start_matches("Error response from daemon: ").lines().next().unwrap();
        assert!(ours.contains(said), "{arguments:?}: {ours}, not {said}");
    }
    for output in both(&engine, &["network", "rm", "front"]) {
        assert!(output.fails(1).contains("has active endpoints"));
    }
    engine.corten(&["network", "disconnect", "-f", "front", "box"]).ok();
    assert_eq!(networks(), "back");
    engine.corten(&["network", "disconnect", "back", "box"]).ok();
    assert_eq!(networks(), "");
    assert_eq!(engine.corten(&["exec", "box", "ls", "/sys/class/net"]).ok(), "lo");
    let link_local = ["network", "connect", "--link-local-ip", "169.254.9.9", "back", "box"];
    engine.corten(&link_local).ok();
    assert!(engine.corten(&["exec", "box", "ip", "addr"]).ok().contains("169.254.9.9"));
}

#[test]
fn prune_takes_what_nobody_uses() {
    let engine = TestEngine::with_busybox();
    for name in ["used", "unused", "labelled"] {
        engine.corten(&["network", "create", "--label", &format!("is={name}"), name]).ok();
    }
    engine.background("box", &["--network", "used"], "exec sleep 1000");
    let refused = engine.corten(&["network", "prune"]).fails(1);
    assert!(refused.trim_end().ends_with("corten: network prune has been cancelled"), "{refused}");
    let pruned = engine.corten(&["network", "prune", "-f", "--filter", "label=is=labelled"]).ok();
    assert_eq!(pruned, "Deleted Networks:\nlabelled");
    let pruned = engine.docker(&["network", "prune", "-f"]).ok();
    assert_eq!(pruned, "Deleted Networks:\nunused");
    assert_eq!(engine.corten(&["network", "prune", "-f"]).stdout, "");
    assert!(engine.corten(&["network", "ls"]).ok().contains("used"));
}
