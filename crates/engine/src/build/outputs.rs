//! Where builds' outcomes go besides the store: to a registry, and as files into an archive or a directory.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use corten_api::auth::AuthConfig;
use corten_build::{Asker, Built, Teller, Told};
use corten_image::{Digest, Reference, files};

use super::{auth_for, progress, told};
use crate::image::{PushWish, failed};
use crate::{Engine, Error, Output, Result};

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
    pub async fn build_files(&self, built: &Built, mut output: impl Output + Send + 'static) -> Result<()> {
        let root = self.build_root_of(built).await?;
        crate::image::blocking(move || {
            let broken =
                |error: &dyn std::fmt::Display| Error::internal(format!("write the archive: {error}"));
            match root {
                // Nothing but the end of an archive.
                None => output.write_all(&[0; 1024]).map_err(|error| broken(&error))?,
                Some(root) => {
                    files::pack_contents(root, &mut output).map_err(|error| broken(&error))?;
                }
            }
            output.flush().map_err(|error| broken(&error))
        })
        .await
    }

    /// The directory with what a build left; none when that is nothing.
    pub async fn build_root_of(&self, built: &Built) -> Result<Option<OwnedFd>> {
        let (session, stack) = (built.session.clone(), built.state.stack.clone());
        if stack.is_empty() {
            return Ok(None);
        }
        crate::image::blocking(move || session.merged(&stack).map(Some).map_err(failed)).await
    }
}
