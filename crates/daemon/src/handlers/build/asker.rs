//! A client that has sent all it has with its request; only its SSH agents and its stores of blobs stay with it.

use super::connections::{ClientAgent, ClientContent};
use async_trait::async_trait;
use corten_build::{
    Agent, Asker, CONTEXT, Content, DEFINITION, Error, Options, RemoteContext, Result, Teller, Tree,
};
use corten_engine::Engine;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

#[derive(Clone, Default)]
pub struct Sent {
    /// By name.
    pub trees: HashMap<String, Tree>,
    /// By id.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// By id.
    pub agents: HashMap<String, Arc<ClientAgent>>,
    pub content: Option<Arc<ClientContent>>,
}

impl Sent {
    /// A context of another host, by which the client is asked for nothing more.
    pub async fn fetch(
        &mut self,
        engine: &Engine,
        url: &str,
        options: &Options,
        teller: &Teller,
    ) -> Result<RemoteContext> {
        let asker = Arc::new(self.clone());
        let fetched = engine.build_remote_context(url, options, asker, teller).await?;
        self.take(fetched.tree.clone());
        Ok(fetched)
    }

    /// A context with its Dockerfile.
    pub fn take(&mut self, tree: Tree) {
        self.trees.insert(CONTEXT.to_owned(), tree.clone());
        self.trees.insert(DEFINITION.to_owned(), tree);
    }
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

    async fn content(&self, store: &str) -> Result<Option<Arc<dyn Content>>> {
        let Some(content) = &self.content else { return Ok(None) };
        let store = content.store(store).await;
        store.map(Some).map_err(|error| Error::Invalid(format!("the client is not connected: {error}")))
    }
}
