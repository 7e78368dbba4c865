//! What a build made, sent to the client, and written on its side wherever it wanted it: one file as a stream of bytes (`type=tar`,
//! `oci`, `docker`), or a directory (`type=local`).

use super::Session;
use crate::tree::{self, SendError};
use crate::wire::fsutil::Packet;
use crate::wire::session::BytesMessage;
use bytes::Bytes;
use futures_util::stream::poll_fn;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::task::Poll;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};
use tonic::{Request, Status};

/// Which of its outputs a call is for.
const EXPORTER: &str = "buildkit-attachable-exporter-id";
const DIFF_COPY: &str = "/moby.filesync.v1.FileSend/DiffCopy";
/// Messages that wait for the client.
const MESSAGES_WAITING_MAX: usize = 4;
/// A client takes messages of 4 MiB at most.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Packets of a directory that wait for the client; each is 32 KiB long at most.
const PACKETS_WAITING_MAX: usize = 64;
/// A client asks for each file once.
const REQUESTS_MAX: usize = 4 << 20;

/// A file that the client writes. Dropped before its end it stays open for the client until the session is over, so that the client
/// doesn't take a part for the whole.
pub struct FileSender {
    outgoing: mpsc::Sender<Option<Bytes>>,
    /// The call: its end is the client's word that the file is there.
    call: JoinHandle<Result<(), Status>>,
}

impl Session {
    /// Opens the file of the output with that number; `about` is what a client may name it by.
    pub async fn send_file(
        &self,
        output: usize,
        about: &BTreeMap<String, String>,
    ) -> Result<FileSender, Status> {
        if !self.serves(DIFF_COPY) {
            return Err(Status::failed_precondition("method FileSend.DiffCopy not supported by the client"));
        }
        let (outgoing, mut queue) = mpsc::channel(MESSAGES_WAITING_MAX);
        let mut call = Request::new(poll_fn(move |context| match queue.poll_recv(context) {
            Poll::Ready(Some(Some(data))) => Poll::Ready(Some(BytesMessage { data })),
            Poll::Ready(Some(None)) => Poll::Ready(None),
            // The sender is gone without having said that this is the end.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }));
        let headers = call.metadata_mut();
        headers.insert(EXPORTER, MetadataValue::from(output));
        for (name, value) in about {
            let name = MetadataKey::<Ascii>::from_bytes(format!("exporter-md-{name}").as_bytes());
            if let (Ok(name), Ok(value)) = (name, MetadataValue::try_from(value.as_str())) {
                headers.insert(name, value);
            }
        }
        let channel = self.channel.clone();
        // A task, as the client answers only when it has everything.
        let call = tokio::spawn(async move {
            let mut answers = channel.streaming::<_, BytesMessage, _>(DIFF_COPY, call).await?;
            while answers.message().await?.is_some() {}
            Ok(())
        });
        Ok(FileSender { outgoing, call })
    }
}

impl Session {
    /// Fills the directory of the output with that number, or one with the name `below` in it, with what is in another one; none is an
    /// empty one.
    pub async fn send_directory(
        &self,
        output: usize,
        below: &str,
        root: Option<OwnedFd>,
    ) -> Result<(), Status> {
        if !self.serves(DIFF_COPY) {
            return Err(Status::failed_precondition("method FileSend.DiffCopy not supported by the client"));
        }
        let (packets, mut queue) = mpsc::channel::<Packet>(PACKETS_WAITING_MAX);
        // It has a bound, only no end that waits: a client may ask while it is being told, and reads on when it has been heard.
        let (requests, mut heard) = mpsc::unbounded_channel();
        let mut call = Request::new(poll_fn(move |context| queue.poll_recv(context)));
        call.metadata_mut().insert(EXPORTER, MetadataValue::from(output));
        let below = below.to_owned();
        let sender =
            tokio::task::spawn_blocking(move || tree::send(&below, root.as_ref(), &packets, &mut heard));
        let listening = async move {
            let mut incoming = self.channel.streaming::<_, Packet, _>(DIFF_COPY, call).await?;
            for _ in 0..REQUESTS_MAX {
                let Some(packet) = incoming.message().await? else { return Ok(()) };
                // A sender that has ended says why itself.
                let _ = requests.send(packet);
            }
            Err(Status::resource_exhausted(format!("the client asks for more than {REQUESTS_MAX} files")))
        };
        let (sent, heard) = tokio::join!(sender, listening);
        match sent.map_err(|error| Status::internal(error.to_string()))? {
            // Why it broke off is what the client said.
            Err(SendError::BrokenOff) => heard.and(Err(Status::aborted(SendError::BrokenOff.to_string()))),
            sent => sent.map_err(|error| Status::aborted(error.to_string())).and(heard),
        }
    }
}

impl FileSender {
    /// Sends the next bytes; waits for a client that is slow.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), Status> {
        while !bytes.is_empty() {
            let data = bytes.split_to(bytes.len().min(MESSAGE_BYTES_MAX));
            tokio::select! {
                sent = self.outgoing.send(Some(data)) => {
                    sent.map_err(|_| Status::aborted("the client closed its file"))?;
                }
                ended = &mut self.call => return Err(ended_early(ended)),
            }
        }
        Ok(())
    }

    /// Ends the file, and waits until the client has it.
    pub async fn finish(mut self) -> Result<(), Status> {
        tokio::select! {
            // Its failure is told by the call.
            _ = self.outgoing.send(None) => {}
            ended = &mut self.call => return Err(ended_early(ended)),
        }
        (&mut self.call).await.unwrap_or_else(|error| Err(Status::internal(error.to_string())))
    }
}

impl Drop for FileSender {
    fn drop(&mut self) {
        self.call.abort();
    }
}

/// Why the client takes no more.
fn ended_early(ended: Result<Result<(), Status>, JoinError>) -> Status {
    match ended {
        Ok(Err(status)) => status,
        _ => Status::aborted("the client closed its file"),
    }
}
