//! A tree of files as a layer of its own: what is mounted of it, or what a stage begins with.

use std::sync::Arc;

use corten_image::Platform;
use corten_image::build::{
    Filter, Fingerprint, Graft, Item, ModeChange, Owner, Source, Stack, StepLayer, TakeAll,
};

use crate::error::{Error, Result};
use crate::key::Key;
use crate::platform::{Build, Claim};
use crate::request::Tree;
use crate::state::State;

impl Build {
    /// What a tree has at a path, and where it is in the layer: what the filter leaves out is not seen, and a tree that changes
    /// meanwhile is seen as it was.
    pub async fn mounted_tree(
        &self,
        tree: Tree,
        filter: Arc<dyn Filter + Send>,
        path: &str,
        key: &mut Key,
    ) -> Result<(Stack, String)> {
        let seen = self.look(&tree, filter.clone(), path).await?;
        let is_directory =
            corten_image::files::stat(&*tree.root, path.as_bytes()).is_ok_and(|stat| stat.is_directory());
        let place = if is_directory { "tree" } else { "file" };
        let mut own = Key::new("context");
        own.bytes(seen.digest.as_bytes()).text(place);
        key.bytes(own.digest().as_bytes());
        let source = Source::Path {
            root: tree.root.clone(),
            path: path.as_bytes().to_vec(),
            filter,
            with_parents: None,
        };
        let (owner, mode) = (Owner::AsItWas, ModeChange::Keep);
        let item = Item { source, owner, mode, target: place.as_bytes().to_vec() };
        let description = format!("mount of /{path} of the build context");
        let layer = self.tree_layer(own, tree, item, i64::MAX, description).await?;
        let mut stack = Stack::default();
        layer.into_iter().for_each(|layer| stack.push(layer));
        Ok((stack, place.to_owned()))
    }

    /// An image of nothing but a tree's files, which are root's.
    pub async fn tree_image(&self, name: &str, tree: Tree, platform: &Platform) -> Result<State> {
        let filter: Arc<dyn Filter + Send> = Arc::new(TakeAll);
        let seen = self.look(&tree, filter.clone(), "").await?;
        let newest = self.epoch.unwrap_or_else(|| seen.newest.unwrap_or(0));
        let mut key = Key::new("tree");
        key.bytes(seen.digest.as_bytes());
        if let Some(epoch) = self.epoch {
            key.number(epoch);
        }
        let source = Source::Path { root: tree.root.clone(), path: Vec::new(), filter, with_parents: None };
        let (owner, mode) = (Owner::Is(0, 0), ModeChange::Keep);
        let item = Item { source, owner, mode, target: Vec::new() };
        let description = format!("files of the build context {name}");
        let layer = self.tree_layer(key, tree, item, newest, description.clone()).await?;
        let mut state = State::scratch(platform);
        state.newest = newest;
        state.take(layer, description)?;
        Ok(state)
    }

    async fn look(&self, tree: &Tree, filter: Arc<dyn Filter + Send>, path: &str) -> Result<Fingerprint> {
        let (known, root, path) = (self.worker.fingerprints(), tree.root.clone(), path.to_owned());
        let seen = crate::blocking(move || {
            known.of(&root, path.as_bytes(), filter.as_ref(), true).map_err(|error| {
                Error::Invalid(format!("cannot read {path:?} of the build context: {error}"))
            })
        });
        seen.await
    }

    async fn tree_layer(
        &self,
        key: Key,
        tree: Tree,
        item: Item,
        newest: i64,
        description: String,
    ) -> Result<Option<StepLayer>> {
        let key = key.digest();
        // It travels with no cache: who has the files needs none for it.
        match self.claim_here(&key).await? {
            Claim::Known(layer) => Ok(layer),
            Claim::Ours(_turn) => {
                let graft = Graft { base: None, items: vec![item], newest };
                self.graft(key, graft, description, vec![tree]).await
            }
        }
    }
}
