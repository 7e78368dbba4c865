//! All networks in memory, by id and by name. The database is their journal; this is the truth.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::{NetworkRecord, canonical};
use crate::error::{Error, Result};

#[derive(Default)]
pub struct NetworkRegistry {
    /// Ordered by id, so that a prefix is a range.
    by_id: RwLock<BTreeMap<String, Arc<NetworkRecord>>>,
    /// One network is made or removed at a time.
    pub changing: tokio::sync::Mutex<()>,
}

impl NetworkRegistry {
    pub fn insert(&self, record: NetworkRecord) -> Arc<NetworkRecord> {
        let record = Arc::new(record);
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        by_id.insert(record.id.clone(), record.clone());
        record
    }

    pub fn remove(&self, id: &str) {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<Arc<NetworkRecord>> {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = by_id.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub fn by_id(&self, id: &str) -> Option<Arc<NetworkRecord>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    pub fn by_name(&self, name: &str) -> Option<Arc<NetworkRecord>> {
        let name = canonical(name);
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        by_id.values().find(|record| record.name == name).cloned()
    }

    /// By id, name, or the beginning of an id, in this order.
    pub fn find(&self, key: &str) -> Result<Arc<NetworkRecord>> {
        if let Some(found) = self.by_id(key).or_else(|| self.by_name(key)) {
            return Ok(found);
        }
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        let mut matching = by_id.range(key.to_owned()..).take_while(|(id, _)| id.starts_with(key));
        match (matching.next().filter(|_| !key.is_empty()), matching.next()) {
            (Some((_, found)), None) => Ok(found.clone()),
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "network {key} is ambiguous ({} matches found based on ID prefix)",
                2 + matching.count()
            ))),
            (None, _) => Err(Error::not_found(format!("network {key} not found"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_found_by_id_name_or_the_beginning_of_its_id() {
        let registry = NetworkRegistry::default();
        for (id, name) in [("abc1", "web"), ("abc2", "abc1-name"), ("def0", "bridge")] {
            registry.insert(NetworkRecord { id: id.into(), name: name.into(), ..NetworkRecord::default() });
        }
        let id = |key: &str| registry.find(key).map(|record| record.id.clone());
        assert_eq!(id("abc2").unwrap(), "abc2");
        assert_eq!(id("web").unwrap(), "abc1");
        assert_eq!(id("d").unwrap(), "def0");
        assert_eq!(id("nat").unwrap(), "def0");
        assert!(id("abc").unwrap_err().message.contains("2 matches found based on ID prefix"));
        assert_eq!(id("xyz").unwrap_err().message, "network xyz not found");
        registry.remove("def0");
        assert!(id("bridge").is_err());
    }
}
