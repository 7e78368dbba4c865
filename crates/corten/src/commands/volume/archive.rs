//! Volumes as archives.

use std::path::PathBuf;

use corten_api::client::Body;
use corten_api::volume::VolumeCreateRequest;

use crate::cli::{Context, Outcome, Verb};
use crate::commands::archive::{Target, open};
use crate::commands::progress::{Progress, Upload};
use crate::options::key_values;
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Export {
    /// Write to a file, instead of STDOUT ("-")
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[arg(value_name = "VOLUME")]
    volume: String,
}

impl Verb for Export {
    const ABOUT: &'static str = "Write a volume's files as a tar archive (to STDOUT by default)";
    const USAGE: &'static str = "[OPTIONS] VOLUME";

    fn run(self, context: &Context) -> Outcome {
        let target = Target::open(self.output.as_deref())?;
        let client = context.client()?;
        context.block_on(async {
            target.receive(client.volume_export(&self.volume).await?).await?;
            Ok(0)
        })?
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Import {
    /// Set metadata for the volume
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// The archive; STDIN ("-") by default
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Verb for Import {
    const ABOUT: &'static str = "Create a volume with the files of a tar archive";
    const USAGE: &'static str = "[OPTIONS] VOLUME [FILE|-]";

    fn run(self, context: &Context) -> Outcome {
        let request = VolumeCreateRequest {
            driver_opts: key_values("--opt", &self.opt)?,
            labels: key_values("--label", &self.label)?,
            name: self.volume,
            ..VolumeCreateRequest::default()
        };
        let (archive, length) = open(self.file.as_deref())?;
        let client = context.probed_client()?;
        let progress = Progress::new(false);
        context.block_on(async {
            let archive = Upload::new(archive, length, "Sending archive", &progress);
            let volume = client.volume_import(&request, Body::from_reader(archive, length)).await?;
            output::line(&volume.name)?;
            Ok(0)
        })?
    }
}
