//! `build`: an image from a Dockerfile and the files beside it.
//!
//! An engine on this host takes the files from where they lie; to another one they are sent.

mod agents;
mod attestations;
mod cache;
mod call;
mod debug;
mod layout;
mod limits;
mod made;
mod metadata;
mod outputs;
mod raw;
mod request;
mod screen;
mod scripts;
mod show;
mod stores;

use std::path::PathBuf;

use corten_api::build::{BuildContext, BuildData, BuildEvent, BuildImage};
use corten_api::client::{Body, Client, Messages};
use tokio::time::MissedTickBehavior;

use crate::cli::{Context, Failure, Outcome, Verb};
use crate::output;
use call::Call;
use outputs::{Place, Sink};
use request::Asked;
pub use show::{Mode, Show};

#[derive(Clone, Debug, clap::Args)]
pub struct Build {
    /// Add a custom host-to-IP mapping (format: "host:ip")
    #[arg(long, value_name = "host:ip")]
    add_host: Vec<String>,
    /// Allow RUN steps what is refused otherwise ("network.host": RUN --network=host)
    #[arg(long, value_name = "ENTITLEMENT", value_delimiter = ',')]
    allow: Vec<String>,
    /// Set build-time variables
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Say something of the images beside them (format: "type=provenance,mode=max", "type=sbom,referrers=true")
    #[arg(long, value_name = "type=TYPE[,...]")]
    attest: Vec<String>,
    /// Additional build contexts (e.g., name=path, name=URL, name=docker-image://image, name=oci-layout://path:tag)
    #[arg(long, value_name = "name=VALUE")]
    build_context: Vec<String>,
    /// Cache of steps to build with (format: "NAME", "type=registry,ref=NAME" or "type=local,src=DIR[,tag=TAG]")
    #[arg(long, value_name = "NAME|type=TYPE,...")]
    cache_from: Vec<String>,
    /// Where the steps of this build go as a cache (format: "type=registry,ref=NAME[,mode=min|max][,mounts=all]", "type=local,dest=DIR[,...]" or "type=inline")
    #[arg(long, value_name = "type=TYPE,...")]
    cache_to: Vec<String>,
    /// Ask about the Dockerfile instead of building ("check", "outline", "targets"; ",format=json" for programs)
    #[arg(long, value_name = "METHOD", default_value = "build", hide_default_value = true)]
    call: Call,
    /// Shorthand for "--call=check": tell what could be better in the Dockerfile
    #[arg(long, conflicts_with = "call")]
    check: bool,
    /// Set the parent cgroup for the "RUN" instructions during build
    #[arg(long, default_value = "", hide_default_value = true)]
    cgroup_parent: String,
    /// Open a shell in the container of a step whose program fails
    #[arg(long)]
    debug_on_failure: bool,
    #[command(flatten)]
    limits: limits::LimitFlags,
    /// Name of the Dockerfile (default: "PATH/Dockerfile")
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// Write the image ID to a file
    #[arg(long)]
    iidfile: Option<PathBuf>,
    /// Set metadata for an image
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Shorthand for "--output=type=docker": the image goes to the engine's store
    #[arg(long)]
    load: bool,
    /// Write what a build made (its names, digests) to a file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Set the networking mode for the "RUN" instructions during build
    #[arg(long, default_value = "default")]
    network: String,
    /// Do not use cache when building the image
    #[arg(long)]
    no_cache: bool,
    /// Do not cache specified stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// Output destination (format: "type=local,dest=path", "path" or "-")
    #[arg(short, long, value_name = "type=TYPE,...")]
    output: Vec<String>,
    /// Set target platforms for build (several make an index of their images)
    #[arg(long, value_name = "OS/ARCH[,...]")]
    platform: Vec<String>,
    /// Set type of progress output ("auto", "plain", "tty", "quiet", "rawjson")
    #[arg(long, default_value = "auto", env = "BUILDKIT_PROGRESS")]
    progress: Mode,
    /// Shorthand for "--attest=type=provenance": where the images come from
    #[arg(long, value_name = "mode=max,...", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    provenance: Option<String>,
    /// Always attempt to pull all referenced images
    #[arg(long)]
    pull: bool,
    /// Shorthand for "--output=type=registry": the image is pushed under its names
    #[arg(long)]
    push: bool,
    /// Suppress the build output and print image ID on success
    #[arg(short, long)]
    quiet: bool,
    /// Shorthand for "--attest=type=sbom": what the images are made of
    #[arg(long, value_name = "format=cyclonedx,...", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sbom: Option<String>,
    #[command(flatten)]
    scripts: scripts::ScriptFlags,
    /// Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")
    #[arg(long)]
    secret: Vec<String>,
    /// Shared memory size for build containers
    #[arg(long)]
    shm_size: Option<String>,
    /// SSH agent socket or keys to expose to the build (format: "default|id[=socket|key[,key]]")
    #[arg(long, value_name = "default|id[=socket|key[,key]]")]
    ssh: Vec<String>,
    /// Name and optionally a tag (format: "name:tag")
    #[arg(short, long)]
    tag: Vec<String>,
    /// Set the target build stage to build
    #[arg(long, default_value = "", hide_default_value = true)]
    target: String,
    /// Ulimit options
    #[arg(long)]
    ulimit: Vec<String>,
    /// Build twice without the cache, and fail where the two runs differ
    #[arg(long)]
    verify_reproducible: bool,
    #[arg(value_name = "PATH|URL|-")]
    path: String,
}

impl Verb for Build {
    const ABOUT: &'static str = "Build an image from a Dockerfile";
    const USAGE: &'static str = "[OPTIONS] PATH|URL|-";

    fn run(self, context: &Context) -> Outcome {
        self.scripts.check()?;
        let mode = if self.quiet { Mode::Quiet } else { self.progress };
        let call = if self.check { Call::check() } else { self.call.clone() };
        let (iidfile, metadata_file) = (self.iidfile.clone(), self.metadata_file.clone());
        let mut asked = Asked::new(self, context)?;
        if let Some(method) = call.method() {
            asked.ask(method);
            let client = context.client()?;
            let answer = context.block_on(call::ask(&client, &asked))??;
            return call.show(&answer);
        }
        asked.stores.targets(&asked.request.cache_to)?;
        if iidfile.is_some() && !asked.request.wants_image() {
            return Err(Failure::new(
                "there is no image whose id could be written: only files are asked for",
            )
            .hint("leave --iidfile out, or add --output type=image"));
        }
        let sinks = asked.places.iter().map(Sink::open).collect::<Result<Vec<_>, _>>()?;
        let client = context.client()?;
        let image = context.block_on(run(&client, &mut asked, mode, sinks))??;
        let has_stdout = asked.places.contains(&Place::Stdout);
        // As buildx has it: an index is known by its digest.
        let id = if image.id.is_empty() { &image.digest } else { &image.id };
        if mode == Mode::Quiet && !id.is_empty() && !has_stdout {
            output::line(id)?;
        }
        if let Some(path) = iidfile {
            metadata::put(&path, id)?;
        }
        if let Some(path) = metadata_file {
            metadata::write(&path, &image)?;
        }
        Ok(0)
    }
}

/// Builds, shows what is told, and passes on what comes for the outputs.
async fn run(
    client: &Client,
    asked: &mut Asked,
    mode: Mode,
    mut sinks: Vec<Option<Sink>>,
) -> Result<BuildImage, Failure> {
    let mut show = Show::new(mode, asked.request.definition.name.clone())?;
    let outcome = drive(client, asked, &mut show, &mut sinks).await;
    show.close(outcome.is_ok());
    outcome.map_err(|failure| left_over(failure, &sinks))
}

async fn drive(
    client: &Client,
    asked: &mut Asked,
    show: &mut Show,
    sinks: &mut [Option<Sink>],
) -> Result<BuildImage, Failure> {
    let mut ticks = tokio::time::interval(screen::INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let body = Body::from_reader(asked.body()?, None);
        let request = client.post("/corten/build").body("application/json", body);
        let mut events = request.send().await?.messages::<BuildEvent>();
        let mut last = None;
        loop {
            let event = tokio::select! {
                event = events.next() => event?,
                _ = ticks.tick() => {
                    show.tick();
                    continue;
                }
            };
            let Some(event) = event else { break };
            match event {
                BuildEvent::Image(_) | BuildEvent::Error(_) | BuildEvent::Answer(_) => last = Some(event),
                BuildEvent::Data(data) => receive(&mut events, data, sinks).await?,
                BuildEvent::Definition(definition) => {
                    show.name.clone_from(&definition.name);
                    asked.request.definition = definition;
                }
                BuildEvent::Agent(wanted) => asked.agents.connect(client, wanted),
                BuildEvent::Content(wanted) => asked.stores.serve(client, wanted),
                BuildEvent::Cache(sent) => asked.stores.list(&sent)?,
                BuildEvent::Failed(failed) => {
                    show.pause();
                    debug::look_into(client, &failed.container, asked.request.debug.unwrap_or_default())
                        .await?;
                }
                event => show.event(event)?,
            }
        }
        return match last {
            Some(BuildEvent::Image(image)) => Ok(image),
            // The engine is elsewhere, or in a container with other directories.
            Some(BuildEvent::Error(error))
                if error.wants_archive && matches!(asked.request.context, BuildContext::Directory(_)) =>
            {
                asked.send_archive();
                continue;
            }
            Some(BuildEvent::Error(error)) => Err(show.failure(&error, &asked.request.definition.text)),
            _ => Err(Failure::new("the build broke off: the engine ended before it")),
        };
    }
}

/// Passes on a piece of an output; one without bytes is its end.
async fn receive(
    events: &mut Messages<BuildEvent>,
    BuildData { output, bytes }: BuildData,
    sinks: &mut [Option<Sink>],
) -> Result<(), Failure> {
    let unknown = || Failure::new(format!("the engine sent output {output}, which was not asked for"));
    let place = sinks.get_mut(output).ok_or_else(unknown)?;
    if bytes == 0 {
        return place.take().ok_or_else(unknown)?.finish();
    }
    let sink = place.as_mut().ok_or_else(unknown)?;
    let mut left = bytes;
    while left > 0 {
        let piece = events.raw(left).await?;
        if piece.is_empty() {
            break;
        }
        left -= piece.len();
        sink.write(&piece)?;
    }
    Ok(())
}

/// A failure, and what it leaves behind.
fn left_over(failure: Failure, sinks: &[Option<Sink>]) -> Failure {
    let notes: Vec<String> = sinks.iter().flatten().filter_map(Sink::left_over).collect();
    match notes.is_empty() {
        true => failure,
        false => failure.hint(notes.join("; ")),
    }
}
