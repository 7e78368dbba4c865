//! Images, as the API shows them; the work is the image store's.

use std::collections::HashMap;

use corten_api::container::{GraphDriver, HealthConfig};
use corten_api::filters::Filters;
use corten_api::image::{
    ImageConfig, ImageDelete, ImageHistory, ImageInspect, ImageInspectOptions, ImageListOptions,
    ImageMetadata, ImageRemoveOptions, ImageSummary, Platform as ApiPlatform, RootFs,
};
use corten_api::{List, Timestamp};
use corten_image::digest::DigestError;
use corten_image::reference::ReferenceError;
use corten_image::{Image, ImageId, Platform, Reference};

use crate::Engine;
use crate::error::{Error, ErrorKind, Result};

mod archives;
mod distribution;
mod outgoing;
mod platforms;
mod prune;
mod pull;
mod push;
mod report;
mod sbom;
mod search;

#[cfg(test)]
pub(crate) use outgoing::PIECE_BYTES;
pub(crate) use outgoing::{InPieces, Taker};
use platforms::descriptor;
pub(crate) use platforms::runs_here;
pub use pull::PullWish;
pub(crate) use pull::{RemoteSource, tell_received};
pub use push::PushWish;
pub(crate) use push::{RemoteTarget, refused, tell_sent};
pub(crate) use report::Report;

/// Names of the filters of a list.
const FILTERS: [&str; 9] =
    ["before", "dangling", "id", "label", "label!", "reference", "since", "until", "all"];

pub(crate) fn failed(error: corten_image::Error) -> Error {
    let kind = match error.kind() {
        corten_image::ErrorKind::NotFound => ErrorKind::NotFound,
        corten_image::ErrorKind::Conflict => ErrorKind::Conflict,
        corten_image::ErrorKind::InvalidParameter => ErrorKind::InvalidParameter,
        corten_image::ErrorKind::Internal => ErrorKind::Internal,
    };
    let message = error.explain();
    if message.contains("database or disk is full") {
        return Error::internal(
            "image database: no space left on the data root's file system; free some and try again",
        );
    }
    Error::new(kind, message)
}

impl Engine {
    pub async fn image_list(&self, options: &ImageListOptions) -> Result<Vec<ImageSummary>> {
        let filters = &options.filters;
        filters.validate(&FILTERS).map_err(|e| Error::invalid(e.to_string()))?;
        let dangling = filters.boolean("dangling").map_err(|e| Error::invalid(e.to_string()))?;
        let moment = |name: &str| -> Result<Option<Timestamp>> {
            let Some(key) = filters.get(name).next() else { return Ok(None) };
            self.images.resolve(key).map(|image| Some(created(&image))).map_err(failed)
        };
        let (before, since) = (moment("before")?, moment("since")?);
        let until = match filters.get("until").next() {
            None => None,
            Some(text) => Some(
                Timestamp::parse_bound(text, Timestamp::now())
                    .ok_or_else(|| Error::invalid(format!("invalid filter 'until={text}'")))?,
            ),
        };
        let used = self.containers_by_image();
        let mut images = self.images.list().map_err(failed)?;
        images.sort_by_cached_key(|image| std::cmp::Reverse(created(image)));
        let shared = if options.shared_size { self.shared_sizes()? } else { HashMap::new() };
        images
            .iter()
            .filter(|image| {
                let time = created(image);
                let labels = &image.config.config.labels;
                dangling.is_none_or(|wish| wish == image.is_dangling())
                    && filters.labels(|key| labels.get(key).map(String::as_str))
                    && filters.any("id", |part| image.id.to_string().contains(part))
                    && filters.any("reference", |pattern| {
                        image
                            .repo_tags
                            .iter()
                            .chain(&image.repo_digests)
                            .any(|name| matches_reference(name, pattern))
                    })
                    && before.is_none_or(|before| time < before)
                    && since.is_none_or(|since| time > since)
                    && until.is_none_or(|until| time < until)
            })
            .map(|image| {
                let mut summary = summary(image, filters, &used, &shared);
                if options.manifests {
                    summary.manifests = self.manifest_summaries(image)?.into();
                }
                Ok(summary)
            })
            .collect()
    }

    fn containers_by_image(&self) -> HashMap<String, i64> {
        let mut used = HashMap::new();
        for container in self.containers.all() {
            // On whatever platform it runs.
            let id = container.read().image_id.clone();
            let image = id.parse().ok().and_then(|id: ImageId| self.images.image(&id));
            let owner = image.filter(|image| image.is_hidden()).and_then(|image| image.owner);
            *used.entry(owner.map_or(id, |owner| owner.to_string())).or_insert(0) += 1;
        }
        used
    }

    fn shared_sizes(&self) -> Result<HashMap<String, i64>> {
        let usage = self.images.usage().map_err(failed)?;
        Ok(usage.images.iter().map(|image| (image.id.to_string(), signed(image.shared_size))).collect())
    }

    pub async fn image_inspect(&self, name: &str, options: &ImageInspectOptions) -> Result<ImageInspect> {
        if options.manifests && options.platform.is_some() {
            return Err(Error::invalid(
                "conflicting options: manifests and platform options cannot both be set",
            ));
        }
        let image = self.image_on(name, options.platform.as_ref())?;
        let config = &image.config;
        Ok(ImageInspect {
            id: image.id.to_string(),
            descriptor: Some(descriptor(&image.descriptor)),
            manifests: if options.manifests {
                self.manifest_summaries(&image)?.into()
            } else {
                List::default()
            },
            repo_tags: image.repo_tags.clone().into(),
            repo_digests: image.repo_digests.clone().into(),
            parent: image.parent.map(|parent| parent.to_string()).unwrap_or_default(),
            comment: config.history.last().map(|step| step.comment.clone()).unwrap_or_default(),
            created: image.created.as_deref().and_then(|text| text.parse().ok()),
            docker_version: config.docker_version.clone(),
            author: config.author.clone(),
            config: Some(api_config(&image)),
            architecture: config.architecture.clone(),
            variant: config.variant.clone(),
            os: config.os.clone(),
            os_version: config.os_version.clone(),
            size: signed(image.size),
            graph_driver: GraphDriver {
                name: self.images.driver().name().to_owned(),
                data: corten_api::Map::default(),
            },
            root_fs: RootFs {
                kind: "layers".to_owned(),
                layers: image.layers.iter().map(ToString::to_string).collect(),
            },
            metadata: ImageMetadata {
                last_tag_time: image.tagged_at.map_or(Timestamp::ZERO, Timestamp::from_unix_nanos),
            },
            ..ImageInspect::default()
        })
    }

    pub async fn image_history(
        &self,
        name: &str,
        platform: Option<&ApiPlatform>,
    ) -> Result<Vec<ImageHistory>> {
        let image = self.image_on(name, platform)?;
        let steps = self.images.history(&image).map_err(failed)?;
        Ok(steps
            .into_iter()
            .map(|step| ImageHistory {
                comment: step.comment,
                created: step
                    .created
                    .and_then(|text| text.parse::<Timestamp>().ok())
                    .map_or(0, |time| time.unix()),
                created_by: step.created_by,
                id: step.id,
                size: signed(step.size),
                tags: if step.tags.is_empty() { List::default() } else { step.tags.into() },
            })
            .collect())
    }

    pub async fn image_tag(&self, name: &str, repo: &str, tag: &str) -> Result<()> {
        let target = if tag.is_empty() { repo.to_owned() } else { format!("{repo}:{tag}") };
        let image = self.images.tag(name, &target).map_err(failed)?;
        self.image_event(&image.id.to_string(), "tag", &target);
        Ok(())
    }

    pub async fn image_remove(&self, name: &str, options: ImageRemoveOptions) -> Result<Vec<ImageDelete>> {
        let engine = self.clone();
        let name = name.to_owned();
        blocking(move || engine.remove_image(&name, &options).map(|(steps, _)| steps)).await
    }

    /// Removes an image or a name of it; tells what was removed, and how many bytes came back.
    fn remove_image(&self, name: &str, options: &ImageRemoveOptions) -> Result<(Vec<ImageDelete>, u64)> {
        let image = self.images.resolve(name).map_err(failed)?;
        let id = image.id.to_string();
        let in_use = |id: &ImageId| self.image_user(id);
        let wish =
            corten_image::RemoveOptions { force: options.force, noprune: options.noprune, in_use: &in_use };
        let removal = if options.platforms.is_empty() {
            self.images.remove(name, &wish)
        } else {
            let wanted: Vec<Platform> = options.platforms.iter().map(platforms::wanted).collect();
            self.images.remove_platforms(name, &wanted, &wish)
        };
        let removal = removal.map_err(failed)?;
        let deleted = |digest: String| ImageDelete { deleted: digest, ..ImageDelete::default() };
        let steps = removal.steps.into_iter().map(|step| match step {
            corten_image::Removed::Untagged(name) => {
                self.image_event(&id, "untag", &id);
                ImageDelete { untagged: name, ..ImageDelete::default() }
            }
            corten_image::Removed::Deleted(digest) => {
                let digest = digest.to_string();
                self.image_event(&digest, "delete", &digest);
                deleted(digest)
            }
            corten_image::Removed::Layer(chain) => deleted(chain.to_string()),
        });
        Ok((steps.collect(), removal.freed_bytes))
    }

    /// A container that needs the image, a running one if there is any.
    fn image_user(&self, id: &ImageId) -> Option<corten_image::User> {
        let id = id.to_string();
        let mut users: Vec<corten_image::User> = self
            .containers
            .all()
            .iter()
            .filter_map(|container| {
                let record = container.read();
                let needs = record.image_id == id || record.mounts.iter().any(|mount| mount.image == id);
                needs.then(|| corten_image::User {
                    container: record.id.clone(),
                    running: record.state.phase.is_alive(),
                })
            })
            .collect();
        users.sort_by_key(|user| !user.running);
        users.into_iter().next()
    }

    /// Work that takes much memory, which is given back soon after, and the time that its client takes.
    pub(crate) async fn heavily<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let outcome = apart("image", work).await;
        self.collector().tidy();
        outcome
    }
}

/// Runs what waits for the disk, away from the event loop.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::internal(format!("internal task: {e}")))?
}

/// Runs what lasts as long as its client makes it last, on a thread of its own: any number of slow clients leave the threads for
/// short work alone.
pub(crate) async fn apart<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Nobody listens any more: the request was given up.
            let _ = sender.send(work());
        })
        .map_err(|e| Error::new(ErrorKind::Unavailable, format!("start a thread: {e}")))?;
    receiver.await.map_err(|_| Error::internal(format!("the {name} thread has ended")))?
}

fn with_tag(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

/// What is meant by a name, and by a tag or digest beside it. With a digest the tag is for the reader only.
fn named(name: &str, tag: &str) -> Result<Reference> {
    let named = Reference::parse_untagged(name).map_err(invalid)?;
    Ok(match (tag, named.digest()) {
        ("", Some(digest)) => named.with_digest(digest),
        ("", None) => named,
        (digest, _) if digest.contains(':') => {
            named.with_digest(digest.parse().map_err(|error: DigestError| Error::invalid(error.to_string()))?)
        }
        (tag, _) => named.with_tag(tag).map_err(invalid)?,
    })
}

fn invalid(error: ReferenceError) -> Error {
    Error::invalid(error.to_string())
}

fn parse_platform(text: Option<&str>) -> Result<Option<Platform>> {
    text.filter(|text| !text.is_empty())
        .map(|text| {
            text.parse().map_err(|e: corten_image::platform::PlatformError| Error::invalid(e.to_string()))
        })
        .transpose()
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub(crate) fn created(image: &Image) -> Timestamp {
    image.created.as_deref().and_then(|text| text.parse().ok()).unwrap_or(Timestamp::from_unix(0, 0))
}

/// The image's settings in the API's words.
pub(crate) fn api_config(image: &Image) -> ImageConfig {
    let own = &image.config.config;
    let list = |words: &[String]| -> List<String> { words.to_vec().into() };
    let option = |words: &Option<Vec<String>>| words.as_ref().map(|words| list(words)).unwrap_or_default();
    ImageConfig {
        user: own.user.clone(),
        exposed_ports: own.exposed_ports.keys().map(|port| (port.clone(), corten_api::Empty {})).collect(),
        env: list(&own.env),
        entrypoint: option(&own.entrypoint),
        cmd: option(&own.cmd),
        volumes: own.volumes.keys().map(|path| (path.clone(), corten_api::Empty {})).collect(),
        working_dir: own.working_dir.clone(),
        labels: own.labels.clone().into(),
        stop_signal: own.stop_signal.clone(),
        args_escaped: own.args_escaped,
        healthcheck: own.healthcheck.as_ref().map(|health| HealthConfig {
            test: list(&health.test),
            interval: health.interval,
            timeout: health.timeout,
            start_period: health.start_period,
            start_interval: health.start_interval,
            retries: health.retries,
        }),
        on_build: list(&own.on_build),
        shell: option(&own.shell),
    }
}

fn summary(
    image: &Image,
    filters: &Filters,
    used: &HashMap<String, i64>,
    shared: &HashMap<String, i64>,
) -> ImageSummary {
    let id = image.id.to_string();
    let wanted = |name: &&String| filters.any("reference", |pattern| matches_reference(name, pattern));
    ImageSummary {
        containers: used.get(&id).copied().unwrap_or(0),
        created: created(image).unix(),
        labels: image.config.config.labels.clone().into(),
        parent_id: image.parent.map(|parent| parent.to_string()).unwrap_or_default(),
        repo_digests: image.repo_digests.clone().into(),
        repo_tags: image.repo_tags.iter().filter(wanted).cloned().collect(),
        shared_size: shared.get(&id).copied().unwrap_or(-1),
        size: signed(image.size),
        descriptor: Some(descriptor(&image.descriptor)),
        id,
        ..ImageSummary::default()
    }
}

/// Docker's match of a familiar name against a pattern such as `busy*`, `busybox:1.*`, `repo/name`.
fn matches_reference(name: &str, pattern: &str) -> bool {
    let repository = name.split('@').next().unwrap_or(name);
    let repository = match repository.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => repository,
    };
    glob(pattern.as_bytes(), name.as_bytes()) || glob(pattern.as_bytes(), repository.as_bytes())
}

/// `*` and `?` within the parts of a path, which both must have the same number of.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut patterns, mut texts) = (pattern.split(|b| *b == b'/'), text.split(|b| *b == b'/'));
    loop {
        match (patterns.next(), texts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(text)) if glob_part(pattern, text) => {}
            _ => return false,
        }
    }
}

/// Goes back to the last star only, so that no pattern takes longer than pattern times text.
fn glob_part(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                (p, t) = (at + 1, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_match_by_repository_or_whole() {
        for pattern in ["busybox", "busybox:*", "busy*", "b?sybox:latest"] {
            assert!(matches_reference("busybox:latest", pattern), "{pattern}");
        }
        assert!(!matches_reference("team/busybox:latest", "busy*"));
        assert!(matches_reference("team/busybox:latest", "*/busybox"));
        assert!(!matches_reference("busybox", &"*a".repeat(60_000)));
    }
}
