//! A client that has sent all it has with its request; only its SSH agents stay with it.

use super::agents::ClientAgent;
use async_trait::async_trait;
use corten_build::{Agent, Asker, Error, Result, Tree};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub struct Sent {
    /// By name.
    pub trees: HashMap<String, Tree>,
    /// By id.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// By id.
    pub agents: HashMap<String, Arc<ClientAgent>>,
}

#[async_trait]
impl Asker for Sent {
    async fn tree(&self, name: &str) -> Result<Tree> {
        let tree = self.trees.get(name).cloned();
        tree.ok_or_else(|| {
            Error::Invalid(format!("the build has no {name}: there are no files to copy from"))
        })
    }

    async fn secret(&self, id: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.secrets.get(id).cloned())
    }

    async fn ssh(&self, id: &str) -> Result<Option<Arc<dyn Agent>>> {
        Ok(self.agents.get(id).map(|agent| agent.clone() as Arc<dyn Agent>))
    }
}
