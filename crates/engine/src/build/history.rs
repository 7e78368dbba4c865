//! Builds that are under way, and those that were: a record of each in the engine's database, and what it told in
//! `<data-root>/build/history/<digest of its reference>`, a line of JSON per event. Nothing of a build depends on either: what can't be
//! written is not there.
//!
//! A build that ends with its engine leaves no record.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use corten_api::build::{BuildEvent, BuildRecord};
use corten_build::{Clip, EVENTS_MAX, Event, Teller};
use corten_image::Digest;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::events::{heard, nanoseconds, told};
use crate::Engine;
use crate::error::{Error, Result};
use crate::store::StateStore;

/// How many builds are kept besides those that are pinned, as BuildKit does.
const KEPT_MAX: usize = 50;
/// Events of a build that are kept besides its output.
const EVENTS_KEPT_MAX: usize = 64 << 10;
/// Digits of a reference that nobody has chosen.
const REFERENCE: usize = 24;

pub struct History {
    root: PathBuf,
    store: Arc<StateStore>,
    active: Mutex<BTreeMap<String, Arc<Mutex<Progress>>>>,
    /// Changes whenever a record does that is not only a count.
    changes: watch::Sender<u64>,
}

/// A build under way.
#[derive(Default)]
struct Progress {
    record: BuildRecord,
    /// The latest state of each step: whether it is over, whether it was found.
    steps: HashMap<Digest, (bool, bool)>,
}

/// How a build ended.
pub enum BuildEnd {
    /// With the image's digest, where one was made, and its names.
    Done {
        image: String,
        names: Vec<String>,
    },
    Failed(String),
}

/// A build that is being recorded. Dropped before its end is told, it was canceled.
pub struct Recording {
    history: Arc<History>,
    progress: Arc<Mutex<Progress>>,
    /// Yields whether who listened has gone.
    writer: Option<JoinHandle<bool>>,
    end: Option<BuildEnd>,
}

impl History {
    pub fn new(root: PathBuf, store: Arc<StateStore>) -> History {
        History { root, store, active: Mutex::default(), changes: watch::Sender::new(0) }
    }

    /// Begins to record a build, about which the caller says what it knows; what it tells goes on to `teller`.
    fn begin(self: &Arc<Self>, mut about: BuildRecord, teller: Teller) -> (Recording, Teller) {
        about.started = nanoseconds(SystemTime::now());
        if about.reference.is_empty() {
            about.reference = crate::id::random()[..REFERENCE].to_owned();
        }
        let reference = about.reference.clone();
        let progress = Arc::new(Mutex::new(Progress { record: about, ..Progress::default() }));
        lock(&self.active).insert(reference.clone(), progress.clone());
        let (own, events) = mpsc::channel(EVENTS_MAX);
        let log = self.log(&reference);
        let writer = tokio::spawn(record(events, teller, progress.clone(), log));
        self.changed();
        (Recording { history: self.clone(), progress, writer: Some(writer), end: None }, own)
    }

    /// Newest first.
    fn records(&self) -> Result<Vec<BuildRecord>> {
        let active: Vec<BuildRecord> = lock(&self.active).values().map(|one| lock(one).counted()).collect();
        let mut records: Vec<BuildRecord> = self.store.builds()?;
        records.retain(|past| active.iter().all(|now| now.reference != past.reference));
        records.extend(active);
        records.sort_by(|a, b| (b.started, &b.reference).cmp(&(a.started, &a.reference)));
        Ok(records)
    }

    /// One that is over.
    fn past(&self, reference: &str) -> Result<BuildRecord> {
        let found = self.store.builds::<BuildRecord>()?.into_iter().find(|one| one.reference == reference);
        found.ok_or_else(|| Error::not_found(format!("no such build: {reference}, or it is not over")))
    }

    fn remove(&self, reference: &str) -> Result<()> {
        self.store.remove_build(reference)?;
        let _ = fs::remove_file(self.log(reference));
        self.changed();
        Ok(())
    }

    fn end(&self, record: &BuildRecord) {
        let written = self.store.put_build(&record.reference, record);
        lock(&self.active).remove(&record.reference);
        if let Err(error) = written.and_then(|()| self.forget_old()) {
            tracing::warn!(build = record.reference, %error, "the history of builds");
        }
        self.changed();
    }

    /// Forgets those that are too many, and what was told of builds of which there is no record.
    fn forget_old(&self) -> Result<()> {
        let records = self.records()?;
        let old = records.iter().filter(|one| one.completed.is_some() && !one.pinned).skip(KEPT_MAX);
        for record in old {
            self.remove(&record.reference)?;
        }
        Ok(())
    }

    /// Removes what builds have told that ended with their engine.
    fn sweep(&self) -> Result<()> {
        let records = self.records()?;
        let known: HashSet<PathBuf> = records.iter().map(|record| self.log(&record.reference)).collect();
        let found = fs::read_dir(&self.root).into_iter().flatten().flatten().map(|entry| entry.path());
        found.filter(|path| !known.contains(path)).for_each(|path| drop(fs::remove_file(path)));
        Ok(())
    }

    /// References are the clients' choice.
    fn log(&self, reference: &str) -> PathBuf {
        self.root.join(Digest::of(reference.as_bytes()).hex())
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Progress {
    fn see(&mut self, event: &Event) {
        match event {
            Event::Vertex(step) => {
                let state = self.steps.entry(step.id).or_default();
                *state = (step.completed.is_some(), step.is_cached);
            }
            Event::Warning(_) => self.record.warnings += 1,
            _ => {}
        }
    }

    fn counted(&self) -> BuildRecord {
        BuildRecord {
            steps: self.steps.len(),
            completed_steps: self.steps.values().filter(|(is_over, _)| *is_over).count(),
            cached_steps: self.steps.values().filter(|(_, is_cached)| *is_cached).count(),
            ..self.record.clone()
        }
    }
}

/// Writes down what is told, and passes it on; ends with the tellers, or with who listens: true then.
async fn record(
    mut events: mpsc::Receiver<Event>,
    teller: Teller,
    progress: Arc<Mutex<Progress>>,
    log: PathBuf,
) -> bool {
    let mut log = Log::open(&log);
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = teller.closed() => return true,
        };
        let Some(event) = event else { return false };
        lock(&progress).see(&event);
        if let Some(log) = &mut log {
            log.write(&event);
        }
        if teller.send(event).await.is_err() {
            return true;
        }
    }
}

struct Log {
    file: BufWriter<File>,
    clip: Clip,
    events: usize,
}

impl Log {
    fn open(path: &std::path::Path) -> Option<Log> {
        // What is missing in the end is seen by who looks for it.
        fs::create_dir_all(path.parent()?).ok()?;
        // Another build may have had its reference.
        let file = corten_sys::private::file(path).and_then(|file| file.set_len(0).map(|()| file)).ok()?;
        Some(Log { file: BufWriter::new(file), clip: Clip::default(), events: 0 })
    }

    fn write(&mut self, event: &Event) {
        let kept = match event {
            Event::Log(line) => {
                let bytes = self.clip.keep(line.vertex, line.bytes.clone());
                bytes.map(|bytes| Event::Log(corten_build::Log { bytes, ..line.clone() }))
            }
            // It was for the one moment.
            Event::Failed(_) => None,
            event => Some(event.clone()).filter(|_| self.events < EVENTS_KEPT_MAX),
        };
        let Some(event) = kept else { return };
        self.events += 1;
        let written = serde_json::to_writer(&mut self.file, &told(event));
        let _ = written.map(|()| self.file.write_all(b"\n"));
    }
}

impl Recording {
    /// All has been told, and nobody tells any more.
    pub async fn end(mut self, end: BuildEnd) {
        let is_gone = match self.writer.take() {
            Some(writer) => writer.await.unwrap_or(false),
            None => false,
        };
        // A build fails because nobody wants it any more.
        self.end = Some(end).filter(|end| !is_gone || matches!(end, BuildEnd::Done { .. }));
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let mut record = lock(&self.progress).counted();
        record.completed = Some(nanoseconds(SystemTime::now()));
        match self.end.take() {
            Some(BuildEnd::Done { image, names }) => (record.image, record.image_names) = (image, names),
            Some(BuildEnd::Failed(error)) => record.error = error,
            None => (record.canceled, record.error) = (true, corten_build::Error::Canceled.to_string()),
        }
        self.history.end(&record);
    }
}

impl Engine {
    /// Begins to record a build: `about` has what is known of it. The caller tells the new teller.
    pub fn record_build(&self, about: BuildRecord, teller: Teller) -> (Recording, Teller) {
        self.builds.history.begin(about, teller)
    }

    /// Builds under way, and the last ones that were; newest first.
    pub async fn build_history(&self) -> Result<Vec<BuildRecord>> {
        let history = self.builds.history.clone();
        crate::image::blocking(move || history.records()).await
    }

    /// Changes with the history.
    pub fn build_history_changes(&self) -> watch::Receiver<u64> {
        self.builds.history.changes.subscribe()
    }

    /// What a build that is over has told, as it told it; of what its steps printed the beginning.
    pub async fn build_history_events(&self, reference: &str) -> Result<Vec<Event>> {
        let (history, reference) = (self.builds.history.clone(), reference.to_owned());
        let read = move || {
            history.past(&reference)?;
            let path = history.log(&reference);
            let file = File::open(&path).map_err(|error| Error::io("open", &path, error))?;
            // One that a full disk has cut counts up to there.
            let lines = BufReader::new(file).lines().map_while(std::io::Result::ok);
            let events = lines.map_while(|line| serde_json::from_str::<BuildEvent>(&line).ok());
            Ok(events.filter_map(heard).collect())
        };
        crate::image::blocking(read).await
    }

    pub async fn build_history_remove(&self, reference: &str) -> Result<()> {
        let (history, reference) = (self.builds.history.clone(), reference.to_owned());
        crate::image::blocking(move || history.past(&reference).and_then(|_| history.remove(&reference)))
            .await
    }

    /// One that is pinned stays.
    pub async fn build_history_pin(&self, reference: &str, pinned: bool) -> Result<()> {
        let (history, reference) = (self.builds.history.clone(), reference.to_owned());
        let pin = move || {
            let record = BuildRecord { pinned, ..history.past(&reference)? };
            history.store.put_build(&reference, &record)?;
            history.changed();
            history.forget_old()
        };
        crate::image::blocking(pin).await
    }

    pub(crate) fn sweep_build_history(&self) {
        if let Err(error) = self.builds.history.sweep() {
            tracing::warn!(%error, "the history of builds");
        }
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
