//! rtnetlink: links, addresses and routes as messages (linux/if_link.h, if_addr.h, rtnetlink.h) and as what the kernel answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use corten_sys::netlink::{Batch, Error, Message, Received, Socket, attribute, text};
use ipnet::IpNet;

use crate::mac::MacAddr;
use crate::plan::BridgePort;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_DUMP: u16 = 0x300;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IFF_UP: u32 = 1;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_ARP_NOTIFY: u16 = 22;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_MODE_NONE: u8 = 1;
const VETH_INFO_PEER: u16 = 1;
const IF_OPER_UP: u8 = 6;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
/// Usable at once: the address is ours to give, so nobody can have it (duplicate address detection takes a second).
const IFA_F_NODAD: u8 = 2;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_METRICS: u16 = 8;
const RTAX_MTU: u16 = 2;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;

const ENODEV: i32 = 19;
const ENETUNREACH: i32 = 101;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// A note that its maker left.
    pub alias: String,
    pub mac: Option<MacAddr>,
    pub mtu: u32,
    /// "bridge", "veth", …; empty for hardware.
    pub kind: String,
    pub up: bool,
    /// Passes frames: up, with a carrier, and its queue and bridge port have been told so (RFC 2863's operational state).
    pub operational: bool,
    pub master: Option<u32>,
}

/// A route of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    pub destination: IpNet,
    pub link_index: Option<u32>,
}

pub fn link(socket: &Socket, name: &str) -> Result<Option<Link>, Error> {
    let mut batch = Batch::new();
    batch.message(RTM_GETLINK, 0, &link_header(0, 0)).string(IFLA_IFNAME, name);
    found_link(socket.request(&mut batch))
}

pub fn link_by_index(socket: &Socket, index: u32) -> Result<Option<Link>, Error> {
    let mut batch = Batch::new();
    batch.message(RTM_GETLINK, 0, &link_header(index, 0));
    found_link(socket.request(&mut batch))
}

fn found_link(answer: Result<Vec<Received>, Error>) -> Result<Option<Link>, Error> {
    match answer {
        Ok(answers) => Ok(answers.iter().find_map(parse_link)),
        Err(error) if error.code() == Some(ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

pub fn links(socket: &Socket) -> Result<Vec<Link>, Error> {
    let mut batch = Batch::new();
    batch.message(RTM_GETLINK, NLM_F_DUMP, &link_header(0, 0));
    Ok(socket.request(&mut batch)?.iter().filter_map(parse_link).collect())
}

/// The addresses of a link, each with its prefix length; without IPv6's link-local ones, which every link has.
pub fn addresses(socket: &Socket, link_index: u32) -> Result<Vec<IpNet>, Error> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut batch = Batch::new();
        batch.message(RTM_GETADDR, NLM_F_DUMP, &address_header(family, 0, 0, link_index));
        found.extend(
            socket.request(&mut batch)?.iter().filter_map(|answer| parse_address(answer, link_index)),
        );
    }
    Ok(found)
}

fn parse_address(answer: &Received, link_index: u32) -> Option<IpNet> {
    let index = u32::from_ne_bytes(answer.payload.get(4..8)?.try_into().ok()?);
    let attributes = answer.payload.get(8..)?;
    let local = match answer.payload[0] {
        AF_INET => ip(attribute(attributes, IFA_LOCAL)?)?,
        _ => ip(attribute(attributes, IFA_ADDRESS)?)?,
    };
    let link_local = matches!(local, IpAddr::V6(ip) if ip.is_unicast_link_local());
    (index == link_index && !link_local).then(|| IpNet::new(local, answer.payload[1]).ok()).flatten()
}

/// The host's unicast routes of all tables; the default routes are 0.0.0.0/0 and ::/0.
pub fn routes(socket: &Socket) -> Result<Vec<Route>, Error> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut batch = Batch::new();
        let mut header = [0; 12];
        header[0] = family;
        batch.message(RTM_GETROUTE, NLM_F_DUMP, &header);
        found.extend(socket.request(&mut batch)?.iter().filter_map(parse_route));
    }
    Ok(found)
}

/// Whether packets for the address end in the socket's namespace.
pub fn is_local(socket: &Socket, address: IpAddr) -> Result<bool, Error> {
    let octets = octets(address);
    let mut header = [0; 12];
    header[0] = family(address);
    header[1] = octets.len() as u8 * 8;
    let mut batch = Batch::new();
    batch.message(RTM_GETROUTE, 0, &header).bytes(RTA_DST, &octets);
    match socket.request(&mut batch) {
        Ok(answers) => Ok(answers.iter().any(|route| route.payload.get(7) == Some(&RTN_LOCAL))),
        Err(error) if error.code() == Some(ENETUNREACH) => Ok(false),
        Err(error) => Err(error),
    }
}

pub fn create_bridge(batch: &mut Batch, name: &str, mac: MacAddr, mtu: u32, alias: &str) {
    batch
        .message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link_header(0, 0))
        .string(IFLA_IFNAME, name)
        // An address of its own: else the bridge takes the lowest of its ports', and changes it with them.
        .bytes(IFLA_ADDRESS, &mac.0)
        .u32(IFLA_MTU, mtu)
        .nested(IFLA_LINKINFO, |info| {
            info.string(IFLA_INFO_KIND, "bridge");
        });
    // `rtnl_create_link` does not look at an alias.
    named(batch, name, 0).bytes(IFLA_IFALIAS, alias.as_bytes());
}

/// A pair with its far end in the namespace `netns` from the start.
pub fn create_veth(
    batch: &mut Batch,
    host: &str,
    peer: &str,
    peer_mac: MacAddr,
    mtu: u32,
    netns: BorrowedFd<'_>,
) {
    batch
        .message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link_header(0, 0))
        .string(IFLA_IFNAME, host)
        .u32(IFLA_MTU, mtu)
        .nested(IFLA_LINKINFO, |info| {
            info.string(IFLA_INFO_KIND, "veth").nested(IFLA_INFO_DATA, |data| {
                data.nested(VETH_INFO_PEER, |far| {
                    far.raw(&link_header(0, 0))
                        .string(IFLA_IFNAME, peer)
                        .u32(IFLA_MTU, mtu)
                        .bytes(IFLA_ADDRESS, &peer_mac.0)
                        .u32(IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
                });
            });
        });
}

/// Makes `name` a port of the bridge and switches it on.
pub fn enslave(batch: &mut Batch, name: &str, bridge_index: u32, port: BridgePort) {
    no_ipv6_address(&mut named(batch, name, 0));
    let mut message = named(batch, name, IFF_UP);
    message.u32(IFLA_MASTER, bridge_index);
    drop(message);
    if port != BridgePort::default() {
        // Only RTM_NEWLINK, which without NLM_F_CREATE changes what is there, looks at a port's attributes.
        let mut message = batch.message(RTM_NEWLINK, 0, &link_header(0, 0));
        message.string(IFLA_IFNAME, name).nested(IFLA_LINKINFO, |info| {
            info.string(IFLA_INFO_SLAVE_KIND, "bridge").nested(IFLA_INFO_SLAVE_DATA, |data| {
                data.u8(IFLA_BRPORT_MODE, port.hairpin.into()).u8(IFLA_BRPORT_ISOLATED, port.isolated.into());
            });
        });
    }
}

/// A bridge's port needs no address; link-local ones would only send neighbour discovery into every container.
fn no_ipv6_address(message: &mut Message<'_>) {
    message.nested(IFLA_AF_SPEC, |families| {
        families.nested(AF_INET6.into(), |inet6| {
            inet6.u8(IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_MODE_NONE);
        });
    });
}

pub fn set_up(batch: &mut Batch, name: &str) {
    named(batch, name, IFF_UP);
}

pub fn set_down(batch: &mut Batch, name: &str) {
    batch.message(RTM_SETLINK, 0, &link_flags(0, 0, IFF_UP)).string(IFLA_IFNAME, name);
}

/// Sends a gratuitous ARP request whenever the link comes up or changes its MAC (sysctl `arp_notify`).
pub fn announce_changes(batch: &mut Batch, name: &str) {
    named(batch, name, 0).nested(IFLA_AF_SPEC, |families| {
        families.nested(AF_INET.into(), |inet| {
            inet.nested(IFLA_INET_CONF, |conf| {
                conf.u32(IPV4_DEVCONF_ARP_NOTIFY, 1);
            });
        });
    });
}

pub fn set_mac(batch: &mut Batch, name: &str, mac: MacAddr) {
    named(batch, name, 0).bytes(IFLA_ADDRESS, &mac.0);
}

pub fn delete_link(batch: &mut Batch, name: &str) {
    batch.message(RTM_DELLINK, 0, &link_header(0, 0)).string(IFLA_IFNAME, name);
}

pub fn add_address(batch: &mut Batch, link_index: u32, address: IpNet) {
    let flags = if address.addr().is_ipv6() { IFA_F_NODAD } else { 0 };
    let header = address_header(family(address.addr()), address.prefix_len(), flags, link_index);
    let mut message = batch.message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &header);
    let bytes = octets(address.addr());
    message.bytes(IFA_LOCAL, &bytes).bytes(IFA_ADDRESS, &bytes);
    if let IpNet::V4(net) = address {
        message.bytes(IFA_BROADCAST, &net.broadcast().octets());
    }
}

pub fn delete_address(batch: &mut Batch, link_index: u32, address: IpNet) {
    let header = address_header(family(address.addr()), address.prefix_len(), 0, link_index);
    batch.message(RTM_DELADDR, 0, &header).bytes(IFA_LOCAL, &octets(address.addr()));
}

/// With an MTU, what goes by this route keeps to it although the link takes more.
pub fn default_route(batch: &mut Batch, link_index: u32, gateway: IpAddr, mtu: Option<u32>) {
    let header = [family(gateway), 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0, 0, 0, 0];
    let mut message = batch.message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &header);
    message.bytes(RTA_GATEWAY, &octets(gateway)).u32(RTA_OIF, link_index);
    if let Some(mtu) = mtu {
        message.nested(RTA_METRICS, |metrics| {
            metrics.u32(RTAX_MTU, mtu);
        });
    }
}

pub fn delete_default_route(batch: &mut Batch, link_index: u32, gateway: IpAddr) {
    let header = [family(gateway), 0, 0, 0, RT_TABLE_MAIN, 0, 0, RTN_UNICAST, 0, 0, 0, 0];
    batch.message(RTM_DELROUTE, 0, &header).bytes(RTA_GATEWAY, &octets(gateway)).u32(RTA_OIF, link_index);
}

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into()),
        _ => None,
    }
}

/// A change of the link with that name; only flags in `flags` are set.
fn named<'a>(batch: &'a mut Batch, name: &str, flags: u32) -> Message<'a> {
    let mut message = batch.message(RTM_SETLINK, 0, &link_header(0, flags));
    message.string(IFLA_IFNAME, name);
    message
}

/// `struct ifinfomsg`; the flags given are set, the others stay as they are.
fn link_header(index: u32, flags: u32) -> [u8; 16] {
    link_flags(index, flags, flags)
}

fn link_flags(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// `struct ifaddrmsg`
fn address_header(family: u8, prefix_len: u8, flags: u8, link_index: u32) -> [u8; 8] {
    let [a, b, c, d] = link_index.to_ne_bytes();
    [family, prefix_len, flags, 0, a, b, c, d]
}

fn parse_link(answer: &Received) -> Option<Link> {
    if answer.kind != RTM_NEWLINK {
        return None;
    }
    let header = answer.payload.get(..16)?;
    let attributes = &answer.payload[16..];
    let number = |kind| attribute(attributes, kind).and_then(|v| v.try_into().ok()).map(u32::from_ne_bytes);
    let kind = attribute(attributes, IFLA_LINKINFO).and_then(|info| attribute(info, IFLA_INFO_KIND));
    Some(Link {
        index: u32::from_ne_bytes(header[4..8].try_into().ok()?),
        name: text(attribute(attributes, IFLA_IFNAME)?).to_owned(),
        alias: attribute(attributes, IFLA_IFALIAS).map(|a| text(a).to_owned()).unwrap_or_default(),
        mac: attribute(attributes, IFLA_ADDRESS).and_then(|v| v.try_into().ok()).map(MacAddr),
        mtu: number(IFLA_MTU)?,
        kind: kind.map(|k| text(k).to_owned()).unwrap_or_default(),
        up: header[8] & 1 != 0,
        operational: attribute(attributes, IFLA_OPERSTATE) == Some(&[IF_OPER_UP]),
        master: number(IFLA_MASTER),
    })
}

fn parse_route(answer: &Received) -> Option<Route> {
    let header = answer.payload.get(..12)?;
    let attributes = &answer.payload[12..];
    if answer.kind != RTM_NEWROUTE || header[7] != RTN_UNICAST && header[0] == AF_INET6 {
        return None;
    }
    let destination = match (attribute(attributes, RTA_DST), header[0]) {
        (Some(value), _) => ip(value)?,
        (None, AF_INET) => Ipv4Addr::UNSPECIFIED.into(),
        (None, AF_INET6) => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    Some(Route {
        destination: IpNet::new(destination, header[1]).ok()?,
        link_index: attribute(attributes, RTA_OIF).and_then(|v| v.try_into().ok()).map(u32::from_ne_bytes),
    })
}
