//! `build`: an image from a Dockerfile and the files beside it.
//!
//! An engine on this host takes the files from where they lie; to another one they are sent.

mod request;
mod show;

use std::path::PathBuf;

use corten_api::build::{BuildContext, BuildEvent};
use corten_api::client::Body;

use crate::cli::{Context, Failure, Outcome, Verb};
use crate::output;
use request::Asked;
use show::{Mode, Show};

#[derive(Clone, Debug, clap::Args)]
pub struct Build {
    /// Add a custom host-to-IP mapping (format: "host:ip")
    #[arg(long, value_name = "host:ip")]
    add_host: Vec<String>,
    /// Set build-time variables
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Additional build contexts (e.g., name=path)
    #[arg(long, value_name = "name=VALUE")]
    build_context: Vec<String>,
    /// Set the parent cgroup for the "RUN" instructions during build
    #[arg(long, default_value = "", hide_default_value = true)]
    cgroup_parent: String,
    /// Name of the Dockerfile (default: "PATH/Dockerfile")
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// Write the image ID to a file
    #[arg(long)]
    iidfile: Option<PathBuf>,
    /// Set metadata for an image
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Set the networking mode for the "RUN" instructions during build
    #[arg(long, default_value = "default")]
    network: String,
    /// Do not use cache when building the image
    #[arg(long)]
    no_cache: bool,
    /// Do not cache specified stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// Set target platform for build
    #[arg(long)]
    platform: Option<String>,
    /// Set type of progress output ("auto", "plain", "quiet", "rawjson")
    #[arg(long, default_value = "auto", env = "BUILDKIT_PROGRESS")]
    progress: Mode,
    /// Always attempt to pull all referenced images
    #[arg(long)]
    pull: bool,
    /// Suppress the build output and print image ID on success
    #[arg(short, long)]
    quiet: bool,
    /// Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")
    #[arg(long)]
    secret: Vec<String>,
    /// Shared memory size for build containers
    #[arg(long)]
    shm_size: Option<String>,
    /// Name and optionally a tag (format: "name:tag")
    #[arg(short, long)]
    tag: Vec<String>,
    /// Set the target build stage to build
    #[arg(long, default_value = "", hide_default_value = true)]
    target: String,
    /// Ulimit options
    #[arg(long)]
    ulimit: Vec<String>,
    #[arg(value_name = "PATH|-")]
    path: String,
}

impl Verb for Build {
    const ABOUT: &'static str = "Build an image from a Dockerfile";
    const USAGE: &'static str = "[OPTIONS] PATH|-";

    fn run(self, context: &Context) -> Outcome {
        let mode = if self.quiet { Mode::Quiet } else { self.progress };
        let iidfile = self.iidfile.clone();
        let mut asked = Asked::new(self, context)?;
        let client = context.client()?;
        let image = context.block_on(async {
            let mut show = Show::new(mode, asked.request.definition.name.clone());
            loop {
                let body = Body::from_reader(asked.body()?, None);
                let mut events = client
                    .post("/corten/build")
                    .body("application/json", body)
                    .send()
                    .await?
                    .messages::<BuildEvent>();
                let mut last = None;
                while let Some(event) = events.next().await? {
                    match event {
                        BuildEvent::Image(_) | BuildEvent::Error(_) => last = Some(event),
                        event => show.event(event)?,
                    }
                }
                return match last {
                    Some(BuildEvent::Image(image)) => Ok(image),
                    // The engine is elsewhere, or in a container with other directories.
                    Some(BuildEvent::Error(error))
                        if error.wants_archive
                            && matches!(asked.request.context, BuildContext::Directory(_)) =>
                    {
                        asked.send_archive();
                        continue;
                    }
                    Some(BuildEvent::Error(error)) => {
                        Err(show.failure(&error, &asked.request.definition.text))
                    }
                    _ => Err(Failure::new("the build broke off: the engine ended before it")),
                };
            }
        })??;
        if mode == Mode::Quiet {
            output::line(&image.id)?;
        }
        if let Some(path) = iidfile {
            std::fs::write(&path, &image.id)
                .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
        }
        Ok(0)
    }
}
