//! COPY, ADD and WORKDIR: what is put, where it comes from, and whether that was put there before.

mod items;
mod seen;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use corten_image::Digest;
use corten_image::build::{
    CachedSource, Filter, Graft, Item, ModeChange, Owner, Source, StepLayer, TakeAll, Verdict,
};

use crate::archive;
use crate::context::CONTEXT;
use crate::dockerfile::{self, Add, Copy, Instruction, Located, Transfer};
use crate::error::{Error, Result};
use crate::ignored::Excluding;
use crate::key::Key;
use crate::pattern;
use crate::platform::Claim;
use crate::remote::{Origin, Remote};
use crate::repository::without_logins;
use crate::request::Tree;
use crate::stage::Running;
use crate::state::State;
use crate::vertex::Told;
use items::{Placing, base_name};
use seen::Seen;

/// Where sources are looked for.
struct From {
    root: Arc<OwnedFd>,
    filter: Arc<dyn Filter + Send>,
    /// Files of another stage or image keep their owners; those of a context are root's.
    keeps_owners: bool,
    /// What keeps the tree there.
    keep: Option<Tree>,
}

impl From {
    fn tree(tree: Tree, filter: Arc<dyn Filter + Send>) -> From {
        From { root: tree.root.clone(), filter, keeps_owners: false, keep: Some(tree) }
    }

    fn nothing() -> Result<From> {
        let (root, filter) = (Arc::new(archive::nothing()?), Arc::new(TakeAll));
        Ok(From { root, filter, keeps_owners: false, keep: None })
    }
}

/// Where an instruction says that its sources are.
enum Place {
    Tree(From),
    /// In layers, which may not be here.
    Layers(Arc<State>),
}

/// What puts files, with its variables replaced.
struct Transport<'t> {
    /// `copy` or `add`
    kind: &'static str,
    transfer: &'t Transfer,
    /// For the history.
    shown: String,
    mode: ModeChange,
    chown: Option<String>,
    /// What stands for all that is read, where that is in layers.
    request: Option<Digest>,
}

impl Transport<'_> {
    /// A name is looked up in the layers beneath.
    fn names_owner(&self) -> bool {
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
        self.chown.as_deref().is_some_and(|text| !is_number(text))
    }
}

/// One thing that is put.
struct Put {
    source: PutSource,
    target: String,
}

impl Put {
    /// What was fetched for it from another host.
    fn fetched(&self) -> Option<Tree> {
        match &self.source {
            PutSource::Remote { remote, .. } => remote.fetched.tree.clone(),
            _ => None,
        }
    }
}

enum PutSource {
    Path { path: Vec<u8>, filter: Arc<dyn Filter + Send>, with_parents: Option<usize> },
    Archive { path: Vec<u8> },
    Document { name: String, bytes: Vec<u8> },
    Remote { remote: Box<Remote>, unpacks: bool, exclude: Vec<String> },
}

impl Running<'_> {
    pub async fn copy(&mut self, copy: &Copy, instruction: &Located<Instruction>) -> Result<()> {
        let transfer = &copy.transfer;
        let mut told = self.told(&self.shown(instruction));
        let place = match &copy.from {
            None => Place::Tree(self.context().await?),
            Some(name) => self.elsewhere(name).await?,
        };
        told.start().await?;
        let done = async {
            let target = self.word(&transfer.destination)?;
            let sources: Vec<String> =
                transfer.sources.iter().map(|source| self.word(source)).collect::<Result<_>>()?;
            let documents = self.documents(transfer, &target)?;
            let parents = if copy.parents { " --parents" } else { "" };
            let shown = format!("COPY{parents}{} {target} # buildkit", self.transfer_shown(transfer)?);
            let mut transport = self.transport("copy", transfer, shown)?;
            if let Place::Layers(state) = &place {
                // What is put has times, of which the key tells nothing.
                self.state.is_newest_told |= state.is_newest_told;
                let request = self.request(state, copy, &sources, &target, &documents);
                if self.put_as_known(&request, state, &transport).await? {
                    return Ok(true);
                }
                transport.request = Some(request);
            }
            let from = self.opened(place, &told).await?;
            let mut puts = Vec::new();
            for source in &sources {
                self.find(&from, transfer, source, copy.parents, &target, &mut puts)?;
            }
            puts.extend(documents);
            self.put(&from, puts, transport, &told).await
        };
        let outcome = done.await;
        self.finish(told, outcome).await
    }

    pub async fn add(&mut self, add: &Add, instruction: &Located<Instruction>) -> Result<()> {
        let transfer = &add.transfer;
        let mut told = self.told(&without_logins(&self.shown(instruction)));
        let sources: Vec<String> =
            transfer.sources.iter().map(|source| self.word(source)).collect::<Result<_>>()?;
        if add.checksum.is_some() && sources.len() + transfer.documents.len() > 1 {
            return Err(Error::Invalid("checksum can't be specified for multiple sources".to_owned()));
        }
        let origins: Vec<Option<Origin>> =
            sources.iter().map(|source| self.origin(add, source)).collect::<Result<_>>()?;
        let from = match origins.iter().all(Option::is_some) {
            true => From::nothing()?,
            false => self.context().await?,
        };
        told.start().await?;
        let done = async {
            let target = self.word(&transfer.destination)?;
            let mut puts = Vec::new();
            for (source, origin) in sources.iter().zip(origins) {
                if let Some(origin) = origin {
                    let remote = Box::new(self.remote(origin, &told).await?);
                    let (unpacks, exclude) = (add.unpack == Some(true), transfer.exclude.clone());
                    let source = PutSource::Remote { remote, unpacks, exclude };
                    puts.push(Put { source, target: target.clone() });
                    continue;
                }
                if add.checksum.is_some() {
                    return Err(Error::Invalid("checksum requires HTTP(S) or Git source".to_owned()));
                }
                let start = puts.len();
                self.find(&from, transfer, source, false, &target, &mut puts)?;
                for put in &mut puts[start..] {
                    unpacked(put, &from, add, &target)?;
                }
            }
            puts.extend(self.documents(transfer, &target)?);
            let shown = format!("ADD{} {target} # buildkit", self.transfer_shown(transfer)?);
            let transport = self.transport("add", transfer, shown)?;
            self.put(&from, puts, transport, &told).await
        };
        let outcome = done.await;
        self.finish(told, outcome).await
    }

    pub async fn workdir(
        &mut self,
        workdir: &dockerfile::Workdir,
        instruction: &Located<Instruction>,
    ) -> Result<()> {
        let mut told = self.told(&self.shown(instruction));
        told.start().await?;
        let path = self.word(&workdir.path)?;
        let path = pattern::clean(&self.absolute(&path));
        self.state.config().working_dir.clone_from(&path);
        let shown = format!("WORKDIR {path}");
        let done = async {
            let mut key = Key::new("workdir");
            let user = self.state.image.config.user.clone();
            key.stack(&self.state.stack).text(&path).text(&user);
            self.with_epoch(&mut key);
            let key = key.digest();
            let _turn = match self.claim(&key).await? {
                Claim::Known(layer) => {
                    self.take(key, layer, shown)?;
                    return Ok(true);
                }
                Claim::Ours(turn) => turn,
            };
            let base = self.build.merged(&self.state, &told).await?;
            let (uid, gid) = crate::accounts::lookup(base.as_ref(), &user, true)?;
            let target = path.trim_start_matches('/').as_bytes().to_vec();
            let (source, owner, mode) = (Source::Directory, Owner::Is(uid, gid), ModeChange::Keep);
            let item = Item { source, owner, mode, target };
            let graft = Graft { base, items: vec![item], newest: self.state.newest };
            let layer = self.build.graft(self.own_key(key), graft, shown.clone(), Vec::new()).await?;
            self.take(key, layer, shown)?;
            Ok(false)
        };
        let outcome = done.await;
        self.finish(told, outcome).await
    }

    /// Takes what a step made that put files.
    fn take(&mut self, key: Digest, layer: Option<StepLayer>, shown: String) -> Result<()> {
        self.build.note_step(key, layer, shown.trim_end_matches(" # buildkit").to_owned());
        self.state.take(layer, shown)
    }

    /// Ends a step of which is known whether it was found in the cache.
    pub async fn finish(&mut self, mut told: crate::vertex::Told, outcome: Result<bool>) -> Result<()> {
        match outcome {
            Ok(true) => told.cached().await,
            other => told.end(other).await.map(drop),
        }
    }

    /// The instruction with its variables replaced, for progress.
    pub fn shown(&self, instruction: &Located<Instruction>) -> String {
        let display = dockerfile::expand::Expander::display(self.build.dockerfile.directives.escape);
        let expanded = display.word(&instruction.original, &|name| self.variable(name));
        expanded.map_or_else(|_| instruction.original.clone(), |expansion| expansion.text)
    }

    /// Flags and sources for the history, a space in front of each.
    fn transfer_shown(&self, transfer: &Transfer) -> Result<String> {
        let mut words = Vec::new();
        for (flag, value) in [("chown", &transfer.chown), ("chmod", &transfer.chmod)] {
            if let Some(value) = value {
                words.push(format!("--{flag}={}", self.word(value)?));
            }
        }
        for source in &transfer.sources {
            words.push(without_logins(&self.word(source)?));
        }
        words.extend(transfer.documents.iter().map(|document| format!("<<{}", document.name)));
        Ok(words.iter().map(|word| format!(" {word}")).collect())
    }

    async fn context(&self) -> Result<From> {
        let tree = self.build.tree(CONTEXT).await?;
        Ok(From::tree(tree, self.build.context.filter()))
    }

    async fn elsewhere(&self, name: &str) -> Result<Place> {
        let state = match self.stage_named(name)? {
            Some(stage) => self.build.stage(stage).await?,
            None => match self.build.named_tree(name).await? {
                Some(tree) => return Ok(Place::Tree(From::tree(tree, Arc::new(TakeAll)))),
                None => Arc::new(self.build.outside(name, &self.build.platform).await?),
            },
        };
        Ok(Place::Layers(state))
    }

    /// A place with its files here.
    async fn opened(&self, place: Place, told: &Told) -> Result<From> {
        let state = match place {
            Place::Tree(from) => return Ok(from),
            Place::Layers(state) => state,
        };
        let root = match self.build.merged(&state, told).await? {
            Some(root) => root,
            None => archive::nothing()?,
        };
        Ok(From { root: Arc::new(root), filter: Arc::new(TakeAll), keeps_owners: true, keep: None })
    }

    /// What a source of an instruction stands for.
    fn find(
        &self,
        from: &From,
        transfer: &Transfer,
        source: &str,
        parents: bool,
        target: &str,
        puts: &mut Vec<Put>,
    ) -> Result<()> {
        // `--parents` keeps of the path what is behind `/./`.
        let (pivot, source) = match source.find("/./").filter(|_| parents) {
            Some(at) => (pattern::relative(&source[..at]), source[..at].to_owned() + "/" + &source[at + 3..]),
            None => (String::new(), source.to_owned()),
        };
        let wanted = pattern::relative(&source);
        let is_pattern = crate::ignore::has_wildcards(&wanted);
        // What is left out is so of a source; of what is found by `--parents`, of the tree that its paths are kept of.
        let whole = match parents {
            true => Some(excluding(from, &transfer.exclude, &pivot)?),
            false => None,
        };
        let stars = if parents { pattern::Stars::Directories } else { pattern::Stars::Name };
        let found = pattern::expand(&from.root, &wanted, &**whole.as_ref().unwrap_or(&from.filter), stars)
            .map_err(|error| Error::Invalid(format!("cannot look for {source:?}: {error}")))?;
        if found.is_empty() && !is_pattern {
            return Err(self.missing(&wanted, from));
        }
        for path in found {
            let (target, with_parents) = if parents {
                let kept = path.strip_prefix(pivot.as_str()).unwrap_or(&path).trim_start_matches('/');
                (format!("{}/{kept}", target.trim_end_matches('/')), Some(kept.matches('/').count()))
            } else {
                (target.to_owned(), None)
            };
            let filter = match &whole {
                Some(filter) => filter.clone(),
                None => excluding(from, &transfer.exclude, &path)?,
            };
            let stat = corten_image::files::stat(&*from.root, path.as_bytes());
            let is_directory = stat.is_ok_and(|stat| stat.is_directory());
            if filter.verdict(path.as_bytes(), is_directory) == Verdict::Skip {
                continue;
            }
            let source = PutSource::Path { path: path.into_bytes(), filter, with_parents };
            puts.push(Put { source, target });
        }
        Ok(())
    }

    fn missing(&self, wanted: &str, from: &From) -> Error {
        let is_there = corten_image::files::stat(&from.root, wanted.as_bytes()).is_ok();
        let hint = match (is_there, from.keeps_owners) {
            (true, false) => ": it is excluded by .dockerignore or --exclude",
            _ => "",
        };
        Error::Invalid(format!(
            "failed to compute cache key: failed to calculate checksum of {wanted:?}: \"/{wanted}\": not found{hint}"
        ))
    }

    fn documents(&self, transfer: &Transfer, target: &str) -> Result<Vec<Put>> {
        let put = |document: &dockerfile::Document| {
            let text = match document.expand {
                true => self.document(&document.content)?,
                false => document.content.clone(),
            };
            let source = PutSource::Document { name: document.name.clone(), bytes: text.into_bytes() };
            Ok(Put { source, target: target.to_owned() })
        };
        transfer.documents.iter().map(put).collect()
    }

    fn transport<'t>(
        &self,
        kind: &'static str,
        transfer: &'t Transfer,
        shown: String,
    ) -> Result<Transport<'t>> {
        let mode = transfer.chmod.as_deref().map(|text| self.word(text)).transpose()?;
        let mode = mode.as_deref().map_or(Ok(ModeChange::Keep), mode_change)?;
        let chown = transfer.chown.as_deref().map(|text| self.word(text)).transpose()?;
        Ok(Transport { kind, transfer, shown, mode, chown, request: None })
    }

    /// Puts all that was found; tells whether it had been put there before.
    async fn put(
        &mut self,
        from: &From,
        mut puts: Vec<Put>,
        transport: Transport<'_>,
        told: &Told,
    ) -> Result<bool> {
        let transfer = transport.transfer;
        let (key, _turn) = loop {
            let seen;
            (puts, seen) = self.look(from, puts).await?;
            let Seen { fingerprint, newest } = seen;
            self.count(newest);
            if let Some(request) = transport.request {
                let source = CachedSource { request, fingerprint, newest };
                self.build.worker.fingerprints().remember_source(source);
                self.build.note_source(source);
            }
            let key = self.put_key(&transport, from.keeps_owners, &fingerprint);
            let turn = match self.claim(&key).await? {
                Claim::Known(layer) => {
                    self.take(key, layer, transport.shown)?;
                    return Ok(true);
                }
                Claim::Ours(turn) => turn,
            };
            // What is fetched now may be something else than what was known.
            if !self.bring_all(&mut puts, told).await? {
                break (key, turn);
            }
        };
        let Transport { kind, shown, mode, chown, .. } = transport;
        let base = self.build.merged(&self.state, told).await?;
        let owner = match &chown {
            Some(text) => {
                let (uid, gid) = crate::accounts::lookup(base.as_ref(), text, false)?;
                Owner::Is(uid, gid)
            }
            None if from.keeps_owners => Owner::AsItWas,
            None => Owner::Is(0, 0),
        };
        let base = if transfer.link { None } else { base };
        let mut keep: Vec<Tree> = from.keep.clone().into_iter().collect();
        keep.extend(puts.iter().filter_map(Put::fetched));
        let placing = Placing { kind, base: base.as_ref(), owner, has_owner: chown.is_some(), mode };
        let items = self.items(puts, from, &placing)?;
        let graft = Graft { base, items, newest: self.state.newest };
        let layer = self.build.graft(self.own_key(key), graft, shown.clone(), keep).await?;
        self.take(key, layer, shown)?;
        Ok(false)
    }

    /// Fetches the files of other hosts that are not here; tells whether there were some.
    async fn bring_all(&self, puts: &mut [Put], told: &Told) -> Result<bool> {
        let mut has_fetched = false;
        for put in puts {
            if let PutSource::Remote { remote, .. } = &mut put.source {
                has_fetched |= self.bring(remote, told).await?;
            }
        }
        Ok(has_fetched)
    }
}

/// An archive that ADD takes is unpacked, unless it is told not to.
fn unpacked(put: &mut Put, from: &From, add: &Add, target: &str) -> Result<()> {
    let PutSource::Path { path, .. } = &put.source else { return Ok(()) };
    if add.unpack == Some(false) {
        return Ok(());
    }
    let Ok(file) = corten_image::build::open_file(&from.root, path) else { return Ok(()) };
    if archive::is_archive(&file)? {
        *put = Put { source: PutSource::Archive { path: path.clone() }, target: target.to_owned() };
    }
    Ok(())
}

/// The filter of one source of an instruction.
fn excluding(from: &From, exclude: &[String], path: &str) -> Result<Arc<dyn Filter + Send>> {
    if exclude.is_empty() {
        return Ok(from.filter.clone());
    }
    let is_directory =
        corten_image::files::stat(&*from.root, path.as_bytes()).is_ok_and(|stat| stat.is_directory());
    Ok(Arc::new(Excluding::new(from.filter.clone(), exclude, path.as_bytes(), is_directory)?))
}

fn mode_change(text: &str) -> Result<ModeChange> {
    ModeChange::parse(text).ok_or_else(|| {
        Error::Invalid(format!(
            "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777, or symbolic as u=rwX,go-w"
        ))
    })
}
