//! BuildKit's protocol at this engine: whoever speaks it has builds done by the engine's builder. This maps what one side says to what the
//! other understands, and knows neither the protocol nor how anything is built.

use crate::bridge::body_writer;
use async_trait::async_trait;
use corten_api::Timestamp;
use corten_api::build::BuildRecord;
use corten_build::{
    Answer, Definition, Error, Event, Input, Options, Question, RemoteContext, Result, Teller, Told, Tree,
};
use corten_buildkit::{
    Builder, Built, Controller, Form, Image, Job, KeptContext, Manifest, Output, Past, Prune, Recording,
    Store, Usage, Worker,
};
use corten_engine::{
    BuildEnd, BuildWish, CacheBounds, CacheEntry, CacheKind, CachePart, CachePrune, CacheRemoval, Engine,
    ErrorKind, check_referrers, check_split,
};
use corten_image::manifest::Descriptor;
use corten_image::{Digest, Platform, Reference};
use std::collections::BTreeMap;
use std::future::Future;
use std::io::BufRead;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tonic::Status;

/// The engine's side of the protocol.
pub fn controller(engine: &Engine) -> Arc<Controller> {
    let contexts = Store::new(engine.build_root().join("contexts"));
    engine.keep_build_contexts(Arc::new(Contexts(contexts.clone())));
    Controller::new(Arc::new(EngineBuilder { engine: engine.clone() }), contexts)
}

struct EngineBuilder {
    engine: Engine,
}

#[async_trait]
impl Builder for EngineBuilder {
    fn worker(&self) -> Worker {
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut labels = BTreeMap::from([
            label("org.mobyproject.buildkit.worker.executor", "corten"),
            // By this one clients know an engine that writes image archives, and pushes, itself.
            label("org.mobyproject.buildkit.worker.snapshotter", "overlayfs"),
        ]);
        // What clients write for `host-gateway` in `--add-host`.
        labels.extend(self.engine.host_gateway().map(|gateway| {
            label("org.mobyproject.buildkit.worker.moby.host-gateway-ip", &gateway.to_string())
        }));
        Worker {
            id: self.engine.instance().to_owned(),
            labels,
            platforms: vec![Platform::host()],
            version: self.engine.version().version,
        }
    }

    async fn build(&self, job: Job) -> Result<Built> {
        let Job { options, outputs, asker, teller, promise } = job;
        let only_files = !outputs.iter().any(Output::wants_image);
        for output in &outputs {
            check(output, &options)?;
        }
        let (caches, names) = (options.cache_to.clone(), options.tags.clone());
        let wish = BuildWish { options, auths: BTreeMap::new(), only_files };
        let built = self.engine.build(wish, asker.clone(), teller.clone()).await?;
        promise.keep(Input::of(&built));
        let mut target = built.target.clone();
        for output in &outputs {
            match output {
                Output::Store { names, push: true } => {
                    for name in names {
                        let pushed =
                            self.engine.build_push(name, &BTreeMap::new(), asker.as_ref(), &teller).await?;
                        // What is at a registry is what others look for.
                        target = pushed.or(target);
                    }
                }
                Output::Store { push: false, .. } | Output::Nothing => {}
                Output::Directory { number, split } => {
                    let mut step = export(&teller, *number, "exporting to client directory");
                    step.start().await?;
                    let sent = async {
                        let trees = self.engine.build_trees(&built, *split).await.map_err(internal)?;
                        if trees.is_empty() {
                            return asker.send_directory(*number, "", None).await;
                        }
                        for tree in trees {
                            asker.send_directory(*number, &tree.below, Some(tree.root)).await?;
                        }
                        Ok(())
                    };
                    let sent = sent.await;
                    step.end(sent).await?;
                }
                Output::Archive { number, split } => {
                    let mut step = export(&teller, *number, "exporting to client tarball");
                    step.start().await?;
                    let (writer, pieces) = body_writer();
                    let files = self.engine.build_files(&built, *split, writer);
                    let sent = send(&asker, *number, pieces, files).await;
                    step.end(sent).await?;
                }
                Output::Image { number, names, .. } => {
                    let Some(target) = &built.target else { continue };
                    let names = match names.as_slice() {
                        [] => vec![target.digest.to_string()],
                        names => names.to_vec(),
                    };
                    let (writer, pieces) = body_writer();
                    let saved = self.engine.image_save(names, Vec::new(), Box::new(writer));
                    send(&asker, *number, pieces, saved).await?;
                }
            }
        }
        let auths = BTreeMap::new();
        let exported =
            self.engine.build_cache_export(&built, &caches, &names, &auths, asker.as_ref(), &teller);
        let sent = exported.await?;
        let cache = sent.first().map(|sent| descriptor(&sent.manifest));
        let canonical = |name: String| Reference::parse(&name).map_or(name, |name| name.to_string());
        let names = names.into_iter().map(canonical).collect();
        let image =
            target.as_ref().map(|target| Image { id: built.id(), manifest: descriptor(target), names });
        Ok(Built { image, cache })
    }

    async fn answer(&self, question: Question, definition: Definition, options: Options) -> Result<Answer> {
        self.engine.build_answer(question, definition, options).await
    }

    fn record(&self, about: Past, teller: Teller) -> (Box<dyn Recording>, Teller) {
        let Past { reference, name, dockerfile, target, platform, repository, .. } = about;
        let about = BuildRecord {
            reference,
            name,
            dockerfile,
            target,
            platform,
            repository,
            ..BuildRecord::default()
        };
        let (recording, teller) = self.engine.record_build(about, teller);
        (Box::new(EngineRecording(recording)), teller)
    }

    async fn history(&self) -> Result<Vec<Past>> {
        Ok(self.engine.build_history().await.map_err(internal)?.into_iter().map(past).collect())
    }

    fn history_changes(&self) -> watch::Receiver<u64> {
        self.engine.build_history_changes()
    }

    async fn told(&self, reference: &str) -> Result<Vec<Event>> {
        self.engine.build_history_events(reference).await.map_err(internal)
    }

    async fn pin(&self, reference: &str, pinned: bool) -> Result<()> {
        self.engine.build_history_pin(reference, pinned).await.map_err(internal)
    }

    async fn forget(&self, reference: &str) -> Result<()> {
        self.engine.build_history_remove(reference).await.map_err(internal)
    }

    async fn remote_context(
        &self,
        url: &str,
        options: &Options,
        asker: Arc<dyn corten_build::Asker>,
        teller: &Teller,
    ) -> Result<RemoteContext> {
        self.engine.build_remote_context(url, options, asker, teller).await
    }

    async fn unpack(&self, archive: Box<dyn BufRead + Send>) -> Result<Tree> {
        self.engine.build_context_of_archive(archive).await.map_err(|error| match error.kind {
            ErrorKind::InvalidParameter => Error::Invalid(error.message),
            _ => internal(error),
        })
    }

    async fn usage(&self) -> Result<Vec<Usage>> {
        Ok(self.engine.build_cache().await.map_err(internal)?.iter().map(usage).collect())
    }

    async fn prune(&self, wanted: Prune) -> Result<Vec<Usage>> {
        let Prune { all, unused_for, reserved_bytes, used_bytes_max, free_bytes_min, filters } = wanted;
        let wanted = CachePrune {
            all,
            used_before: SystemTime::now()
                .checked_sub(unused_for)
                .filter(|_| !unused_for.is_zero())
                .map(Into::into),
            bounds: CacheBounds { reserved_bytes, used_bytes_max, free_bytes_min },
            filter: Box::new(move |entry| filters.take(&usage(entry))),
        };
        let (removed, _) = self.engine.build_cache_prune(wanted).await.map_err(internal)?;
        Ok(removed.iter().map(usage).collect())
    }
}

fn descriptor(target: &Descriptor) -> Manifest {
    Manifest { media_type: target.media_type.clone(), digest: target.digest, bytes: target.size }
}

/// Refuses an output that could not hold what is built.
fn check(output: &Output, options: &Options) -> Result<()> {
    if !matches!(output, Output::Store { .. } | Output::Nothing) {
        check_referrers(options)?;
    }
    match output {
        Output::Archive { split, .. } | Output::Directory { split, .. } => check_split(options, *split),
        Output::Image { form: Form::Docker, .. } if options.makes_index() => Err(Error::Invalid(
            "docker exporter does not currently support exporting manifest lists: use type=oci".to_owned(),
        )),
        _ => Ok(()),
    }
}

struct EngineRecording(corten_engine::Recording);

#[async_trait]
impl Recording for EngineRecording {
    async fn end(self: Box<Self>, outcome: std::result::Result<Built, String>) {
        let end = match outcome {
            Err(error) => BuildEnd::Failed(error),
            Ok(built) => {
                let image = built.image.as_ref();
                BuildEnd::Done {
                    image: image.map(|image| image.manifest.digest.to_string()).unwrap_or_default(),
                    names: image.map(|image| image.names.clone()).unwrap_or_default(),
                }
            }
        };
        self.0.end(end).await;
    }
}

fn past(record: BuildRecord) -> Past {
    let time =
        |nanoseconds: i64| UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or_default());
    Past {
        reference: record.reference,
        name: record.name,
        dockerfile: record.dockerfile,
        target: record.target,
        platform: record.platform,
        started: Some(time(record.started)),
        completed: record.completed.map(time),
        error: record.error,
        steps: record.steps,
        completed_steps: record.completed_steps,
        cached_steps: record.cached_steps,
        warnings: record.warnings,
        image: record.image,
        image_names: record.image_names,
        is_pinned: record.pinned,
        repository: record.repository,
        is_canceled: record.canceled,
    }
}

fn usage(entry: &CacheEntry) -> Usage {
    let time = |time: Timestamp| {
        UNIX_EPOCH + Duration::from_nanos(u64::try_from(time.unix_nanos()).unwrap_or_default())
    };
    Usage {
        id: entry.id.clone(),
        description: entry.description.clone(),
        kind: entry.kind.name().to_owned(),
        bytes: entry.bytes,
        created: Some(time(entry.created)),
        last_used: Some(time(entry.used)),
        use_count: entry.uses,
        is_mutable: entry.kind.is_mutable(),
        is_in_use: entry.is_in_use,
        is_shared: entry.is_shared,
        parents: Vec::new(),
    }
}

/// An output as a step of its build.
fn export(teller: &Teller, output: usize, name: &str) -> Told {
    Told::new(teller, Digest::of(format!("output {output}").as_bytes()), name.to_owned(), Vec::new())
}

/// Clients' directories, as a part of what builds keep.
struct Contexts(Store);

impl CachePart for Contexts {
    fn kind(&self) -> CacheKind {
        CacheKind::Context
    }

    fn entries(&self) -> corten_engine::Result<Vec<CacheEntry>> {
        let entry = |kept: KeptContext| CacheEntry {
            id: kept.name,
            kind: CacheKind::Context,
            description: "build context".to_owned(),
            bytes: kept.bytes,
            created: kept.used.into(),
            used: kept.used.into(),
            uses: 1,
            is_in_use: kept.in_use,
            is_shared: false,
        };
        Ok(self.0.usage().map_err(unreadable)?.into_iter().map(entry).collect())
    }

    fn remove(&self, ids: &[String]) -> corten_engine::Result<CacheRemoval> {
        let mut removal = CacheRemoval::default();
        for id in ids {
            let bytes = self.0.forget(|name, _| name == id).map_err(unreadable)?;
            // Even an empty one takes some; nothing came of one that a build holds.
            if bytes > 0 {
                removal.bytes += bytes;
                removal.ids.push(id.clone());
            }
        }
        Ok(removal)
    }
}

fn unreadable(error: std::io::Error) -> corten_engine::Error {
    corten_engine::Error::new(
        ErrorKind::Internal,
        format!("cannot read or remove clients' build contexts: {error}"),
    )
}

/// Sends what a job writes to the client, as the file of one output.
async fn send(
    asker: &corten_buildkit::Asker,
    output: usize,
    mut pieces: crate::bridge::BodyPieces,
    job: impl Future<Output = corten_engine::Result<()>>,
) -> Result<()> {
    let mut file = asker.send_file(output, &BTreeMap::new()).await?;
    let failed = |status: Status| Error::Internal(format!("send to the client: {}", status.message()));
    let sent = async {
        while let Some(piece) = pieces.next().await {
            file.write(piece).await.map_err(failed)?;
        }
        Ok::<_, Error>(())
    };
    let (written, sent) = tokio::join!(job, sent);
    // A client that is gone is why nothing could be written.
    sent?;
    written.map_err(internal)?;
    file.finish().await.map_err(failed)
}

fn internal(error: corten_engine::Error) -> Error {
    Error::Internal(error.message)
}
