//! `run`: create, start, and stay attached until the container ends.

use corten_api::client::{Client, Response};
use corten_api::container::{AttachOptions, ContainerCreateRequest, WaitCondition, WaitResponse};

use super::create::{Creation, check_terminal};
use crate::cli::{Context, EXIT_ENGINE, Failure, Outcome, Verb};
use crate::options::ContainerFlags;
use crate::output;
use crate::stream::{
    DetachKeys, End, RawMode, Resized, Session, Wiring, follow_size, forward_signals, window,
};

#[derive(Clone, Debug, clap::Args)]
pub struct Run {
    /// Run container in background and print container ID
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Proxy received signals to the process
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true",
        value_parser = crate::options::values::boolean, action = clap::ArgAction::Set, value_name = "BOOL")]
    sig_proxy: bool,
    #[command(flatten)]
    flags: ContainerFlags,
    /// The image, then the command and its arguments
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, value_name = "IMAGE [COMMAND] [ARG...]",
        help_heading = "Arguments")]
    words: Vec<String>,
}

impl Verb for Run {
    const ABOUT: &'static str = "Create and run a new container from an image";
    const USAGE: &'static str = "[OPTIONS] IMAGE [COMMAND] [ARG...]";

    fn run(self, context: &Context) -> Outcome {
        let keys = self
            .detach_keys
            .clone()
            .or_else(|| self.attached_terminal().then(|| context.setting("detachKeys"))?);
        let keys = keys.unwrap_or_default();
        let detach_keys = DetachKeys::parse(&keys).map_err(|why| {
            Failure::new(format!("invalid value for --detach-keys: {why}")).exit(EXIT_ENGINE)
        })?;
        let mut creation = Creation::new(&self.flags, &self.words)?;
        if self.detach {
            detach(&mut creation.request, &self.flags)?;
        } else {
            check_terminal(&creation.request)?;
        }
        if let Some((height, width)) = window().filter(|_| creation.request.config.tty) {
            creation.request.host_config.console_size = [height.into(), width.into()];
        }
        let client = context.client().map_err(|failure| failure.exit(EXIT_ENGINE))?;
        context.block_on(async {
            let id = creation.send(&client).await.map_err(|failure| failure.exit(EXIT_ENGINE))?;
            let attachment = Attachment { client: &client, id: &id, request: &creation.request, keys: &keys };
            if self.detach {
                client.container_start(&id, &keys).await.map_err(start_failure)?;
                output::line(&id)?;
                return Ok(0);
            }
            attachment.run(detach_keys, self.sig_proxy).await
        })?
    }
}

impl Run {
    fn attached_terminal(&self) -> bool {
        !self.detach && self.flags.process.tty
    }
}

/// In the background nothing is attached.
fn detach(request: &mut ContainerCreateRequest, flags: &ContainerFlags) -> Result<(), Failure> {
    if !flags.process.attach.is_empty() {
        return Err(Failure::new("conflicting options: --attach and --detach exclude each other"));
    }
    let config = &mut request.config;
    config.attach_stdin = false;
    config.attach_stdout = false;
    config.attach_stderr = false;
    config.stdin_once = false;
    Ok(())
}

/// A created container that we stay with.
struct Attachment<'a> {
    client: &'a Client,
    id: &'a str,
    request: &'a ContainerCreateRequest,
    keys: &'a str,
}

impl Attachment<'_> {
    async fn run(&self, detach_keys: DetachKeys, sig_proxy: bool) -> Outcome {
        if sig_proxy {
            forward_signals(self.client, self.id)?;
        }
        let config = &self.request.config;
        let options = AttachOptions {
            stream: true,
            stdin: config.attach_stdin,
            stdout: config.attach_stdout,
            stderr: config.attach_stderr,
            detach_keys: self.keys.to_owned(),
            ..AttachOptions::default()
        };
        let condition = if self.request.host_config.auto_remove {
            WaitCondition::Removed
        } else {
            WaitCondition::NextExit
        };
        // Both must be in place before the container starts; neither depends on the other.
        let (attached, waiting) = tokio::join!(
            self.client.container_attach(self.id, &options),
            self.client.container_wait(self.id, condition)
        );
        let engine_failure = |error| Failure::from(error).exit(EXIT_ENGINE);
        let (attached, waiting) = (attached.map_err(engine_failure)?, waiting.map_err(engine_failure)?);
        let raw = if config.tty && config.attach_stdin { RawMode::enter()? } else { None };
        let wiring = Wiring {
            stdin: config.attach_stdin,
            tty: config.tty,
            detach_keys: config.tty.then_some(detach_keys),
        };
        let session = Session::start(attached, wiring)?;
        if let Err(error) = self.client.container_start(self.id, self.keys).await {
            drop(raw);
            if self.request.host_config.auto_remove {
                // The engine removes what never ran; the prompt comes back when that is done.
                let _ = waiting.finish().await;
            }
            return Err(start_failure(error));
        }
        if config.tty {
            follow_size(self.client, Resized::Container(self.id.to_owned()))?;
        }
        let end = session.end().await?;
        drop(raw);
        match end {
            End::Detached => Ok(0),
            End::Closed => exit_status(waiting).await,
        }
    }
}

/// The container's exit status, as a shell would give it.
pub async fn exit_status(waiting: Response) -> Outcome {
    let result: WaitResponse =
        waiting.json().await.map_err(|error| Failure::from(error).exit(EXIT_ENGINE))?;
    if let Some(error) = result.error.filter(|error| !error.message.is_empty()) {
        return Err(Failure::new(format!("waiting for the container: {}", error.message)).exit(EXIT_ENGINE));
    }
    Ok(u8::try_from(result.status_code & 0xff).unwrap_or(EXIT_ENGINE))
}

/// 127 when the command isn't there, 126 when it can't be executed, 125 otherwise.
pub fn start_failure(error: corten_api::client::Error) -> Failure {
    let failure = Failure::from(error);
    let text = failure.message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let exit = if says(&["executable file not found", "no such file or directory"]) {
        127
    } else if says(&["permission denied", "is a directory", "exec format error"]) {
        126
    } else {
        EXIT_ENGINE
    };
    failure.exit(exit)
}
