//! Where builds' outcomes go besides the store: to a registry, and as files into an archive or a directory.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use corten_api::auth::AuthConfig;
use corten_build::{Asker, Built, Options, Teller, Told};
use corten_image::{Digest, Reference, files};

use super::{auth_for, progress, told};
use crate::image::{PushWish, failed};
use crate::{Engine, Error, Output, Result};

/// A part of what a build left.
pub struct BuiltTree {
    /// Where it belongs: `linux_arm64`, or empty for the top.
    pub below: String,
    pub root: OwnedFd,
}

impl Engine {
    /// Sends an image to its registry; who is to be known there is among `auths`, or the asker says it. Told as a step of its build.
    pub async fn build_push(
        &self,
        name: &str,
        auths: &BTreeMap<String, AuthConfig>,
        asker: &dyn Asker,
        teller: &Teller,
    ) -> corten_build::Result<()> {
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
        step.end(pushed).await
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
            let directories = trees.into_iter().map(|tree| (tree.below, tree.root)).collect();
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
            if stack.is_empty() {
                continue;
            }
            let name = || outcome.platform.to_string().replace('/', "_");
            let below = if is_split { name() } else { String::new() };
            let root = crate::image::blocking(move || session.merged(&stack).map_err(failed)).await?;
            trees.push(BuiltTree { below, root });
        }
        Ok(trees)
    }
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
