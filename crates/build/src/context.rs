//! The Dockerfile and the trees that steps copy from, as the asker has them.

use std::sync::Arc;
use std::time::SystemTime;

use corten_image::Digest;
use corten_image::build::{Filter, TakeAll, read_file};

use crate::error::{Error, Result};
use crate::ignored::Ignored;
use crate::platform::Build;
use crate::progress::Teller;
use crate::remote_context;
use crate::request::{Asker, Definition, NamedContext, Options, Tree};
use crate::vertex::Told;

/// BuildKit's bound of a message of its session, in which a Dockerfile comes.
const DOCKERFILE_BYTES_MAX: u64 = 16 << 20;

/// The name of the tree that the Dockerfile is in, and of the one that steps copy from.
pub const DEFINITION: &str = "dockerfile";
pub const CONTEXT: &str = "context";

/// Reads the Dockerfile, and the file that says what of the context is not wanted.
pub async fn definition(asker: &dyn Asker, options: &Options, teller: &Teller) -> Result<Definition> {
    let given = options.definition.clone();
    let path = if options.dockerfile.is_empty() { "Dockerfile" } else { &options.dockerfile };
    let name = match &given {
        Some(given) => given.name.clone(),
        None => path.rsplit('/').next().unwrap_or(path).to_owned(),
    };
    let label = format!("[internal] load build definition from {name}");
    let mut told = Told::new(teller, Digest::of(b"definition"), label, Vec::new());
    let tells = !asker.tells_of_trees();
    if tells {
        told.start().await?;
    }
    let started = SystemTime::now();
    let read = async {
        if let Some(given) = given {
            return Ok(given);
        }
        let tree = asker.tree(DEFINITION).await?;
        let text = read(&tree, path)?.ok_or_else(|| {
            Error::Invalid(format!("failed to read dockerfile: open {path}: no such file or directory"))
        })?;
        // Its own list goes before that of the context.
        let ignore = match read(&tree, &format!("{path}.dockerignore"))? {
            Some(ignore) => Some(ignore),
            None => read(&asker.tree(CONTEXT).await?, ".dockerignore")?,
        };
        Ok(Definition { name: name.clone(), text, ignore })
    };
    if !tells {
        return read.await;
    }
    let read = read.await;
    if let Ok(definition) = &read {
        let bytes = definition.text.len() as u64;
        told.done(format!("transferring dockerfile: {name}"), bytes, started).await?;
    }
    told.end(read).await
}

fn read(tree: &Tree, path: &str) -> Result<Option<String>> {
    let bytes = read_file(&tree.root, path.as_bytes(), DOCKERFILE_BYTES_MAX);
    let bytes = bytes.map_err(|error| Error::Invalid(format!("cannot read {path}: {error}")))?;
    Ok(bytes.map(|bytes| match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }))
}

/// What of the context is left out.
pub struct Context {
    ignored: Arc<dyn Filter + Send>,
}

impl Context {
    pub fn new(ignore: Option<&str>) -> Result<Context> {
        let ignored: Arc<dyn Filter + Send> = match ignore {
            Some(text) => Arc::new(Ignored::parse(text)?),
            None => Arc::new(TakeAll),
        };
        Ok(Context { ignored })
    }

    pub fn filter(&self) -> Arc<dyn Filter + Send> {
        self.ignored.clone()
    }
}

impl Build {
    /// The tree that a named context is; none where it is an image, or there is none.
    pub async fn named_tree(&self, name: &str) -> Result<Option<Tree>> {
        let url = match self.options.contexts.get(name) {
            Some(NamedContext::Tree(tree)) => return self.tree(tree).await.map(Some),
            Some(NamedContext::Remote(url)) => url,
            Some(NamedContext::Image(_) | NamedContext::Layout { .. } | NamedContext::Input(_)) | None => {
                return Ok(None);
            }
        };
        let mut remotes = self.remotes.lock().await;
        if let Some(known) = remotes.get(url) {
            known.origin.iter().for_each(|origin| self.note(origin.material.clone()));
            return Ok(Some(known.tree.clone()));
        }
        let place = format!("[context {name}] load");
        let fetched = remote_context::fetch(self.worker.as_ref(), url, &place, false, &self.teller).await?;
        fetched.origin.iter().for_each(|origin| self.note(origin.material.clone()));
        let tree = fetched.tree.clone();
        remotes.insert(url.clone(), fetched);
        Ok(Some(tree))
    }

    /// A tree of the asker's, asked for once.
    pub async fn tree(&self, name: &str) -> Result<Tree> {
        // What was fetched from another host is among the materials.
        if name != CONTEXT || self.options.origin.is_none() {
            self.note_asked_for("local", name);
        }
        let mut trees = self.trees.lock().await;
        if let Some(tree) = trees.get(name) {
            return Ok(tree.clone());
        }
        if self.asker.tells_of_trees() {
            let tree = self.asker.tree(name).await?;
            trees.insert(name.to_owned(), tree.clone());
            return Ok(tree);
        }
        let label = match name {
            CONTEXT => "[internal] load build context".to_owned(),
            name => format!("[context {name}] load from client"),
        };
        let mut told =
            Told::new(&self.teller, Digest::of(format!("tree {name}").as_bytes()), label, Vec::new());
        told.start().await?;
        let tree = told.end(self.asker.tree(name).await).await?;
        trees.insert(name.to_owned(), tree.clone());
        Ok(tree)
    }
}
