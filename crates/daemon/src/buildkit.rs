//! BuildKit's protocol at this engine: whoever speaks it has builds done by the engine's builder. This maps what one side says to what the
//! other understands, and knows neither the protocol nor how anything is built.

use crate::bridge::body_writer;
use async_trait::async_trait;
use corten_build::{Error, Result, Teller, Told};
use corten_buildkit::{
    Builder, Built, Controller, Filters, Form, Image, Job, Output, Prune, Store, Usage, Worker,
};
use corten_engine::{BuildWish, Engine};
use corten_image::{Digest, Platform};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tonic::Status;

/// The engine's side of the protocol.
pub fn controller(engine: &Engine) -> Arc<Controller> {
    let contexts = Store::new(engine.build_root().join("contexts"));
    Controller::new(Arc::new(EngineBuilder { engine: engine.clone() }), contexts)
}

struct EngineBuilder {
    engine: Engine,
}

#[async_trait]
impl Builder for EngineBuilder {
    fn worker(&self) -> Worker {
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Worker {
            id: self.engine.instance().to_owned(),
            labels: BTreeMap::from([
                label("org.mobyproject.buildkit.worker.executor", "corten"),
                // By this one clients know an engine that writes image archives, and pushes, itself.
                label("org.mobyproject.buildkit.worker.snapshotter", "overlayfs"),
            ]),
            platforms: vec![Platform::host()],
            version: self.engine.version().version,
        }
    }

    async fn build(&self, job: Job) -> Result<Built> {
        let Job { options, outputs, asker, teller } = job;
        let wants_image = |output: &Output| match output {
            Output::Store { .. } => true,
            Output::File { form, .. } => matches!(form, Form::Docker | Form::Oci),
            Output::Directory { .. } | Output::Nothing => false,
        };
        let only_files = !outputs.iter().any(wants_image);
        let wish = BuildWish { options, auths: BTreeMap::new(), only_files };
        let built = self.engine.build(wish, asker.clone(), teller.clone()).await?;
        for output in &outputs {
            match output {
                Output::Store { names, push: true } => {
                    for name in names {
                        self.engine.build_push(name, &BTreeMap::new(), asker.as_ref(), &teller).await?;
                    }
                }
                Output::Store { push: false, .. } | Output::Nothing => {}
                Output::Directory { number } => {
                    let mut step = export(&teller, *number, "exporting to client directory");
                    step.start().await?;
                    let sent = async {
                        let root = self.engine.build_root_of(&built).await.map_err(internal)?;
                        asker.send_directory(*number, root).await
                    };
                    let sent = sent.await;
                    step.end(sent).await?;
                }
                Output::File { number, form: Form::Tar, .. } => {
                    let mut step = export(&teller, *number, "exporting to client tarball");
                    step.start().await?;
                    let (writer, pieces) = body_writer();
                    let sent = send(&asker, *number, pieces, self.engine.build_files(&built, writer)).await;
                    step.end(sent).await?;
                }
                Output::File { number, names, .. } => {
                    let Some(image) = &built.image else { continue };
                    let names = match names.as_slice() {
                        [] => vec![image.id.to_string()],
                        names => names.to_vec(),
                    };
                    let (writer, pieces) = body_writer();
                    let saved = self.engine.image_save(names, Vec::new(), Box::new(writer));
                    send(&asker, *number, pieces, saved).await?;
                }
            }
        }
        let image = built.image.as_ref().map(|image| Image {
            id: image.id,
            manifest: Some(corten_buildkit::Manifest {
                media_type: image.descriptor.media_type.clone(),
                digest: image.descriptor.digest,
                bytes: image.descriptor.size,
            }),
            names: image.repo_tags.clone(),
        });
        Ok(Built { image })
    }

    async fn usage(&self) -> Result<Vec<Usage>> {
        let steps = self.engine.build_steps().await.map_err(internal)?;
        Ok(steps.iter().map(usage).collect())
    }

    async fn prune(&self, wanted: Prune) -> Result<Vec<Usage>> {
        let steps = self.usage().await?;
        let removed = unwanted(steps, &wanted, SystemTime::now());
        let keys: Vec<Digest> = removed.iter().filter_map(|step| Digest::from_hex(&step.id)).collect();
        self.engine.build_steps_forget(keys).await.map_err(internal)?;
        Ok(removed)
    }
}

/// What of the cache goes: it comes with what was used longest ago first.
fn unwanted(steps: Vec<Usage>, wanted: &Prune, now: SystemTime) -> Vec<Usage> {
    let mut left: u64 = steps.iter().map(|step| step.bytes).sum();
    let filters: &Filters = &wanted.filters;
    let mut removed = Vec::new();
    for step in steps {
        let unused = step.last_used.and_then(|used| now.duration_since(used).ok()).unwrap_or_default();
        let fits = wanted.keep_bytes > 0 && left <= wanted.keep_bytes;
        // What an image has as well is found again by it, and gives nothing back.
        let spared = step.is_in_use || (step.is_shared && !wanted.all);
        if spared || fits || unused < wanted.unused_for || !filters.take(&step) {
            continue;
        }
        left = left.saturating_sub(step.bytes);
        removed.push(step);
    }
    removed
}

fn usage(step: &corten_image::build::StepInfo) -> Usage {
    let time = |ns: i64| UNIX_EPOCH + Duration::from_nanos(u64::try_from(ns).unwrap_or_default());
    Usage {
        id: step.key.hex(),
        description: step.description.clone(),
        kind: "regular".into(),
        bytes: step.layer.as_ref().map_or(0, |layer| layer.disk_bytes()),
        created: Some(time(step.created_at)),
        last_used: Some(time(step.used_at)),
        use_count: step.uses,
        is_mutable: false,
        is_in_use: false,
        is_shared: step.is_shared,
        parents: Vec::new(),
    }
}

/// An output as a step of its build.
fn export(teller: &Teller, output: usize, name: &str) -> Told {
    Told::new(teller, Digest::of(format!("output {output}").as_bytes()), name.to_owned(), Vec::new())
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
