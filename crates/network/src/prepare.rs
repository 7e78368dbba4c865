//! Makes network namespaces that are ready for a container.
//!
//! Whatever thread runs this moves between namespaces: only threads of this crate's own do.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use corten_sys::netlink::{Protocol, Socket};
use corten_sys::netns;

use crate::apply::{Container, Kernel};
use crate::error::{Error, Result};
use crate::mac::MacAddr;
use crate::networks::NatNetwork;
use crate::plan::{BridgePort, Operation, Step};
use crate::settings::Settings;

const CONTAINER_INTERFACE: &str = "eth0";
/// What fits behind the prefix of an interface's name, in base 36.
const NAME_DIGITS: usize = 5;
const NAMES: u32 = 36u32.pow(NAME_DIGITS as u32);

/// Everything that endpoints of one network have in common.
pub struct Workshop {
    pub settings: Settings,
    pub network: NatNetwork,
    /// The namespace of the host's side.
    pub home: OwnedFd,
    counter: AtomicU32,
}

/// A namespace with its interface, not yet anybody's.
pub struct Prepared {
    pub netns: OwnedFd,
    pub interface: Interface,
    /// Opened inside; keeps the namespace alive as `netns` does.
    pub socket: Socket,
}

/// A container's interface as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub ip: Ipv4Addr,
    pub mac: MacAddr,
    pub host_interface: String,
    /// The address was asked for: neighbours may know it with another MAC.
    pub announce: bool,
}

impl Workshop {
    /// `first_name`: the first number for interface names that is not in use.
    pub fn new(settings: Settings, network: NatNetwork, home: OwnedFd, first_name: u32) -> Workshop {
        Workshop { settings, network, home, counter: AtomicU32::new(first_name) }
    }

    /// A new interface with that address and, unless given, the MAC that follows from it.
    pub fn interface(&self, ip: Ipv4Addr, mac: Option<MacAddr>, announce: bool) -> Interface {
        let number = self.counter.fetch_add(1, Ordering::Relaxed) % NAMES;
        let host_interface = format!("{}{}", self.settings.instance.interface_prefix(), base36(number));
        Interface { ip, mac: mac.unwrap_or_else(|| MacAddr::from_ip(ip)), host_interface, announce }
    }

    /// Moves the calling thread into a new namespace and furnishes it. The thread stays there.
    pub fn prepare(&self, host: &Socket, interface: Interface) -> Result<Prepared> {
        let plan = self.endpoint_plan(&interface);
        let (netns, socket) = new_namespace()?;
        let container = Some(Container { netns: netns.as_fd(), socket: &socket });
        Kernel { host, container }.apply(&plan)?;
        Ok(Prepared { netns, interface, socket })
    }

    /// As [`Workshop::prepare`], without a way out: lo is up and that is all.
    pub fn prepare_isolated(&self, host: &Socket) -> Result<OwnedFd> {
        let (netns, socket) = new_namespace()?;
        let container = Some(Container { netns: netns.as_fd(), socket: &socket });
        Kernel { host, container }.apply(&self.isolated_plan())?;
        Ok(netns)
    }

    /// Moves the calling thread into somebody's namespace and furnishes that. The thread stays there.
    pub fn furnish(&self, host: &Socket, netns: BorrowedFd<'_>, interface: &Interface) -> Result<()> {
        let plan = self.endpoint_plan(interface);
        netns::enter(netns)
            .map_err(|source| Error::Namespace { step: "enter the network namespace", source })?;
        let socket = route_socket_inside()?;
        let container = Some(Container { netns, socket: &socket });
        Kernel { host, container }.apply(&plan)
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
    pub fn bridge_port(&self) -> BridgePort {
        let setting = std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
        let translating = setting.is_ok_and(|value| value.trim() == "1");
        BridgePort { isolated: !self.settings.icc && !translating, hairpin: translating }
    }

    /// To be made on the host's side: it depends on the host's settings.
    pub fn endpoint_plan(&self, interface: &Interface) -> Vec<Step> {
        let link = || CONTAINER_INTERFACE.to_owned();
        let mut plan = vec![
            Operation::CreateVeth {
                host: interface.host_interface.clone(),
                container: link(),
                mac: interface.mac,
                mtu: self.network.link_mtu,
            }
            .on_host(),
            Operation::Enslave {
                link: interface.host_interface.clone(),
                bridge: self.network.bridge.clone(),
                port: self.bridge_port(),
            }
            .on_host(),
        ];
        plan.extend(self.isolated_plan());
        // An address that was asked for may have been somebody else's a moment ago.
        let announce = interface.announce.then(|| Operation::AnnounceChanges { link: link() }.in_container());
        plan.extend(announce);
        if Path::new("/proc/sys/net/ipv6").exists() {
            let key = format!("net/ipv6/conf/{CONTAINER_INTERFACE}/disable_ipv6");
            plan.push(Operation::WriteSysctl { key, value: "1".into() }.in_container());
        }
        plan.extend(
            [
                Operation::AddAddress { link: link(), address: self.network.within(interface.ip) },
                Operation::SetUp { link: link() },
                self.network.default_route(link()),
            ]
            .map(Operation::in_container),
        );
        plan.push(Operation::AwaitCarrier { link: link() }.in_container());
        let host_links = [interface.host_interface.clone(), self.network.bridge.clone()];
        plan.extend(host_links.map(|link| Operation::AwaitCarrier { link }.on_host()));
        plan
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

impl Prepared {
    /// Changes address and MAC of a namespace that was made for others.
    pub fn readdress(
        &mut self,
        host: &Socket,
        network: &NatNetwork,
        ip: Ipv4Addr,
        mac: MacAddr,
    ) -> Result<()> {
        let container = Some(Container { netns: self.netns.as_fd(), socket: &self.socket });
        Kernel { host, container }.apply(&readdress_plan(network, &self.interface, ip, mac))?;
        self.interface.ip = ip;
        self.interface.mac = mac;
        Ok(())
    }
}

/// The old address goes first: a second one of the same subnet would be secondary and vanish with it. The default route
/// may vanish too, so it is set again.
fn readdress_plan(network: &NatNetwork, now: &Interface, ip: Ipv4Addr, mac: MacAddr) -> Vec<Step> {
    let link = || CONTAINER_INTERFACE.to_owned();
    let mut plan = vec![Operation::AnnounceChanges { link: link() }];
    if now.ip != ip {
        plan.push(Operation::DeleteAddress { link: link(), address: network.within(now.ip) });
        plan.push(Operation::AddAddress { link: link(), address: network.within(ip) });
        plan.push(network.default_route(link()));
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

/// The number behind the prefix of an interface's name; `None` for a name that is not ours.
pub fn name_number(prefix: &str, name: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix).filter(|d| !d.is_empty() && d.len() <= NAME_DIGITS)?;
    u32::from_str_radix(digits, 36).ok()
}

fn base36(mut number: u32) -> String {
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
