//! The networks of one engine: which there are, who is attached, with what address and ports, and the kernel made to agree.
//!
//! Owns the state; decisions are in `bring_up`, `firewall`, `network` and `ports`. Knows nothing of where a container comes
//! from. Making and removing networks is in `networks/bridges.rs`, attaching to them in `networks/sandboxes.rs`.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use corten_sys::netlink::{Batch, Protocol, Socket};
use corten_sys::netns;
use tracing::{debug, warn};

use crate::addresses::SubnetUse;
use crate::apply::{Kernel, delete_link_if_there};
use crate::bring_up;
use crate::endpoint::{Endpoint, PublishedPort, RestoredSandbox};
use crate::error::{Error, Result};
use crate::firewall;
use crate::foreign;
use crate::interface;
use crate::network::{BridgeNetwork, ways_out};
use crate::nft::{self, Element, Family, Transaction};
use crate::ports::Ports;
use crate::prepare::Workshop;
use crate::resolver;
use crate::rtnl;
use crate::settings::Settings;
use crate::warm::Warm;
use crate::watch::{Reconcile, Watch};

mod bridges;
mod lock;
mod sandboxes;

/// The networks of one engine. Call it from threads that are in the network namespace in which it was opened.
pub struct Networks {
    inner: Arc<Inner>,
    warm: Warm,
    watch: Mutex<Option<Watch>>,
}

struct Inner {
    workshop: Arc<Workshop>,
    /// The default one.
    nat: Arc<BridgeNetwork>,
    state: Mutex<State>,
}

struct State {
    route: Socket,
    netfilter: Socket,
    /// By id, the default one among them.
    networks: BTreeMap<String, Arc<BridgeNetwork>>,
    /// By container.
    sandboxes: BTreeMap<String, Attached>,
    ports: Ports,
    /// The table is a former process's: its elements count until [`Networks::restore`] or the first change.
    adopted: bool,
    /// Interfaces with numbers below this one are a former process's.
    first_name: u32,
    closed: bool,
}

/// A container's endpoints, and the ports that lead to those that are its ways out.
#[derive(Debug, Clone, Default)]
struct Attached {
    endpoints: Vec<Endpoint>,
    ports: Vec<PublishedPort>,
}

/// The addresses that published ports lead to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Targets {
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
}

impl Targets {
    fn of_family(self, ipv4: bool) -> Option<IpAddr> {
        if ipv4 { self.ipv4.map(IpAddr::from) } else { self.ipv6.map(IpAddr::from) }
    }
}

impl Networks {
    /// Makes the default network, or takes over the one that a former process of this instance left; published ports of
    /// containers that went on running keep working. Call [`Networks::add`] for each further network and then
    /// [`Networks::restore`] next.
    pub fn open(settings: Settings) -> Result<Networks> {
        let home = netns::current()
            .map_err(|source| Error::Namespace { step: "open the network namespace", source })?;
        let route = Socket::open(Protocol::Route).map_err(Error::netlink("open a route socket"))?;
        let netfilter =
            Socket::open(Protocol::Netfilter).map_err(Error::netlink("open a netfilter socket"))?;
        let nat = Arc::new(bring_up(&settings, &route)?);
        let first_name = interface::first_free_number(&route, &settings.instance)?;
        let table = settings.instance.table();
        // Engines before networks of both families had a table of IPv4's.
        let adopted = [Family::Inet, Family::Ipv4]
            .into_iter()
            .map(|family| nft::table_exists(&netfilter, family, &table))
            .try_fold(false, |found, exists| exists.map(|exists| found || exists))
            .map_err(Error::netlink("look up our firewall table"))?;
        let own_port = netfilter.port();
        let workshop = Arc::new(Workshop::new(settings, home, first_name));
        let state = State {
            route,
            netfilter,
            networks: BTreeMap::from([(nat.id.clone(), nat.clone())]),
            sandboxes: BTreeMap::new(),
            ports: Ports::new(),
            adopted,
            first_name,
            closed: false,
        };
        let inner =
            Arc::new(Inner { workshop: workshop.clone(), nat: nat.clone(), state: Mutex::new(state) });
        if !adopted {
            inner.install(&mut inner.lock())?;
        }
        let target: Weak<dyn Reconcile> = Arc::downgrade(&(inner.clone() as Arc<dyn Reconcile>));
        let watch = Watch::start(table, own_port, target)?;
        let warm = Warm::start(workshop, nat)?;
        Ok(Networks { inner, warm, watch: Mutex::new(Some(watch)) })
    }

    /// The default NAT network.
    pub fn nat(&self) -> &BridgeNetwork {
        &self.inner.nat
    }

    /// A namespace with nothing but lo (`--network none`).
    pub fn isolated(&self) -> Result<OwnedFd> {
        match self.warm.take_isolated() {
            Some(netns) => Ok(netns),
            None => self.inner.workshop.elsewhere(|host| self.inner.workshop.prepare_isolated(host)),
        }
    }

    /// Two sockets for a resolver of the container in that namespace, UDP and listening TCP, on ports of 127.0.0.11 that the
    /// kernel chooses. What goes to port 53 of that address there comes to them, so that the container can have port 53 itself.
    pub fn resolver_sockets(&self, netns: BorrowedFd<'_>) -> Result<(OwnedFd, OwnedFd)> {
        self.inner.workshop.elsewhere(|_| resolver::open(netns))
    }

    /// Takes over the endpoints of containers that ran on while no engine did, and forgets all others of this instance, bridges
    /// of networks that were never recorded among them. An endpoint that cannot be taken over (its address is outside a
    /// subnet that was changed) is an error of its own; the others stand.
    pub fn restore(&self, sandboxes: &[RestoredSandbox]) -> Vec<(String, Error)> {
        let mut failed = Vec::new();
        let mut state = self.inner.lock();
        for sandbox in sandboxes {
            if state.sandboxes.contains_key(&sandbox.container) {
                continue;
            }
            let mut endpoints = Vec::new();
            for endpoint in &sandbox.endpoints {
                match self.claim_all(&state.route, endpoint) {
                    Ok(()) => endpoints.push(endpoint.clone()),
                    Err(error) => failed.push((sandbox.container.clone(), error)),
                }
            }
            let attached = Attached { endpoints, ports: sandbox.ports.clone() };
            state.ports.restore(&sandbox.container, &sandbox.ports);
            state.sandboxes.insert(sandbox.container.clone(), attached);
        }
        let keep: HashSet<&str> = sandboxes
            .iter()
            .flat_map(|sandbox| &sandbox.endpoints)
            .map(|endpoint| endpoint.host_interface.as_str())
            .collect();
        let instance = &self.inner.workshop.settings.instance;
        let known: HashSet<&str> = state.networks.keys().map(String::as_str).collect();
        let swept = interface::sweep(&state.route, instance, &keep, state.first_name)
            .and_then(|()| interface::sweep_bridges(&state.route, instance, &known));
        if let Err(error) = swept {
            warn!(%error, "removing interfaces that belong to nobody");
        }
        if let Err(error) = self.inner.install(&mut state) {
            failed.push(("firewall".into(), error));
        }
        failed
    }

    /// Makes the kernel agree with what is attached: bridges, their ports, table. The watcher calls it too.
    pub fn reconcile(&self) -> Result<()> {
        self.inner.reconcile()
    }

    /// What is attached, by container.
    pub fn sandboxes(&self) -> Vec<RestoredSandbox> {
        let state = self.inner.lock();
        let all = state.sandboxes.iter();
        all.map(|(container, Attached { endpoints, ports })| RestoredSandbox {
            container: container.clone(),
            endpoints: endpoints.clone(),
            ports: ports.clone(),
        })
        .collect()
    }

    /// How full a network's subnets are.
    pub fn usage(&self, network: &str) -> Vec<SubnetUse> {
        self.warm.usage(network)
    }

    /// How many endpoints are ready on the shelf.
    pub fn warm_endpoints(&self) -> usize {
        self.warm.ready()
    }

    /// Waits until the shelf is full, at most that long: for measurements and tests.
    pub fn wait_until_warm(&self, patience: Duration) -> bool {
        self.warm.wait_until_full(patience)
    }

    /// Ends the threads and lets go of what was made in advance. With `remove`, takes bridges, table and rules out of the
    /// kernel as well; without, containers keep their networks until the next engine restores them. Goes on where a step fails.
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
        let settings = &self.inner.workshop.settings;
        let attached = std::mem::take(&mut state.sandboxes);
        attached.values().for_each(|attached| state.ports.release(&attached.ports));
        let mut results = vec![foreign::close(&state.netfilter, &settings.instance.tag())];
        let mut transaction = Transaction::new(Family::Inet);
        let table = settings.instance.table();
        transaction.create_table(&table).delete_table(&table);
        results
            .push(transaction.commit(&state.netfilter).map_err(Error::netlink("delete our firewall table")));
        let endpoints = attached.into_values().flat_map(|attached| attached.endpoints);
        let mut links: Vec<String> = endpoints.map(|endpoint| endpoint.host_interface).collect();
        links.extend(self.warm.retired_interfaces());
        let bridges = state.networks.values().filter(|network| network.own_bridge);
        links.extend(bridges.map(|network| network.bridge.clone()));
        results.extend(links.iter().map(|link| {
            delete_link_if_there(&state.route, link)
                .map_err(Error::netlink(format!("delete the interface {link}")))
        }));
        results.into_iter().filter_map(Result::err).collect()
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
        for network in state.networks.values() {
            self.mend_bridge(&state, network)?;
        }
        self.install(&mut state)
    }
}

impl State {
    fn network(&self, id: &str) -> Result<Arc<BridgeNetwork>> {
        self.networks.get(id).cloned().ok_or_else(|| Error::NoNetwork(id.to_owned()))
    }

    fn targets(&self, endpoints: &[Endpoint]) -> Targets {
        let name = |id: &str| self.networks.get(id).map(|network| network.name.clone()).unwrap_or_default();
        let ways = ways_out(endpoints, name);
        Targets {
            ipv4: ways.ipv4.and_then(|endpoint| endpoint.ipv4).map(|given| given.ip),
            ipv6: ways.ipv6.and_then(|endpoint| endpoint.ipv6).map(|given| given.ip),
        }
    }

    fn elements(&self, attached: &Attached) -> Vec<Element> {
        elements(&attached.ports, self.targets(&attached.endpoints))
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
        let mut transaction = Transaction::new(Family::Inet);
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
        let table = self.workshop.settings.instance.table();
        let networks = state.networks.values().flat_map(|network| firewall::network_elements(network));
        let ports = state.sandboxes.values().flat_map(|attached| state.elements(attached));
        let all: Vec<Element> = networks.chain(ports).collect();
        let mut transaction = Transaction::new(Family::Inet);
        transaction.replace_table(&firewall::table(&table, &all));
        transaction.commit(&state.netfilter).map_err(Error::netlink("write our firewall table"))?;
        if std::mem::replace(&mut state.adopted, false)
            && nft::table_exists(&state.netfilter, Family::Ipv4, &table).unwrap_or(false)
        {
            let mut former = Transaction::new(Family::Ipv4);
            former.delete_table(&table);
            former.commit(&state.netfilter).map_err(Error::netlink("delete a former engine's table"))?;
        }
        self.open_foreign(state)
    }

    fn open_foreign(&self, state: &State) -> Result<()> {
        let tag = self.workshop.settings.instance.tag();
        let bridges = |wanted: fn(&BridgeNetwork) -> bool| -> Vec<&str> {
            let networks = state.networks.values().filter(|network| wanted(network) && !network.internal);
            networks.map(|network| network.bridge.as_str()).collect()
        };
        foreign::open(&state.netfilter, Family::Ipv4, &bridges(BridgeNetwork::has_ipv4), &tag)?;
        foreign::open(&state.netfilter, Family::Ipv6, &bridges(BridgeNetwork::has_ipv6), &tag)
    }

    /// Makes a bridge again if it was deleted, and the interfaces its ports again.
    fn mend_bridge(&self, state: &State, network: &BridgeNetwork) -> Result<()> {
        let survey = bring_up::survey(&state.route, &network.bridge)?;
        let plan = bring_up::plan(&self.workshop.settings, &survey, network);
        Kernel { host: &state.route, container: None }.apply(&plan)?;
        if survey.bridge.is_some() {
            return Ok(());
        }
        let link = rtnl::link(&state.route, &network.bridge).map_err(Error::netlink("look up the bridge"))?;
        let bridge = link.ok_or_else(|| Error::NoInterface(network.bridge.clone()))?.index;
        let endpoints = state.sandboxes.values().flat_map(|attached| &attached.endpoints);
        for endpoint in endpoints.filter(|endpoint| endpoint.network == network.id) {
            let name = &endpoint.host_interface;
            let mut batch = Batch::new();
            rtnl::enslave(&mut batch, name, bridge, self.workshop.bridge_port(network));
            if let Err(error) = state.route.transact(&mut batch) {
                warn!(%error, interface = name, "attaching an interface to the bridge again");
            }
        }
        Ok(())
    }
}

/// Two engines that come up together must not choose the same subnet.
fn bring_up(settings: &Settings, route: &Socket) -> Result<BridgeNetwork> {
    let _lock = lock::acquire();
    let survey = bring_up::survey(route, &settings.bridge_name()?)?;
    let network = bring_up::decide(settings, &survey)?;
    if network.has_ipv6() && !survey.ipv6 {
        return Err(Error::NoIpv6);
    }
    let plan = bring_up::plan(settings, &survey, &network);
    plan.iter().for_each(|step| debug!(%step, "bringing up the network"));
    Kernel { host: route, container: None }.apply(&plan)?;
    Ok(network)
}

/// What leads to a container; a port of a family for which it has no way out leads nowhere.
fn elements(ports: &[PublishedPort], targets: Targets) -> Vec<Element> {
    ports
        .iter()
        .filter_map(|port| {
            let target = targets.of_family(port.host_ip.is_ipv4())?;
            Some(firewall::port_element(port, target))
        })
        .collect()
}
