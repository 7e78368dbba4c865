//! The networks of one engine: who is attached, with what address and ports, and the kernel made to agree.
//!
//! Owns the state; decisions are in `bring_up`, `firewall` and `ports`. Knows nothing of where a container comes from.

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use corten_sys::netlink::{Batch, Protocol, Socket};
use corten_sys::netns;
use ipnet::Ipv4Net;
use tracing::{debug, warn};

use crate::apply::{Kernel, delete_link_if_there};
use crate::bring_up;
use crate::conntrack;
use crate::endpoint::{AttachRequest, Endpoint, PublishedPort, RestoredEndpoint};
use crate::error::{Error, Result};
use crate::firewall::{self, Intent};
use crate::foreign;
use crate::interface;
use crate::ipam::Ipam;
use crate::mac::MacAddr;
use crate::nft::{self, Element, Transaction};
use crate::plan::Operation;
use crate::ports::{self, Ports};
use crate::prepare::{Interface, Prepared, Workshop};
use crate::rtnl;
use crate::settings::Settings;
use crate::warm::Warm;
use crate::watch::{Reconcile, Watch};

mod lock;

/// The default NAT network as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatNetwork {
    pub bridge: String,
    /// The bridge's own address with the subnet's length.
    pub address: Ipv4Net,
    pub subnet: Ipv4Net,
    /// The containers' default route.
    pub gateway: Ipv4Addr,
    /// Of what leaves the network by the default route.
    pub mtu: u32,
    /// Of the bridge and the containers' interfaces: within the host large packets cost least.
    pub link_mtu: u32,
}

impl NatNetwork {
    pub(crate) fn within(&self, ip: Ipv4Addr) -> Ipv4Net {
        Ipv4Net::new_assert(ip, self.subnet.prefix_len())
    }

    /// A container's way out.
    pub(crate) fn default_route(&self, link: String) -> Operation {
        let mtu = Some(self.mtu).filter(|&mtu| mtu < self.link_mtu);
        Operation::SetDefaultRoute { link, gateway: self.gateway, mtu }
    }
}

/// The networks of one engine. Call it from threads that are in the network namespace in which it was opened.
pub struct Networks {
    inner: Arc<Inner>,
    warm: Warm,
    watch: Mutex<Option<Watch>>,
}

struct Inner {
    workshop: Arc<Workshop>,
    state: Mutex<State>,
}

struct State {
    route: Socket,
    netfilter: Socket,
    endpoints: BTreeMap<String, Attached>,
    ports: Ports,
    /// The table is a former process's: its elements count until [`Networks::restore`] or the first change.
    adopted: bool,
    /// Interfaces with numbers below this one are a former process's.
    first_name: u32,
    closed: bool,
}

#[derive(Debug, Clone)]
struct Attached {
    interface: Interface,
    ports: Vec<PublishedPort>,
}

impl Networks {
    /// Makes the network, or takes over the one that a former process of this instance left; published ports of
    /// containers that went on running keep working. Call [`Networks::restore`] next.
    pub fn open(settings: Settings) -> Result<Networks> {
        let home = netns::current()
            .map_err(|source| Error::Namespace { step: "open the network namespace", source })?;
        let route = Socket::open(Protocol::Route).map_err(Error::netlink("open a route socket"))?;
        let netfilter =
            Socket::open(Protocol::Netfilter).map_err(Error::netlink("open a netfilter socket"))?;
        let network = bring_up(&settings, &route)?;
        let first_name = interface::first_free_number(&route, &settings.instance)?;
        let ipam =
            Ipam::new(network.subnet, settings.fixed_cidr, &[network.gateway, network.address.addr()])?;
        let table = settings.instance.table();
        let adopted =
            nft::table_exists(&netfilter, &table).map_err(Error::netlink("look up our firewall table"))?;
        let own_port = netfilter.port();
        let workshop = Arc::new(Workshop::new(settings, network, home, first_name));
        let state = State {
            route,
            netfilter,
            endpoints: BTreeMap::new(),
            ports: Ports::new(),
            adopted,
            first_name,
            closed: false,
        };
        let inner = Arc::new(Inner { workshop: workshop.clone(), state: Mutex::new(state) });
        if !adopted {
            inner.install(&mut inner.lock())?;
        }
        let target: Weak<dyn Reconcile> = Arc::downgrade(&(inner.clone() as Arc<dyn Reconcile>));
        let watch = Watch::start(table, own_port, target)?;
        let warm = Warm::start(workshop, ipam)?;
        Ok(Networks { inner, warm, watch: Mutex::new(Some(watch)) })
    }

    /// The default NAT network.
    pub fn nat(&self) -> &NatNetwork {
        &self.inner.workshop.network
    }

    /// Gives a container its endpoint, in a namespace that is made or was made in advance.
    pub fn attach(&self, request: &AttachRequest) -> Result<Endpoint> {
        self.refuse_second(&request.container)?;
        let mut prepared = match self.warm.take(request.ip) {
            Some(prepared) => prepared,
            None => {
                let ip = self.reserve(request.ip)?;
                let interface = self.inner.workshop.interface(ip, request.mac, request.ip.is_some());
                let made = self.inner.workshop.elsewhere(|host| self.inner.workshop.prepare(host, interface));
                made.inspect_err(|_| self.warm.release(ip))?
            }
        };
        let result =
            self.readdress(&mut prepared, request).and_then(|()| self.publish(request, &prepared.interface));
        let ports = result.inspect_err(|_| {
            let Interface { host_interface, ip, .. } = prepared.interface.clone();
            self.warm.retire(host_interface, ip);
        });
        let ports = ports.map_err(ports::name_owner)?;
        Ok(self.endpoint(prepared.netns, prepared.interface, ports))
    }

    /// The same for a namespace that somebody else made (inside a user namespace, say); not from the shelf. Its lo
    /// is set up and the sysctls are written too.
    pub fn attach_into(&self, target: BorrowedFd<'_>, request: &AttachRequest) -> Result<Endpoint> {
        self.refuse_second(&request.container)?;
        let netns = target
            .try_clone_to_owned()
            .map_err(|source| Error::Namespace { step: "keep the network namespace", source })?;
        let ip = self.reserve(request.ip)?;
        let workshop = &self.inner.workshop;
        let interface = workshop.interface(ip, request.mac, request.ip.is_some());
        let made = workshop.elsewhere(|host| workshop.furnish(host, target, &interface));
        made.inspect_err(|_| self.warm.release(ip))?;
        let ports = self
            .publish(request, &interface)
            .inspect_err(|_| self.warm.retire(interface.host_interface.clone(), ip));
        Ok(self.endpoint(netns, interface, ports.map_err(ports::name_owner)?))
    }

    /// A namespace with nothing but lo (`--network none`).
    pub fn isolated(&self) -> Result<OwnedFd> {
        match self.warm.take_isolated() {
            Some(netns) => Ok(netns),
            None => self.inner.workshop.elsewhere(|host| self.inner.workshop.prepare_isolated(host)),
        }
    }

    /// Ends a container's endpoint: its ports are free at once, its address when its interface is gone. Idempotent.
    pub fn detach(&self, container: &str) -> Result<()> {
        let mut state = self.inner.lock();
        let Some(attached) = state.endpoints.remove(container) else { return Ok(()) };
        let removed = if attached.ports.is_empty() {
            Ok(())
        } else {
            let elements = elements(&attached);
            self.inner.change(&mut state, |transaction, table| {
                transaction.delete_elements(table, &elements);
            })
        };
        state.ports.release(&attached.ports);
        conntrack::forget_container(&state.netfilter, attached.interface.ip, &attached.ports);
        drop(state);
        self.warm.retire(attached.interface.host_interface, attached.interface.ip);
        removed
    }

    /// Takes over the endpoints of containers that ran on while no engine did, and forgets all others of this instance.
    /// An endpoint that cannot be taken over (its address is outside a subnet that was changed) is an error of its own;
    /// the others stand.
    pub fn restore(&self, endpoints: &[RestoredEndpoint]) -> Vec<(String, Error)> {
        let mut failed = Vec::new();
        let mut state = self.inner.lock();
        for endpoint in endpoints {
            let RestoredEndpoint { container, ip, mac, host_interface, ports } = endpoint;
            if state.endpoints.contains_key(container) {
                continue;
            }
            if let Err(error) = self.claim(&state.route, *ip) {
                failed.push((container.clone(), error));
                continue;
            }
            state.ports.restore(container, ports);
            let interface =
                Interface { ip: *ip, mac: *mac, host_interface: host_interface.clone(), announce: false };
            state.endpoints.insert(container.clone(), Attached { interface, ports: ports.clone() });
        }
        let keep: HashSet<&str> = endpoints.iter().map(|endpoint| endpoint.host_interface.as_str()).collect();
        if let Err(error) =
            interface::sweep(&state.route, &self.inner.workshop.settings.instance, &keep, state.first_name)
        {
            warn!(%error, "removing interfaces of containers that are gone");
        }
        if let Err(error) = self.inner.install(&mut state) {
            failed.push(("firewall".into(), error));
        }
        failed
    }

    /// Makes the kernel agree with what is attached: bridge, ports of the bridge, table. The watcher calls it too.
    pub fn reconcile(&self) -> Result<()> {
        self.inner.reconcile()
    }

    /// The endpoints, by container.
    pub fn endpoints(&self) -> Vec<RestoredEndpoint> {
        let state = self.inner.lock();
        let all = state.endpoints.iter();
        all.map(|(container, Attached { interface, ports })| RestoredEndpoint {
            container: container.clone(),
            ip: interface.ip,
            mac: interface.mac,
            host_interface: interface.host_interface.clone(),
            ports: ports.clone(),
        })
        .collect()
    }

    /// How many endpoints are ready on the shelf.
    pub fn warm_endpoints(&self) -> usize {
        self.warm.ready()
    }

    /// Waits until the shelf is full, at most that long: for measurements and tests.
    pub fn wait_until_warm(&self, patience: Duration) -> bool {
        self.warm.wait_until_full(patience)
    }

    /// Ends the threads and lets go of what was made in advance. With `remove`, takes bridge, table and rules out of the
    /// kernel as well; without, containers keep their network until the next engine restores it. Goes on where a step fails.
    pub fn close(&self, remove: bool) -> Result<()> {
        drop(self.watch.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.warm.stop();
        let mut state = self.inner.lock();
        if std::mem::replace(&mut state.closed, true) || !remove {
            return Ok(());
        }
        let failures: Vec<String> =
            self.remove_all(&mut state).into_iter().map(|error| error.to_string()).collect();
        if failures.is_empty() { Ok(()) } else { Err(Error::Close(failures.join("; "))) }
    }

    fn remove_all(&self, state: &mut State) -> Vec<Error> {
        let Workshop { settings, network, .. } = &*self.inner.workshop;
        let attached = std::mem::take(&mut state.endpoints);
        attached.values().for_each(|attached| state.ports.release(&attached.ports));
        let mut results = vec![foreign::close(&state.netfilter, &settings.instance.tag())];
        let mut transaction = Transaction::new();
        let table = settings.instance.table();
        transaction.create_table(&table).delete_table(&table);
        results
            .push(transaction.commit(&state.netfilter).map_err(Error::netlink("delete our firewall table")));
        let mut links: Vec<String> =
            attached.into_values().map(|attached| attached.interface.host_interface).collect();
        links.extend(self.warm.retired_interfaces());
        // A bridge that the administrator named is the administrator's.
        links.extend(settings.bridge.is_none().then(|| network.bridge.clone()));
        results.extend(links.iter().map(|link| {
            delete_link_if_there(&state.route, link)
                .map_err(Error::netlink(format!("delete the interface {link}")))
        }));
        results.into_iter().filter_map(Result::err).collect()
    }

    fn endpoint(&self, netns: OwnedFd, interface: Interface, ports: Vec<PublishedPort>) -> Endpoint {
        let network = self.nat();
        Endpoint {
            netns,
            ip: interface.ip,
            prefix_len: network.subnet.prefix_len(),
            gateway: network.gateway,
            mac: interface.mac,
            mtu: network.mtu,
            host_interface: interface.host_interface,
            ports,
        }
    }

    fn refuse_second(&self, container: &str) -> Result<()> {
        let taken = self.inner.lock().endpoints.contains_key(container);
        if taken { Err(Error::AlreadyAttached(container.to_owned())) } else { Ok(()) }
    }

    fn reserve(&self, ip: Option<Ipv4Addr>) -> Result<Ipv4Addr> {
        let state = self.inner.lock();
        match ip {
            None => match self.warm.allocate(&state.route) {
                // The last addresses may be on the shelf: whoever asks now comes first.
                Err(Error::AddressesExhausted(_)) => {
                    if let Some(prepared) = self.warm.take_last() {
                        self.discard(prepared);
                    }
                    self.warm.allocate(&state.route)
                }
                other => other,
            },
            Some(ip) => self.claim(&state.route, ip).map(|()| ip),
        }
    }

    /// That very address, even when an endpoint in advance has it.
    fn claim(&self, route: &Socket, ip: Ipv4Addr) -> Result<()> {
        match self.warm.claim(route, ip) {
            Err(Error::AddressInUse(_)) => {}
            other => return other,
        }
        let Some(prepared) = self.warm.take_exactly(ip) else { return Err(Error::AddressInUse(ip)) };
        self.discard(prepared);
        self.warm.claim(route, ip)
    }

    fn discard(&self, prepared: Prepared) {
        let Prepared { interface, .. } = prepared;
        self.warm.retire(interface.host_interface, interface.ip);
    }

    /// Gives an endpoint from the shelf the address and MAC that were asked for.
    fn readdress(&self, prepared: &mut Prepared, request: &AttachRequest) -> Result<()> {
        let old = prepared.interface.ip;
        let ip = request.ip.unwrap_or(old);
        let mac = request.mac.unwrap_or_else(|| MacAddr::from_ip(ip));
        if ip == old && mac == prepared.interface.mac {
            return Ok(());
        }
        let state = self.inner.lock();
        if ip != old {
            self.claim(&state.route, ip)?;
        }
        let changed = prepared.readdress(&state.route, self.nat(), ip, mac);
        if ip != old {
            self.warm.release(if changed.is_ok() { old } else { ip });
        }
        changed
    }

    /// Takes the ports, opens the way to them and records the endpoint.
    fn publish(&self, request: &AttachRequest, interface: &Interface) -> Result<Vec<PublishedPort>> {
        let mut state = self.inner.lock();
        if state.endpoints.contains_key(&request.container) {
            return Err(Error::AlreadyAttached(request.container.clone()));
        }
        let default_ip = self.inner.workshop.settings.default_host_ip;
        let ports = state.ports.claim(&request.container, &request.ports, default_ip)?;
        let attached = Attached { interface: interface.clone(), ports: ports.clone() };
        let elements = elements(&attached);
        state.endpoints.insert(request.container.clone(), attached);
        if ports.is_empty() {
            return Ok(ports);
        }
        let opened = self.inner.change(&mut state, |transaction, table| {
            transaction.add_elements(table, &elements);
        });
        if let Err(error) = opened {
            state.endpoints.remove(&request.container);
            state.ports.release(&ports);
            return Err(error);
        }
        conntrack::forget_before_publishing(&state.netfilter, &ports);
        Ok(ports)
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        if let Err(error) = self.close(false) {
            warn!(%error, "closing the networks");
        }
    }
}

impl Reconcile for Inner {
    fn reconcile(&self) -> Result<()> {
        let mut state = self.lock();
        if state.closed {
            return Ok(());
        }
        self.mend_bridge(&state)?;
        self.install(&mut state)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes elements of our table. Where that fails somebody has meddled with the table, or it was never restored:
    /// then it is written anew from what is recorded, with the change in it.
    fn change(&self, state: &mut State, fill: impl FnOnce(&mut Transaction, &str)) -> Result<()> {
        if state.adopted {
            return self.install(state);
        }
        let mut transaction = Transaction::new();
        fill(&mut transaction, &self.workshop.settings.instance.table());
        match transaction.commit(&state.netfilter) {
            Ok(()) => Ok(()),
            Err(error) => {
                debug!(%error, "our firewall table is not as we left it; writing it anew");
                self.install(state)
            }
        }
    }

    /// Writes the whole table in one transaction: no packet sees it half.
    fn install(&self, state: &mut State) -> Result<()> {
        let Workshop { settings, network, .. } = &*self.workshop;
        let intent = Intent {
            table: settings.instance.table(),
            bridge: network.bridge.clone(),
            subnet: network.subnet,
            masquerade: settings.ip_masq,
            inter_container: settings.icc,
        };
        let all: Vec<Element> = state.endpoints.values().flat_map(elements).collect();
        let mut transaction = Transaction::new();
        transaction.replace_table(&firewall::table(&intent, &all));
        transaction.commit(&state.netfilter).map_err(Error::netlink("write our firewall table"))?;
        state.adopted = false;
        foreign::open(&state.netfilter, &network.bridge, &settings.instance.tag())
    }

    /// Makes the bridge again if it was deleted, and the interfaces its ports again.
    fn mend_bridge(&self, state: &State) -> Result<()> {
        let Workshop { settings, network, .. } = &*self.workshop;
        let survey = bring_up::survey(&state.route, &network.bridge)?;
        let plan = bring_up::plan(settings, &survey, network);
        Kernel { host: &state.route, container: None }.apply(&plan)?;
        if survey.bridge.is_some() {
            return Ok(());
        }
        let link = rtnl::link(&state.route, &network.bridge).map_err(Error::netlink("look up the bridge"))?;
        let bridge = link.ok_or_else(|| Error::NoInterface(network.bridge.clone()))?.index;
        for attached in state.endpoints.values() {
            let name = &attached.interface.host_interface;
            let mut batch = Batch::new();
            rtnl::enslave(&mut batch, name, bridge, self.workshop.bridge_port());
            if let Err(error) = state.route.transact(&mut batch) {
                warn!(%error, interface = name, "attaching an interface to the bridge again");
            }
        }
        Ok(())
    }
}

/// Two engines that come up together must not choose the same subnet.
fn bring_up(settings: &Settings, route: &Socket) -> Result<NatNetwork> {
    let _lock = lock::acquire();
    let survey = bring_up::survey(route, &settings.bridge_name()?)?;
    let network = bring_up::decide(settings, &survey)?;
    let plan = bring_up::plan(settings, &survey, &network);
    plan.iter().for_each(|step| debug!(%step, "bringing up the network"));
    Kernel { host: route, container: None }.apply(&plan)?;
    Ok(network)
}

fn elements(attached: &Attached) -> Vec<Element> {
    attached.ports.iter().map(|port| firewall::element(port, attached.interface.ip)).collect()
}
