//! Names of the networks.

use std::collections::HashSet;
use std::net::IpAddr;

use corten_runtime::dns::{Link, NetworkNames, Resolver};

use crate::client::{A, AAAA, HTTPS, MX, PTR, TXT, ask, ask_by_tcp, query_with_edns, read, udp};
use crate::stage::{Stage, ip, is_root, network, own_network, upstream};

/// One network with a few names; whatever is not there is somebody else's, who is not there.
fn stage(directory: &std::path::Path) -> Stage {
    let mut net = network(directory, "net", |names| {
        names.address("web", ip("172.30.0.2"));
        names.address("Alias.With.Dots", ip("172.30.0.2"));
        names.address("six", ip("172.30.0.3"));
        names.address("six", ip("fd00::3"));
        names.pointer(ip("172.30.0.2"), "web.net");
        names.pointer(ip("fd00::3"), "six.net");
        for n in 0..100 {
            names.address("service", ip(&format!("172.30.1.{n}")));
        }
        for n in 0..3 {
            names.address("three", ip(&format!("172.30.2.{n}")));
            names.address("three", ip(&format!("fd00::2:{n}")));
        }
    });
    net.links = vec![Link { alias: "db".into(), name: "web".into() }];
    let missing = NetworkNames { file: directory.join("missing"), links: Vec::new() };
    let other = network(directory, "other", |names| {
        names.address("web", ip("172.31.0.2"));
        names.address("only-here", ip("172.31.0.3"));
        names.address("six", ip("172.31.0.4"));
        names.address("three", ip("172.31.0.5"));
    });
    Stage::new(Resolver { networks: vec![missing, net, other], internal: true, ..Resolver::default() }, false)
}

#[test]
fn names_have_addresses_of_the_first_network_that_has_them() {
    let directory = tempfile::tempdir().unwrap();
    let stage = stage(directory.path());
    let cases = [
        ("web", A, &["172.30.0.2"][..]),
        ("WEB.", A, &["172.30.0.2"]),
        ("web.net", A, &["172.30.0.2"]),
        ("web.OTHER", A, &["172.31.0.2"]),
        ("db", A, &["172.30.0.2"]),
        ("alias.with.dots", A, &["172.30.0.2"]),
        ("only-here", A, &["172.31.0.3"]),
        ("six", A, &["172.30.0.3"]),
        ("six", AAAA, &["fd00::3"]),
        ("web", AAAA, &[]),
        ("web", MX, &[]),
        ("web", TXT, &[]),
        ("web", HTTPS, &[]),
        ("2.0.30.172.in-addr.arpa", A, &[]),
    ];
    for (name, kind, expected) in cases {
        for reply in [ask(stage.server, name, kind), ask_by_tcp(stage.server, name, kind)] {
            let expected: Vec<IpAddr> = expected.iter().map(|text| ip(text)).collect();
            assert_eq!((reply.code, &reply.addresses), (0, &expected), "{name} {kind}");
            assert!(reply.recursion && !reply.truncated && !reply.edns, "{name} {kind}");
            assert_eq!(reply.ttl.unwrap_or(600), 600);
        }
    }
    assert_eq!(ask(stage.server, "2.0.30.172.in-addr.arpa", PTR).pointers, ["web.net"]);
    let reverse = format!("3.0.0.0.{}0.0.d.f.ip6.arpa", "0.".repeat(24));
    assert_eq!(ask(stage.server, &reverse, PTR).pointers, ["six.net"]);
    for unknown in ["nobody", "web.nobody", "3.0.30.172.in-addr.arpa"] {
        assert_eq!(ask(stage.server, unknown, PTR).code, 2, "{unknown}: there is nobody to ask");
    }
}

#[test]
fn several_containers_of_one_name_take_turns() {
    let directory = tempfile::tempdir().unwrap();
    let stage = stage(directory.path());
    let mut first = HashSet::new();
    for _ in 0..3 {
        // As a C library asks: for both at once.
        let (v4, v6) = (ask(stage.server, "three", A), ask(stage.server, "three", AAAA));
        assert_eq!((v4.addresses.len(), v6.addresses.len()), (3, 3));
        first.extend([v4.addresses[0], v6.addresses[0]]);
    }
    assert_eq!(first.len(), 6, "each was the first once");
}

#[test]
fn what_does_not_fit_is_cut_off_and_comes_whole_by_tcp() {
    let directory = tempfile::tempdir().unwrap();
    let stage = stage(directory.path());
    let short = ask(stage.server, "service", A);
    assert!(short.truncated && short.bytes <= 512 && short.addresses.len() > 20, "{short:?}");
    let whole = ask_by_tcp(stage.server, "service", A);
    assert!(!whole.truncated);
    assert_eq!(whole.addresses.len(), 100);
    for (size, fits) in [(0, false), (1232, false), (4096, true), (65_535, true)] {
        let reply = read(&udp(stage.server, &query_with_edns(7, "service", A, size)));
        assert!(reply.edns && reply.bytes <= usize::from(size.clamp(512, 4096)), "{size}: {reply:?}");
        assert_eq!((reply.truncated, reply.addresses.len() == 100), (!fits, fits), "{size}");
    }
}

#[test]
fn a_file_that_is_replaced_counts_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let stage = stage(directory.path());
    assert_eq!(ask(stage.server, "web", A).addresses, [ip("172.30.0.2")]);
    network(directory.path(), "new", |names| names.address("web", ip("172.30.0.77")));
    std::fs::rename(directory.path().join("new"), directory.path().join("net")).unwrap();
    assert_eq!(ask(stage.server, "web", A).addresses, [ip("172.30.0.77")]);
    std::fs::remove_file(directory.path().join("net")).unwrap();
    assert_eq!(ask(stage.server, "web", A).addresses, [ip("172.31.0.2")], "the next network has it");
}

#[test]
fn single_labels_stay_where_the_user_wants_search_domains_first() {
    if !is_root() {
        return;
    }
    own_network();
    let count = upstream("127.5.0.1", |query| Some(crate::stage::code(query, 3)));
    let resolver =
        |stay| Resolver { servers: vec![ip("127.5.0.1")], single_labels_stay: stay, ..Resolver::default() };
    let stage = Stage::new(resolver(true), false);
    let reply = ask(stage.server, "nobody", A);
    assert_eq!((reply.code, reply.addresses.len()), (0, 0));
    assert_eq!(ask(stage.server, "nobody.example", A).code, 3);
    assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 1);
    let stage = Stage::new(resolver(false), false);
    assert_eq!(ask(stage.server, "nobody", A).code, 3);
}
