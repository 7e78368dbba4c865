//! `artifact pull`: the files of an artifact into a directory.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use corten_image::digest::Hasher;
use corten_image::manifest::{Descriptor, Document};
use corten_registry::Repository;

use super::TITLE;
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::image::pull::{parse, with_default_tag};
use crate::commands::remote::Remote;
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct PullArtifact {
    /// Overwrite files that are there
    #[arg(short, long)]
    force: bool,
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Where the files go
    #[arg(short, long, value_name = "DIRECTORY", default_value = ".")]
    output: PathBuf,
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
}

impl Verb for PullArtifact {
    const ABOUT: &'static str = "Download the files of an artifact";
    const USAGE: &'static str = "[OPTIONS] NAME[:TAG|@DIGEST]";

    fn run(self, context: &Context) -> Outcome {
        let name = with_default_tag(parse(&self.name)?)?;
        let remote = Remote::of(context, &name, self.insecure)?;
        let (source, document) = context.block_on(remote.document(&name))??;
        let document = Document::parse(&document.bytes, &document.media_type)
            .map_err(|error| Failure::new(error.to_string()).while_doing(name.familiar()))?;
        let Document::Manifest(manifest) = document else {
            let name = name.familiar();
            return Err(Failure::new(format!("{name} is a list, not files"))
                .hint(format!("`corten manifest inspect {name}` shows the digests in it")));
        };
        let mut files = Vec::new();
        for layer in &manifest.layers {
            if let Some(title) = layer.annotation(TITLE) {
                files.push((self.output.join(below(title)?), layer));
            }
        }
        if files.is_empty() {
            let name = name.familiar();
            return Err(Failure::new(format!("nothing in {name} has the name of a file"))
                .hint(format!("an image is pulled by `corten pull {name}`")));
        }
        // Before anything comes.
        if let Some((path, _)) = files.iter().find(|(path, _)| !self.force && path.symlink_metadata().is_ok())
        {
            return Err(Failure::new(format!("{} is there already", path.display()))
                .hint("--force overwrites it, -o names another directory"));
        }
        for (path, file) in &files {
            context.block_on(fetch(&source, file, path))??;
            output::line(&path.display().to_string())?;
        }
        Ok(0)
    }
}

/// A title as a path below a directory.
fn below(title: &str) -> Result<&Path, Failure> {
    let path = Path::new(title);
    match !title.is_empty() && path.components().all(|part| matches!(part, Component::Normal(_))) {
        true => Ok(path),
        false => Err(Failure::new(format!("refusing to write {title:?}: it leads out of the directory"))),
    }
}

/// Writes a file, whole or not at all.
async fn fetch(source: &Repository, file: &Descriptor, path: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::from(error).while_doing(path.display());
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(failed)?;
    let temporary = Temporary(directory.join(format!(".corten-{}.part", std::process::id())));
    let mut output = File::create(&temporary.0).map_err(failed)?;
    let mut hasher = Hasher::new();
    let mut download = source.download(file, 0);
    while let Some(chunk) = download.chunk().await? {
        hasher.update(&chunk);
        output.write_all(&chunk).map_err(failed)?;
    }
    if hasher.finish() != file.digest {
        return Err(Failure::new(format!("{} was damaged on the way or at the registry", path.display())));
    }
    output.sync_all().map_err(failed)?;
    fs::rename(&temporary.0, path).map_err(failed)
}

/// Goes when it is not renamed.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_stay_below_the_directory() {
        assert_eq!(below("a/b").unwrap(), Path::new("a/b"));
        for title in ["", "/etc/passwd", "../a", "a/../../b", ".", "./a"] {
            assert!(below(title).is_err(), "{title}");
        }
    }
}
