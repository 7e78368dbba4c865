//! `cp`: files between a container and this host. What goes where is Docker's: `local` decides for this side's paths.

mod local;
mod passing;
mod stream;

use std::io;

use corten_api::archive::{ArchivePutOptions, file_mode};
use corten_api::client::{Archive, Body, Client};
use corten_image::files::{Owner, Plain, Rebase, UnpackOptions, asserts_directory, split};
use tokio::task::spawn_blocking;

use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::archive::Target;
use crate::commands::progress::Progress;
use crate::format::size;
use crate::output;
use local::CopyInfo;
use stream::{Incoming, Meter};

#[derive(Clone, Debug, clap::Args)]
pub struct Cp {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "CONTAINER:SRC_PATH|SRC_PATH|-")]
    source: String,
    #[arg(value_name = "DEST_PATH|-|CONTAINER:DEST_PATH")]
    destination: String,
}

impl Verb for Cp {
    const ABOUT: &'static str = "Copy files/folders between a container and the local filesystem";
    const USAGE: &'static str =
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n       corten cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH";

    fn run(self, context: &Context) -> Outcome {
        for (path, what) in [(&self.source, "source"), (&self.destination, "destination")] {
            if path.is_empty() {
                return Err(Failure::new(format!("{what} can not be empty")));
            }
        }
        let progress = Progress::new(self.quiet);
        match (local::container_path(&self.source), local::container_path(&self.destination)) {
            (Some(_), Some(_)) => Err(Failure::new("copying between containers is not supported")
                .hint("copy to this host first, or pipe: `corten cp A:PATH - | corten cp - B:PATH`")),
            (None, None) => Err(Failure::new("must specify at least one container source")),
            (Some((container, path)), None) => {
                let client = context.client()?;
                context.block_on(self.copy_out(&client, container, path, &progress))?
            }
            (None, Some((container, path))) => {
                let client = context.probed_client()?;
                context.block_on(self.copy_in(&client, container, path, &progress))?
            }
        }
    }
}

impl Cp {
    async fn copy_out(&self, client: &Client, container: &str, path: &str, progress: &Progress) -> Outcome {
        let to_stdout = self.destination == "-";
        let target = if to_stdout { String::new() } else { local::absolute(&self.destination)? };
        if !to_stdout {
            local::check_output(&target)?;
        }
        let (mut path, mut name) = (path.to_owned(), None);
        if self.follow_link {
            match client.container_stat_path(container, &path).await {
                Ok(stat) if stat.is_symlink() => {
                    let link = local::joined(&path, &stat.link_target);
                    (path, name) = local::rebased(&path, link);
                }
                Err(error) if error.is_no_server() => return Err(error.into()),
                _ => {}
            }
        }
        if to_stdout {
            let (archive, _) = client.container_archive(container, &path).await?;
            Target::Stdout(output::Pour::open()?).receive(archive).await?;
            return Ok(0);
        }
        let (archive, stat) = client.container_archive_passed(container, &path).await?;
        let source = CopyInfo { path: path.clone(), exists: true, is_directory: stat.is_directory(), name };
        let destination = local::destination(&target)?;
        let (directory, name) = prepare(&source, &destination)?;
        let (_, base) = split(&source.path);
        let options = UnpackOptions {
            owner: Owner::Caller,
            keep_kinds: true,
            rebase: name.map(|name| Rebase::new(&base, &name)),
            skip_refused_xattrs: true,
            ..UnpackOptions::default()
        };
        let meter = Meter::new(progress.counter("Copying from container".to_owned()));
        let counted = meter.clone();
        let unpacking = match archive {
            Archive::Passed(hijacked) => {
                let (socket, _) = passing::blocking(hijacked)?;
                spawn_blocking(move || passing::receive(socket, &directory, &options, counted))
            }
            Archive::Body(mut archive) => {
                let (feed, incoming) = Incoming::new(counted);
                let unpacking =
                    spawn_blocking(move || local::unpack_into(&directory, Plain(incoming), &options));
                // One that fails stops reading: what it says counts then.
                feed.all(&mut archive).await?;
                unpacking
            }
        };
        let unpacked = unpacking.await.map_err(|error| Failure::new(error.to_string()))?;
        unpacked.map_err(|failure| failure.while_doing(format!("copying {container}:{path}")))?;
        report(progress, &meter, &target);
        Ok(0)
    }

    async fn copy_in(&self, client: &Client, container: &str, path: &str, progress: &Progress) -> Outcome {
        let mut destination =
            CopyInfo { path: path.to_owned(), exists: false, is_directory: false, name: None };
        let mut found = client.container_stat_path(container, path).await;
        if let Ok(stat) = &found
            && stat.is_symlink()
        {
            destination.path = local::joined(path, &stat.link_target);
            found = client.container_stat_path(container, &destination.path).await;
        }
        match found {
            Ok(stat) => {
                if stat.mode & (file_mode::DEVICE | file_mode::IRREGULAR) != 0 {
                    return Err(Failure::new(format!(
                        "destination \"{container}:{path}\" must be a directory or a regular file"
                    )));
                }
                (destination.exists, destination.is_directory) = (true, stat.is_directory());
            }
            Err(error) if error.is_no_server() => return Err(error.into()),
            // It may yet be made, if its directory is there.
            Err(_) => {}
        }
        let options = ArchivePutOptions { no_overwrite_dir_non_dir: true, copy_uid_gid: self.archive };
        if self.source == "-" {
            if !destination.is_directory {
                return Err(Failure::new(format!("destination \"{container}:{path}\" must be a directory")));
            }
            let body = Body::from_reader(io::stdin(), None);
            client.container_extract(container, &destination.path, body, options).await?;
            return Ok(0);
        }
        let (source, info) = local::source(&local::absolute(&self.source)?, self.follow_link)?;
        let prepared = prepare(&info, &destination);
        if prepared.is_err() && !destination.exists {
            // Nothing is there also where there is no container: the answer to HEAD can't say which.
            client.container_inspect(container, false).await?;
        }
        let (directory, name) = prepared?;
        let name = name.unwrap_or_else(|| split(&info.path).1);
        let meter = Meter::new(progress.counter("Copying to container".to_owned()));
        // The content of a root has names without a first element.
        let source = source.named(name.trim_end_matches('/'));
        if client.passes_files() {
            let hijacked = client.container_extract_passed(container, &directory, options).await?;
            let (socket, begun) = passing::blocking(hijacked)?;
            let counted = meter.clone();
            let sent = spawn_blocking(move || passing::send(socket, &begun, source, counted)).await;
            sent.map_err(|error| Failure::new(error.to_string()))??;
        } else {
            let (body, trouble) = stream::packed(source, meter.clone());
            let sent = client.container_extract(container, &directory, body, options).await;
            if let Some(trouble) = trouble.take() {
                return Err(Failure::new(trouble).while_doing(format!("copying {}", self.source)));
            }
            sent?;
        }
        report(progress, &meter, &format!("{container}:{}", destination.path));
        Ok(0)
    }
}

/// The directory to unpack in, and the name that the source gets there where that is another one.
fn prepare(source: &CopyInfo, destination: &CopyInfo) -> Result<(String, Option<String>), Failure> {
    if destination.exists && destination.is_directory {
        return Ok((destination.path.clone(), source.name.clone()));
    }
    if destination.exists && source.is_directory {
        return Err(Failure::new(format!("cannot copy directory: {} is a file", destination.path)));
    }
    if !destination.exists && !source.is_directory && asserts_directory(&destination.path) {
        return Err(Failure::new(format!("no such directory: {}", destination.path)));
    }
    let (directory, name) = split(&destination.path);
    Ok((directory, Some(name)))
}

fn report(progress: &Progress, meter: &Meter, target: &str) {
    meter.end();
    if !progress.is_quiet() {
        output::say!("Successfully copied {} to {target}", size::decimal(meter.bytes()));
    }
}
