//! `--debug-on-failure`: a shell in what the program of a failed step has left, with all that the step had.

use corten_api::build::BuildDebug;
use corten_api::client::Client;
use corten_api::container::{RemoveOptions, WaitCondition};

use super::outputs::Place;
use crate::cli::Failure;
use crate::commands::container::{Attachment, Keys};
use crate::output;
use crate::stream::is_terminal;

/// What the engine is asked for; the shell has our streams, which nothing else may use.
pub fn wish(is_wanted: bool, has_stdin: bool, places: &[Place]) -> Result<Option<BuildDebug>, Failure> {
    let taken = match (has_stdin, places.contains(&Place::Stdout)) {
        _ if !is_wanted => return Ok(None),
        (false, _) => "standard input, but the Dockerfile or the context comes by it",
        (_, true) => "standard output, but what is built goes there",
        _ => return Ok(Some(BuildDebug { tty: is_terminal() })),
    };
    Err(Failure::new(format!("the shell of --debug-on-failure needs {taken}"))
        .hint("name a file or a directory"))
}

/// Stays in the shell until it ends, and removes its container, for which the build waits.
pub async fn look_into(client: &Client, container: &str, debug: BuildDebug) -> Result<(), Failure> {
    if debug.tty {
        output::talk("a shell in the failed step; the build ends with it\n");
    }
    let keys = Keys::usual()?;
    let attachment = Attachment {
        client,
        id: container,
        keys,
        tty: debug.tty,
        stdin: true,
        stdout: true,
        stderr: true,
        signals: false,
        until: WaitCondition::NextExit,
    };
    // The step's own failure is what the command ends with.
    if let Err(failure) = attachment.start().await {
        output::talk(&format!("no shell in the failed step: {}\n", failure.message));
    }
    let options = RemoveOptions { force: true, volumes: true, ..RemoveOptions::default() };
    client.container_remove(container, options).await?;
    Ok(())
}
