//! Links of the default network: the hosts files of those who have links, kept up to date while containers come and go.
//!
//! Links in further networks are names that the container's name server knows. A hosts file is the container's too: only lines
//! with our addresses are touched.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use corten_network::Endpoint;

use super::identity_files::rewrite;
use super::{Container, Record, lock};
use crate::Engine;
use crate::error::{Error, Result};
use crate::id::short;
use crate::network::BRIDGE;

/// A line of a hosts file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostsLine {
    pub address: IpAddr,
    pub names: Vec<String>,
}

/// `container:alias`, or the container's name for both; Docker's own inspect shows `/container:/parent/alias`.
pub(super) fn parse_link(text: &str) -> Result<(String, String)> {
    let invalid = || Error::invalid(format!("bad format for links: {text}"));
    let mut parts = text.split(':');
    let (name, alias) = (parts.next().unwrap_or_default(), parts.next());
    if name.is_empty() || parts.next().is_some() {
        return Err(invalid());
    }
    let name = name.trim_start_matches('/');
    let alias = alias.map_or(name, |alias| alias.rsplit('/').next().unwrap_or(alias));
    if name.is_empty() || alias.is_empty() {
        return Err(invalid());
    }
    Ok((name.to_owned(), alias.to_owned()))
}

impl Engine {
    /// Checks the links of the default network, and notes whom they mean now, whatever it is called later.
    pub(super) fn settle_links(&self, links: &mut corten_api::List<String>) -> Result<()> {
        for link in links.iter_mut() {
            let (name, alias) = parse_link(link)?;
            let target = self
                .containers
                .find(&name)
                .map_err(|error| error.within(format!("could not get container for {name}")))?;
            *link = format!("{}:{alias}", target.id);
        }
        Ok(())
    }

    /// Links as Docker shows them: `/container:/parent/alias`. Those to containers that are gone are none.
    pub(super) fn shown_links(&self, record: &Record) -> corten_api::List<String> {
        let links = &record.host_config.links;
        if links.is_empty() {
            return links.clone();
        }
        let shown = |(target, alias): (Arc<Container>, String)| {
            format!("/{}:/{}/{alias}", target.name(), record.name)
        };
        let shown: Vec<String> = self.targets(record).into_iter().map(shown).collect();
        if shown.is_empty() { corten_api::List::default() } else { shown.into() }
    }

    /// Whom a container links to, and by what name.
    fn targets(&self, record: &Record) -> Vec<(Arc<Container>, String)> {
        let links = record.host_config.links.iter().filter_map(|link| parse_link(link).ok());
        links.filter_map(|(target, alias)| Some((self.containers.find(&target).ok()?, alias))).collect()
    }

    /// The lines that a container's links make at its start; those whom it links to must run.
    pub(super) fn link_lines(&self, record: &Record) -> Result<Vec<HostsLine>> {
        if !record.networks.contains_key(BRIDGE) {
            return Ok(Vec::new());
        }
        let mut lines = Vec::new();
        for (target, alias) in self.targets(record) {
            let target = target.read();
            let not_running = || {
                Error::conflict(format!(
                    "Cannot link to a non running container: /{} AS /{}/{alias}",
                    target.name, record.name
                ))
            };
            let endpoint = self.default_endpoint(&target).ok_or_else(not_running)?;
            lines.extend(link_line(&target, &endpoint, &alias));
        }
        Ok(lines)
    }

    /// The variables that links have always made: `STORE_NAME`, `STORE_PORT_80_TCP_ADDR`, `STORE_ENV_…`.
    pub(super) fn link_variables(&self, record: &Record) -> Vec<String> {
        let mut variables = Vec::new();
        if !record.networks.contains_key(BRIDGE) {
            return variables;
        }
        for (target, alias) in self.targets(record) {
            let target = target.read();
            let Some(endpoint) = self.default_endpoint(&target) else { continue };
            let Some(address) = endpoint.addresses().next() else { continue };
            variables.extend(variables_of(&target, address, &record.name, &alias));
        }
        variables
    }

    /// A container of the default network has started: those who link to it learn its address.
    pub(super) fn links_changed(&self, container: &Container) {
        let parents: Vec<_> =
            self.containers.all().into_iter().filter(|parent| has_links(&parent.read())).collect();
        if parents.is_empty() {
            return;
        }
        let target = container.read().clone();
        let Some(endpoint) = self.default_endpoint(&target) else { return };
        for parent in parents {
            let Some((id, alias)) = link_to(&parent.read(), &target) else { continue };
            let Some(line) = link_line(&target, &endpoint, &alias) else { continue };
            self.edit_hosts(&id, |text| {
                with_line(&without(text, |words| words.contains(&alias.as_str())), &line)
            });
        }
    }

    /// `rm --link /parent/alias`: the link alone goes.
    pub(super) async fn remove_link(&self, path: &str) -> Result<()> {
        let (parent, alias) = path.trim_start_matches('/').split_once('/').ok_or_else(|| {
            Error::conflict("Conflict, cannot remove the default link name of the container")
        })?;
        let parent = self.containers.find(parent)?;
        let _turn = parent.operation.lock().await;
        if parent.progress.borrow().removed {
            return Err(Error::no_such_container(&parent.id));
        }
        let before = parent.read().host_config.links.clone();
        let rest: Vec<String> = before
            .iter()
            .filter(|link| parse_link(link).map_or(true, |(_, known)| known != alias))
            .cloned()
            .collect();
        if rest.len() == before.len() {
            return Err(Error::not_found(format!("Cannot get parent {path} for name {alias}: no such link")));
        }
        parent.write().host_config.links = rest.into();
        let saved = self.store.put_container(&parent.id, &*parent.read());
        if saved.is_err() {
            parent.write().host_config.links = before;
            return saved;
        }
        self.edit_hosts(&parent.id, |text| without(text, |words| words.contains(&alias)));
        Ok(())
    }

    /// A running container has come to a network: its own name there.
    pub(crate) fn hosts_gained(&self, container: &Arc<Container>, endpoint: &Endpoint) {
        let (hostname, domain) = {
            let record = container.read();
            (record.config.hostname.clone(), record.config.domainname.clone())
        };
        let names = own_names(&hostname, &domain);
        self.edit_hosts(&container.id, |text| {
            endpoint.addresses().fold(text.to_owned(), |text, address| {
                with_line(&text, &HostsLine { address, names: names.clone() })
            })
        });
    }

    /// It has left one.
    pub(crate) fn hosts_lost(&self, container: &Arc<Container>, endpoint: &Endpoint) {
        let gone: Vec<String> = endpoint.addresses().map(|address| address.to_string()).collect();
        self.edit_hosts(&container.id, |text| {
            without(text, |words| words.first().is_some_and(|first| gone.iter().any(|ip| ip == first)))
        });
    }

    fn default_endpoint(&self, record: &Record) -> Option<Endpoint> {
        let network = &self.networks.nat().id;
        record.endpoints.get(network).map(|endpoint| endpoint.place.clone())
    }

    /// In place: the container has this very file mounted.
    fn edit_hosts(&self, id: &str, change: impl FnOnce(&str) -> String) {
        // Several containers that it links to may start at once.
        let _turn = lock(&self.hosts_turn);
        let path = self.places(id).directory.join("hosts");
        if let Err(error) = edit(&path, change) {
            tracing::warn!(container = id, %error, "the hosts file of a container");
        }
    }
}

fn has_links(parent: &Record) -> bool {
    parent.state.phase.is_alive() && !parent.host_config.links.is_empty()
}

/// A running container's alias for another one, with its id.
fn link_to(parent: &Record, target: &Record) -> Option<(String, String)> {
    if !has_links(parent) || parent.id == target.id {
        return None;
    }
    parent.host_config.links.iter().find_map(|link| {
        let (name, alias) = parse_link(link).ok()?;
        // By its id; former engines wrote down its name.
        (name == target.id || name == target.name).then(|| (parent.id.clone(), alias))
    })
}

fn variables_of(target: &Record, address: IpAddr, parent: &str, alias: &str) -> Vec<String> {
    let prefix = alias.replace('-', "_").to_uppercase();
    let mut ports: Vec<(u16, String)> = target
        .config
        .exposed_ports
        .keys()
        .filter_map(|text| super::ports::parse_port(text).ok())
        .map(|(port, protocol)| (port, protocol.to_string()))
        .collect();
    // TCP before UDP, as Docker sorts them; the first one is the link's.
    ports.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let mut variables = Vec::new();
    if let Some((port, protocol)) = ports.first() {
        variables.push(format!("{prefix}_PORT={protocol}://{address}:{port}"));
    }
    for (port, protocol) in &ports {
        let name = format!("{prefix}_PORT_{port}_{}", protocol.to_uppercase());
        variables.extend([
            format!("{name}={protocol}://{address}:{port}"),
            format!("{name}_ADDR={address}"),
            format!("{name}_PORT={port}"),
            format!("{name}_PROTO={protocol}"),
        ]);
    }
    variables.push(format!("{prefix}_NAME=/{parent}/{alias}"));
    let own = target.config.env.iter().filter_map(|entry| entry.split_once('='));
    let told = own.filter(|(name, _)| !matches!(*name, "HOME" | "PATH"));
    variables.extend(told.map(|(name, value)| format!("{prefix}_ENV_{name}={value}")));
    variables
}

fn edit(path: &Path, change: impl FnOnce(&str) -> String) -> std::io::Result<()> {
    let text = std::fs::read_to_string(path)?;
    let changed = change(&text);
    rewrite(path, changed.as_bytes())
}

/// `web.example.org web`.
pub(super) fn own_names(hostname: &str, domain: &str) -> Vec<String> {
    match domain {
        "" => vec![hostname.to_owned()],
        domain => vec![format!("{hostname}.{domain}"), hostname.to_owned()],
    }
}

fn link_line(target: &Record, endpoint: &Endpoint, alias: &str) -> Option<HostsLine> {
    let address = endpoint.addresses().next()?;
    let mut names = vec![alias.to_owned()];
    for name in [target.config.hostname.as_str(), target.name.as_str(), short(&target.id)] {
        if !name.is_empty() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Some(HostsLine { address, names })
}

impl HostsLine {
    pub(super) fn text(&self) -> String {
        format!("{}\t{}\n", self.address, self.names.join(" "))
    }
}

fn with_line(text: &str, line: &HostsLine) -> String {
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{gap}{}", line.text())
}

/// The text without the lines whose words fulfil the test; comments stay.
fn without(text: &str, test: impl Fn(&[&str]) -> bool) -> String {
    text.split_inclusive('\n')
        .filter(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.first().is_none_or(|first| first.starts_with('#')) || !test(&words)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_in_each_of_their_forms() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(parse_link("db:store").unwrap(), pair("db", "store"));
        assert_eq!(parse_link("db").unwrap(), pair("db", "db"));
        assert_eq!(parse_link("/db:/web/store").unwrap(), pair("db", "store"));
        for bad in ["", ":x", "a:b:c", "db:"] {
            assert!(parse_link(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_variables_of_a_link() {
        let mut target = Record::default();
        target.config.env = vec!["PATH=/bin".to_owned(), "FOO=1".to_owned()].into();
        target.config.exposed_ports.insert("80/tcp".into(), corten_api::json::Empty {});
        let variables = variables_of(&target, "10.0.0.2".parse().unwrap(), "web", "my-store");
        assert_eq!(
            variables,
            [
                "MY_STORE_PORT=tcp://10.0.0.2:80",
                "MY_STORE_PORT_80_TCP=tcp://10.0.0.2:80",
                "MY_STORE_PORT_80_TCP_ADDR=10.0.0.2",
                "MY_STORE_PORT_80_TCP_PORT=80",
                "MY_STORE_PORT_80_TCP_PROTO=tcp",
                "MY_STORE_NAME=/web/my-store",
                "MY_STORE_ENV_FOO=1",
            ]
        );
    }

    #[test]
    fn lines_of_others_stay_when_ours_change() {
        let text = "127.0.0.1\tlocalhost\n# 10.0.0.2 store\n10.0.0.2\tstore db\nown line";
        let rest = without(text, |words| words.contains(&"store"));
        assert_eq!(rest, "127.0.0.1\tlocalhost\n# 10.0.0.2 store\nown line");
        let line = HostsLine { address: "10.0.0.9".parse().unwrap(), names: own_names("web", "example.org") };
        assert!(with_line(&rest, &line).ends_with("own line\n10.0.0.9\tweb.example.org web\n"));
    }
}
