//! A container's name server: what its monitor is told, and the resolver file that leads to it.
//!
//! Only containers in networks that have names have one. Whom the names mean is `network/names.rs`'s matter.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use corten_runtime::dns::{Link, NetworkNames, Resolver};
use corten_runtime::monitor::protocol::{Event, Request};
use tokio::task::JoinSet;

use super::links::parse_link;
use super::network::Joined;
use super::resolver_file::{self, Dns, Servers};
use super::{Container, Record};
use crate::Engine;
use crate::error::{Error, Result};
use crate::image::blocking;
use crate::link::done;
use crate::network::{NetworkRecord, failed};

/// How long a monitor may take with its names before an engine that starts goes on without it.
const RESTORE_DEADLINE: Duration = Duration::from_secs(10);

/// The sockets of a name server, UDP and TCP.
pub(super) type Sockets = (OwnedFd, OwnedFd);

impl Engine {
    /// What a container's name server is to say; `None` when no network of the container's has names.
    fn name_server(&self, record: &Record) -> Option<Resolver> {
        let mut places: Vec<_> = record.endpoints.values().map(|endpoint| &endpoint.place).collect();
        places.sort_by(|a, b| a.interface.cmp(&b.interface));
        let networks: Vec<Arc<NetworkRecord>> =
            places.iter().filter_map(|place| self.network_registry.by_id(&place.network)).collect();
        let named = networks.iter().filter(|network| network.has_names());
        let named: Vec<NetworkNames> = named
            .map(|network| NetworkNames { file: self.names_path(&network.id), links: links(record, network) })
            .collect();
        if named.is_empty() {
            return None;
        }
        let dns = self.dns(record, Servers::Own);
        Some(Resolver {
            networks: named,
            servers: dns.upstreams(),
            internal: networks.iter().all(|network| network.internal),
            single_labels_stay: dns.ndots_are_set(),
        })
    }

    /// What a container's resolver file says: its own wishes, else the engine's.
    pub(super) fn dns(&self, record: &Record, names: Servers) -> Dns {
        let (host, defaults) = (&record.host_config, &self.options.defaults);
        let own_or = |own: &corten_api::List<String>, default: &Vec<String>| {
            if own.is_empty() { default.clone() } else { own.to_vec() }
        };
        Dns {
            names,
            servers: own_or(&host.dns, &defaults.dns),
            search: own_or(&host.dns_search, &defaults.dns_search),
            options: own_or(&host.dns_options, &defaults.dns_options),
        }
    }

    /// What a container that is about to start gets of its name server, if it is to have one.
    pub(super) async fn names_at_start(
        &self,
        record: &Record,
        joined: &Joined,
    ) -> Result<Option<(Resolver, Sockets)>> {
        let (Some(resolver), Joined::Namespace(netns)) = (self.name_server(record), joined) else {
            return Ok(None);
        };
        let netns =
            netns.try_clone().map_err(|e| Error::internal(format!("keep a network namespace: {e}")))?;
        Ok(Some((resolver, self.name_sockets(netns).await?)))
    }

    /// Sockets for a name server in that network namespace.
    async fn name_sockets(&self, netns: OwnedFd) -> Result<Sockets> {
        let engine = self.clone();
        blocking(move || engine.networks.resolver_sockets(netns.as_fd()).map_err(failed)).await
    }

    /// The networks of a running container have changed, so its names have. Best effort: it stays in its networks either way.
    pub(crate) async fn update_name_server(&self, container: &Arc<Container>) {
        if let Err(error) = self.tell_name_server(container).await {
            tracing::warn!(container = container.id, %error, "the name server of a container");
        }
    }

    async fn tell_name_server(&self, container: &Arc<Container>) -> Result<()> {
        let record = container.read().clone();
        let Some(link) = container.link() else { return Ok(()) };
        let resolver = self.name_server(&record);
        let request = |seq| Request::Resolve { seq, resolver: resolver.clone() };
        if resolver.is_none() {
            // The file first: whoever reads it must not be sent to a server that has gone.
            self.update_resolver_file(container, Servers::Reachable).await?;
            return done(link.ask(request, &[]).await?);
        }
        if let Event::Refused { .. } = link.ask(request, &[]).await? {
            // It has no sockets yet.
            let (udp, tcp) = self.name_sockets(self.network_namespace(container)?).await?;
            done(link.ask(request, &[udp.as_fd(), tcp.as_fd()]).await?)?;
        }
        self.update_resolver_file(container, Servers::Own).await
    }

    async fn update_resolver_file(&self, container: &Arc<Container>, names: Servers) -> Result<()> {
        let (dns, known) = {
            let record = container.read();
            (self.dns(&record, names), record.resolver_mark)
        };
        let directory = self.places(&container.id).directory;
        let mark = blocking(move || resolver_file::update(&directory, &dns, known)).await?;
        let Some(mark) = mark.filter(|mark| *mark != known) else { return Ok(()) };
        container.write().resolver_mark = mark;
        self.store.put_container(&container.id, &*container.read())
    }

    /// Whether an engine that was killed may have left the container's name server with other networks than the container has.
    pub(super) fn may_misname(&self, container: &Container) -> bool {
        let record = container.read();
        record.rewiring || self.name_server(&record).is_some()
    }

    /// After a restart of the engine: what was being changed when it ended is brought to its end.
    pub(super) async fn restore_name_servers(&self, containers: Vec<Arc<Container>>) {
        let mut updates = JoinSet::new();
        for container in containers {
            let engine = self.clone();
            updates.spawn(async move {
                let update = engine.update_name_server(&container);
                if tokio::time::timeout(RESTORE_DEADLINE, update).await.is_err() {
                    tracing::warn!(container = container.id, "the monitor does not take its names yet");
                }
            });
        }
        while updates.join_next().await.is_some() {}
    }
}

/// Names that only this container has for others in the network.
fn links(record: &Record, network: &NetworkRecord) -> Vec<Link> {
    let wishes = record.networks.get(&network.name);
    let links = wishes.iter().flat_map(|wish| wish.links.iter());
    links.filter_map(|text| parse_link(text).ok()).map(|(name, alias)| Link { alias, name }).collect()
}
