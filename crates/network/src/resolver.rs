//! The way to a container's resolver: sockets on 127.0.0.11 inside its namespace, and rules there that lead to them.
//!
//! The sockets take ports that the kernel chooses and port 53 is translated to them, so that the address is always there and
//! a container can have port 53 for itself. Knows nothing of names: who answers on the sockets is the caller's matter.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};

use corten_sys::netlink::{self, Socket};
use corten_sys::netns;

use crate::endpoint::Protocol;
use crate::error::{Error, Result};
use crate::nft::{
    Base, Chain, Comparison, Expression, Family, Hook, Kind, Meta, PayloadBase, Register, Rule, Table,
    Transaction,
};

/// Where containers' `/etc/resolv.conf` points.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const DNS_PORT: u16 = 53;
/// In the container's own namespace, so it needs no instance in its name.
const TABLE: &str = "corten-resolver";
const PRIORITY_DESTINATION_NAT: i32 = -100;
const DESTINATION_OFFSET: u32 = 16;

/// Moves the calling thread into the namespace, and makes sockets and rules there. Repeated, the rules lead to the new sockets.
pub fn open(namespace: BorrowedFd<'_>) -> Result<(OwnedFd, OwnedFd)> {
    let failed = |step: &'static str| move |source| Error::Namespace { step, source };
    netns::enter(namespace).map_err(failed("enter the network namespace"))?;
    let address = SocketAddrV4::new(ADDRESS, 0);
    let udp = UdpSocket::bind(address).map_err(failed("open the resolver's UDP socket"))?;
    let tcp = TcpListener::bind(address).map_err(failed("open the resolver's TCP socket"))?;
    for blocking in [udp.set_nonblocking(true), tcp.set_nonblocking(true)] {
        blocking.map_err(failed("set the resolver's sockets up"))?;
    }
    let ports = [(Protocol::Udp, udp.local_addr()), (Protocol::Tcp, tcp.local_addr())]
        .map(|(protocol, address)| address.map(|address: SocketAddr| (protocol, address.port())));
    let [udp_port, tcp_port] = ports;
    let read = failed("read the resolver's ports");
    let table = table([udp_port.map_err(read)?, tcp_port.map_err(read)?]);
    let socket = Socket::open(netlink::Protocol::Netfilter)
        .map_err(Error::netlink("open a netfilter socket in the network namespace"))?;
    install(&socket, &table).map_err(Error::netlink("lead port 53 to the container's resolver"))?;
    Ok((udp.into(), tcp.into()))
}

fn install(socket: &Socket, table: &Table) -> std::result::Result<(), netlink::Error> {
    const EEXIST: i32 = 17;
    let mut first = Transaction::new(Family::Ipv4);
    first.new_table(table);
    match first.commit(socket) {
        Err(error) if error.code() == Some(EEXIST) => {
            let mut again = Transaction::new(Family::Ipv4);
            again.replace_table(table);
            again.commit(socket)
        }
        other => other,
    }
}

/// Programs send from the namespace itself, so the chain of outgoing packets is all there is; answers are translated back by
/// connection tracking.
fn table(ports: [(Protocol, u16); 2]) -> Table {
    let rules = ports.map(|(protocol, port)| Rule { expressions: redirect(protocol, port), comment: None });
    let base = Base { kind: Kind::Nat, hook: Hook::Output, priority: PRIORITY_DESTINATION_NAT };
    Table {
        family: Family::Ipv4,
        name: TABLE.into(),
        sets: Vec::new(),
        chains: vec![Chain { name: "output", base: Some(base), rules: rules.into() }],
    }
}

fn redirect(protocol: Protocol, port: u16) -> Vec<Expression> {
    let register = Register(0);
    let equal =
        |value: &[u8]| Expression::Compare { register, comparison: Comparison::Equal, value: value.to_vec() };
    vec![
        Expression::Payload {
            base: PayloadBase::Network,
            offset: DESTINATION_OFFSET,
            length: 4,
            to: register,
        },
        equal(&ADDRESS.octets()),
        Expression::Meta { key: Meta::TransportProtocol, to: register },
        equal(&[protocol.number()]),
        Expression::Payload { base: PayloadBase::Transport, offset: 2, length: 2, to: register },
        equal(&DNS_PORT.to_be_bytes()),
        Expression::Immediate { to: register, value: port.to_be_bytes().to_vec() },
        Expression::DestinationPort { port: register },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_53_of_the_address_alone_leads_to_the_sockets() {
        let text = table([(Protocol::Udp, 40_000), (Protocol::Tcp, 41_000)]).to_string();
        assert_eq!(text.matches("0x7f00000b").count(), 2);
        assert_eq!(text.matches("0x0035").count(), 2);
        assert!(text.contains("immediate reg 0 0x9c40") && text.contains("immediate reg 0 0xa028"), "{text}");
    }
}
