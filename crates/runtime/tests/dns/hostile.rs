//! Clients and servers that mean no good: they cost themselves an answer, nobody else.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::time::Duration;

use corten_runtime::dns::Resolver;
use proptest::prelude::*;

use crate::client::{A, DEADLINE, ask, ask_by_tcp, connect, framed, query, query_with_edns, read, udp};
use crate::stage::{Stage, addresses, ip, is_root, network, own_network, upstream};

fn stage(directory: &std::path::Path) -> Stage {
    let net = network(directory, "net", |names| names.address("web", ip("172.30.0.2")));
    Stage::new(Resolver { networks: vec![net], internal: true, ..Resolver::default() }, false)
}

#[test]
fn malformed_questions_are_told_so_or_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let stage = stage(directory.path());
    let change = |at: usize, value: u8| {
        let mut message = query(1, "web", A);
        message[at] = value;
        message
    };
    let long_name = (0..5).map(|_| "x".repeat(60)).collect::<Vec<_>>().join(".");
    let edns = query_with_edns(1, "web", A, 512);
    let format_errors = [
        change(5, 0),
        change(5, 2),
        change(12, 64),
        change(12, 0xc0),
        change(12, 63),
        change(11, 9),
        query(1, "web", A)[..15].to_vec(),
        query(1, "web", A)[..12].to_vec(),
        edns[..edns.len() - 1].to_vec(),
        query(1, &long_name, A),
    ];
    for message in format_errors {
        let reply = read(&udp(stage.server, &message));
        assert_eq!((reply.code, reply.id), (1, 1), "{message:?}");
    }
    assert_eq!(read(&udp(stage.server, &change(2, 0x28))).code, 4, "an update");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    for message in [&[][..], &[0; 11], &change(2, 0x81)] {
        socket.send_to(message, stage.server).unwrap();
    }
    assert!(socket.recv(&mut [0; 512]).is_err(), "neither scraps nor answers are answered");
    let trailing = [query(1, "web", A), vec![1, 2, 3]].concat();
    assert_eq!(read(&udp(stage.server, &trailing)).addresses, [ip("172.30.0.2")]);
    assert_eq!(ask(stage.server, "web", A).addresses, [ip("172.30.0.2")]);
}

#[test]
fn names_that_no_list_can_have_are_nobody_s() {
    let directory = tempfile::tempdir().unwrap();
    let stage = stage(directory.path());
    for name in ["we\tb", "web\n", "\u{7f}web", "", "w b"] {
        assert_eq!(ask(stage.server, name, A).code, 2, "{name:?}");
    }
    let mut dotted = query(1, "a.b", A);
    dotted.splice(12..17, [3, b'w', b'.', b'b', 0]);
    assert_eq!(read(&udp(stage.server, &dotted)).code, 2, "a dot within a label");
}

#[test]
fn clients_that_say_nothing_or_too_much_do_not_keep_others_out() {
    let directory = tempfile::tempdir().unwrap();
    let stage = stage(directory.path());
    let silent: Vec<_> = (0..100).map(|_| connect(stage.server)).collect();
    for mut stream in [&silent[98], &silent[99]] {
        stream.write_all(&[0]).unwrap();
    }
    assert_eq!(ask_by_tcp(stage.server, "web", A).addresses, [ip("172.30.0.2")]);
    let mut first = &silent[0];
    assert_eq!(first.read(&mut [0; 1]).unwrap_or(0), 0, "the longest silent went");
    for length in [0u16, 4097, 65_535] {
        let mut stream = connect(stage.server);
        stream.write_all(&length.to_be_bytes()).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0, "{length}");
    }
}

#[test]
fn a_flood_of_questions_is_refused_and_names_are_still_resolved() {
    if !is_root() {
        return;
    }
    own_network();
    let directory = tempfile::tempdir().unwrap();
    let net = network(directory.path(), "net", |names| names.address("web", ip("172.30.0.2")));
    upstream("127.5.0.1", |_| None);
    let servers = vec![ip("127.5.0.1")];
    let stage = Stage::new(Resolver { networks: vec![net], servers, ..Resolver::default() }, false);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    for n in 0..300u16 {
        socket.send_to(&query(n, "example.org", A), stage.server).unwrap();
        if n % 50 == 0 {
            assert_eq!(ask(stage.server, "web", A).addresses, [ip("172.30.0.2")]);
        }
    }
    let mut buffer = [0; 512];
    for n in 256..300u16 {
        let len = socket.recv(&mut buffer).unwrap();
        let reply = read(&buffer[..len]);
        assert_eq!((reply.id, reply.code), (n, 5), "more than 256 are refused");
    }
}

#[test]
fn a_client_that_never_stops_asking_leaves_others_their_turn() {
    let directory = tempfile::tempdir().unwrap();
    let stage = stage(directory.path());
    let mut asking = connect(stage.server);
    let hearing = asking.try_clone().unwrap();
    let questions = framed(&query(1, "web", A)).repeat(200);
    let flood = std::thread::spawn(move || while asking.write_all(&questions).is_ok() {});
    let listener = {
        let mut hearing = hearing.try_clone().unwrap();
        std::thread::spawn(move || while hearing.read(&mut [0; 65_536]).is_ok_and(|read| read > 0) {})
    };
    for _ in 0..100 {
        assert_eq!(ask(stage.server, "web", A).addresses, [ip("172.30.0.2")]);
        assert_eq!(ask_by_tcp(stage.server, "web", A).addresses, [ip("172.30.0.2")]);
    }
    hearing.shutdown(std::net::Shutdown::Both).unwrap();
    flood.join().unwrap();
    listener.join().unwrap();
}

#[test]
fn a_server_that_floods_is_left() {
    if !is_root() {
        return;
    }
    own_network();
    let udp = UdpSocket::bind("127.5.0.1:53").unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((read, client)) = udp.recv_from(&mut buffer) {
            for guess in 0..1000u16 {
                let mut answer = addresses(&buffer[..read], &[[192, 0, 2, 66]]);
                answer[..2].copy_from_slice(&guess.to_be_bytes());
                // The socket that asked may be closed by now.
                let _ = udp.send_to(&answer, client);
            }
        }
    });
    upstream("127.5.0.2", |query| Some(addresses(query, &[[192, 0, 2, 1]])));
    let servers = vec![ip("127.5.0.1"), ip("127.5.0.2")];
    let stage = Stage::new(Resolver { servers, ..Resolver::default() }, false);
    let right = (0..4).filter(|_| ask(stage.server, "example.org", A).addresses == [ip("192.0.2.1")]).count();
    assert!(right >= 3, "guessing 1 in 65 is no way in: {right} of 4");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is sent, the next question is answered.
    #[test]
    fn any_bytes_leave_the_server_well(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 1..20),
        flips in prop::collection::vec((0usize..28, any::<u8>()), 0..6),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let stage = stage(directory.path());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut stream = connect(stage.server);
        for message in &messages {
            socket.send_to(message, stage.server).unwrap();
            let _ = stream.write_all(&framed(message));
        }
        let mut message = query_with_edns(1, "web", A, 1232);
        for (at, value) in flips {
            let length = message.len();
            message[at % length] = value;
        }
        socket.send_to(&message, stage.server).unwrap();
        prop_assert_eq!(ask(stage.server, "web", A).addresses, vec![ip("172.30.0.2")]);
        drop(stage.end());
    }
}
