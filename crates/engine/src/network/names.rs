//! The names by which containers of a network find each other.
//!
//! They lie in a file per network (docs/dns.md), which is written anew whenever an endpoint comes, goes, or is called otherwise.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::PoisonError;

use corten_api::network::EndpointSettings;
use corten_runtime::dns::names::Builder;

use super::NetworkRecord;
use crate::Engine;
use crate::container::{Container, Record};
use crate::id::short;

impl Engine {
    /// Writes the file from which the network's name servers answer: somebody has come, gone, or is called otherwise. A network
    /// without names has none. Best effort, as an endpoint is worth more than its name.
    pub(crate) fn names_changed(&self, network: &NetworkRecord) {
        if !network.has_names() {
            return;
        }
        // Or an older list could come in the place of a newer one.
        let _turn = self.names_turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut builder = Builder::default();
        let members = self.names_of_members(network);
        for member in &members {
            for address in &member.addresses {
                member.names.iter().for_each(|name| builder.address(name, *address));
                builder.pointer(*address, &format!("{}.{}", member.names[0], network.name));
            }
        }
        let written = match members.is_empty() {
            true => self.remove_names(&network.id),
            false => self.write_names(&network.id, &builder.build(&network.name)),
        };
        if let Err(error) = written {
            tracing::warn!(network = network.name, %error, "the names of a network");
        }
    }

    /// A container is called otherwise, which all its networks learn.
    pub(crate) fn container_names_changed(&self, container: &Container) {
        let networks: Vec<String> = container.read().endpoints.keys().cloned().collect();
        networks.iter().filter_map(|id| self.network_registry.by_id(id)).for_each(|n| self.names_changed(&n));
    }

    /// After a restart: containers may have ended meanwhile.
    pub(crate) fn restore_names(&self) {
        self.network_registry.all().iter().for_each(|network| self.names_changed(network));
    }

    /// A network is gone.
    pub(crate) fn forget_names(&self, network: &str) {
        if let Err(error) = self.remove_names(network) {
            tracing::warn!(network, %error, "the names of a network");
        }
    }

    /// The file in which name servers look up a network's names.
    pub(crate) fn names_path(&self, network: &str) -> PathBuf {
        self.options.exec_root.join("networks").join(network).join("names")
    }

    fn write_names(&self, network: &str, text: &[u8]) -> std::io::Result<()> {
        let path = self.names_path(network);
        let new = path.with_extension("new");
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(&new, text)?;
        std::fs::rename(&new, &path)
    }

    fn remove_names(&self, network: &str) -> std::io::Result<()> {
        let path = self.names_path(network);
        match path.parent().map(std::fs::remove_dir_all) {
            Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// In the order of the containers' creation.
    fn names_of_members(&self, network: &NetworkRecord) -> Vec<Member> {
        let mut containers = self.containers.all();
        containers.sort_by_cached_key(|container| container.read().created);
        containers
            .iter()
            .filter_map(|container| {
                let record = container.read();
                let endpoint = record.endpoints.get(&network.id)?;
                Some(Member {
                    names: dns_names(&record, record.networks.get(&network.name)),
                    addresses: endpoint.place.addresses().collect(),
                })
            })
            .collect()
    }
}

/// A container in a network.
struct Member {
    /// Its own name first.
    names: Vec<String>,
    addresses: Vec<IpAddr>,
}

/// What a container answers to in a network: its name, its aliases there, the first digits of its id, its host name.
pub fn dns_names(record: &Record, wish: Option<&EndpointSettings>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let aliases = wish.iter().flat_map(|wish| wish.aliases.iter().map(String::as_str));
    let own = [record.name.as_str()].into_iter().chain(aliases);
    for name in own.chain([short(&record.id), record.config.hostname.as_str()]) {
        if !name.is_empty() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_answers_to_each_of_its_names_once() {
        let mut record = Record { id: "0123456789abcdef".into(), name: "web".into(), ..Record::default() };
        record.config.hostname = "0123456789ab".into();
        assert_eq!(dns_names(&record, None), ["web", "0123456789ab"]);
        record.config.hostname = "site".into();
        let wish = EndpointSettings {
            aliases: vec!["www".to_owned(), "web".to_owned()].into(),
            ..EndpointSettings::default()
        };
        assert_eq!(dns_names(&record, Some(&wish)), ["web", "www", "0123456789ab", "site"]);
    }
}
