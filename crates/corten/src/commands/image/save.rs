//! `save`: images as an archive.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use corten_api::client::Client;

use super::platform_json;
use crate::cli::{Context, Failure, Outcome, Verb};

#[derive(Clone, Debug, clap::Args)]
pub struct Save {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Save only the given platform variant (os[/arch[/variant]])
    #[arg(long)]
    platform: Option<String>,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Verb for Save {
    const ABOUT: &'static str = "Save one or more images to a tar archive (streamed to STDOUT by default)";
    const USAGE: &'static str = "[OPTIONS] IMAGE [IMAGE...]";

    fn run(self, context: &Context) -> Outcome {
        let platform = self.platform.as_deref().map(platform_json).transpose()?;
        if self.output.is_none() && io::stdout().is_terminal() {
            return Err(Failure::new("an archive is nothing for a terminal")
                .hint("name a file with -o, or redirect standard output"));
        }
        let client = context.client()?;
        let platform = platform.as_deref();
        context.block_on(async {
            match &self.output {
                None => copy(&client, &self.images, platform, &mut io::stdout().lock()).await?,
                Some(path) => {
                    let partial = Partial::create(path)?;
                    let mut file = BufWriter::with_capacity(1 << 20, &partial.file);
                    copy(&client, &self.images, platform, &mut file).await?;
                    drop(file);
                    partial.finish(path)?;
                }
            }
            Ok(0)
        })?
    }
}

async fn copy(
    client: &Client,
    images: &[String],
    platform: Option<&str>,
    to: &mut impl Write,
) -> Result<(), Failure> {
    let mut archive = client.image_save(images, platform).await?;
    while let Some(piece) = archive.chunk().await? {
        to.write_all(&piece)?;
    }
    Ok(to.flush()?)
}

/// A file beside its place, until it is whole.
struct Partial {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl Partial {
    fn create(target: &Path) -> Result<Partial, Failure> {
        // What is no file (a pipe, /dev/null) is written to directly.
        let direct = fs::metadata(target).is_ok_and(|meta| !meta.is_file());
        let path = if direct {
            target.to_owned()
        } else {
            let mut name = target.file_name().unwrap_or_default().to_owned();
            name.push(format!(".{}.partial", std::process::id()));
            target.with_file_name(name)
        };
        let file = File::options().write(true).create(!direct).truncate(!direct).open(&path);
        let file =
            file.map_err(|error| Failure::from(error).while_doing(format!("creating {}", path.display())))?;
        Ok(Partial { path, file, kept: direct })
    }

    fn finish(mut self, target: &Path) -> Result<(), Failure> {
        if !self.kept {
            fs::rename(&self.path, target).map_err(|error| {
                Failure::from(error).while_doing(format!("renaming to {}", target.display()))
            })?;
        }
        self.kept = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            // Half an archive is of no use.
            let _ = fs::remove_file(&self.path);
        }
    }
}
