//! Containers in their networks: a namespace with its endpoints, further ones while it runs, and the ports that lead there.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use corten_sys::netlink::Socket;

use super::{Attached, Networks, State, elements};
use crate::apply::delete_link_if_there;
use crate::conntrack;
use crate::endpoint::{
    Endpoint, EndpointRequest, HostPort, PortRequest, PublishedPort, Sandbox, SandboxRequest,
};
use crate::error::{Error, Result};
use crate::mac::MacAddr;
use crate::network::{BridgeNetwork, GatewayMode};
use crate::plan::Operation;
use crate::ports::{self, Reach};
use crate::prepare::{Part, Prepared, default_routes};

/// An endpoint whose addresses are taken and whose interface is still to be made.
struct Draft<'a> {
    network: Arc<BridgeNetwork>,
    request: &'a EndpointRequest,
    endpoint: Endpoint,
}

impl Networks {
    /// Gives a container its endpoints, in a namespace that is made or was made in advance.
    pub fn attach(&self, request: &SandboxRequest) -> Result<Sandbox> {
        self.refuse_second(&request.container)?;
        let (netns, endpoints) = self.furnished(&request.endpoints)?;
        let ports = self
            .publish(&request.container, &endpoints, &request.ports)
            .inspect_err(|_| endpoints.iter().for_each(|endpoint| self.warm.retire(endpoint)));
        Ok(Sandbox { netns, ports: ports.map_err(ports::name_owner)?, endpoints })
    }

    /// The same for a namespace that somebody else made (inside a user namespace, say); not from the shelf. Its lo
    /// is set up and the sysctls are written too.
    pub fn attach_into(&self, target: BorrowedFd<'_>, request: &SandboxRequest) -> Result<Sandbox> {
        self.refuse_second(&request.container)?;
        let netns = target
            .try_clone_to_owned()
            .map_err(|source| Error::Namespace { step: "keep the network namespace", source })?;
        let endpoints = self.furnish(target, &[], &request.endpoints, true)?;
        let ports = self
            .publish(&request.container, &endpoints, &request.ports)
            .inspect_err(|_| endpoints.iter().for_each(|endpoint| self.warm.retire(endpoint)));
        Ok(Sandbox { netns, ports: ports.map_err(ports::name_owner)?, endpoints })
    }

    /// Gives a running container a further endpoint. `ports` is all that it wants published: what becomes possible by this
    /// network is, and what leads to it is led anew. Returns the endpoint and what is published now.
    pub fn connect(
        &self,
        container: &str,
        netns: BorrowedFd<'_>,
        request: &EndpointRequest,
        ports: &[PortRequest],
    ) -> Result<(Endpoint, Vec<PublishedPort>)> {
        let present = self.inner.lock().sandboxes.get(container).cloned().unwrap_or_default();
        if present.endpoints.iter().any(|endpoint| endpoint.network == request.network) {
            return Err(Error::AlreadyAttached(container.to_owned()));
        }
        // What was begun may have put its way out in the other's place.
        let turn_back = || {
            if let Err(error) = self.reroute(container, netns) {
                tracing::warn!(%error, container, "the routes of a container that was not connected");
            }
        };
        let made = self.furnish(netns, &present.endpoints, std::slice::from_ref(request), false);
        let Some(endpoint) = made.inspect_err(|_| turn_back())?.into_iter().next() else {
            return Err(Error::NoNetwork(request.network.clone()));
        };
        let mut endpoints = present.endpoints;
        endpoints.push(endpoint.clone());
        match self.lead_anew(container, endpoints, ports) {
            Ok(published) => Ok((endpoint, published)),
            Err(error) => {
                self.unmake(&endpoint);
                turn_back();
                Err(ports::name_owner(error))
            }
        }
    }

    /// Takes one endpoint of a running container away. `netns` gets the routes that remain. Returns what is still published. Nothing
    /// changes when its ports can't be led to its next way out, where they may be ports of the host that somebody else has.
    pub fn disconnect(
        &self,
        container: &str,
        network: &str,
        netns: Option<BorrowedFd<'_>>,
        ports: &[PortRequest],
    ) -> Result<Vec<PublishedPort>> {
        let present = self.inner.lock().sandboxes.get(container).cloned().unwrap_or_default();
        let (gone, remaining): (Vec<Endpoint>, Vec<Endpoint>) =
            present.endpoints.into_iter().partition(|endpoint| endpoint.network == network);
        let Some(gone) = gone.into_iter().next() else {
            return Err(Error::NotAttached(container.to_owned()));
        };
        let published = self.lead_anew(container, remaining, ports).map_err(ports::name_owner)?;
        self.unmake(&gone);
        if let Some(netns) = netns
            && let Err(error) = self.reroute(container, netns)
        {
            tracing::warn!(%error, container, "the default route of a container that left a network");
        }
        Ok(published)
    }

    /// Sets the routes again that a container's endpoints call for.
    pub fn reroute(&self, container: &str, netns: BorrowedFd<'_>) -> Result<()> {
        let present = self.inner.lock().sandboxes.get(container).cloned().unwrap_or_default();
        let plan: Vec<_> = self.routes(&present.endpoints).into_iter().map(Operation::in_container).collect();
        self.inner.workshop.elsewhere(|host| self.inner.workshop.furnish(host, netns, &plan))
    }

    /// Ends a container's endpoints: its ports are free at once, its addresses when its interfaces are gone. Idempotent.
    pub fn detach(&self, container: &str) -> Result<()> {
        let mut state = self.inner.lock();
        let Some(attached) = state.sandboxes.remove(container) else { return Ok(()) };
        let led = state.elements(&attached);
        let removed = if led.is_empty() {
            Ok(())
        } else {
            self.inner.change(&mut state, |transaction, table| {
                transaction.delete_elements(table, &led);
            })
        };
        state.ports.release(&attached.ports);
        for ip in attached.endpoints.iter().flat_map(Endpoint::addresses) {
            conntrack::forget_container(&state.netfilter, ip, &attached.ports);
        }
        drop(state);
        attached.endpoints.iter().for_each(|endpoint| self.warm.retire(endpoint));
        removed
    }

    /// The namespace with all endpoints in it. The first one comes from the shelf if it can.
    fn furnished(&self, requests: &[EndpointRequest]) -> Result<(OwnedFd, Vec<Endpoint>)> {
        let ready = requests.first().filter(|request| self.fits_shelf(request));
        let Some(prepared) = ready.map(|request| self.prepared(request)).transpose()? else {
            let netns = self.isolated()?;
            let endpoints = self.furnish(netns.as_fd(), &[], requests, false)?;
            return Ok((netns, endpoints));
        };
        let Prepared { netns, endpoint, .. } = prepared;
        let mut endpoints = vec![endpoint];
        if requests.len() > 1 {
            let made = self.furnish(netns.as_fd(), &endpoints, &requests[1..], false);
            endpoints.extend(made.inspect_err(|_| self.warm.retire(&endpoints[0]))?);
        }
        Ok((netns, endpoints))
    }

    fn fits_shelf(&self, request: &EndpointRequest) -> bool {
        let plain = request.interface.is_none()
            && request.sysctls.is_empty()
            && request.link_local.is_empty()
            && request.ipv6.is_none();
        plain && request.network == self.nat().id && !self.nat().has_ipv6()
    }

    /// An endpoint of the default network with its namespace.
    fn prepared(&self, request: &EndpointRequest) -> Result<Prepared> {
        let mut prepared = match self.warm.take(request.ipv4) {
            Some(prepared) => prepared,
            None => {
                let network = self.inner.nat.clone();
                let draft = self.draft(network, request, &[])?;
                let endpoint = draft.endpoint.clone();
                let workshop = &self.inner.workshop;
                let made = workshop.elsewhere(|host| workshop.prepare(host, draft.part()));
                made.inspect_err(|_| self.warm.release(&endpoint.network, endpoint.addresses()))?
            }
        };
        prepared.endpoint.gateway_priority = request.gateway_priority;
        if let Err(error) = self.readdress(&mut prepared, request) {
            self.warm.retire(&prepared.endpoint);
            return Err(error);
        }
        Ok(prepared)
    }

    /// Makes further endpoints in a namespace that has `present`; all or none.
    fn furnish(
        &self,
        netns: BorrowedFd<'_>,
        present: &[Endpoint],
        requests: &[EndpointRequest],
        fresh: bool,
    ) -> Result<Vec<Endpoint>> {
        let mut drafts: Vec<Draft<'_>> = Vec::new();
        let free = |drafts: &[Draft<'_>]| {
            for Draft { endpoint, .. } in drafts {
                self.warm.release(&endpoint.network, endpoint.addresses());
            }
        };
        for request in requests {
            let named = drafts.iter().map(|draft| &draft.endpoint).chain(present);
            let names: Vec<&str> = named.map(|endpoint| endpoint.interface.as_str()).collect();
            let network = self.inner.lock().network(&request.network);
            match network.and_then(|network| self.draft(network, request, &names)) {
                Ok(draft) => drafts.push(draft),
                Err(error) => {
                    free(&drafts);
                    return Err(error);
                }
            }
        }
        let made: Vec<Endpoint> = drafts.iter().map(|draft| draft.endpoint.clone()).collect();
        let routes = self.routes(&[present, &made].concat());
        let parts: Vec<Part<'_>> = drafts.iter().map(Draft::part).collect();
        let workshop = &self.inner.workshop;
        let result = workshop.elsewhere(|host| {
            let plan = workshop.sandbox_plan(&parts, routes, fresh);
            workshop.furnish(host, netns, &plan)
        });
        result.inspect_err(|_| free(&drafts))?;
        Ok(made)
    }

    /// Takes the addresses of an endpoint.
    fn draft<'a>(
        &self,
        network: Arc<BridgeNetwork>,
        request: &'a EndpointRequest,
        names: &[&str],
    ) -> Result<Draft<'a>> {
        let mut settled = EndpointRequest { ipv4: None, ipv6: None, ..request.clone() };
        if network.has_ipv4() {
            match self.reserve(&network, true, request.ipv4.map(IpAddr::from))? {
                IpAddr::V4(ip) => settled.ipv4 = Some(ip),
                IpAddr::V6(_) => {}
            }
        }
        if network.has_ipv6() {
            let reserved = self.reserve(&network, false, request.ipv6.map(IpAddr::from));
            match reserved.inspect_err(|_| self.warm.release(&network.id, settled.ipv4.map(IpAddr::from)))? {
                IpAddr::V6(ip) => settled.ipv6 = Some(ip),
                IpAddr::V4(_) => {}
            }
        }
        let endpoint = self.inner.workshop.endpoint(&network, &settled, names);
        Ok(Draft { network, request, endpoint })
    }

    fn routes(&self, endpoints: &[Endpoint]) -> Vec<Operation> {
        let state = self.inner.lock();
        default_routes(endpoints, |id| state.networks.get(id).map(Arc::as_ref))
    }

    /// Removes an endpoint's interface at once and frees its addresses.
    fn unmake(&self, endpoint: &Endpoint) {
        let state = self.inner.lock();
        match delete_link_if_there(&state.route, &endpoint.host_interface) {
            Ok(()) => {
                drop(state);
                self.warm.release(&endpoint.network, endpoint.addresses());
            }
            Err(error) => {
                drop(state);
                tracing::warn!(%error, interface = endpoint.host_interface, "removing an interface");
                self.warm.retire(endpoint);
            }
        }
    }

    fn refuse_second(&self, container: &str) -> Result<()> {
        let taken = self.inner.lock().sandboxes.contains_key(container);
        if taken { Err(Error::AlreadyAttached(container.to_owned())) } else { Ok(()) }
    }

    fn reserve(&self, network: &BridgeNetwork, ipv4: bool, wish: Option<IpAddr>) -> Result<IpAddr> {
        let state = self.inner.lock();
        if let Some(ip) = wish {
            return self.claim(&state.route, &network.id, ip).map(|()| ip);
        }
        match self.warm.allocate(&state.route, &network.id, ipv4) {
            // The last addresses may be on the shelf: whoever asks now comes first.
            Err(Error::AddressesExhausted(_)) if network.id == self.nat().id => {
                if let Some(prepared) = self.warm.take_last() {
                    self.warm.retire(&prepared.endpoint);
                }
                self.warm.allocate(&state.route, &network.id, ipv4)
            }
            other => other,
        }
    }

    /// That very address, even when an endpoint in advance has it.
    fn claim(&self, route: &Socket, network: &str, ip: IpAddr) -> Result<()> {
        let in_use = match self.warm.claim(route, network, ip) {
            Err(error @ Error::AddressInUse(_)) if network == self.nat().id => error,
            other => return other,
        };
        let IpAddr::V4(v4) = ip else { return Err(in_use) };
        let Some(prepared) = self.warm.take_exactly(v4) else { return Err(in_use) };
        self.warm.retire(&prepared.endpoint);
        self.warm.claim(route, network, ip)
    }

    /// All addresses of an endpoint or none.
    pub(super) fn claim_all(&self, route: &Socket, endpoint: &Endpoint) -> Result<()> {
        let mut taken = Vec::new();
        for ip in endpoint.addresses() {
            if let Err(error) = self.claim(route, &endpoint.network, ip) {
                self.warm.release(&endpoint.network, taken);
                return Err(error);
            }
            taken.push(ip);
        }
        Ok(())
    }

    /// Gives an endpoint from the shelf the address and MAC that were asked for.
    fn readdress(&self, prepared: &mut Prepared, request: &EndpointRequest) -> Result<()> {
        let Some(old) = prepared.ipv4() else { return Ok(()) };
        let ip: Ipv4Addr = request.ipv4.unwrap_or(old);
        let mac = request.mac.unwrap_or_else(|| MacAddr::from_ip(ip.into()));
        if ip == old && mac == prepared.endpoint.mac {
            return Ok(());
        }
        let state = self.inner.lock();
        let network = &self.inner.nat;
        if ip != old {
            self.claim(&state.route, &network.id, ip.into())?;
        }
        let changed = prepared.readdress(&state.route, network, ip, mac);
        if ip != old {
            let free = if changed.is_ok() { old } else { ip };
            self.warm.release(&network.id, [free.into()]);
        }
        changed
    }

    /// Takes the ports, opens the way to them and records the endpoints.
    fn publish(
        &self,
        container: &str,
        endpoints: &[Endpoint],
        requests: &[PortRequest],
    ) -> Result<Vec<PublishedPort>> {
        let mut state = self.inner.lock();
        if state.sandboxes.contains_key(container) {
            return Err(Error::AlreadyAttached(container.to_owned()));
        }
        let ports = match self.reach(&state, endpoints) {
            Some(reach) => state.ports.claim(container, requests, reach)?,
            None => Vec::new(),
        };
        let attached = Attached { endpoints: endpoints.to_vec(), ports: ports.clone() };
        let led = state.elements(&attached);
        state.sandboxes.insert(container.to_owned(), attached);
        if ports.is_empty() {
            return Ok(ports);
        }
        let opened = self.inner.change(&mut state, |transaction, table| {
            transaction.add_elements(table, &led);
        });
        if let Err(error) = opened {
            state.sandboxes.remove(container);
            state.ports.release(&ports);
            return Err(error);
        }
        conntrack::forget_before_publishing(&state.netfilter, &ports);
        Ok(ports)
    }

    /// Records a running container's endpoints, and leads its ports to those that are its ways out now. Ports of a family that
    /// has lost its way out are given back; those of one that has gained it are taken.
    fn lead_anew(
        &self,
        container: &str,
        endpoints: Vec<Endpoint>,
        requests: &[PortRequest],
    ) -> Result<Vec<PublishedPort>> {
        let mut state = self.inner.lock();
        let before = state.sandboxes.get(container).cloned().unwrap_or_default();
        let targets = state.targets(&endpoints);
        let reach = self.reach(&state, &endpoints);
        let still_leads = |port: &PublishedPort| reach.is_some_and(|reach| reach.leads(port));
        let (mut ports, lost): (Vec<PublishedPort>, Vec<PublishedPort>) =
            before.ports.iter().copied().partition(still_leads);
        let gained = self.gained(&mut state, container, &ports, reach, requests)?;
        ports.extend(&gained);
        let old = elements(&before.ports, state.targets(&before.endpoints));
        let new = elements(&ports, targets);
        state.sandboxes.insert(container.to_owned(), Attached { endpoints, ports: ports.clone() });
        if old != new {
            let led = self.inner.change(&mut state, |transaction, table| {
                transaction.delete_elements(table, &old).add_elements(table, &new);
            });
            if let Err(error) = led {
                state.sandboxes.insert(container.to_owned(), before);
                state.ports.release(&gained);
                return Err(error);
            }
            for ip in before.endpoints.iter().flat_map(Endpoint::addresses) {
                conntrack::forget_container(&state.netfilter, ip, &before.ports);
            }
            conntrack::forget_before_publishing(&state.netfilter, &ports);
        }
        state.ports.release(&lost);
        Ok(ports)
    }

    /// Takes the ports of families that have nothing published yet; beside one that is, under the same number.
    fn gained(
        &self,
        state: &mut State,
        container: &str,
        published: &[PublishedPort],
        reach: Option<Reach>,
        requests: &[PortRequest],
    ) -> Result<Vec<PublishedPort>> {
        let Some(reach) = reach else { return Ok(Vec::new()) };
        let has = |ipv4: bool| published.iter().any(|port| port.host_ip.is_ipv4() == ipv4);
        let reach = Reach { ipv4: reach.ipv4 && !has(true), ipv6: reach.ipv6 && !has(false), ..reach };
        let beside = |request: &PortRequest| {
            let same = |port: &&PublishedPort| {
                (port.container_port, port.protocol) == (request.container_port, request.protocol)
                    && !port.is_direct()
            };
            let number = published.iter().find(same).map(|port| HostPort::Fixed(port.host_port));
            PortRequest { host_port: number.unwrap_or(request.host_port), ..request.clone() }
        };
        let due: Vec<PortRequest> =
            requests.iter().filter(|request| reach.serves(request)).map(beside).collect();
        state.ports.claim(container, &due, reach)
    }

    /// `None`: nobody outside can reach it.
    fn reach(&self, state: &State, endpoints: &[Endpoint]) -> Option<Reach> {
        let targets = state.targets(endpoints);
        let by =
            |ip: IpAddr| endpoints.iter().find(move |endpoint| endpoint.addresses().any(|own| own == ip));
        let way = targets.of_family(true).or(targets.of_family(false)).and_then(by)?;
        let host_ip = state.networks.get(&way.network)?.host_ip;
        let routed = |ipv4: bool| {
            let way = targets.of_family(ipv4).and_then(by);
            let network = way.and_then(|way| state.networks.get(&way.network));
            network.is_some_and(|network| network.mode(ipv4) == GatewayMode::Routed)
        };
        Some(Reach {
            ipv4: targets.ipv4.is_some(),
            ipv6: targets.ipv6.is_some(),
            host_ip,
            routed_ipv4: routed(true),
            routed_ipv6: routed(false),
        })
    }
}

impl Draft<'_> {
    fn part(&self) -> Part<'_> {
        Part {
            network: &self.network,
            endpoint: self.endpoint.clone(),
            announce: self.request.ipv4.is_some() || self.request.ipv6.is_some(),
            sysctls: &self.request.sysctls,
            link_local: &self.request.link_local,
        }
    }
}
