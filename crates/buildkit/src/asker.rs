//! The client behind a build: what the builder asks for comes out of its session. Directories are brought here once per build, the
//! Dockerfile at once, the others when a step wants them.

use crate::attributes::{self, Attributes};
use crate::bridge::Inputs;
use crate::failure::{Failure, Source};
use crate::ignorefile;
use crate::session::{FileSender, Session, SyncOptions};
use crate::step::Step;
use crate::tree::{Place, Store, SyncError};
use async_trait::async_trait;
use corten_build::{
    Agent, Content, Definition, Error, Input, Login, Origin, RemoteContext, Result, Teller, Tree,
};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// What is shown of a Dockerfile beside an error is the file: as large as clients take messages, with room for the rest.
const DOCKERFILE_BYTES_MAX: u64 = 10 << 20;
const IGNORE_FILE: &str = ".dockerignore";

/// The client's session, and others of its that have directories, by its names for these: builds that it asks for at once share one.
pub struct Sessions {
    pub own: Arc<Session>,
    pub others: HashMap<String, Arc<Session>>,
}

impl Sessions {
    fn with(&self, directory: &str) -> &Session {
        self.others.get(directory).unwrap_or(&self.own)
    }
}

/// What a client has besides files.
pub struct Client(pub Arc<Session>);

/// One build's client.
pub struct Asker {
    sessions: Sessions,
    client: Client,
    store: Store,
    teller: Teller,
    /// Tells this build's steps from another's.
    reference: String,
    context_name: String,
    dockerfile: Tree,
    /// The context, where it is not the client's.
    remote: Option<Tree>,
    source: Arc<Source>,
    /// Of the `.dockerignore` that belongs to the Dockerfile, if there is one.
    own_patterns: Option<Vec<String>>,
    trees: Mutex<HashMap<String, Arc<OnceCell<Tree>>>>,
    inputs: Inputs,
}

impl Asker {
    /// Fetches the Dockerfile, and says in the options which file it is.
    pub async fn prepare(
        sessions: Sessions,
        store: Store,
        teller: Teller,
        reference: &str,
        attributes: &mut Attributes,
        remote: Option<RemoteContext>,
        inputs: Inputs,
    ) -> std::result::Result<Self, Failure> {
        let filename = match attributes.options.dockerfile.as_str() {
            "" => "Dockerfile".to_owned(),
            name => name.to_owned(),
        };
        let origin = remote.as_ref().and_then(|remote| remote.origin.clone());
        let has_dockerfile = !attributes.has_own_dockerfile;
        attributes.options.origin = origin.map(|origin| Origin { has_dockerfile, ..origin });
        let elsewhere = remote.as_ref().filter(|_| !attributes.has_own_dockerfile);
        let (dockerfile, mut filename) = match elsewhere {
            Some(remote) => (remote.tree.clone(), remote.dockerfile.map_or(filename, str::to_owned)),
            None => {
                let fetcher = Fetcher { sessions: &sessions, store: &store, teller: &teller, reference };
                let tree = fetcher.dockerfile(&filename, &attributes.dockerfile_name).await;
                (tree.map_err(|error| Failure(crate::failure::status(&error, None)))?, filename)
            }
        };
        let read = |name: &str, bytes_max| read_below(&dockerfile, name, bytes_max);
        let mut text = read(&filename, DOCKERFILE_BYTES_MAX)?;
        if text.is_none() && filename == "Dockerfile" {
            // As BuildKit has it: people on other systems are lazy about case.
            text = read("dockerfile", DOCKERFILE_BYTES_MAX)?;
            if text.is_some() {
                filename = "dockerfile".to_owned();
            }
        }
        let Some(text) = text else {
            let message = format!("failed to read dockerfile: open {filename}: no such file or directory");
            return Err(Failure(tonic::Status::unknown(message)));
        };
        attributes::check_syntax(syntax_directive(&text).unwrap_or_default())?;
        let own = read(&format!("{filename}.{}", &IGNORE_FILE[1..]), ignorefile::BYTES_MAX)?;
        attributes.options.dockerfile.clone_from(&filename);
        Ok(Self {
            client: Client(sessions.own.clone()),
            remote: remote.map(|remote| remote.tree),
            own_patterns: own.map(|text| ignorefile::patterns(&text)),
            source: Arc::new(Source { filename, text }),
            context_name: attributes.context_name.clone(),
            reference: reference.to_owned(),
            trees: Mutex::default(),
            inputs,
            dockerfile,
            sessions,
            store,
            teller,
        })
    }

    /// The Dockerfile.
    pub fn source(&self) -> Arc<Source> {
        self.source.clone()
    }

    /// Opens the file that the client writes for an output.
    pub async fn send_file(&self, output: usize, about: &BTreeMap<String, String>) -> Result<FileSender> {
        self.sessions.own.send_file(output, about).await.map_err(|status| failed(&status))
    }

    /// Fills the directory that the client has for an output, or one with the name `below` in it; without a root it stays empty.
    pub async fn send_directory(&self, output: usize, below: &str, root: Option<OwnedFd>) -> Result<()> {
        self.sessions.own.send_directory(output, below, root).await.map_err(|status| failed(&status))
    }

    /// The Dockerfile, and what it leaves out of its context.
    pub async fn definition(&self) -> Result<Definition> {
        let patterns = self.patterns("context", &self.context_name).await?;
        Ok(Definition {
            name: self.source.filename.clone(),
            text: String::from_utf8_lossy(&self.source.text).into_owned(),
            ignore: Some(patterns.join("\n")),
        })
    }

    fn fetcher(&self) -> Fetcher<'_> {
        Fetcher {
            sessions: &self.sessions,
            store: &self.store,
            teller: &self.teller,
            reference: &self.reference,
        }
    }

    /// What of a directory is not wanted.
    async fn patterns(&self, name: &str, client_name: &str) -> Result<Vec<String>> {
        if let Some(patterns) = &self.own_patterns
            && name == "context"
        {
            return Ok(patterns.clone());
        }
        if let Some(remote) = self.remote.as_ref().filter(|_| name == "context") {
            let text = read_below(remote, IGNORE_FILE, ignorefile::BYTES_MAX)
                .map_err(|Failure(status)| failed(&status))?;
            return Ok(text.map(|text| ignorefile::patterns(&text)).unwrap_or_default());
        }
        let options = SyncOptions {
            name: client_name.to_owned(),
            include: vec![IGNORE_FILE.to_owned()],
            follow: vec![IGNORE_FILE.to_owned()],
            ..SyncOptions::default()
        };
        let fetcher = self.fetcher();
        let step = fetcher.step(&about(name, IGNORE_FILE));
        let place = step.run("transferring context:", |n| fetcher.sync(&options, "ignore", n)).await?;
        let text = read_below(&tree(place)?, IGNORE_FILE, ignorefile::BYTES_MAX)
            .map_err(|Failure(status)| failed(&status))?;
        Ok(text.map(|text| ignorefile::patterns(&text)).unwrap_or_default())
    }

    async fn fetch(&self, name: &str, client_name: &str) -> Result<Tree> {
        let fetcher = self.fetcher();
        let exclude = self.patterns(name, client_name).await?;
        let options = SyncOptions { name: client_name.to_owned(), exclude, ..SyncOptions::default() };
        let what = if name == "context" { "build context" } else { "from client" };
        let step = fetcher.step(&about(name, what));
        tree(step.run("transferring context:", |received| fetcher.sync(&options, "files", received)).await?)
    }
}

#[async_trait]
impl corten_build::Asker for Asker {
    async fn tree(&self, name: &str) -> Result<Tree> {
        if name == "dockerfile" {
            return Ok(self.dockerfile.clone());
        }
        if let Some(remote) = self.remote.as_ref().filter(|_| name == "context") {
            return Ok(remote.clone());
        }
        let client_name = if name == "context" { &self.context_name } else { name };
        let cell = {
            let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
            trees.entry(name.to_owned()).or_default().clone()
        };
        cell.get_or_try_init(|| self.fetch(name, client_name)).await.cloned()
    }

    async fn secret(&self, id: &str) -> Result<Option<Vec<u8>>> {
        self.client.secret(id).await
    }

    async fn ssh(&self, id: &str) -> Result<Option<Arc<dyn Agent>>> {
        self.client.ssh(id).await
    }

    async fn login(&self, registry: &str) -> Result<Option<Login>> {
        self.client.login(registry).await
    }

    async fn content(&self, store: &str) -> Result<Option<Arc<dyn Content>>> {
        self.client.content(store).await
    }

    async fn input(&self, name: &str) -> Result<Arc<Input>> {
        let promise = self.inputs.get(name);
        promise.ok_or_else(|| Error::Invalid(format!("invalid input {name}")))?.kept().await
    }

    fn tells_of_trees(&self) -> bool {
        true
    }
}

#[async_trait]
impl corten_build::Asker for Client {
    async fn tree(&self, name: &str) -> Result<Tree> {
        Err(Error::Internal(format!("{name} is not looked for yet")))
    }

    async fn secret(&self, id: &str) -> Result<Option<Vec<u8>>> {
        self.0.secret(id).await.map_err(|status| failed(&status))
    }

    async fn ssh(&self, id: &str) -> Result<Option<Arc<dyn Agent>>> {
        let agent = self.0.ssh(id).await.map_err(|status| failed(&status))?;
        Ok(agent.map(|agent| Arc::new(agent) as Arc<dyn Agent>))
    }

    async fn login(&self, registry: &str) -> Result<Option<Login>> {
        self.0.credentials(registry).await.map_err(|status| failed(&status))
    }

    async fn content(&self, store: &str) -> Result<Option<Arc<dyn Content>>> {
        let content = self.0.content(store).map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(content.map(|content| Arc::new(content) as Arc<dyn Content>))
    }
}

/// The name of a step that brings something of a directory.
fn about(name: &str, what: &str) -> String {
    match name {
        "context" => format!("[internal] load {what}"),
        _ => format!("[context {name}] load {what}"),
    }
}

fn failed(status: &tonic::Status) -> Error {
    Error::Internal(status.message().to_owned())
}

fn tree(place: Place) -> Result<Tree> {
    let root =
        File::open(place.files()).map_err(|error| Error::Internal(format!("open the context: {error}")))?;
    Ok(Tree { root: Arc::new(root.into()), keep: Some(Arc::new(place)) })
}

/// Brings directories of one build's client.
struct Fetcher<'f> {
    sessions: &'f Sessions,
    store: &'f Store,
    teller: &'f Teller,
    reference: &'f str,
}

impl Fetcher<'_> {
    /// The Dockerfile, with what belongs to it.
    async fn dockerfile(&self, filename: &str, directory: &str) -> Result<Tree> {
        let wanted =
            vec![filename.to_owned(), format!("{filename}.{}", &IGNORE_FILE[1..]), filename.to_lowercase()];
        let options = SyncOptions {
            name: directory.to_owned(),
            include: wanted.clone(),
            follow: wanted,
            ..SyncOptions::default()
        };
        let step = self.step(&format!("[internal] load build definition from {filename}"));
        tree(
            step.run("transferring dockerfile:", |received| self.sync(&options, "dockerfile", received))
                .await?,
        )
    }

    /// `what` tells apart what is kept of the same directory with different choices of its files.
    async fn sync(
        &self,
        options: &SyncOptions,
        what: &'static str,
        received: Arc<AtomicU64>,
    ) -> Result<Place> {
        let session = self.sessions.with(&options.name);
        let (store, key, name) = (self.store.clone(), session.shared_key().to_owned(), options.name.clone());
        let hold = move || match key.as_str() {
            "" => store.hold(None),
            key => store.hold(Some(&[key, &name, what])),
        };
        let place = tokio::task::spawn_blocking(hold).await;
        let place = place.map_err(|error| Error::Internal(format!("open the context: {error}")))?;
        let synced = match place {
            Ok(place) => session.sync(options, place, received).await,
            Err(error) => Err(error),
        };
        synced.map_err(|error| match error {
            SyncError::Disk { .. } => Error::Internal(error.to_string()),
            SyncError::BrokenOff => Error::Canceled,
            other => Error::Invalid(format!("{}: {other}", options.name)),
        })
    }

    fn step(&self, name: &str) -> Step<'_> {
        Step::new(self.teller, self.reference, name)
    }
}

/// A file of a tree, if it is there; links are followed within it.
fn read_below(tree: &Tree, name: &str, bytes_max: u64) -> std::result::Result<Option<Vec<u8>>, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure(tonic::Status::unknown(format!("failed to read {name}: {error}")))
    };
    let file = match open_below(&tree.root, name) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    let mut text = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut text).map_err(|error| failed(&error))?;
    match text.len() as u64 > bytes_max {
        true => Err(failed(&format!("it is longer than {bytes_max} bytes"))),
        false => Ok(Some(text)),
    }
}

/// Opens a file in a tree, through links that stay within it.
fn open_below(root: &OwnedFd, name: &str) -> rustix::io::Result<File> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // A pipe must not keep us waiting.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(openat2(root, name, flags, Mode::empty(), resolve)?.into())
}

/// The value of the directive `# syntax=` in the first lines.
fn syntax_directive(text: &[u8]) -> Option<&str> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let lines = text.split(|&byte| byte == b'\n').map(|line| std::str::from_utf8(line).unwrap_or_default());
    for line in lines {
        // Directives end where something else begins, be it a blank line.
        let (name, value) = line.trim().strip_prefix('#')?.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("syntax") {
            return Some(value.trim());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_syntax_is_found_where_directives_are() {
        assert_eq!(syntax_directive(b"# syntax=a/b:1\nFROM x"), Some("a/b:1"));
        assert_eq!(syntax_directive(b"\xef\xbb\xbf#escape=`\r\n# Syntax = a \r\n"), Some("a"));
        assert_eq!(syntax_directive(b"# a comment\n# syntax=a\n"), None);
        assert_eq!(syntax_directive(b"FROM x\n# syntax=a\n"), None);
        assert_eq!(syntax_directive(b""), None);
    }
}
