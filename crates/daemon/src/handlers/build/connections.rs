//! What clients of Corten's own connect a build with when it asks for it: SSH agents, and their stores of blobs. An event asks,
//! `POST /corten/build/connections/{connection}` brings it.

use super::own::Part;
use crate::hijack;
use crate::http::{ApiError, Call, Reply};
use async_trait::async_trait;
use corten_api::build::{BuildAgent, BuildContent, BuildEvent};
use corten_build::{Agent, AgentLine, Content};
use corten_buildkit::ContentConnection;
use corten_engine::Engine;
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::sync::mpsc::WeakSender;

/// How long a client may take to connect what it is asked for.
const CONNECT: Duration = Duration::from_secs(30);

/// A client that listens to a build's events.
#[derive(Clone)]
pub struct Listener {
    pub engine: Engine,
    /// The build's: it ends no later because of one who could be asked.
    pub answer: WeakSender<Part>,
}

impl Listener {
    /// Has the client make a connection, by the event that it is told of it with.
    async fn connect(&self, event: impl FnOnce(String) -> BuildEvent) -> io::Result<Box<dyn AgentLine>> {
        let callback = self.engine.build_callback();
        let answer = self.answer.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        let told = answer.send(event(callback.number.clone()).into()).await;
        told.map_err(|_| io::ErrorKind::NotConnected)?;
        drop(answer);
        let brought = tokio::time::timeout(CONNECT, callback.brought()).await;
        Ok(brought.map_err(|_| io::ErrorKind::TimedOut)?.ok_or(io::ErrorKind::NotConnected)?)
    }
}

/// An SSH agent at a client's.
pub struct ClientAgent {
    pub client: Listener,
    pub id: String,
}

#[async_trait]
impl Agent for ClientAgent {
    async fn connect(&self) -> io::Result<Box<dyn AgentLine>> {
        let id = self.id.clone();
        self.client.connect(|connection| BuildEvent::Agent(BuildAgent { id, connection })).await
    }
}

/// A client's stores of blobs, all by one connection.
pub struct ClientContent {
    client: Listener,
    connection: OnceCell<ContentConnection>,
}

impl ClientContent {
    pub fn new(client: Listener) -> ClientContent {
        ClientContent { client, connection: OnceCell::new() }
    }

    pub async fn store(&self, name: &str) -> io::Result<Arc<dyn Content>> {
        let connect = || async {
            let event = |connection| BuildEvent::Content(BuildContent { connection });
            ContentConnection::open(self.client.connect(event).await?).await
        };
        let connection = self.connection.get_or_try_init(connect).await?;
        Ok(Arc::new(connection.store(name)?))
    }
}

/// `POST /corten/build/connections/{connection}`
pub async fn connection(mut call: Call) -> Reply {
    let upgrade = call.take_upgrade().ok_or_else(|| ApiError::bad_request("no upgrade was asked for"))?;
    let hand_over = call.engine.build_call_back(call.capture("connection"))?;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => hand_over(Box::new(TokioIo::new(connection))),
            Err(error) => tracing::debug!(%error, "the client went before it was connected"),
        }
    });
    Ok(hijack::switching("tcp"))
}
