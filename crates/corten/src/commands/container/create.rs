//! `create`, and the part of `run` up to the container's id.

use std::fs::OpenOptions;
use std::io::Write;

use corten_api::client::Client;
use corten_api::container::ContainerCreateRequest;

use crate::cli::{Context, EXIT_ENGINE, Failure, Outcome, Verb};
use crate::commands::image;
use crate::commands::progress::{Progress, Words};
use crate::options::{ContainerFlags, Outside, PullPolicy};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Create {
    #[command(flatten)]
    flags: ContainerFlags,
    /// The image, then the command and its arguments
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, value_name = "IMAGE [COMMAND] [ARG...]",
        help_heading = "Arguments")]
    words: Vec<String>,
}

impl Verb for Create {
    const ABOUT: &'static str = "Create a new container";
    const USAGE: &'static str = "[OPTIONS] IMAGE [COMMAND] [ARG...]";

    fn run(self, context: &Context) -> Outcome {
        let creation = Creation::new(context, &self.flags, &self.words)?;
        let client = context.client()?;
        let id = context.block_on(creation.send(&client))??;
        output::line(&id)?;
        Ok(0)
    }
}

/// The variable with the platform of images, where no flag names one.
pub const DEFAULT_PLATFORM: &str = "DOCKER_DEFAULT_PLATFORM";

/// A container that is about to be created.
pub struct Creation<'a> {
    context: &'a Context,
    flags: &'a ContainerFlags,
    platform: Option<String>,
    pub request: ContainerCreateRequest,
}

impl<'a> Creation<'a> {
    /// Reads the flags; `words` are the image and the command.
    pub fn new(
        context: &'a Context,
        flags: &'a ContainerFlags,
        words: &[String],
    ) -> Result<Creation<'a>, Failure> {
        let Some((image, command)) = words.split_first() else {
            return Err(Failure::new("an image is required"));
        };
        if image.is_empty() {
            return Err(Failure::new("the image's name is empty").exit(EXIT_ENGINE));
        }
        let proxies = context.settings().proxies(&context.host()?.to_string());
        let outside = Outside { proxies, ..Outside::of_process() };
        let platform = flags.lifecycle.platform.clone().or_else(|| (outside.variable)(DEFAULT_PLATFORM));
        let request = flags.request(image, command, &outside)?;
        let platform = platform.filter(|platform| !platform.is_empty());
        Ok(Creation { context, flags, platform, request })
    }

    /// Creates the container and returns its id; warnings of the engine go to standard error.
    pub async fn send(&self, client: &Client) -> Result<String, Failure> {
        let lifecycle = &self.flags.lifecycle;
        let cidfile =
            lifecycle.cidfile.as_deref().filter(|path| !path.is_empty()).map(CidFile::claim).transpose()?;
        let name = lifecycle.name.as_deref().filter(|name| !name.is_empty());
        if lifecycle.pull == PullPolicy::Always {
            self.pull(client).await?;
        }
        let create = || client.container_create(name, self.platform.as_deref(), &self.request);
        let created = match create().await.map_err(Failure::from) {
            Err(failure) if lifecycle.pull == PullPolicy::Missing && self.is_missing(&failure)? => {
                self.pull(client).await?;
                create().await?
            }
            created => created?,
        };
        for warning in &created.warnings {
            output::say!("WARNING: {warning}");
        }
        if let Some(cidfile) = cidfile {
            cidfile.write(&created.id)?;
        }
        Ok(created.id)
    }

    /// Whether the container's image is not there: it may be about one to be mounted.
    fn is_missing(&self, failure: &Failure) -> Result<bool, Failure> {
        let image = image::pull::parse(&self.request.config.image);
        let Ok(image) = image.and_then(image::pull::with_default_tag) else { return Ok(false) };
        let missing = failure.message.contains(&format!("No such image: {}", image.familiar()));
        if missing && !self.flags.lifecycle.quiet {
            output::say!("Unable to find image '{}' locally", image.familiar());
        }
        Ok(missing)
    }

    async fn pull(&self, client: &Client) -> Result<(), Failure> {
        let image = image::pull::with_default_tag(image::pull::parse(&self.request.config.image)?)?;
        let words = if self.flags.lifecycle.quiet { Words::Nowhere } else { Words::Talk };
        let platform = self.platform.clone();
        image::pull::pull(self.context, client, &image, platform, &Progress::of_layers(words)).await
    }
}

/// The file of `--cidfile`: must not exist before, and doesn't stay without an id.
struct CidFile<'a> {
    path: &'a str,
    written: bool,
}

impl<'a> CidFile<'a> {
    fn claim(path: &'a str) -> Result<CidFile<'a>, Failure> {
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(_) => Ok(CidFile { path, written: false }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Failure::new(format!("the container ID file {path} is there already"))
                    .hint("delete it when its container is gone")
                    .exit(EXIT_ENGINE))
            }
            Err(error) => Err(Failure::from(error).while_doing(format!("creating {path}")).exit(EXIT_ENGINE)),
        }
    }

    fn write(mut self, id: &str) -> Result<(), Failure> {
        let file = OpenOptions::new().write(true).open(self.path);
        file.and_then(|mut file| file.write_all(id.as_bytes()))
            .map_err(|error| Failure::from(error).while_doing(format!("writing {}", self.path)))?;
        self.written = true;
        Ok(())
    }
}

impl Drop for CidFile<'_> {
    fn drop(&mut self) {
        if !self.written {
            // It was ours and is empty.
            let _ = std::fs::remove_file(self.path);
        }
    }
}
