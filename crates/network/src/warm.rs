//! Endpoints in advance: a thread keeps a few ready, and clears away what detached ones leave behind.
//!
//! What lies here is held by descriptors only; when the process dies, however it dies, the kernel takes it all back.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use corten_sys::netlink::{Protocol, Socket};
use tracing::warn;

use crate::addresses::{Addresses, SubnetUse};
use crate::apply::{delete_link_if_there, set_link_down_if_there};
use crate::endpoint::{Endpoint, EndpointRequest};
use crate::error::{Error, Result};
use crate::network::BridgeNetwork;
use crate::prepare::{Part, Prepared, Workshop};

/// Refilling waits until nothing was taken for so long: it must not compete with the start that emptied the shelf.
const REST: Duration = Duration::from_millis(4);
/// A detached interface goes with its namespace; one that is still there after this long is removed.
const RETIREMENT: Duration = Duration::from_millis(500);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
const NICENESS: i32 = 5;

/// The shelf and its thread.
pub struct Warm {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    workshop: Arc<Workshop>,
    /// The default one, for which endpoints are made in advance.
    network: Arc<BridgeNetwork>,
    shelf: Mutex<Shelf>,
    changed: Condvar,
}

struct Shelf {
    addresses: Addresses,
    endpoints: VecDeque<Prepared>,
    isolated: VecDeque<OwnedFd>,
    /// The address of the endpoint that is being made.
    in_flight: Option<Ipv4Addr>,
    retired: VecDeque<Retired>,
    taken_at: Instant,
    failed_at: Option<Instant>,
    stop: bool,
}

/// An endpoint that was detached: its addresses are free when its interface is gone.
#[derive(Debug, Clone)]
struct Retired {
    host_interface: String,
    network: String,
    /// Without those that somebody else has already.
    ips: Vec<IpAddr>,
    since: Instant,
}

impl Shared {
    /// How many endpoints are to lie ready: those that do have an address of IPv4 alone.
    fn endpoints_wanted(&self) -> usize {
        if self.network.has_ipv6() { 0 } else { self.workshop.settings.warm_endpoints }
    }
}

impl Shelf {
    /// Frees addresses of detached endpoints whose namespaces may not be gone yet: switched off, their interfaces
    /// answer no more for the address.
    fn silence(&mut self, host: &Socket, network: &str, wanted: impl Fn(IpAddr) -> bool) -> Result<()> {
        for retired in &mut self.retired {
            if retired.network != network || !retired.ips.iter().any(|ip| wanted(*ip)) {
                continue;
            }
            let name = &retired.host_interface;
            set_link_down_if_there(host, name).map_err(Error::netlink(format!("set {name} down")))?;
            for ip in std::mem::take(&mut retired.ips) {
                self.addresses.release(network, ip);
            }
        }
        Ok(())
    }
}

enum Work {
    Endpoint(Ipv4Addr),
    Isolated,
    Bury(String),
    Stop,
}

impl Warm {
    pub fn start(workshop: Arc<Workshop>, network: Arc<BridgeNetwork>) -> Result<Warm> {
        let mut addresses = Addresses::default();
        addresses.add(&network)?;
        let shelf = Shelf {
            addresses,
            endpoints: VecDeque::new(),
            isolated: VecDeque::new(),
            in_flight: None,
            retired: VecDeque::new(),
            taken_at: Instant::now(),
            failed_at: None,
            stop: false,
        };
        let shared =
            Arc::new(Shared { workshop, network, shelf: Mutex::new(shelf), changed: Condvar::new() });
        let thread = std::thread::Builder::new()
            .name("net-warm".into())
            .spawn({
                let shared = shared.clone();
                move || shared.run()
            })
            .map_err(|source| Error::Namespace { step: "start the thread for warm endpoints", source })?;
        Ok(Warm { shared, thread: Mutex::new(Some(thread)) })
    }

    /// A ready endpoint, if there is one; the one with that address if it is there.
    pub fn take(&self, ip: Option<Ipv4Addr>) -> Option<Prepared> {
        if let Some(exact) = ip.and_then(|ip| self.take_exactly(ip)) {
            return Some(exact);
        }
        let mut shelf = self.shared.lock();
        let taken = shelf.endpoints.pop_front();
        shelf.taken_at = Instant::now();
        drop(shelf);
        self.shared.changed.notify_all();
        taken
    }

    /// The endpoint with that address, if it lies here or is just being made.
    pub fn take_exactly(&self, ip: Ipv4Addr) -> Option<Prepared> {
        let mut shelf = self.shared.lock();
        while shelf.in_flight == Some(ip) {
            shelf = self.shared.wait(shelf, None);
        }
        let at = shelf.endpoints.iter().position(|prepared| prepared.ipv4() == Some(ip))?;
        shelf.taken_at = Instant::now();
        let taken = shelf.endpoints.remove(at);
        drop(shelf);
        self.shared.changed.notify_all();
        taken
    }

    /// Any endpoint, even the one that is just being made.
    pub fn take_last(&self) -> Option<Prepared> {
        let mut shelf = self.shared.lock();
        while shelf.in_flight.is_some() {
            shelf = self.shared.wait(shelf, None);
        }
        shelf.endpoints.pop_front()
    }

    pub fn take_isolated(&self) -> Option<OwnedFd> {
        let mut shelf = self.shared.lock();
        let taken = shelf.isolated.pop_front();
        shelf.taken_at = Instant::now();
        drop(shelf);
        self.shared.changed.notify_all();
        taken
    }

    pub fn add_network(&self, network: &BridgeNetwork) -> Result<()> {
        self.shared.lock().addresses.add(network)
    }

    pub fn remove_network(&self, network: &str) {
        self.shared.lock().addresses.remove(network);
    }

    pub fn usage(&self, network: &str) -> Vec<SubnetUse> {
        self.shared.lock().addresses.usage(network)
    }

    /// The next free address. When all are taken, those of detached endpoints are set free at once.
    pub fn allocate(&self, host: &Socket, network: &str, ipv4: bool) -> Result<IpAddr> {
        let mut shelf = self.shared.lock();
        if let Ok(ip) = shelf.addresses.allocate(network, ipv4) {
            return Ok(ip);
        }
        shelf.silence(host, network, |ip| ip.is_ipv4() == ipv4)?;
        shelf.addresses.allocate(network, ipv4)
    }

    /// That very address; of an endpoint that was detached a moment ago too.
    pub fn claim(&self, host: &Socket, network: &str, ip: IpAddr) -> Result<()> {
        let mut shelf = self.shared.lock();
        shelf.silence(host, network, |retired| retired == ip)?;
        shelf.addresses.claim(network, ip)
    }

    /// Gives back addresses whose interface is gone.
    pub fn release(&self, network: &str, ips: impl IntoIterator<Item = IpAddr>) {
        let mut shelf = self.shared.lock();
        ips.into_iter().for_each(|ip| shelf.addresses.release(network, ip));
    }

    /// Takes over the interface and addresses of a detached endpoint.
    pub fn retire(&self, endpoint: &Endpoint) {
        self.shared.lock().retired.push_back(Retired {
            host_interface: endpoint.host_interface.clone(),
            network: endpoint.network.clone(),
            ips: endpoint.addresses().collect(),
            since: Instant::now(),
        });
        self.shared.changed.notify_all();
    }

    /// How many endpoints are ready.
    pub fn ready(&self) -> usize {
        self.shared.lock().endpoints.len()
    }

    /// Waits until the shelf is full, or that long.
    pub fn wait_until_full(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut shelf = self.shared.lock();
        loop {
            let settings = &self.shared.workshop.settings;
            if shelf.endpoints.len() >= self.shared.endpoints_wanted()
                && shelf.isolated.len() >= settings.warm_isolated
            {
                return true;
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            shelf = self.shared.wait(shelf, Some(left));
        }
    }

    /// Ends the thread and drops everything on the shelf. Idempotent.
    pub fn stop(&self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        let mut shelf = self.shared.lock();
        let endpoints: Vec<Prepared> = shelf.endpoints.drain(..).collect();
        for endpoint in endpoints.iter().map(|prepared| &prepared.endpoint) {
            endpoint.addresses().for_each(|ip| shelf.addresses.release(&endpoint.network, ip));
        }
        shelf.isolated.clear();
    }

    /// The interfaces that detached endpoints may have left.
    pub fn retired_interfaces(&self) -> Vec<String> {
        self.shared.lock().retired.drain(..).map(|retired| retired.host_interface).collect()
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self) {
        // Best effort: at normal priority it works as well, only less politely.
        let _ = rustix::process::nice(NICENESS);
        let host = match self
            .workshop
            .go_home()
            .and_then(|()| Socket::open(Protocol::Route).map_err(Error::netlink("open a route socket")))
        {
            Ok(socket) => socket,
            Err(error) => return warn!(%error, "no endpoints are prepared in advance"),
        };
        loop {
            let result = match self.next_work() {
                Work::Stop => return,
                Work::Bury(name) => self.bury(&host, &name),
                Work::Endpoint(ip) => self.make_endpoint(&host, ip),
                Work::Isolated => self.make_isolated(&host),
            };
            // Else this thread would keep the last container's namespace alive.
            if let Err(error) = self.workshop.go_home() {
                return warn!(%error, "no more endpoints are prepared in advance");
            }
            if let Err(error) = result {
                warn!(%error, "preparing an endpoint in advance");
                self.lock().failed_at = Some(Instant::now());
            }
        }
    }

    fn next_work(&self) -> Work {
        let settings = &self.workshop.settings;
        let mut shelf = self.lock();
        loop {
            if shelf.stop {
                return Work::Stop;
            }
            let now = Instant::now();
            let burial = shelf.retired.front().map(|retired| retired.since + RETIREMENT);
            if burial.is_some_and(|due| due <= now)
                && let Some(retired) = shelf.retired.front()
            {
                return Work::Bury(retired.host_interface.clone());
            }
            let lacks_endpoint = shelf.endpoints.len() < self.endpoints_wanted();
            let lacks_isolated = shelf.isolated.len() < settings.warm_isolated;
            let pause = shelf.failed_at.map(|at| at + PAUSE_AFTER_FAILURE);
            let rested = (shelf.taken_at + REST).max(pause.unwrap_or(now));
            if (lacks_endpoint || lacks_isolated) && rested <= now {
                if !lacks_endpoint {
                    return Work::Isolated;
                }
                match shelf.addresses.allocate(&self.network.id, true) {
                    Ok(IpAddr::V4(ip)) => {
                        shelf.in_flight = Some(ip);
                        return Work::Endpoint(ip);
                    }
                    // The last addresses belong to those who ask for them.
                    Ok(IpAddr::V6(_)) | Err(_) => shelf.failed_at = Some(now),
                }
                continue;
            }
            let refill = (lacks_endpoint || lacks_isolated).then_some(rested);
            let wake = [burial, refill].into_iter().flatten().min();
            shelf = self.wait(shelf, wake.map(|at| at.saturating_duration_since(now)));
        }
    }

    fn make_endpoint(&self, host: &Socket, ip: Ipv4Addr) -> Result<()> {
        let request = EndpointRequest { ipv4: Some(ip), ..EndpointRequest::default() };
        let endpoint = self.workshop.endpoint(&self.network, &request, &[]);
        let part = Part { network: &self.network, endpoint, announce: false, sysctls: &[], link_local: &[] };
        let made = self.workshop.prepare(host, part);
        let mut shelf = self.lock();
        shelf.in_flight = None;
        let result = match made {
            Ok(prepared) => {
                shelf.endpoints.push_back(prepared);
                Ok(())
            }
            Err(error) => {
                shelf.addresses.release(&self.network.id, ip.into());
                Err(error)
            }
        };
        drop(shelf);
        self.changed.notify_all();
        result
    }

    fn make_isolated(&self, host: &Socket) -> Result<()> {
        let netns = self.workshop.prepare_isolated(host)?;
        self.lock().isolated.push_back(netns);
        self.changed.notify_all();
        Ok(())
    }

    /// The interface stays on the list until it is gone: whoever wants its address meanwhile must find it there.
    fn bury(&self, host: &Socket, name: &str) -> Result<()> {
        let deleted = delete_link_if_there(host, name);
        let mut shelf = self.lock();
        let at = shelf.retired.iter().position(|retired| retired.host_interface == name);
        let Some(mut retired) = at.and_then(|at| shelf.retired.remove(at)) else { return Ok(()) };
        if let Err(error) = deleted {
            // It still answers for its address: later, then.
            retired.since = Instant::now();
            shelf.retired.push_back(retired);
            return Err(Error::netlink(format!("delete the interface {name}"))(error));
        }
        for ip in retired.ips {
            shelf.addresses.release(&retired.network, ip);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, shelf: MutexGuard<'a, Shelf>, patience: Option<Duration>) -> MutexGuard<'a, Shelf> {
        match patience {
            None => self.changed.wait(shelf).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                self.changed.wait_timeout(shelf, patience).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }
}
