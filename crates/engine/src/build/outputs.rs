//! Where builds' outcomes go besides the store: to a registry, and as files into an archive or a directory.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use corten_api::auth::AuthConfig;
use corten_build::{Asker, Built, Options, Predicate, Subject, Teller, Told};
use corten_image::build::open_file;
use corten_image::digest::HashingReader;
use corten_image::manifest::Descriptor;
use corten_image::tar::{Entry, Kind};
use corten_image::{Digest, Reference, files};

use super::context::Scratch;
use super::{auth_for, progress, told};
use crate::image::{PushWish, failed};
use crate::{Engine, Error, Output, Result};

/// A part of what a build left.
pub struct BuiltTree {
    /// Where it belongs: `linux_arm64`, or empty for the top.
    pub below: String,
    pub root: OwnedFd,
    /// What keeps it there.
    pub keep: Option<Arc<dyn Any + Send + Sync>>,
}

impl Engine {
    /// Sends an image to its registry; who is to be known there is among `auths`, or the asker says it. Told as a step of its build. Gives
    /// what the name stands for there.
    pub async fn build_push(
        &self,
        name: &str,
        auths: &BTreeMap<String, AuthConfig>,
        asker: &dyn Asker,
        teller: &Teller,
    ) -> corten_build::Result<Option<Descriptor>> {
        let reference =
            Reference::parse(name).map_err(|error| corten_build::Error::Invalid(error.to_string()))?;
        let id = Digest::of(format!("push {reference}").as_bytes());
        let mut step = Told::new(teller, id, format!("pushing {reference}"), Vec::new());
        step.start().await?;
        let pushed = async {
            let auth = auth_for(auths, asker, &reference).await?;
            let wish = PushWish { name: reference.to_string(), auth, ..PushWish::default() };
            let pushed = self.image_push(wish, progress::statuses(teller.clone(), id)).await;
            pushed.map_err(|error| {
                let text = format!("failed to push {reference}: {}", error.message);
                told(Error::new(error.kind, text))
            })
        };
        let pushed = pushed.await;
        Ok(step.end(pushed).await?.into_iter().next())
    }

    /// Writes what a build left, as a tar archive.
    pub async fn build_files(
        &self,
        built: &Built,
        split: Option<bool>,
        mut output: impl Output + Send + 'static,
    ) -> Result<()> {
        let trees = self.build_trees(built, split).await?;
        crate::image::blocking(move || {
            let broken =
                |error: &dyn std::fmt::Display| Error::internal(format!("write the archive: {error}"));
            let (directories, _kept): (Vec<_>, Vec<_>) =
                trees.into_iter().map(|tree| ((tree.below, tree.root), tree.keep)).unzip();
            files::pack_below(directories, &mut output).map_err(|error| broken(&error))?;
            output.flush().map_err(|error| broken(&error))
        })
        .await
    }

    /// The directories with what a build left, for each platform one that isn't empty. `split`: each below a name of its own, which is
    /// so by itself where there are several platforms.
    pub async fn build_trees(&self, built: &Built, split: Option<bool>) -> Result<Vec<BuiltTree>> {
        let is_split = split.unwrap_or(built.is_of_several);
        let mut trees = Vec::new();
        for outcome in &built.outcomes {
            let (session, stack) = (built.session.clone(), outcome.state.stack.clone());
            let name = || outcome.platform.to_string().replace('/', "_");
            let below = if is_split { name() } else { String::new() };
            let (said, scratch, newest) = (outcome.said.clone(), self.build_scratch()?, outcome.state.newest);
            let made = crate::image::blocking(move || {
                let root =
                    if stack.is_empty() { None } else { Some(session.merged(&stack).map_err(failed)?) };
                let beside = match said.is_empty() {
                    true => None,
                    false => Some(statements(&said, root.as_ref(), scratch, newest)?),
                };
                Ok((root, beside))
            });
            let (root, beside) = made.await?;
            trees.extend(root.map(|root| BuiltTree { below: below.clone(), root, keep: None }));
            trees.extend(beside.map(|(root, keep)| BuiltTree { below, root, keep: Some(Arc::new(keep)) }));
        }
        Ok(trees)
    }
}

/// Writes what is said of files into a directory of their own, each statement a file.
fn statements(
    said: &[Predicate],
    files: Option<&OwnedFd>,
    scratch: Scratch,
    newest: i64,
) -> Result<(OwnedFd, Scratch)> {
    let broken = |error: std::io::Error| Error::internal(format!("write the attestations: {error}"));
    let mut subjects = Vec::new();
    if let Some(root) = files {
        let mut add = |entry: Entry| {
            if entry.kind == Kind::File {
                let name = String::from_utf8_lossy(&entry.path).into_owned();
                let mut hashed = HashingReader::new(open_file(root, &entry.path)?);
                std::io::copy(&mut hashed, &mut std::io::sink())?;
                let (digest, _) = hashed.finish();
                subjects.push(Subject { name, digest });
            }
            Ok(())
        };
        files::describe(root, &mut add).map_err(broken)?;
    }
    // As old as the newest of the files: the same build gives the same archive.
    let time = UNIX_EPOCH + Duration::from_secs(u64::try_from(newest).unwrap_or_default());
    for predicate in said {
        let path = scratch.path().join(predicate.file_name);
        let written = std::fs::write(&path, predicate.statement(&subjects))
            .and_then(|()| File::options().write(true).open(&path)?.set_modified(time));
        written.map_err(broken)?;
    }
    let root = File::open(scratch.path()).map_err(broken)?;
    Ok((root.into(), scratch))
}

/// Refuses to put the files of several platforms over each other.
pub fn check_split(options: &Options, split: Option<bool>) -> corten_build::Result<()> {
    match split == Some(false) && options.targets().len() > 1 {
        true => Err(corten_build::Error::Invalid(
            "platform-split=false would put the files of several platforms over each other: leave it out, or \
             build for one platform"
                .to_owned(),
        )),
        false => Ok(()),
    }
}

/// Refuses to give what refers to an image where nothing can: files and archives.
pub fn check_referrers(options: &Options) -> corten_build::Result<()> {
    match options.attestations.are_referrers() {
        true => Err(corten_build::Error::Invalid(
            "attestations with referrers=true are of images in the store and at registries: leave referrers out for files and archives"
                .to_owned(),
        )),
        false => Ok(()),
    }
}
