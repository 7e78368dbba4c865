//! The resolver's sockets in a container's namespace: port 53 leads to them, and stays free for the container.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Instant;

use support::*;

const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

#[test]
fn port_53_leads_to_the_sockets_and_stays_free() {
    on_host(|| {
        let networks = open("0000b001");
        let a = networks.attach(&request("a", &[])).unwrap();
        let begun = Instant::now();
        let (udp, tcp) = networks.resolver_sockets(a.netns.as_fd()).unwrap();
        println!("sockets and rules: {:?}", begun.elapsed());
        // A server of the container's own has the port, on every address and on the resolver's.
        let _own = inside(&a.netns, || {
            (
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap(),
                UdpSocket::bind((RESOLVER, 53)).unwrap(),
            )
        });
        let (udp, tcp) = (UdpSocket::from(udp), TcpListener::from(tcp));
        udp.set_nonblocking(false).unwrap();
        udp.set_read_timeout(Some(PATIENCE)).unwrap();
        let client = udp_client(&a.netns);
        client.send_to(b"question", (RESOLVER, 53)).unwrap();
        let mut buffer = [0; 64];
        let (length, from) = udp.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"question");
        udp.send_to(b"answer", from).unwrap();
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"answer"[..], (RESOLVER, 53).into()));
        let mut client = inside(&a.netns, || TcpStream::connect((RESOLVER, 53)).unwrap());
        client.write_all(b"q").unwrap();
        tcp.set_nonblocking(false).unwrap();
        let (mut served, _) = tcp.accept().unwrap();
        served.read_exact(&mut buffer[..1]).unwrap();
        served.write_all(b"a").unwrap();
        client.read_exact(&mut buffer[..1]).unwrap();
        assert_eq!(buffer[0], b'a');
        networks.close(true).unwrap();
    });
}

#[test]
fn sockets_made_again_take_the_place_of_the_first() {
    on_host(|| {
        let networks = open("0000b002");
        let netns = networks.isolated().unwrap();
        let begun = Instant::now();
        drop(networks.resolver_sockets(netns.as_fd()).unwrap());
        println!("first: {:?}", begun.elapsed());
        let (udp, _tcp) = networks.resolver_sockets(netns.as_fd()).unwrap();
        let udp = UdpSocket::from(udp);
        udp.set_nonblocking(false).unwrap();
        udp.set_read_timeout(Some(PATIENCE)).unwrap();
        udp_client(&netns).send_to(b"again", (RESOLVER, 53)).unwrap();
        let mut buffer = [0; 8];
        assert_eq!(udp.recv(&mut buffer).unwrap(), 5);
        networks.close(true).unwrap();
    });
}
