//! `system dial-stdio`: a connection to the engine on standard input and output. What `ssh://` hosts run at their end.

use corten_api::client::Socket;
use tokio::io::{AsyncWriteExt, copy};

use crate::cli::{Context, Failure, Outcome, Verb};

#[derive(Clone, Debug, clap::Args)]
pub struct DialStdio {}

impl Verb for DialStdio {
    const ABOUT: &'static str = "Proxy the stdio stream to the engine's connection";
    const USAGE: &'static str = "";

    fn run(self, context: &Context) -> Outcome {
        // So that an engine is started here as for every other command.
        let client = context.probed_client()?;
        let done = context.block_on(async {
            let socket = client.connect().await?;
            relay(socket).await.map_err(Failure::from)
        })?;
        done.map(|()| 0)
    }
}

/// Both ways until the engine has nothing more to say; the end of our input is passed on.
async fn relay(socket: Socket) -> std::io::Result<()> {
    let (mut from_engine, mut to_engine) = tokio::io::split(socket);
    let input = tokio::spawn(async move {
        // When either end breaks, the engine's answer, or its end, says so.
        let _ = copy(&mut tokio::io::stdin(), &mut to_engine).await;
        let _ = to_engine.shutdown().await;
    });
    let mut output = tokio::io::stdout();
    copy(&mut from_engine, &mut output).await?;
    output.flush().await?;
    input.abort();
    Ok(())
}
