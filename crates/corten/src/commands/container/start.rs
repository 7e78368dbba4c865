//! `start`, in the background or attached.

use corten_api::client::Client;
use corten_api::container::WaitCondition;

use super::attachment::{Attachment, Keys, check_terminal};
use super::order::{Order, in_order};
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::each::each_in_order;

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

    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        if self.attach || self.interactive {
            let keys = Keys::of(context, &self.detach_keys, true)?;
            if self.containers.len() > 1 {
                return Err(Failure::new("only one container can be started attached"));
            }
            return context.block_on(self.attached(&client, keys))?;
        }
        let typed = self.detach_keys;
        context.block_on(async {
            let groups = in_order(&client, self.containers, Order::Start).await?;
            let start = move |client: Client, name: String| {
                let typed = typed.clone();
                async move { client.container_start(&name, &typed).await.map(|_| name) }
            };
            each_in_order(&client, groups, start).await
        })?
    }
}

impl Start {
    async fn attached(&self, client: &Client, keys: Keys) -> Outcome {
        let container = client.container_inspect(&self.containers[0], false).await?;
        let tty = container.config.tty;
        let stdin = self.interactive && container.config.open_stdin;
        check_terminal(tty, stdin, "leave out -i, or run this in a terminal")?;
        let removed = container.host_config.auto_remove;
        let attachment = Attachment {
            client,
            id: &container.id,
            keys,
            tty,
            stdin,
            stdout: true,
            stderr: true,
            signals: !tty,
            until: if removed { WaitCondition::Removed } else { WaitCondition::NextExit },
        };
        // Whatever refuses the start, the status of this command is 1.
        attachment.start().await.map_err(|failure| failure.exit(1))
    }
}
