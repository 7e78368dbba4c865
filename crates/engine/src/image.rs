//! Images, as the API shows them; the work is the image store's.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::Arc;

use corten_api::container::{GraphDriver, HealthConfig};
use corten_api::filters::Filters;
use corten_api::image::{
    ImageConfig, ImageDelete, ImageHistory, ImageImportOptions, ImageInspect, ImageListOptions,
    ImageMetadata, ImageRemoveOptions, ImageSummary, RootFs,
};
use corten_api::system::JsonMessage;
use corten_api::{List, Timestamp};
use corten_image::{Image, ImageId, Platform};
use tokio::sync::mpsc::Sender;

use crate::Engine;
use crate::error::{Error, ErrorKind, Result};

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
        Ok(images
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
            .map(|image| summary(image, filters, &used, &shared))
            .collect())
    }

    fn containers_by_image(&self) -> HashMap<String, i64> {
        let mut used = HashMap::new();
        for container in self.containers.all() {
            *used.entry(container.read().image_id.clone()).or_insert(0) += 1;
        }
        used
    }

    fn shared_sizes(&self) -> Result<HashMap<String, i64>> {
        let usage = self.images.usage().map_err(failed)?;
        Ok(usage.images.iter().map(|image| (image.id.to_string(), signed(image.shared_size))).collect())
    }

    pub async fn image_inspect(&self, name: &str) -> Result<ImageInspect> {
        let image = self.images.resolve(name).map_err(failed)?;
        let config = &image.config;
        Ok(ImageInspect {
            id: image.id.to_string(),
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

    pub async fn image_history(&self, name: &str) -> Result<Vec<ImageHistory>> {
        let image = self.images.resolve(name).map_err(failed)?;
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
        blocking(move || {
            let in_use = |id: &ImageId| engine.image_user(id);
            let wish = corten_image::RemoveOptions {
                force: options.force,
                noprune: options.noprune,
                in_use: &in_use,
            };
            let removed = engine.images.remove(&name, &wish).map_err(failed)?;
            Ok(removed
                .into_iter()
                .map(|step| match step {
                    corten_image::Removed::Untagged(name) => {
                        engine.image_event(&name, "untag", &name);
                        ImageDelete { untagged: name, ..ImageDelete::default() }
                    }
                    corten_image::Removed::Deleted(digest) => {
                        engine.image_event(&digest.to_string(), "delete", &digest.to_string());
                        ImageDelete { deleted: digest.to_string(), ..ImageDelete::default() }
                    }
                })
                .collect())
        })
        .await
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

    /// Work that takes much memory, which is given back soon after.
    async fn heavily<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let outcome = blocking(work).await;
        self.collector().tidy();
        outcome
    }

    /// Reads an archive; names what came in, line by line.
    pub async fn image_load(
        &self,
        mut body: impl Read + Send + 'static,
        platform: Option<String>,
        progress: Sender<JsonMessage>,
    ) -> Result<()> {
        let platform = parse_platform(platform.as_deref())?;
        let engine = self.clone();
        self.heavily(move || {
            let options = corten_image::LoadOptions { platform };
            let report = |step: corten_image::Progress| tell(&progress, step);
            let loaded = engine.images.load(&mut body, &options, &report).map_err(failed)?;
            for image in loaded {
                let id = image.image.to_string();
                let text = match &image.reference {
                    Some(reference) => format!("Loaded image: {reference}\n"),
                    None => format!("Loaded image ID: {id}\n"),
                };
                engine.image_event(&id, "load", &id);
                let _ = progress.blocking_send(JsonMessage::stream(text));
            }
            Ok(())
        })
        .await
    }

    pub async fn image_save(
        &self,
        names: Vec<String>,
        platform: Option<String>,
        mut sink: Box<dyn Write + Send>,
    ) -> Result<()> {
        let platform = parse_platform(platform.as_deref())?;
        let engine = self.clone();
        self.heavily(move || {
            engine.images.save(&names, &mut sink, platform.as_ref()).map_err(failed)?;
            sink.flush().map_err(|e| Error::internal(format!("save: {e}")))
        })
        .await
    }

    /// Whether all of these images are there: what a save checks before it begins to answer.
    pub fn images_exist(&self, names: &[String]) -> Result<()> {
        names.iter().try_for_each(|name| self.images.resolve(name).map(drop).map_err(failed))
    }

    /// A root file system's tarball becomes an image; returns its id.
    pub async fn image_import(
        &self,
        mut body: impl Read + Send + 'static,
        options: ImageImportOptions,
        progress: Sender<JsonMessage>,
    ) -> Result<String> {
        let platform = parse_platform(options.platform.as_deref())?;
        let engine = self.clone();
        self.heavily(move || {
            let reference = match (options.repo.as_str(), options.tag.as_str()) {
                ("", _) => None,
                (repo, "") => Some(repo.to_owned()),
                (repo, tag) => Some(format!("{repo}:{tag}")),
            };
            let wish = corten_image::ImportOptions {
                reference,
                message: options.message,
                changes: options.changes,
                platform,
            };
            let report = |step: corten_image::Progress| tell(&progress, step);
            let image = engine.images.import(&mut body, &wish, &report).map_err(failed)?;
            engine.image_event(&image.id.to_string(), "import", &image.id.to_string());
            let _ = progress.blocking_send(JsonMessage::status(image.id.to_string()));
            Ok(image.id.to_string())
        })
        .await
    }

    /// A base image from the host's own distribution.
    pub async fn image_create_base(
        &self,
        reference: Option<String>,
        packages: Vec<String>,
        progress: Sender<JsonMessage>,
    ) -> Result<String> {
        let engine = self.clone();
        self.heavily(move || {
            let wish = corten_image::BaseOptions { reference, packages, ..Default::default() };
            let report = |step: corten_image::Progress| tell(&progress, step);
            let image = engine.images.create_base(&wish, &report).map_err(failed)?;
            engine.image_event(&image.id.to_string(), "import", &image.id.to_string());
            let name = image.repo_tags.first().cloned().unwrap_or_else(|| image.id.to_string());
            let _ = progress.blocking_send(JsonMessage::stream(format!("Created image: {name}\n")));
            Ok(image.id.to_string())
        })
        .await
    }

    /// The image that a container is to be made from.
    pub(crate) fn find_image_for(&self, name: &str, platform: Option<&str>) -> Result<Arc<Image>> {
        if name.is_empty() {
            return Err(Error::invalid("no image given: config.Image must not be empty"));
        }
        let image = self.images.resolve(name).map_err(|error| match error.kind() {
            corten_image::ErrorKind::NotFound => {
                Error::not_found(format!("No such image: {}", with_tag(name)))
            }
            _ => failed(error),
        })?;
        let (own, host) = (image.config.platform(), Platform::host());
        if let Some(wanted) = parse_platform(platform)?
            && own.fitness(&wanted).is_none()
        {
            return Err(Error::not_found(format!(
                "image with reference {name} was found but its platform ({own}) does not match the specified platform ({wanted})"
            )));
        }
        if own.fitness(&host).is_none() {
            return Err(Error::invalid(format!(
                "image {name} is made for {own}, this host runs {host}: it can be kept, served and saved here, but not run"
            )));
        }
        Ok(image)
    }
}

/// Runs what waits for the disk, away from the event loop.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::internal(format!("internal task: {e}")))?
}

fn tell(sender: &Sender<JsonMessage>, step: corten_image::Progress) {
    // Progress is for whoever has time to read it; only results may wait.
    let (current, total) = (signed(step.current_bytes), signed(step.total_bytes));
    let _ = sender.try_send(JsonMessage::progress(step.object, "Loading layer", current, total));
}

fn with_tag(name: &str) -> String {
    corten_image::Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar())
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
