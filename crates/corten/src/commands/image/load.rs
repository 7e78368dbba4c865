//! `load`: images from an archive.

use std::fs::File;
use std::io::{self, IsTerminal, Read};

use corten_api::client::Body;

use super::platform_json;
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::progress::{Progress, Upload};

#[derive(Clone, Debug, clap::Args)]
pub struct Load {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "FILE")]
    input: Option<String>,
    /// Load only the given platform variant (os[/arch[/variant]])
    #[arg(long)]
    platform: Option<String>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Load {
    const ABOUT: &'static str = "Load an image from a tar archive or STDIN";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        let platform = self.platform.as_deref().map(platform_json).transpose()?;
        let (archive, length) = open(self.input.as_deref())?;
        let client = context.probed_client()?;
        let progress = Progress::new(self.quiet);
        context.block_on(async {
            let archive = Upload::new(archive, length, "Sending archive", &progress);
            let body = Body::from_reader(archive, length);
            let messages = client.image_load(body, progress.is_quiet(), platform.as_deref()).await?;
            progress.show(messages).await?;
            Ok(0)
        })?
    }
}

/// The archive and its length, when it is a plain file.
fn open(input: Option<&str>) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    match input {
        None if io::stdin().is_terminal() => {
            Err(Failure::new("there is no archive: standard input is a terminal")
                .hint("give a file with -i, or redirect one to standard input"))
        }
        None => Ok((Box::new(io::stdin()), None)),
        Some(path) => {
            let file = File::open(path);
            let file = file.map_err(|error| Failure::from(error).while_doing(format!("opening {path}")))?;
            let length = file.metadata().ok().filter(|meta| meta.is_file()).map(|meta| meta.len());
            Ok((Box::new(file), length))
        }
    }
}
