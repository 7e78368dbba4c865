//! Builds that Docker's API asks for (`POST /build?version=2`): BuildKit's protocol is spoken on the client's session alone, and what
//! comes of the build is told in the answer.

use super::Controller;
use crate::grpc::{self, Handler};
use crate::jobs::Job;
use crate::session::Hello;
use crate::wire::control::{Exporter, SolveRequest};
use bytes::Bytes;
use corten_build::Tree;
use futures_util::StreamExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use prost::Message;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tonic::Status;
use tonic::body::Body;

/// What is between the engine and a client that it plays itself, in bytes.
const PIPE_BYTES: usize = 16 << 10;

/// A build, as it is asked for.
pub struct Posted {
    /// What other calls name it by.
    pub reference: String,
    /// The client's session. Empty: it has none, and is asked for nothing.
    pub session: String,
    /// Of the front end `dockerfile.v0`.
    pub attributes: BTreeMap<String, String>,
    /// Its type and attributes.
    pub exporter: (String, BTreeMap<String, String>),
    pub files: Files,
}

/// A build without its files.
pub struct Awaiting(Arc<Job>);

impl Awaiting {
    pub fn give(self, tree: Tree) {
        self.0.files.iter().for_each(|files| drop(files.send_replace(Some(tree.clone()))));
    }
}

/// Where the files are that are built from.
pub enum Files {
    /// In the client's session, or where the attributes say.
    Elsewhere,
    Here(Tree),
    /// On their way with another call, to who is [`Controller::awaiting`] them.
    Coming,
}

impl Controller {
    /// Builds it; gives the image's id, if there is one. What is told meanwhile goes to `trace`, as messages of the type
    /// `moby.buildkit.v1.StatusResponse`. Dropped, it ends the build.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub async fn build_posted(
        &self,
        posted: Posted,
        trace: mpsc::Sender<Bytes>,
    ) -> Result<Option<String>, String> {
        let told = |status: Status| status.message().to_owned();
        let Posted { reference, mut session, attributes, exporter, files } = posted;
        let is_alone = session.is_empty();
        if is_alone {
            session = nobodys(&reference);
        }
        let files = match files {
            Files::Elsewhere => None,
            Files::Here(tree) => Some(watch::Sender::new(Some(tree))),
            Files::Coming => Some(watch::Sender::new(None)),
        };
        let request = SolveRequest {
            r#ref: reference.clone(),
            session: session.clone(),
            frontend: "dockerfile.v0".to_owned(),
            frontend_attrs: attributes,
            exporters: vec![Exporter { r#type: exporter.0, attrs: exporter.1 }],
            ..SolveRequest::default()
        };
        let running = self.jobs.begin(&reference, Job { session, files, ..Job::default() }).map_err(told)?;
        let _nobody = is_alone.then(|| self.nobody(&reference)).transpose().map_err(told)?;
        let board = running.job.board.clone();
        let solved = async move {
            let solved = self.solve_as(&running, request).await;
            // The watching ends with it.
            drop(running);
            solved
        };
        let shown = async {
            let mut responses = pin!(board.watch());
            while let Some(response) = responses.next().await {
                if trace.send(response.encode_to_vec().into()).await.is_err() {
                    return;
                }
            }
        };
        let (solved, ()) = tokio::join!(solved, shown);
        let mut response = solved.map_err(told)?.exporter_response;
        Ok(response.remove("containerimage.config.digest"))
    }

    /// The build that waits for its files.
    pub async fn awaiting(&self, reference: &str) -> Result<Awaiting, String> {
        let job = self.jobs.find(reference).await.map_err(|status| status.message().to_owned())?;
        match job.files.as_ref().is_some_and(|files| files.borrow().is_none()) {
            true => Ok(Awaiting(job)),
            false => Err(format!("the build {reference} waits for no upload")),
        }
    }

    /// Ends a build, if it goes on.
    pub fn cancel(&self, reference: &str) {
        if let Some(job) = self.jobs.known_now(reference) {
            job.canceled.send_replace(true);
        }
    }

    /// The session of a client that has nothing; it ends when the value is dropped.
    fn nobody(&self, id: &str) -> Result<Nobody, Status> {
        let session =
            self.sessions.reserve(Hello::of(&nobodys(id))).map_err(crate::failure::Failure::from)?;
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        Ok(Nobody([
            tokio::spawn(async move { drop(session.run(TokioIo::new(ours)).await) }),
            tokio::spawn(async move { drop(grpc::serve(TokioIo::new(theirs), Arc::new(Nothing)).await) }),
        ]))
    }
}

/// The session's id: none that clients choose has a blank. What is before a colon is no part of one.
fn nobodys(reference: &str) -> String {
    format!("nobody {}", reference.replace(':', " "))
}

struct Nobody([tokio::task::JoinHandle<()>; 2]);

impl Drop for Nobody {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Serves nothing.
struct Nothing;

impl Handler for Nothing {
    async fn answer(self: Arc<Self>, request: hyper::Request<Incoming>) -> hyper::Response<Body> {
        grpc::unimplemented(request.uri().path())
    }
}
