//! `save`: images as an archive.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use corten_api::client::Client;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

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
                    copy(&client, &self.images, platform, &mut file)
                        .await
                        .map_err(|failure| failure.while_doing(format!("saving to {}", path.display())))?;
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

/// An archive on its way to its place.
struct Partial {
    file: File,
    /// The name beside its place that it bears meanwhile.
    path: PathBuf,
    state: PartialState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PartialState {
    /// What is no file (a pipe, /dev/null) is written to directly.
    Direct,
    /// It goes with this process, even if that is killed.
    Nameless,
    /// For file systems that have no nameless files.
    Named,
}

impl Partial {
    fn create(target: &Path) -> Result<Partial, Failure> {
        let failed =
            |error: io::Error| Failure::from(error).while_doing(format!("creating {}", target.display()));
        if fs::metadata(target).is_ok_and(|meta| !meta.is_file()) {
            let file = File::options().write(true).open(target).map_err(failed)?;
            return Ok(Partial { file, path: target.to_owned(), state: PartialState::Direct });
        }
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        let path = target.with_file_name(name);
        let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::open(directory.unwrap_or(Path::new(".")), flags, Mode::from_raw_mode(0o666)) {
            Ok(file) => Ok(Partial { file: file.into(), path, state: PartialState::Nameless }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
                let file = File::create(&path).map_err(failed)?;
                Ok(Partial { file, path, state: PartialState::Named })
            }
            Err(error) => Err(failed(error.into())),
        }
    }

    fn finish(mut self, target: &Path) -> Result<(), Failure> {
        let failed = |error: io::Error| {
            Failure::from(error).while_doing(format!("putting {} in place", target.display()))
        };
        if self.state == PartialState::Nameless {
            // A link replaces nothing, a rename does (open(2), O_TMPFILE).
            let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            rustix::fs::linkat(CWD, own, CWD, &self.path, AtFlags::SYMLINK_FOLLOW)
                .map_err(|error| failed(error.into()))?;
            self.state = PartialState::Named;
        }
        if self.state == PartialState::Named {
            fs::rename(&self.path, target).map_err(failed)?;
            self.state = PartialState::Direct;
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.state == PartialState::Named {
            // Half an archive is of no use.
            let _ = fs::remove_file(&self.path);
        }
    }
}
