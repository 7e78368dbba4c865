//! `exec`: another command in a running container.

use corten_api::client::Client;
use corten_api::exec::{ExecCreateRequest, ExecStartRequest};

use super::attachment::{Keys, check_terminal, start_failure};
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::options::{Outside, variables};
use crate::stream::{End, RawMode, Resized, Session, Wiring, follow_size, window};

#[derive(Clone, Debug, clap::Args)]
pub struct Exec {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Set environment variables
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Username or UID (format: "<name|uid>[:<group|gid>]")
    #[arg(short, long, default_value = "", hide_default_value = true)]
    user: String,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR", default_value = "", hide_default_value = true)]
    workdir: String,
    /// The container, then the command and its arguments
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_name = "CONTAINER COMMAND [ARG...]")]
    words: Vec<String>,
}

impl Verb for Exec {
    const ABOUT: &'static str = "Execute a command in a running container";
    const USAGE: &'static str = "[OPTIONS] CONTAINER COMMAND [ARG...]";

    fn run(self, context: &Context) -> Outcome {
        let keys = Keys::of(context, &self.detach_keys, self.tty)?;
        let request = self.request(&Outside::of_process(), &keys)?;
        check_terminal(request.tty, request.attach_stdin, "leave out -t, or run this in a terminal")?;
        let client = context.client()?;
        context.block_on(self.exec(&client, &request, keys))?
    }
}

impl Exec {
    fn request(&self, outside: &Outside, keys: &Keys) -> Result<ExecCreateRequest, Failure> {
        let attached = !self.detach;
        Ok(ExecCreateRequest {
            user: self.user.clone(),
            privileged: self.privileged,
            tty: self.tty,
            console_size: window().filter(|_| self.tty).map(|(height, width)| [height.into(), width.into()]),
            attach_stdin: attached && self.interactive,
            attach_stdout: attached,
            attach_stderr: attached,
            detach_keys: keys.text.clone(),
            env: variables(&self.env_file, &self.env, outside)?.into(),
            working_dir: self.workdir.clone(),
            cmd: self.words[1..].to_vec().into(),
            detach: self.detach,
        })
    }

    async fn exec(&self, client: &Client, request: &ExecCreateRequest, keys: Keys) -> Outcome {
        let id = client.exec_create(&self.words[0], request).await?.id;
        let (tty, stdin) = (request.tty, request.attach_stdin);
        let start = ExecStartRequest { detach: self.detach, tty, console_size: request.console_size };
        if self.detach {
            client.exec_start_detached(&id, &start).await?;
            return Ok(0);
        }
        let started = client.exec_start(&id, &start).await.map_err(start_failure)?;
        let raw = if tty && stdin { RawMode::enter(true)? } else { None };
        let detach_keys = tty.then_some(keys.parsed);
        let session = Session::start(started, Wiring { stdin, tty, detach_keys })?;
        if tty {
            follow_size(client, Resized::Exec(id.clone()))?;
        }
        let end = session.end().await?;
        drop(raw);
        if end != End::Closed {
            return Ok(0);
        }
        let result = client.exec_inspect(&id).await?;
        let code = result.exit_code.unwrap_or_default();
        Ok(u8::try_from(code & 0xff).unwrap_or(1))
    }
}
