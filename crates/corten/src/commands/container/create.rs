//! `create`, and the part of `run` up to the container's id.

use std::fs::OpenOptions;
use std::io::Write;

use corten_api::client::Client;
use corten_api::container::ContainerCreateRequest;

use crate::cli::{Context, EXIT_ENGINE, Failure, Outcome, Verb};
use crate::options::{ContainerFlags, Outside, PullPolicy};
use crate::output;
use crate::stream::is_terminal;

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
        let creation = Creation::new(&self.flags, &self.words)?;
        let client = context.client()?;
        let id = context.block_on(creation.send(&client))??;
        output::line(&id)?;
        Ok(0)
    }
}

/// A container that is about to be created.
pub struct Creation<'a> {
    flags: &'a ContainerFlags,
    pub request: ContainerCreateRequest,
}

impl<'a> Creation<'a> {
    /// Reads the flags; `words` are the image and the command.
    pub fn new(flags: &'a ContainerFlags, words: &[String]) -> Result<Creation<'a>, Failure> {
        let Some((image, command)) = words.split_first() else {
            return Err(Failure::new("an image is required"));
        };
        if image.is_empty() {
            return Err(Failure::new("the image's name is empty").exit(EXIT_ENGINE));
        }
        if flags.lifecycle.pull == PullPolicy::Always {
            return Err(Failure::new("--pull always is not supported yet")
                .hint("images come by `corten load`, `corten import` or `corten image create-base` for now")
                .exit(EXIT_ENGINE));
        }
        let request = flags.request(image, command, &Outside::of_process())?;
        Ok(Creation { flags, request })
    }

    /// Creates the container and returns its id; warnings of the engine go to standard error.
    pub async fn send(&self, client: &Client) -> Result<String, Failure> {
        let lifecycle = &self.flags.lifecycle;
        let cidfile =
            lifecycle.cidfile.as_deref().filter(|path| !path.is_empty()).map(CidFile::claim).transpose()?;
        let name = lifecycle.name.as_deref().filter(|name| !name.is_empty());
        let created = client.container_create(name, lifecycle.platform.as_deref(), &self.request).await;
        let created = created.map_err(|error| self.explain(error.into()))?;
        for warning in &created.warnings {
            eprintln!("WARNING: {warning}");
        }
        if let Some(cidfile) = cidfile {
            cidfile.write(&created.id)?;
        }
        Ok(created.id)
    }

    fn explain(&self, failure: Failure) -> Failure {
        let image = &self.request.config.image;
        let last = image.rsplit('/').next().unwrap_or(image);
        let tag = if last.contains(':') || image.contains('@') { "" } else { ":latest" };
        // It may be about an image to be mounted.
        if !failure.message.contains(&format!("No such image: {image}{tag}")) {
            return failure;
        }
        Failure::new(format!("Unable to find image '{image}{tag}' locally"))
            .hint(
                "pulling from a registry is not there yet; bring it in with `corten load`, `corten import` or \
                 `corten image create-base`",
            )
            .exit(failure.exit)
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

/// `-t` with input that is no terminal is a mistake, not a request.
pub fn check_terminal(request: &ContainerCreateRequest) -> Result<(), Failure> {
    if request.config.tty && request.config.attach_stdin && !is_terminal() {
        return Err(
            Failure::new("the input device is not a TTY").hint("leave out -t, or run this in a terminal")
        );
    }
    Ok(())
}
