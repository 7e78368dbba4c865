//! What a stage has become after some of its instructions: layers, and what a container of them would start as.

use corten_image::build::{Stack, StepLayer};
use corten_image::config::{Empty, Healthcheck, History, ImageConfig, RunConfig};
use corten_image::{Image, ImageId, Platform};

use crate::dockerfile::{self, Form};
use crate::error::{Error, Result};
use crate::variables::Args;

/// What the history says of who made an entry: readers know BuildKit's mark.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// The search path that an image has which sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The longest list of layers that can be mounted on top of each other (overlayfs takes 500, one is the writable one).
const LAYERS_MAX: usize = 499;

#[derive(Clone, Debug)]
pub struct State {
    pub stack: Stack,
    pub image: ImageConfig,
    /// The image that the stage began with.
    pub base: Option<ImageId>,
    /// The newest of all inputs, Unix seconds: no file that a step makes is newer.
    pub newest: i64,
    /// Whether a cache alone says so, of files that are not here.
    pub is_newest_told: bool,
    pub platform: Platform,
    /// What ARG has declared: a stage that begins with another one has its too.
    pub args: Args,
}

impl State {
    pub fn scratch(platform: &Platform) -> State {
        let mut image = ImageConfig {
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone().unwrap_or_default(),
            os: platform.os.clone(),
            ..ImageConfig::default()
        };
        image.config.env = vec![format!("PATH={DEFAULT_PATH}")];
        image.config.working_dir = "/".to_owned();
        State {
            stack: Stack::default(),
            image,
            base: None,
            newest: 0,
            is_newest_told: false,
            platform: platform.clone(),
            args: Args::default(),
        }
    }

    pub fn of_image(image: &Image) -> State {
        let mut config = image.config.clone();
        config.docker_version = String::new();
        if !config.config.env.iter().any(|entry| entry.starts_with("PATH=")) {
            config.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        let newest = config.created.as_deref().and_then(seconds).unwrap_or(0).max(0);
        State {
            stack: Stack::of_image(image),
            platform: config.platform(),
            image: config,
            base: Some(image.id),
            newest,
            is_newest_told: false,
            args: Args::default(),
        }
    }

    pub fn config(&mut self) -> &mut RunConfig {
        &mut self.image.config
    }

    /// Notes an instruction in the history.
    pub fn note(&mut self, created_by: String, is_empty: bool) {
        self.image.history.push(History {
            created: Some(time(self.newest)),
            author: self.image.author.clone(),
            created_by,
            comment: COMMENT.to_owned(),
            empty_layer: is_empty,
        });
    }

    /// Takes what a step made, none where it changed no file, and notes it in the history.
    pub fn take(&mut self, layer: Option<StepLayer>, created_by: String) -> Result<()> {
        self.note(created_by, layer.is_none());
        let Some(layer) = layer else { return Ok(()) };
        if self.stack.ids().len() >= LAYERS_MAX {
            return Err(Error::Invalid(format!(
                "max depth exceeded: an image has at most {LAYERS_MAX} layers"
            )));
        }
        self.stack.push(layer);
        Ok(())
    }

    pub fn set_env(&mut self, key: &str, value: &str) {
        let entry = format!("{key}={value}");
        let env = &mut self.image.config.env;
        match env.iter_mut().find(|known| name_of(known) == key) {
            Some(known) => *known = entry,
            None => env.push(entry),
        }
    }

    pub fn env(&self, key: &str) -> Option<String> {
        let found = self.image.config.env.iter().rev().find(|entry| name_of(entry) == key)?;
        Some(found.split_once('=').map_or("", |(_, value)| value).to_owned())
    }

    /// The words of a command: the exec form as it is, the shell form behind the image's shell.
    pub fn command(&self, form: &Form) -> Vec<String> {
        match form {
            Form::Exec(words) => words.clone(),
            Form::Shell(text) => [self.shell(), vec![text.clone()]].concat(),
        }
    }

    pub fn shell(&self) -> Vec<String> {
        let own = self.image.config.shell.clone().filter(|shell| !shell.is_empty());
        own.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()])
    }

    pub fn set_healthcheck(&mut self, check: &dockerfile::Healthcheck) {
        let mut new = Healthcheck {
            interval: check.interval_ns,
            timeout: check.timeout_ns,
            start_period: check.start_period_ns,
            start_interval: check.start_interval_ns,
            retries: check.retries.into(),
            ..Healthcheck::default()
        };
        new.test = match &check.command {
            None => vec!["NONE".to_owned()],
            Some(Form::Exec(words)) => [vec!["CMD".to_owned()], words.clone()].concat(),
            Some(Form::Shell(text)) => vec!["CMD-SHELL".to_owned(), text.clone()],
        };
        self.config().healthcheck = Some(new);
    }

    /// `80`, `80/udp`, `8000-8010`.
    pub fn expose(&mut self, ports: &[String]) -> Result<()> {
        for port in ports {
            for name in
                exposed(port).ok_or_else(|| Error::Invalid(format!("invalid containerPort: {port}")))?
            {
                self.config().exposed_ports.insert(name, Empty {});
            }
        }
        Ok(())
    }
}

/// The ports that a text names, each as `80/tcp`.
fn exposed(text: &str) -> Option<Vec<String>> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return None;
    }
    // `host:container` and `ip:host:container` expose the container's side.
    let range = range.rsplit(':').next()?;
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then(|| (first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

pub fn name_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

/// RFC 3339, in UTC.
pub fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

fn seconds(text: &str) -> Option<i64> {
    Some(text.parse::<jiff::Timestamp>().ok()?.as_second())
}
