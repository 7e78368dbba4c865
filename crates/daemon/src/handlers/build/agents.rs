//! SSH agents of Corten's own clients: an event asks for a connection, `POST /corten/build/agents/{connection}` brings it.

use super::own::Part;
use crate::hijack;
use crate::http::{ApiError, Call, Reply};
use async_trait::async_trait;
use corten_api::build::{BuildAgent, BuildEvent};
use corten_build::{Agent, AgentLine};
use corten_engine::Engine;
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::sync::mpsc::WeakSender;

/// How long a client may take to connect its agent.
const CONNECT: Duration = Duration::from_secs(30);

/// An agent at a client's that listens to a build's events.
pub struct ClientAgent {
    pub engine: Engine,
    pub id: String,
    /// The build's: it ends no later because of an agent.
    pub answer: WeakSender<Part>,
}

#[async_trait]
impl Agent for ClientAgent {
    async fn connect(&self) -> io::Result<Box<dyn AgentLine>> {
        let callback = self.engine.build_callback();
        let agent = BuildAgent { id: self.id.clone(), connection: callback.number.clone() };
        let answer = self.answer.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        answer.send(BuildEvent::Agent(agent).into()).await.map_err(|_| io::ErrorKind::NotConnected)?;
        drop(answer);
        let brought = tokio::time::timeout(CONNECT, callback.brought()).await;
        Ok(brought.map_err(|_| io::ErrorKind::TimedOut)?.ok_or(io::ErrorKind::NotConnected)?)
    }
}

/// `POST /corten/build/agents/{connection}`
pub async fn agent(mut call: Call) -> Reply {
    let upgrade = call.take_upgrade().ok_or_else(|| ApiError::bad_request("no upgrade was asked for"))?;
    let hand_over = call.engine.build_call_back(call.capture("connection"))?;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => hand_over(Box::new(TokioIo::new(connection))),
            Err(error) => tracing::debug!(%error, "the client went before its agent was connected"),
        }
    });
    Ok(hijack::switching("tcp"))
}
