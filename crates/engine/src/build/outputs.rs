//! Where builds' outcomes go besides the store: to a registry, and as files into an archive.

use std::time::SystemTime;

use corten_build::{Asker, Built, Event, Teller, Vertex};
use corten_image::{Digest, Reference, files};

use super::{login, progress, told};
use crate::image::{PushWish, failed};
use crate::{Engine, Error, Output, Result};

impl Engine {
    /// Sends an image to its registry; the asker says who is to be known there. Told as a step of its build.
    pub async fn build_push(
        &self,
        name: &str,
        asker: &dyn Asker,
        teller: &Teller,
    ) -> corten_build::Result<()> {
        let reference =
            Reference::parse(name).map_err(|error| corten_build::Error::Invalid(error.to_string()))?;
        let mut vertex = Vertex {
            id: Digest::of(format!("push {reference}").as_bytes()),
            inputs: Vec::new(),
            name: format!("pushing {reference}"),
            started: Some(SystemTime::now()),
            completed: None,
            is_cached: false,
            error: None,
        };
        let tell = |vertex: &Vertex| teller.send(Event::Vertex(vertex.clone()));
        tell(&vertex).await.map_err(|_| corten_build::Error::Canceled)?;
        let auth = login(asker, reference.domain()).await?;
        let wish = PushWish { name: reference.to_string(), auth, ..PushWish::default() };
        let pushed = self.image_push(wish, progress::statuses(teller.clone(), vertex.id)).await;
        vertex.completed = Some(SystemTime::now());
        vertex.error = pushed.as_ref().err().map(|error| error.message.clone());
        tell(&vertex).await.map_err(|_| corten_build::Error::Canceled)?;
        pushed.map_err(|error| {
            let text = format!("failed to push {reference}: {}", error.message);
            told(Error::new(error.kind, text))
        })
    }

    /// Writes what a build left, as a tar archive.
    pub async fn build_files(&self, built: &Built, mut output: impl Output + Send + 'static) -> Result<()> {
        let (session, stack) = (built.session.clone(), built.state.stack.clone());
        crate::image::blocking(move || {
            let broken =
                |error: &dyn std::fmt::Display| Error::internal(format!("write the archive: {error}"));
            if stack.is_empty() {
                // Nothing but the end of an archive.
                output.write_all(&[0; 1024]).map_err(|error| broken(&error))?;
            } else {
                let root = session.merged(&stack).map_err(failed)?;
                files::pack_contents(root, &mut output).map_err(|error| broken(&error))?;
            }
            output.flush().map_err(|error| broken(&error))
        })
        .await
    }
}
