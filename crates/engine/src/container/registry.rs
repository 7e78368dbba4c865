//! All containers in memory, by id and by name. The database is their journal; this is the truth.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use super::Container;
use crate::error::{Error, Result};

#[derive(Default)]
pub struct Registry {
    index: RwLock<Index>,
}

#[derive(Default)]
struct Index {
    /// Ordered, so that a prefix is a range.
    by_id: BTreeMap<String, Arc<Container>>,
    ids_by_name: HashMap<String, String>,
}

impl Registry {
    /// Takes a name for a container that is about to exist.
    pub fn insert(&self, container: Arc<Container>) -> Result<()> {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let (id, name) = (container.id.clone(), container.name());
        if let Some(owner) = index.ids_by_name.get(&name) {
            return Err(name_in_use(&name, owner));
        }
        index.ids_by_name.insert(name, id.clone());
        index.by_id.insert(id, container);
        Ok(())
    }

    /// Takes a further name for a container. Both mean it, until it gives one up: a name that the database still has for it must
    /// not become another's.
    pub fn add_name(&self, id: &str, name: &str) -> Result<()> {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(owner) = index.ids_by_name.get(name) {
            return Err(name_in_use(name, owner));
        }
        index.ids_by_name.insert(name.to_owned(), id.to_owned());
        Ok(())
    }

    pub fn give_up_name(&self, name: &str) {
        self.index.write().unwrap_or_else(PoisonError::into_inner).ids_by_name.remove(name);
    }

    pub fn knows(&self, id: &str) -> bool {
        self.index.read().unwrap_or_else(PoisonError::into_inner).by_id.contains_key(id)
    }

    pub fn remove(&self, id: &str) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(container) = index.by_id.remove(id) {
            index.ids_by_name.remove(&container.name());
        }
    }

    /// By full id, name, or an unambiguous beginning of an id; in this order, as Docker does.
    pub fn find(&self, key: &str) -> Result<Arc<Container>> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        if key.is_empty() {
            return Err(Error::invalid("no container name or ID given"));
        }
        if let Some(container) = index.by_id.get(key) {
            return Ok(container.clone());
        }
        let name = key.strip_prefix('/').unwrap_or(key);
        if let Some(container) = index.ids_by_name.get(name).and_then(|id| index.by_id.get(id)) {
            return Ok(container.clone());
        }
        let mut matching = index.by_id.range(key.to_owned()..).take_while(|(id, _)| id.starts_with(key));
        match (matching.next(), matching.next()) {
            (Some((_, container)), None) => Ok(container.clone()),
            (Some(_), Some(_)) => {
                Err(Error::invalid(format!("Multiple IDs found with provided prefix: {key}")))
            }
            (None, _) => Err(Error::no_such_container(key)),
        }
    }

    /// All but those of builds.
    pub fn listed(&self) -> Vec<Arc<Container>> {
        let mut all = self.all();
        all.retain(|container| !container.read().is_build_step);
        all
    }

    pub fn all(&self) -> Vec<Arc<Container>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).by_id.values().cloned().collect()
    }
}

fn name_in_use(name: &str, owner: &str) -> Error {
    Error::conflict(format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or rename) that container to be able to reuse that name."
    ))
}
