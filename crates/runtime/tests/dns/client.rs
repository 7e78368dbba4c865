//! A client that asks, and reads the answers itself: nothing of the code under test helps it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

pub const A: u16 = 1;
pub const MX: u16 = 15;
pub const TXT: u16 = 16;
pub const PTR: u16 = 12;
pub const AAAA: u16 = 28;
pub const HTTPS: u16 = 65;

pub const DEADLINE: Duration = Duration::from_secs(60);

/// A message with one question.
pub fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// The same, from a client that takes so many bytes over UDP.
pub fn query_with_edns(id: u16, name: &str, kind: u16, udp_bytes: u16) -> Vec<u8> {
    let mut message = query(id, name, kind);
    message[11] = 1;
    message.extend([0, 0, 41]);
    message.extend(udp_bytes.to_be_bytes());
    message.extend([0; 6]);
    message
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub id: u16,
    pub code: u8,
    pub truncated: bool,
    pub recursion: bool,
    pub edns: bool,
    pub ttl: Option<u32>,
    pub addresses: Vec<IpAddr>,
    pub pointers: Vec<String>,
    pub bytes: usize,
}

pub fn read(message: &[u8]) -> Reply {
    let word = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    assert!(message[2] & 0x80 != 0, "a response");
    let mut at = 12;
    for _ in 0..word(4) {
        at = name(message, at).1 + 4;
    }
    let mut reply = Reply {
        id: word(0),
        code: message[3] & 0x0f,
        truncated: message[2] & 2 != 0,
        recursion: message[3] & 0x80 != 0,
        edns: false,
        ttl: None,
        addresses: Vec::new(),
        pointers: Vec::new(),
        bytes: message.len(),
    };
    for _ in 0..word(6) + word(8) + word(10) {
        at = name(message, at).1;
        let (kind, length) = (word(at), usize::from(word(at + 8)));
        let data = &message[at + 10..at + 10 + length];
        match kind {
            A => reply.addresses.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).unwrap()).into()),
            AAAA => reply.addresses.push(Ipv6Addr::from(<[u8; 16]>::try_from(data).unwrap()).into()),
            PTR => reply.pointers.push(name(message, at + 10).0),
            41 => reply.edns = true,
            _ => {}
        }
        if kind != 41 {
            reply.ttl = Some(u32::from(word(at + 4)) << 16 | u32::from(word(at + 6)));
        }
        at += 10 + length;
    }
    assert_eq!(at, message.len(), "nothing behind the last record");
    reply
}

fn name(message: &[u8], mut at: usize) -> (String, usize) {
    let mut labels = Vec::new();
    loop {
        match usize::from(message[at]) {
            0 => return (labels.join("."), at + 1),
            0xc0.. => {
                let target = usize::from(u16::from_be_bytes([message[at] & 0x3f, message[at + 1]]));
                labels.push(name(message, target).0);
                return (labels.join("."), at + 2);
            }
            length => {
                labels.push(String::from_utf8(message[at + 1..at + 1 + length].to_vec()).unwrap());
                at += 1 + length;
            }
        }
    }
}

pub fn udp(server: SocketAddr, message: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.send_to(message, server).unwrap();
    let mut buffer = [0; 65_535];
    let (read, from) = socket.recv_from(&mut buffer).expect("an answer in time");
    assert_eq!(from, server);
    buffer[..read].to_vec()
}

pub fn ask(server: SocketAddr, name: &str, kind: u16) -> Reply {
    let reply = read(&udp(server, &query(0x1234, name, kind)));
    assert_eq!(reply.id, 0x1234);
    reply
}

pub fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

pub fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

pub fn receive(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("an answer in time");
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    message
}

pub fn ask_by_tcp(server: SocketAddr, name: &str, kind: u16) -> Reply {
    let mut stream = connect(server);
    stream.write_all(&framed(&query(0x4321, name, kind))).unwrap();
    let reply = read(&receive(&mut stream));
    assert_eq!(reply.id, 0x4321);
    reply
}
