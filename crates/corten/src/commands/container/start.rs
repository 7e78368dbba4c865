//! `start`, in the background or attached.

use corten_api::client::Client;
use corten_api::container::{AttachOptions, WaitCondition};

use super::run::{exit_status, start_failure};
use crate::cli::{Context, EXIT_ENGINE, Failure, Outcome, Verb};
use crate::commands::each::each;
use crate::stream::{
    DetachKeys, End, RawMode, Resized, Session, Wiring, follow_size, forward_signals, is_terminal,
};

#[derive(Clone, Debug, clap::Args)]
pub struct Start {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    attach: bool,
    /// Attach container's STDIN
    #[arg(short, long)]
    interactive: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: String,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Start {
    const ABOUT: &'static str = "Start one or more stopped containers";
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";

    fn run(mut self, context: &Context) -> Outcome {
        if self.detach_keys.is_empty() && (self.attach || self.interactive) {
            self.detach_keys = context.setting("detachKeys").unwrap_or_default();
        }
        let keys = DetachKeys::parse(&self.detach_keys).map_err(|why| {
            Failure::new(format!("invalid value for --detach-keys: {why}")).exit(EXIT_ENGINE)
        })?;
        let client = context.client()?;
        if self.attach || self.interactive {
            if self.containers.len() > 1 {
                return Err(Failure::new("only one container can be started attached"));
            }
            return context.block_on(self.attached(&client, keys))?;
        }
        let typed = self.detach_keys;
        context.block_on(each(&client, self.containers, move |client, name| {
            let typed = typed.clone();
            async move { client.container_start(&name, &typed).await.map(|_| name) }
        }))?
    }
}

impl Start {
    async fn attached(&self, client: &Client, keys: DetachKeys) -> Outcome {
        let name = &self.containers[0];
        let container = client.container_inspect(name, false).await?;
        let (id, tty) = (&container.id, container.config.tty);
        let stdin = self.interactive && container.config.open_stdin;
        if tty && stdin && !is_terminal() {
            return Err(Failure::new("the input device is not a TTY"));
        }
        if !tty {
            forward_signals(client, id)?;
        }
        let options = AttachOptions {
            stream: true,
            stdin,
            stdout: true,
            stderr: true,
            detach_keys: self.detach_keys.clone(),
            ..AttachOptions::default()
        };
        let removed = container.host_config.auto_remove;
        let condition = if removed { WaitCondition::Removed } else { WaitCondition::NextExit };
        let (attached, waiting) =
            tokio::join!(client.container_attach(id, &options), client.container_wait(id, condition));
        let (attached, waiting) = (attached?, waiting?);
        let raw = if tty && stdin { RawMode::enter()? } else { None };
        let session = Session::start(attached, Wiring { stdin, tty, detach_keys: tty.then_some(keys) })?;
        client.container_start(id, &self.detach_keys).await.map_err(|error| start_failure(error).exit(1))?;
        if tty {
            follow_size(client, Resized::Container(id.clone()))?;
        }
        let end = session.end().await?;
        drop(raw);
        match end {
            End::Detached => Ok(0),
            End::Closed => exit_status(waiting).await,
        }
    }
}
