//! Names of the rest of the world.

use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use corten_runtime::dns::Resolver;

use crate::client::{A, TXT, ask, ask_by_tcp, connect, framed, query, query_with_edns, read, receive, udp};
use crate::stage::{Stage, addresses, code, ip, is_root, own_network, own_resolver_file, upstream};

/// How long a server is waited for.
const SILENCE: Duration = Duration::from_secs(2);

fn stage(servers: &[&str]) -> Stage {
    let servers = servers.iter().map(|server| ip(server)).collect();
    Stage::new(Resolver { servers, ..Resolver::default() }, false)
}

#[test]
fn questions_go_out_over_udp_and_tcp_and_answers_come_back() {
    if !is_root() {
        return;
    }
    own_network();
    let seen = Arc::new(Mutex::new(Vec::new()));
    upstream("127.5.0.1", {
        let seen = seen.clone();
        move |query| {
            seen.lock().unwrap().push(u16::from_be_bytes([query[0], query[1]]));
            Some(addresses(query, &[[192, 0, 2, 7]]))
        }
    });
    let stage = stage(&["127.5.0.1"]);
    for _ in 0..10 {
        assert_eq!(ask(stage.server, "example.org", A).addresses, [ip("192.0.2.7")]);
        assert_eq!(ask_by_tcp(stage.server, "example.org", TXT).addresses, [ip("192.0.2.7")]);
    }
    let mut ids = seen.lock().unwrap().clone();
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() > 15, "ids are random: {ids:?}");
}

#[test]
fn given_servers_are_asked_from_the_container_s_network() {
    if !is_root() {
        return;
    }
    own_network();
    upstream("127.5.0.1", |query| Some(addresses(query, &[[192, 0, 2, 7]])));
    let resolver = Resolver { servers: vec![ip("127.5.0.1")], internal: true, ..Resolver::default() };
    let stage = Stage::new(resolver, true);
    assert_eq!(ask(stage.server, "example.org", A).addresses, [ip("192.0.2.7")]);
    assert_eq!(ask_by_tcp(stage.server, "example.org", A).addresses, [ip("192.0.2.7")]);
}

#[test]
fn the_host_s_servers_are_asked_from_the_host_s_network_unless_all_is_internal() {
    if !is_root() {
        return;
    }
    own_network();
    let host = || {
        own_network();
        own_resolver_file("nameserver 127.5.0.9\nnameserver 127.5.0.53\n");
        upstream("127.5.0.53", |query| Some(addresses(query, &[[192, 0, 2, 9]])));
    };
    let stage = Stage::with_host(Resolver::default(), host);
    assert_eq!(ask(stage.server, "example.org", A).addresses, [ip("192.0.2.9")]);
    assert_eq!(ask_by_tcp(stage.server, "example.org", A).addresses, [ip("192.0.2.9")]);
    let stage = Stage::with_host(Resolver { internal: true, ..Resolver::default() }, host);
    assert_eq!(ask(stage.server, "example.org", A).code, 2);
}

#[test]
fn the_next_server_is_asked_when_one_fails_or_is_not_there() {
    if !is_root() {
        return;
    }
    own_network();
    let failing = upstream("127.5.0.1", |query| Some(code(query, 2)));
    upstream("127.5.0.2", |query| Some(addresses(query, &[[192, 0, 2, 8]])));
    let stage = stage(&["127.5.0.9", "127.5.0.1", "127.5.0.2"]);
    for (times, ask) in [ask, ask_by_tcp].iter().enumerate() {
        let begin = Instant::now();
        assert_eq!(ask(stage.server, "example.org", A).addresses, [ip("192.0.2.8")]);
        assert!(begin.elapsed() < SILENCE, "a refusal is heard at once, only silence waited for");
        assert_eq!(failing.load(Ordering::Relaxed), times + 1);
    }
}

#[test]
fn silence_of_a_server_costs_two_seconds_and_others_do_not_wait_for_it() {
    if !is_root() {
        return;
    }
    own_network();
    let asked =
        upstream("127.5.0.1", |query| (query[13] != b's').then(|| addresses(query, &[[192, 0, 2, 1]])));
    upstream("127.5.0.2", |query| Some(addresses(query, &[[192, 0, 2, 2]])));
    let stage = stage(&["127.5.0.1", "127.5.0.2"]);
    let server = stage.server;
    let begin = Instant::now();
    let slow = std::thread::spawn(move || ask(server, "silence.example", A));
    assert_eq!(ask(server, "example.org", A).addresses, [ip("192.0.2.1")]);
    assert!(!slow.is_finished());
    assert_eq!(slow.join().unwrap().addresses, [ip("192.0.2.2")]);
    assert!(begin.elapsed() >= SILENCE, "{:?}", begin.elapsed());
    assert_eq!(asked.load(Ordering::Relaxed), 2, "once each");
}

#[test]
fn when_all_fail_the_client_hears_of_it() {
    if !is_root() {
        return;
    }
    own_network();
    assert_eq!(ask(stage(&["127.5.0.9"]).server, "example.org", A).code, 2, "nobody there");
    upstream("127.5.0.1", |query| Some(code(query, 5)));
    let refusing = stage(&["127.5.0.1"]);
    assert_eq!(ask(refusing.server, "example.org", A).code, 5, "what the last server said");
    assert_eq!(ask_by_tcp(refusing.server, "example.org", A).code, 5);
    upstream("127.5.0.2", |query| Some(code(query, 3)));
    assert_eq!(
        ask(stage(&["127.5.0.2", "127.5.0.1"]).server, "example.org", A).code,
        3,
        "no such name is an answer"
    );
    upstream("127.5.0.3", |_| None);
    let silent = stage(&["127.5.0.3"]);
    assert_eq!(ask(silent.server, "example.org", A).code, 2);
    assert_eq!(silent.end().deadline(), None, "nothing is left under way");
}

#[test]
fn only_the_answer_to_the_question_counts() {
    if !is_root() {
        return;
    }
    own_network();
    upstream("127.5.0.1", |query| {
        let mut answer = addresses(query, &[[192, 0, 2, 66]]);
        match query[13] {
            b'i' => answer[0] ^= 0xff,
            b'q' => answer[14] ^= 0x01,
            b'r' => answer[2] &= 0x7f,
            b's' => answer.truncate(8),
            _ => {}
        }
        Some(answer)
    });
    upstream("127.5.0.2", |query| Some(addresses(query, &[[192, 0, 2, 1]])));
    let stage = stage(&["127.5.0.1", "127.5.0.2"]);
    let server = stage.server;
    let asked = ["id.example", "question.example", "response.example", "short.example"]
        .map(|name| (name, std::thread::spawn(move || ask(server, name, A))));
    for (name, thread) in asked {
        assert_eq!(thread.join().unwrap().addresses, [ip("192.0.2.1")], "{name}");
    }
}

#[test]
fn large_answers_are_cut_for_those_who_cannot_take_them() {
    if !is_root() {
        return;
    }
    own_network();
    let list: Vec<[u8; 4]> = (0..200).map(|n| [192, 0, 2, n]).collect();
    upstream("127.5.0.1", move |query| Some(addresses(query, &list)));
    let stage = stage(&["127.5.0.1"]);
    let reply = ask(stage.server, "example.org", A);
    assert!(reply.truncated && reply.addresses.is_empty() && reply.code == 0);
    assert_eq!(ask_by_tcp(stage.server, "example.org", A).addresses.len(), 200);
    let reply = read(&udp(stage.server, &query_with_edns(1, "example.org", A, 4096)));
    assert_eq!((reply.truncated, reply.addresses.len()), (false, 200));
}

#[test]
fn a_client_over_tcp_gets_all_its_answers_in_order() {
    if !is_root() {
        return;
    }
    own_network();
    upstream("127.5.0.1", |query| Some(addresses(query, &[[192, 0, 2, query[13]]])));
    let stage = stage(&["127.5.0.1"]);
    let mut stream = connect(stage.server);
    let names: Vec<String> = (0..26u8).map(|n| format!("{}.example", char::from(b'a' + n))).collect();
    let all: Vec<u8> = names.iter().flat_map(|name| framed(&query(9, name, A))).collect();
    // In pieces that no message's bounds respect.
    for piece in all.chunks(7) {
        stream.write_all(piece).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    for name in &names {
        let expected = format!("192.0.2.{}", name.as_bytes()[0]);
        assert_eq!(read(&receive(&mut stream)).addresses, [ip(&expected)]);
    }
    assert_eq!(std::io::Read::read(&mut stream, &mut [0; 1]).unwrap(), 0, "and then the end");
}
