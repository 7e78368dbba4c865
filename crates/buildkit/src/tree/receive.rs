//! One walk of fsutil's protocol, the receiving side: the client tells of its files in order, we ask for the contents of those that
//! we haven't got, it sends them in pieces, we say that we are done. Synchronous, for a thread that may block on the disk.

use super::SyncError;
use super::apply::{self, Files};
use super::entry::{Entry, Kind};
use super::order::{self, Order};
use super::store::Place;
use crate::wire::fsutil::{Packet, PacketType, Stat};
use bytes::Bytes;
use ring::digest::{Context, SHA256};
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::iter::Peekable;
use std::os::fd::AsFd;
use std::vec::IntoIter;
use tokio::sync::mpsc::Sender;

/// Files whose contents are on their way at the same time. The way of requests has room for all of them, so that asking never waits.
pub const REQUESTS_OUTSTANDING_MAX: usize = 64;
/// When so few are left more are asked for: many at once are one message on the wire, and one change of threads here and there.
const REQUESTS_OUTSTANDING_MIN: usize = 32;

/// What a client may send at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub files: usize,
    /// Of all paths together.
    pub name_bytes: usize,
    /// By how much a file may have grown while it was sent; what it was when the client told of it is what is kept.
    pub growth_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { files: 4 << 20, name_bytes: 512 << 20, growth_bytes: 64 << 20 }
    }
}

/// Brings a place to what the client has, from its packets until it breaks off. `received` hears of each piece of contents.
pub fn receive(
    place: &mut Place,
    packets: &mut dyn Iterator<Item = Packet>,
    requests: &Sender<Packet>,
    limits: Limits,
    received: &mut dyn FnMut(u64),
) -> Result<(), SyncError> {
    let outcome = Walk::new(place, requests, limits).and_then(|walk| walk.run(packets, received));
    match outcome {
        Ok(None) => Ok(()),
        Ok(Some(entries)) => place.settle(entries),
        Err(error) => {
            // Whether the client still listens is its own affair.
            let data = Bytes::from(error.to_string());
            let _ = requests.try_send(Packet { r#type: PacketType::Err as i32, data, ..Packet::default() });
            Err(error)
        }
    }
}

struct Walk<'w> {
    place: &'w mut Place,
    files: Files,
    requests: &'w Sender<Packet>,
    limits: Limits,
    order: Order,
    /// What was here, from where the client's walk has come to.
    old: Peekable<IntoIter<Entry>>,
    new: Vec<Entry>,
    name_bytes: usize,
    /// Of the entries that are sent with contents, where they stand in `new`, by the client's number.
    told: u32,
    ended: bool,
    waiting: VecDeque<(u32, usize)>,
    writing: HashMap<u32, Writing>,
    /// Links to be made when the contents are here: the name, and where it stands in `new`.
    links: Vec<usize>,
    /// Which directories got or lost names, and so a new time.
    touched: BTreeSet<String>,
    /// Files that are other ones than before, by path.
    fresh: BTreeSet<String>,
    changed: bool,
}

/// A file on its way.
struct Writing {
    file: File,
    at: usize,
    hash: Context,
    bytes: u64,
    announced: u64,
}

impl<'w> Walk<'w> {
    fn new(place: &'w mut Place, requests: &'w Sender<Packet>, limits: Limits) -> Result<Self, SyncError> {
        let files = Files::open(&place.files()).map_err(|source| SyncError::Disk {
            step: "open",
            path: place.files().display().to_string(),
            source,
        })?;
        let old = place.take_entries().into_iter().peekable();
        Ok(Self {
            place,
            files,
            requests,
            limits,
            order: Order::default(),
            old,
            new: Vec::new(),
            name_bytes: 0,
            told: 0,
            ended: false,
            waiting: VecDeque::new(),
            writing: HashMap::new(),
            links: Vec::new(),
            touched: BTreeSet::new(),
            fresh: BTreeSet::new(),
            changed: false,
        })
    }

    /// The entries that the place has now, if they are others than before.
    fn run(
        mut self,
        packets: &mut dyn Iterator<Item = Packet>,
        received: &mut dyn FnMut(u64),
    ) -> Result<Option<Vec<Entry>>, SyncError> {
        let mut told_done = false;
        loop {
            if self.ended && self.waiting.is_empty() && self.writing.is_empty() && !told_done {
                self.complete()?;
                self.tell(Packet { r#type: PacketType::Fin as i32, ..Packet::default() })?;
                told_done = true;
            }
            let packet = packets.next().ok_or(SyncError::BrokenOff)?;
            match PacketType::try_from(packet.r#type) {
                Ok(PacketType::Stat) if self.ended => {
                    return Err(SyncError::Unexpected("a file after the last"));
                }
                Ok(PacketType::Stat) => match packet.stat {
                    Some(stat) => self.take(stat)?,
                    None => self.end()?,
                },
                Ok(PacketType::Data) => {
                    received(packet.data.len() as u64);
                    self.write(packet.id, &packet.data)?;
                }
                Ok(PacketType::Fin) if told_done => break,
                Ok(PacketType::Err) => {
                    return Err(SyncError::Client(String::from_utf8_lossy(&packet.data).into_owned()));
                }
                Ok(PacketType::Fin) => return Err(SyncError::Unexpected("an early end")),
                Ok(PacketType::Req) => return Err(SyncError::Unexpected("a request")),
                Err(_) => return Err(SyncError::Unexpected("of an unknown kind")),
            }
        }
        if self.changed {
            return Ok(Some(self.new));
        }
        self.place.keep(self.new);
        Ok(None)
    }

    /// Takes what the client tells of one file.
    fn take(&mut self, stat: Stat) -> Result<(), SyncError> {
        let mut entry = Entry::from_stat(stat)?;
        self.order.take(&entry.path, entry.is_directory())?;
        self.name_bytes += entry.path.len();
        if self.new.len() >= self.limits.files {
            return Err(SyncError::TooManyFiles(self.limits.files));
        }
        if self.name_bytes > self.limits.name_bytes {
            return Err(SyncError::TooManyNames(self.limits.name_bytes));
        }
        let number = self.told;
        // Each of at most four million files has one.
        self.told += 1;
        let old = self.catch_up(&entry.path)?;
        match old {
            Some(old) if old.is_told_as(&entry) && !self.is_link_to_fresh(&entry) => {
                entry.kind = old.kind;
                self.new.push(entry);
                Ok(())
            }
            old => self.replace(number, old.as_ref(), entry),
        }
    }

    /// Removes what was here before the path and isn't any more; what was at the path itself.
    fn catch_up(&mut self, path: &str) -> Result<Option<Entry>, SyncError> {
        loop {
            let Some(next) = self.old.peek() else { return Ok(None) };
            match order::compare(&next.path, path) {
                Ordering::Greater => return Ok(None),
                Ordering::Equal => return Ok(self.old.next()),
                Ordering::Less => self.drop_next()?,
            }
        }
    }

    fn drop_next(&mut self) -> Result<(), SyncError> {
        let Some(gone) = self.old.next() else { return Ok(()) };
        self.before_change()?;
        self.files.remove(&gone.path)?;
        self.touch(&gone.path);
        if gone.is_directory() {
            self.forget_below(&gone.path);
        }
        Ok(())
    }

    fn forget_below(&mut self, directory: &str) {
        while self.old.next_if(|entry| order::is_in(&entry.path, directory)).is_some() {}
    }

    /// Puts an entry in the place of what was there.
    fn replace(&mut self, number: u32, old: Option<&Entry>, entry: Entry) -> Result<(), SyncError> {
        self.before_change()?;
        if old.is_some_and(Entry::is_directory) && entry.is_directory() {
            // Dressed in the end, when nothing changes in it any more.
            self.touched.insert(entry.path.clone());
            self.new.push(entry);
            return Ok(());
        }
        if let Some(old) = old {
            self.files.remove(&old.path)?;
            if old.is_directory() {
                self.forget_below(&old.path);
            }
        }
        self.touch(&entry.path);
        let at = self.new.len();
        match &entry.kind {
            Kind::Directory => {
                self.files.make(&entry)?;
                self.touched.insert(entry.path.clone());
            }
            Kind::Symlink { .. } | Kind::Pipe => self.files.make(&entry)?,
            Kind::HardLink { to } => {
                let target = self.new.binary_search_by(|known| order::compare(&known.path, to));
                if !target.is_ok_and(|at| matches!(self.new[at].kind, Kind::File { .. })) {
                    let what = "a link to what is no file before it";
                    return Err(SyncError::BadEntry { path: entry.path, what });
                }
                self.links.push(at);
            }
            Kind::File { .. } => {
                self.fresh.insert(entry.path.clone());
                self.waiting.push_back((number, at));
            }
        }
        self.new.push(entry);
        self.ask()
    }

    /// Whether a link that is told as before leads to a file that isn't the one from before.
    fn is_link_to_fresh(&self, entry: &Entry) -> bool {
        matches!(&entry.kind, Kind::HardLink { to } if self.fresh.contains(to))
    }

    /// The client has told of everything.
    fn end(&mut self) -> Result<(), SyncError> {
        while self.old.peek().is_some() {
            self.drop_next()?;
        }
        self.ended = true;
        Ok(())
    }

    /// Asks for contents, as many at a time as may be on their way.
    fn ask(&mut self) -> Result<(), SyncError> {
        while self.writing.len() < REQUESTS_OUTSTANDING_MAX
            && let Some((number, at)) = self.waiting.pop_front()
        {
            let Some(Entry { path, kind: Kind::File { bytes, .. }, .. }) = self.new.get(at) else { continue };
            let (path, announced) = (path.clone(), *bytes);
            let file = self.files.create(&path)?;
            let hash = Context::new(&SHA256);
            self.writing.insert(number, Writing { file, at, hash, bytes: 0, announced });
            self.tell(Packet { r#type: PacketType::Req as i32, id: number, ..Packet::default() })?;
        }
        Ok(())
    }

    /// Takes a piece of a file; an empty one is its end.
    fn write(&mut self, number: u32, data: &[u8]) -> Result<(), SyncError> {
        let Some(writing) = self.writing.get_mut(&number) else {
            return Err(SyncError::Unexpected("contents of a file that was not asked for"));
        };
        let path = &self.new[writing.at].path;
        let failed = |source| SyncError::Disk { step: "write", path: path.clone(), source };
        if !data.is_empty() {
            let surplus = (writing.bytes + data.len() as u64).saturating_sub(writing.announced);
            if surplus > self.limits.growth_bytes {
                return Err(SyncError::Endless { path: path.clone() });
            }
            let room = writing.announced.saturating_sub(writing.bytes);
            let kept = &data[..usize::try_from(room).unwrap_or(usize::MAX).min(data.len())];
            writing.file.write_all(kept).map_err(failed)?;
            writing.hash.update(kept);
            writing.bytes += data.len() as u64;
            return Ok(());
        }
        // One that shrank is told of differently next time, and so fetched again then.
        let Some(Writing { file, at, hash, .. }) = self.writing.remove(&number) else {
            return Ok(());
        };
        apply::finish(file.as_fd(), &self.new[at]).map_err(failed)?;
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(hash.finish().as_ref());
        if let Kind::File { sha256: known, .. } = &mut self.new[at].kind {
            *known = Some(sha256);
        }
        if self.writing.len() > REQUESTS_OUTSTANDING_MIN { Ok(()) } else { self.ask() }
    }

    /// All contents are here: links, then the directories' own times, inner ones first.
    fn complete(&mut self) -> Result<(), SyncError> {
        for at in std::mem::take(&mut self.links) {
            if let Entry { path, kind: Kind::HardLink { to }, .. } = &self.new[at] {
                self.files.link(path, to)?;
            }
        }
        for path in std::mem::take(&mut self.touched).iter().rev() {
            if let Ok(at) = self.new.binary_search_by(|entry| order::compare(&entry.path, path)) {
                self.files.dress(&self.new[at])?;
            }
        }
        Ok(())
    }

    fn touch(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.touched.insert(parent.to_owned());
        }
    }

    fn before_change(&mut self) -> Result<(), SyncError> {
        if !self.changed {
            self.place.unsettle()?;
            self.changed = true;
        }
        Ok(())
    }

    fn tell(&self, packet: Packet) -> Result<(), SyncError> {
        self.requests.try_send(packet).map_err(|_| SyncError::BrokenOff)
    }
}
