//! COPY, ADD and WORKDIR: what is put, where it comes from, and whether that was put there before.

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
use crate::worker::FETCHED;
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

enum PutSource {
    Path { path: Vec<u8>, filter: Arc<dyn Filter + Send>, with_parents: Option<usize> },
    Archive { path: Vec<u8> },
    Document { bytes: Vec<u8> },
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
                if !state.stack.absent().is_empty() && self.put_as_told(&request, &transport).await? {
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
        let found = pattern::expand(&from.root, &wanted, from.filter.as_ref())
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
            let filter = excluding(from, &transfer.exclude, &path)?;
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
            let target =
                if target.ends_with('/') { format!("{target}{}", document.name) } else { target.to_owned() };
            Ok(Put { source: PutSource::Document { bytes: text.into_bytes() }, target })
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
        let Transport { kind, transfer, .. } = transport;
        let destination = self.word(&transfer.destination)?;
        let many = puts.len() > 1;
        if many
            && !destination.ends_with('/')
            && !is_plain_directory(&destination)
            && transfer.sources.len() + transfer.documents.len() > 1
        {
            return Err(Error::Invalid(format!(
                "When using {} with more than one source file, the destination must be a directory and end with a /",
                kind.to_uppercase()
            )));
        }
        let (key, _turn) = loop {
            let seen;
            (puts, seen) = self.look(from, puts).await?;
            let Seen { fingerprint, newest } = seen;
            self.count(newest);
            if let Some(request) = transport.request {
                self.build.note_source(CachedSource { request, fingerprint, newest });
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
        let Transport { shown, mode, chown, .. } = transport;
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
        let mut items = Vec::new();
        for put in puts {
            if let PutSource::Remote { remote, .. } = &put.source {
                keep.extend(remote.fetched.tree.clone());
            }
            items.push(self.item(put, from, base.as_ref(), owner, mode.clone(), chown.is_some())?);
        }
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

    fn item(
        &self,
        put: Put,
        from: &From,
        base: Option<&OwnedFd>,
        owner: Owner,
        mode: ModeChange,
        has_owner: bool,
    ) -> Result<Item> {
        let absolute = self.absolute(&put.target);
        let is_directory = absolute.ends_with('/') || is_plain_directory(&put.target);
        let clean = pattern::clean(&absolute);
        let target = clean.trim_start_matches('/').as_bytes().to_vec();
        Ok(match put.source {
            PutSource::Path { path, filter, with_parents } => {
                let resolved = corten_image::files::resolve_existing(&*from.root, &path)
                    .unwrap_or_else(|_| path.clone());
                let is_tree =
                    corten_image::files::stat(&*from.root, &resolved).is_ok_and(|stat| stat.is_directory());
                let name = base_name(&path).to_vec();
                let target = match is_tree {
                    true => target,
                    false if is_directory || is_directory_of(base, &target) => join(&target, &name),
                    false => target,
                };
                let source = Source::Path { root: from.root.clone(), path, filter, with_parents };
                Item { source, owner, mode, target }
            }
            PutSource::Archive { path } => {
                let name = String::from_utf8_lossy(&path).into_owned();
                let file = corten_image::build::open_file(&from.root, &path)
                    .map_err(|error| Error::Invalid(format!("cannot read {name}: {error}")))?;
                let reader = archive::reader(file)?;
                let owner = if has_owner { owner } else { Owner::AsItWas };
                Item { source: Source::Archive { name, reader }, owner, mode, target }
            }
            PutSource::Remote { remote, unpacks, exclude } => {
                let tree = remote.fetched.tree.clone();
                let tree =
                    tree.ok_or_else(|| Error::Internal("a source of ADD was not fetched".to_owned()))?;
                let root = tree.root.clone();
                let name = match remote.origin {
                    Origin::File { name, .. } => name,
                    Origin::Repository(_) => {
                        let all = From::tree(tree, Arc::new(TakeAll));
                        let filter = excluding(&all, &exclude, "")?;
                        let source = Source::Path { root, path: Vec::new(), filter, with_parents: None };
                        return Ok(Item { source, owner, mode, target });
                    }
                };
                let file = || corten_image::build::open_file(&root, FETCHED.as_bytes());
                let failed = |error| Error::Internal(format!("cannot read {name}: {error}"));
                if unpacks && archive::is_archive(&file().map_err(failed)?)? {
                    let reader = archive::reader(file().map_err(failed)?)?;
                    let owner = if has_owner { owner } else { Owner::AsItWas };
                    return Ok(Item { source: Source::Archive { name, reader }, owner, mode, target });
                }
                let target = match is_directory || is_directory_of(base, &target) {
                    true => join(&target, name.as_bytes()),
                    false => target,
                };
                let (path, filter) = (FETCHED.as_bytes().to_vec(), Arc::new(TakeAll));
                let source = Source::Path { root, path, filter, with_parents: None };
                Item { source, owner, mode, target }
            }
            PutSource::Document { bytes } => Item {
                source: Source::Bytes { bytes, mode: 0o644, mtime: self.state.newest },
                owner,
                mode,
                target,
            },
        })
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

/// `.` and `..` name directories without a slash.
fn is_plain_directory(target: &str) -> bool {
    matches!(target.rsplit('/').next(), Some("." | ".."))
}

fn is_directory_of(base: Option<&OwnedFd>, target: &[u8]) -> bool {
    let Some(base) = base else { return target.is_empty() };
    let resolved = corten_image::files::resolve(base, target).unwrap_or_else(|_| target.to_vec());
    corten_image::files::stat(base, &resolved).is_ok_and(|stat| stat.is_directory())
}

fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

fn join(above: &[u8], name: &[u8]) -> Vec<u8> {
    if above.is_empty() { name.to_vec() } else { [above, b"/", name].concat() }
}

fn mode_change(text: &str) -> Result<ModeChange> {
    ModeChange::parse(text).ok_or_else(|| {
        Error::Invalid(format!(
            "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777, or symbolic as u=rwX,go-w"
        ))
    })
}
