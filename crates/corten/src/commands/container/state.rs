//! Commands that change a container's state: stop, kill, restart, pause, unpause, wait, rename, rm.

use corten_api::client::Client;
use corten_api::container::{RemoveOptions, StopOptions, WaitCondition, WaitResponse};

use super::order::{Order, in_order};
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::each::{Missing, each, each_in_order, each_or};

#[derive(Clone, Debug, clap::Args)]
pub struct Stop {
    /// Signal to send to the container
    #[arg(short, long)]
    signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(short, long, visible_alias = "time", value_name = "SECONDS")]
    timeout: Option<i64>,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Stop {
    const ABOUT: &'static str = "Stop one or more running containers";
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";

    fn run(self, context: &Context) -> Outcome {
        let options = StopOptions { signal: self.signal, timeout_s: self.timeout };
        let client = context.client()?;
        context.block_on(async {
            let groups = in_order(&client, self.containers, Order::Stop).await?;
            let stop = move |client: Client, name: String| {
                let options = options.clone();
                async move { client.container_stop(&name, &options).await.map(|_| name) }
            };
            each_in_order(&client, groups, stop).await
        })?
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Restart {
    /// Signal to send to the container
    #[arg(short, long)]
    signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(short, long, visible_alias = "time", value_name = "SECONDS")]
    timeout: Option<i64>,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Restart {
    const ABOUT: &'static str = "Restart one or more containers";
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";

    fn run(self, context: &Context) -> Outcome {
        let options = StopOptions { signal: self.signal, timeout_s: self.timeout };
        let client = context.client()?;
        context.block_on(async {
            let groups = in_order(&client, self.containers, Order::Start).await?;
            let restart = move |client: Client, name: String| {
                let options = options.clone();
                async move { client.container_restart(&name, &options).await.map(|()| name) }
            };
            each_in_order(&client, groups, restart).await
        })?
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Kill {
    /// Signal to send to the container
    #[arg(short, long, default_value = "", hide_default_value = true)]
    signal: String,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Kill {
    const ABOUT: &'static str = "Kill one or more running containers";
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";

    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        context.block_on(each(&client, self.containers, move |client, name| {
            let signal = self.signal.clone();
            async move { client.container_kill(&name, &signal).await.map(|()| name) }
        }))?
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Pause {
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Pause {
    const ABOUT: &'static str = "Pause all processes within one or more containers";
    const USAGE: &'static str = "CONTAINER [CONTAINER...]";

    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        context.block_on(each(&client, self.containers, |client, name| async move {
            client.container_pause(&name).await.map(|()| name)
        }))?
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Unpause {
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Unpause {
    const ABOUT: &'static str = "Unpause all processes within one or more containers";
    const USAGE: &'static str = "CONTAINER [CONTAINER...]";

    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        context.block_on(each(&client, self.containers, |client, name| async move {
            client.container_unpause(&name).await.map(|()| name)
        }))?
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Wait {
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Wait {
    const ABOUT: &'static str = "Block until one or more containers stop, then print their exit codes";
    const USAGE: &'static str = "CONTAINER [CONTAINER...]";

    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        context.block_on(each(&client, self.containers, |client, name| async move {
            let waiting = client.container_wait(&name, WaitCondition::NotRunning).await?;
            let result: WaitResponse = waiting.json().await?;
            Ok(result.status_code.to_string())
        }))?
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Rename {
    #[arg(value_name = "CONTAINER")]
    container: String,
    #[arg(value_name = "NEW_NAME")]
    new_name: String,
}

impl Verb for Rename {
    const ABOUT: &'static str = "Rename a container";
    const USAGE: &'static str = "CONTAINER NEW_NAME";

    fn run(self, context: &Context) -> Outcome {
        if self.container.trim().is_empty() || self.new_name.trim().is_empty() {
            return Err(Failure::new("neither the old nor the new name may be empty"));
        }
        let client = context.client()?;
        context.block_on(client.container_rename(&self.container, &self.new_name))??;
        Ok(0)
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Rm {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    force: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    volumes: bool,
    /// Remove the specified link
    #[arg(short, long)]
    link: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Rm {
    const ABOUT: &'static str = "Remove one or more containers";
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";

    fn run(self, context: &Context) -> Outcome {
        let options = RemoveOptions { force: self.force, volumes: self.volumes, link: self.link };
        let client = context.client()?;
        let missing = if self.force { Missing::IsFine } else { Missing::Fails };
        context.block_on(each_or(missing, &client, self.containers, move |client, name| async move {
            let name = name.trim_matches('/').to_owned();
            client.container_remove(&name, options).await.map(|()| name)
        }))?
    }
}
