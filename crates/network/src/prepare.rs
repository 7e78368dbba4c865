//! Makes network namespaces that are ready for a container, and gives them further interfaces.
//!
//! Whatever thread runs this moves between namespaces: only threads of this crate's own do.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use corten_sys::netlink::{Protocol, Socket};
use corten_sys::netns;
use ipnet::IpNet;

use crate::apply::{Container, Kernel};
use crate::endpoint::{Assigned, Endpoint, EndpointRequest};
use crate::error::{Error, Result};
use crate::mac::MacAddr;
use crate::network::{BridgeNetwork, ways_out};
use crate::plan::{BridgePort, Operation, Step};
use crate::settings::Settings;

/// What fits behind the prefix of an interface's name, in base 36.
const NAME_DIGITS: usize = 5;
const NAMES: u32 = 36u32.pow(NAME_DIGITS as u32);
/// Stands for the interface's name in an endpoint's sysctls.
const NAME_IN_SYSCTL: &str = "IFNAME";

/// Everything that endpoints have in common.
pub struct Workshop {
    pub settings: Settings,
    /// The namespace of the host's side.
    pub home: OwnedFd,
    counter: AtomicU32,
}

/// A namespace with its interface, not yet anybody's.
pub struct Prepared {
    pub netns: OwnedFd,
    pub endpoint: Endpoint,
    /// Opened inside; keeps the namespace alive as `netns` does.
    pub socket: Socket,
}

/// An endpoint that is to be made.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    pub network: &'a BridgeNetwork,
    pub endpoint: Endpoint,
    /// An address was asked for: neighbours may know it with another MAC.
    pub announce: bool,
    pub sysctls: &'a [(String, String)],
    pub link_local: &'a [IpAddr],
}

/// The prefix lengths of link-local networks (RFC 3927, RFC 4291).
const LINK_LOCAL_PREFIXES: (u8, u8) = (16, 64);

impl Workshop {
    /// `first_name`: the first number for interface names that is not in use.
    pub fn new(settings: Settings, home: OwnedFd, first_name: u32) -> Workshop {
        Workshop { settings, home, counter: AtomicU32::new(first_name) }
    }

    /// A new endpoint with the addresses that the request names, in a namespace with interfaces of these names; its MAC follows
    /// from the address unless it is given.
    pub fn endpoint(&self, network: &BridgeNetwork, request: &EndpointRequest, names: &[&str]) -> Endpoint {
        let number = self.counter.fetch_add(1, Ordering::Relaxed) % NAMES;
        let host_interface = format!("{}{}", self.settings.instance.interface_prefix(), base36(number));
        let first: Option<IpAddr> = request.ipv4.map(IpAddr::from).or(request.ipv6.map(IpAddr::from));
        let derived = || first.map_or(MacAddr::from_id(&network.id), MacAddr::from_ip);
        let subnet = |ip: IpAddr| network.subnet_of(ip);
        let ipv4 = request.ipv4.and_then(|ip| {
            let subnet = subnet(ip.into())?;
            let gateway = subnet.gateway.and_then(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None });
            Some(Assigned { ip, prefix_len: subnet.prefix_len(), gateway })
        });
        let ipv6 = request.ipv6.and_then(|ip| {
            let subnet = subnet(ip.into())?;
            let gateway = subnet.gateway.and_then(|ip| if let IpAddr::V6(ip) = ip { Some(ip) } else { None });
            Some(Assigned { ip, prefix_len: subnet.prefix_len(), gateway })
        });
        Endpoint {
            network: network.id.clone(),
            interface: request
                .interface
                .clone()
                .unwrap_or_else(|| free_name(&network.interface_prefix, names)),
            host_interface,
            mac: request.mac.unwrap_or_else(derived),
            ipv4,
            ipv6,
            gateway_priority: request.gateway_priority,
        }
    }

    /// Moves the calling thread into a new namespace and furnishes it. The thread stays there.
    pub fn prepare(&self, host: &Socket, part: Part<'_>) -> Result<Prepared> {
        let routes = default_routes(std::slice::from_ref(&part.endpoint), |_| Some(part.network));
        let plan = self.sandbox_plan(std::slice::from_ref(&part), routes, true);
        let (netns, socket) = new_namespace()?;
        let container = Some(Container { netns: netns.as_fd(), socket: &socket });
        Kernel { host, container }.apply(&plan)?;
        Ok(Prepared { netns, endpoint: part.endpoint, socket })
    }

    /// As [`Workshop::prepare`], without a way out: lo is up and that is all.
    pub fn prepare_isolated(&self, host: &Socket) -> Result<OwnedFd> {
        let (netns, socket) = new_namespace()?;
        let container = Some(Container { netns: netns.as_fd(), socket: &socket });
        Kernel { host, container }.apply(&self.isolated_plan())?;
        Ok(netns)
    }

    /// Moves the calling thread into somebody's namespace and carries out a plan there. The thread stays there.
    pub fn furnish(&self, host: &Socket, netns: BorrowedFd<'_>, plan: &[Step]) -> Result<()> {
        netns::enter(netns)
            .map_err(|source| Error::Namespace { step: "enter the network namespace", source })?;
        let socket = route_socket_inside()?;
        let container = Some(Container { netns, socket: &socket });
        Kernel { host, container }.apply(plan)
    }

    /// Moves the calling thread to the host's side.
    pub fn go_home(&self) -> Result<()> {
        netns::enter(self.home.as_fd())
            .map_err(|source| Error::Namespace { step: "return to the host's network namespace", source })
    }

    /// Runs `work` on a thread of its own, with a route socket of the host's side, so that the caller's thread keeps its namespace.
    pub fn elsewhere<T: Send>(&self, work: impl FnOnce(&Socket) -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let run = || {
                self.go_home()?;
                let host = Socket::open(Protocol::Route).map_err(Error::netlink("open a route socket"))?;
                work(&host)
            };
            let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, run);
            let thread = thread.map_err(|source| Error::Namespace { step: "start a thread", source })?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// With br_netfilter switched on, a bridge translates addresses itself, before it forwards. A container that asks for its
    /// own published port then has its frame sent back by the port it came from; and isolated ports would not reach
    /// each other's published ports, but then the firewall sees bridged packets and keeps containers apart.
    pub fn bridge_port(&self, network: &BridgeNetwork) -> BridgePort {
        let setting = std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
        let translating = setting.is_ok_and(|value| value.trim() == "1");
        BridgePort { isolated: !network.inter_container && !translating, hairpin: translating }
    }

    /// To be made on the host's side: it depends on the host's settings. `fresh`: nobody has set up the namespace yet.
    pub fn sandbox_plan(&self, parts: &[Part<'_>], routes: Vec<Operation>, fresh: bool) -> Vec<Step> {
        let mut plan: Vec<Step> = parts.iter().flat_map(|part| self.wiring(part)).collect();
        if fresh {
            plan.extend(self.isolated_plan());
        }
        plan.extend(parts.iter().flat_map(addressing));
        plan.extend(routes.into_iter().map(Operation::in_container));
        // The kernel looks after all carriers and addresses at once, so they are waited for together.
        for Part { network, endpoint, link_local, .. } in parts {
            let six = endpoint.ipv6.map(|given| IpAddr::from(given.ip));
            let six = six.into_iter().chain(link_local.iter().copied().filter(IpAddr::is_ipv6));
            plan.extend(six.map(|address| Operation::AwaitAddress { address }.in_container()));
            plan.push(Operation::AwaitCarrier { link: endpoint.interface.clone() }.in_container());
            let host_links = [endpoint.host_interface.clone(), network.bridge.clone()];
            plan.extend(host_links.map(|link| Operation::AwaitCarrier { link }.on_host()));
        }
        plan
    }

    fn wiring(&self, part: &Part<'_>) -> [Step; 2] {
        let Part { network, endpoint, .. } = part;
        [
            Operation::CreateVeth {
                host: endpoint.host_interface.clone(),
                container: endpoint.interface.clone(),
                mac: endpoint.mac,
                mtu: network.link_mtu,
            }
            .on_host(),
            Operation::Enslave {
                link: endpoint.host_interface.clone(),
                bridge: network.bridge.clone(),
                port: self.bridge_port(network),
            }
            .on_host(),
        ]
    }

    fn isolated_plan(&self) -> Vec<Step> {
        let sysctls = self.settings.endpoint_sysctls.iter();
        let write = sysctls
            .map(|(key, value)| Operation::WriteSysctl { key: key.replace('.', "/"), value: value.clone() });
        let mut plan = vec![Operation::SetUp { link: "lo".into() }.in_container()];
        plan.extend(write.map(Operation::in_container));
        plan
    }
}

/// What happens to the interface inside.
fn addressing(part: &Part<'_>) -> Vec<Step> {
    let endpoint = &part.endpoint;
    let link = || endpoint.interface.clone();
    let mut plan = Vec::new();
    if part.announce {
        plan.push(Operation::AnnounceChanges { link: link() });
    }
    let mut ipv6 = |name: &str, value: &str| {
        let key = format!("net/ipv6/conf/{}/{name}", endpoint.interface);
        plan.push(Operation::WriteSysctl { key, value: value.into() });
    };
    if endpoint.ipv6.is_some() || part.link_local.iter().any(IpAddr::is_ipv6) {
        ipv6("disable_ipv6", "0");
        ipv6("accept_dad", "0");
    } else if Path::new("/proc/sys/net/ipv6").exists() {
        ipv6("disable_ipv6", "1");
    }
    plan.extend(part.sysctls.iter().map(|(key, value)| Operation::WriteSysctl {
        key: key.replace(NAME_IN_SYSCTL, &endpoint.interface),
        value: value.clone(),
    }));
    let address =
        |ip, prefix_len| Operation::AddAddress { link: link(), address: IpNet::new_assert(ip, prefix_len) };
    plan.extend(endpoint.ipv4.map(|given| address(given.ip.into(), given.prefix_len)));
    plan.extend(endpoint.ipv6.map(|given| address(given.ip.into(), given.prefix_len)));
    let (four, six) = LINK_LOCAL_PREFIXES;
    plan.extend(part.link_local.iter().map(|ip| address(*ip, if ip.is_ipv4() { four } else { six })));
    plan.push(Operation::SetUp { link: link() });
    plan.into_iter().map(Operation::in_container).collect()
}

/// The default routes of a container with these endpoints.
pub fn default_routes<'a>(
    endpoints: &[Endpoint],
    network: impl Fn(&str) -> Option<&'a BridgeNetwork>,
) -> Vec<Operation> {
    let name = |id: &str| network(id).map(|network| network.name.clone()).unwrap_or_default();
    let ways = ways_out(endpoints, name);
    let ipv4 = ways.ipv4.and_then(|endpoint| {
        let gateway = endpoint.ipv4?.gateway?;
        Some(network(&endpoint.network)?.default_route(&endpoint.interface, gateway.into()))
    });
    let ipv6 = ways.ipv6.and_then(|endpoint| {
        let gateway = endpoint.ipv6?.gateway?;
        Some(network(&endpoint.network)?.default_route(&endpoint.interface, gateway.into()))
    });
    ipv4.into_iter().chain(ipv6).collect()
}

impl Prepared {
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.endpoint.ipv4.map(|given| given.ip)
    }

    /// Changes address and MAC of a namespace that was made for others.
    pub fn readdress(
        &mut self,
        host: &Socket,
        network: &BridgeNetwork,
        ip: Ipv4Addr,
        mac: MacAddr,
    ) -> Result<()> {
        let container = Some(Container { netns: self.netns.as_fd(), socket: &self.socket });
        Kernel { host, container }.apply(&readdress_plan(network, &self.endpoint, ip, mac))?;
        if let Some(given) = &mut self.endpoint.ipv4 {
            given.ip = ip;
        }
        self.endpoint.mac = mac;
        Ok(())
    }
}

/// The old address goes first: a second one of the same subnet would be secondary and vanish with it. The default route
/// may vanish too, so it is set again.
fn readdress_plan(network: &BridgeNetwork, now: &Endpoint, ip: Ipv4Addr, mac: MacAddr) -> Vec<Step> {
    let link = || now.interface.clone();
    let mut plan = vec![Operation::AnnounceChanges { link: link() }];
    if let Some(given) = now.ipv4.filter(|given| given.ip != ip) {
        let address = |ip: Ipv4Addr| IpNet::new_assert(ip.into(), given.prefix_len);
        plan.push(Operation::DeleteAddress { link: link(), address: address(given.ip) });
        plan.push(Operation::AddAddress { link: link(), address: address(ip) });
        plan.extend(given.gateway.map(|gateway| network.default_route(&now.interface, gateway.into())));
    }
    // Last, because this is what makes the kernel announce the address.
    plan.push(Operation::SetMac { link: link(), mac });
    plan.into_iter().map(Operation::in_container).collect()
}

fn new_namespace() -> Result<(OwnedFd, Socket)> {
    netns::unshare().map_err(|source| Error::Namespace { step: "make a network namespace", source })?;
    let netns =
        netns::current().map_err(|source| Error::Namespace { step: "open the network namespace", source })?;
    Ok((netns, route_socket_inside()?))
}

fn route_socket_inside() -> Result<Socket> {
    Socket::open(Protocol::Route).map_err(Error::netlink("open a route socket in the network namespace"))
}

/// `eth0`, `eth1`, …: the first that is not in use.
fn free_name(prefix: &str, names: &[&str]) -> String {
    let mut name = format!("{prefix}0");
    for number in 1..=names.len() {
        if !names.contains(&name.as_str()) {
            break;
        }
        name = format!("{prefix}{number}");
    }
    name
}

/// The number behind the prefix of an interface's name; `None` for a name that is not ours.
pub fn name_number(prefix: &str, name: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix).filter(|d| !d.is_empty() && d.len() <= NAME_DIGITS)?;
    u32::from_str_radix(digits, 36).ok()
}

pub fn base36(mut number: u32) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit(number % 36, 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests;
