//! Tracked connections that must not outlive a change of published ports.
//!
//! A connection is translated as its first packet was. A UDP client that keeps its source port would go on talking to a
//! container that is gone, or to nobody when it began before the port was published. TCP clients notice and connect anew.

use std::net::IpAddr;

use corten_sys::netlink::{Batch, Error, Socket};

use crate::endpoint::{Protocol, PublishedPort};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const CT_DELETE: u16 = 1 << 8 | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
/// Bits of the flags: which fields of the tuple count (net/netfilter/nf_internals.h).
const MATCH_SOURCE_ADDRESS: u32 = 1;
const MATCH_PROTOCOL: u32 = 1 << 3;
const MATCH_DESTINATION_PORT: u32 = 1 << 5;

/// Forgets what was tracked before these ports were published.
pub fn forget_before_publishing(socket: &Socket, ports: &[PublishedPort]) {
    let datagrams = ports.iter().filter(|port| port.protocol == Protocol::Udp && !port.is_direct());
    for port in datagrams {
        let mut batch = Batch::new();
        batch
            .message(CT_DELETE, 0, &[family(port.host_ip), 0, 0, 0])
            .nested(CTA_TUPLE_ORIG, |tuple| {
                tuple.nested(CTA_TUPLE_PROTO, |proto| {
                    proto
                        .u8(CTA_PROTO_NUM, port.protocol.number())
                        .bytes(CTA_PROTO_DST_PORT, &port.host_port.to_be_bytes());
                });
            })
            .nested(CTA_FILTER, |filter| {
                filter
                    .u32(CTA_FILTER_ORIG_FLAGS, MATCH_PROTOCOL | MATCH_DESTINATION_PORT)
                    .u32(CTA_FILTER_REPLY_FLAGS, 0);
            });
        report(socket.transact(&mut batch));
    }
}

/// Forgets the connections that were translated to a container that is gone.
pub fn forget_container(socket: &Socket, ip: IpAddr, ports: &[PublishedPort]) {
    if ports.iter().all(|port| port.protocol != Protocol::Udp || port.host_ip.is_ipv4() != ip.is_ipv4()) {
        return;
    }
    let mut batch = Batch::new();
    batch
        .message(CT_DELETE, 0, &[family(ip), 0, 0, 0])
        .nested(CTA_TUPLE_REPLY, |tuple| {
            tuple.nested(CTA_TUPLE_IP, |address| {
                match ip {
                    IpAddr::V4(ip) => address.bytes(CTA_IP_V4_SRC, &ip.octets()),
                    IpAddr::V6(ip) => address.bytes(CTA_IP_V6_SRC, &ip.octets()),
                };
            });
        })
        .nested(CTA_FILTER, |filter| {
            filter.u32(CTA_FILTER_ORIG_FLAGS, 0).u32(CTA_FILTER_REPLY_FLAGS, MATCH_SOURCE_ADDRESS);
        });
    report(socket.transact(&mut batch));
}

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// Nothing to forget is fine; a kernel before 5.8 knows no filters, and then entries time out by themselves.
fn report(result: Result<(), Error>) {
    if let Err(error) = result {
        tracing::debug!(%error, "forgetting tracked connections");
    }
}
