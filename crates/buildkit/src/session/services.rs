//! What a client is asked for in passing: passwords of registries, secrets, its SSH agent, blobs.

use super::Session;
use crate::content::{self, RemoteContent};
use crate::grpc::Channel;
use crate::wire::session::{
    BytesMessage, CheckAgentRequest, CheckAgentResponse, CredentialsRequest, CredentialsResponse,
    GetSecretRequest, GetSecretResponse,
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use corten_build::{Agent, AgentLine, Login};
use futures_util::Stream;
use futures_util::stream::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status};

const CREDENTIALS: &str = "/moby.filesync.v1.Auth/Credentials";
const GET_SECRET: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
const CHECK_AGENT: &str = "/moby.sshforward.v1.SSH/CheckAgent";
const FORWARD_AGENT: &str = "/moby.sshforward.v1.SSH/ForwardAgent";

/// How long the client may think: a credential helper may ask its user for a password.
const ANSWER: Duration = Duration::from_secs(120);
/// As BuildKit has it.
const SECRET_BYTES_MAX: usize = 500 << 10;
/// What an agent's line moves at once.
const AGENT_BUFFER: usize = 16 << 10;
/// Messages of a program that wait for the agent.
const AGENT_MESSAGES_MAX: usize = 4;

impl Session {
    /// What the client logs in to a registry with; none when it knows of nothing.
    pub async fn credentials(&self, host: &str) -> Result<Option<Login>, Status> {
        // Some clients say nothing of what they serve.
        if !self.serves(CREDENTIALS) && !self.hello.methods.is_empty() {
            return Ok(None);
        }
        let request = CredentialsRequest { host: host.to_owned() };
        let answer = match self.ask::<_, CredentialsResponse>(CREDENTIALS, request).await {
            Err(status) if status.code() == Code::Unimplemented => return Ok(None),
            answer => answer?,
        };
        let known = !answer.username.is_empty() || !answer.secret.is_empty();
        Ok(known.then_some(Login { username: answer.username, secret: answer.secret }))
    }

    /// A secret; none when the client has none of that id.
    pub async fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, Status> {
        if !self.serves(GET_SECRET) {
            return Ok(None);
        }
        let request = GetSecretRequest { id: id.to_owned(), ..GetSecretRequest::default() };
        match self.ask::<_, GetSecretResponse>(GET_SECRET, request).await {
            Ok(answer) if answer.data.len() > SECRET_BYTES_MAX => Err(Status::invalid_argument(format!(
                "secret {id:?} is longer than {SECRET_BYTES_MAX} bytes"
            ))),
            Ok(answer) => Ok(Some(answer.data)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// The client's SSH agent of that id; none when it forwards none of that id.
    pub async fn ssh(self: &Arc<Self>, id: &str) -> Result<Option<SshAgent>, Status> {
        if !self.serves(CHECK_AGENT) {
            return Ok(None);
        }
        let id = if id.is_empty() { "default" } else { id };
        let name =
            MetadataValue::try_from(id).map_err(|_| Status::invalid_argument("an id of an SSH agent"))?;
        let request = CheckAgentRequest { id: id.to_owned() };
        match self.ask::<_, CheckAgentResponse>(CHECK_AGENT, request).await {
            Ok(_) => Ok(Some(SshAgent { session: self.clone(), name })),
            // A client with agents, but not that one, says so without a code.
            Err(status) if matches!(status.code(), Code::NotFound | Code::Unknown) => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// The client's store of blobs of that name; none when it has no stores at all.
    pub fn content(&self, name: &str) -> io::Result<Option<RemoteContent>> {
        match self.serves(content::READ) {
            true => RemoteContent::new(self.channel.clone(), name).map(Some),
            false => Ok(None),
        }
    }

    async fn ask<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let asked = tokio::time::timeout(ANSWER, self.channel.unary(path, Request::new(request)));
        asked.await.map_err(|_| Status::deadline_exceeded(format!("the client doesn't answer {path}")))?
    }
}

/// An SSH agent at the client's.
pub struct SshAgent {
    session: Arc<Session>,
    name: MetadataValue<Ascii>,
}

#[async_trait]
impl Agent for SshAgent {
    async fn connect(&self) -> io::Result<Box<dyn AgentLine>> {
        let (ours, theirs) = UnixStream::pair()?;
        let (outgoing, mut queue) = mpsc::channel::<BytesMessage>(AGENT_MESSAGES_MAX);
        let mut call = Request::new(poll_fn(move |context| queue.poll_recv(context)));
        call.metadata_mut().insert("buildkit.ssh.id", self.name.clone());
        tokio::spawn(relay(ours, outgoing, self.session.channel.clone(), call));
        Ok(Box::new(theirs))
    }
}

/// Moves bytes between a program's socket and the client's agent, until either ends.
async fn relay<S>(
    socket: UnixStream,
    outgoing: mpsc::Sender<BytesMessage>,
    channel: Channel,
    call: Request<S>,
) where
    S: Stream<Item = BytesMessage> + Send + 'static,
{
    let (mut output, mut input) = socket.into_split();
    let up = async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(AGENT_BUFFER);
            match output.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    let data: Bytes = buffer.split().freeze();
                    if outgoing.send(BytesMessage { data }).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    let down = async move {
        // The answer begins with what the agent says first, which may be after it has heard something.
        let Ok(mut incoming) = channel.streaming::<_, BytesMessage, _>(FORWARD_AGENT, call).await else {
            return;
        };
        while let Ok(Some(message)) = incoming.message().await {
            if input.write_all(&message.data).await.is_err() {
                return;
            }
        }
    };
    // An agent's conversation is over when either side has ended it.
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
