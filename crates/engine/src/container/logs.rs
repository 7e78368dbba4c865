//! Logs: reading a container's output back as a stream. Where it is kept is said by `logging`.

use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use corten_api::Timestamp;
use corten_api::container::{AttachOptions, LogsOptions};
use corten_runtime::log::{Entry, Reader, Selection, Stop, Stream};
use corten_runtime::monitor::protocol::{self, LogDriver};
use tokio::sync::mpsc;

use super::Container;
use crate::Engine;
use crate::error::{Error, Result};
use crate::logging::{self, Source};

/// Bytes per piece of the answer.
const CHUNK: usize = 128 << 10;
/// Pieces that wait for a slow client.
const BACKLOG: usize = 8;

/// A log on its way to a client.
pub struct LogStream {
    /// Raw bytes; otherwise in frames with the stream's number.
    pub tty: bool,
    pub chunks: mpsc::Receiver<io::Result<Bytes>>,
}

impl Engine {
    pub async fn container_logs(&self, key: &str, options: LogsOptions) -> Result<LogStream> {
        let container = self.containers.find(key)?;
        if !options.stdout && !options.stderr {
            return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
        }
        let (tty, log) = {
            let record = container.read();
            let places = self.places(&container.id);
            (record.config.tty, logging::readable(&record, |kind| places.log(kind, &record.id))?)
        };
        if log.driver == LogDriver::None {
            return Err(Error::unsupported("configured logging driver does not support reading"));
        }
        let follow = options.follow && container.phase().is_alive();
        let stop = Stop::new().map_err(|e| Error::internal(e.to_string()))?;
        let selection = selection(&options);
        let reader = if follow {
            Reader::follow(log.path, log.driver, selection, stop.clone())
        } else {
            Reader::open(log.path, log.driver, selection)
        };
        let reader = reader.map_err(|e| Error::internal(explain(&e)))?;
        let (sender, chunks) = mpsc::channel(BACKLOG);
        if follow {
            end_with(&container, sender.clone(), stop);
        }
        let details = match options.details {
            true => {
                let record = container.read();
                Some(logging::details(&Source { record: &record, host: &self.host.name })?)
            }
            false => None,
        };
        std::thread::Builder::new()
            .name("logs".to_owned())
            .stack_size(256 << 10)
            .spawn(move || {
                let format = Format { tty, timestamps: options.timestamps, details, by_line: options.follow };
                pump(reader, &sender, format);
            })
            .map_err(|e| Error::internal(format!("start a log reader: {e}")))?;
        Ok(LogStream { tty, chunks })
    }

    /// Writes what is logged so far to a client that attaches with `logs`.
    pub(super) async fn replay(
        &self,
        container: &Arc<Container>,
        options: &AttachOptions,
        fd: std::os::fd::OwnedFd,
    ) -> Result<std::os::fd::OwnedFd> {
        let logs = LogsOptions { stdout: options.stdout, stderr: options.stderr, ..LogsOptions::default() };
        if !logs.stdout && !logs.stderr {
            return Ok(fd);
        }
        let mut stream = self.container_logs(&container.id, logs).await?;
        let replayed = move || {
            let file = std::fs::File::from(fd);
            // A hijacked socket comes from the event loop, and waits for nobody until told to.
            rustix::io::ioctl_fionbio(&file, false)?;
            while let Some(chunk) = stream.chunks.blocking_recv() {
                io::Write::write_all(&mut &file, &chunk?)?;
            }
            rustix::io::ioctl_fionbio(&file, true)?;
            Ok(file.into())
        };
        let failed = |error: io::Error| Error::internal(format!("replay the log: {error}"));
        crate::image::apart("replay", move || replayed().map_err(failed)).await
    }
}

/// Ends a follower when the container has ended or the client has gone.
fn end_with(container: &Arc<Container>, sender: mpsc::Sender<io::Result<Bytes>>, stop: Stop) {
    let mut progress = container.progress.subscribe();
    tokio::spawn(async move {
        tokio::select! {
            _ = progress.wait_for(|now| !now.alive || now.removed) => stop.finish(),
            () = sender.closed() => stop.cancel(),
        }
    });
}

fn selection(options: &LogsOptions) -> Selection {
    let stamp = |time: Timestamp| protocol::Timestamp(time.unix_nanos());
    Selection {
        stdout: options.stdout,
        stderr: options.stderr,
        since: options.since.map(stamp),
        until: options.until.map(stamp),
        tail: options.tail,
    }
}

/// How lines are dressed.
struct Format {
    tty: bool,
    timestamps: bool,
    /// Attributes before each line.
    details: Option<String>,
    /// A frame per line: docker-py hands a follower's frames on as lines, even those of what ended before it asked.
    by_line: bool,
}

/// Reads until the end, or until nobody listens. Runs on a thread of its own.
fn pump(mut reader: Reader, sender: &mpsc::Sender<io::Result<Bytes>>, format: Format) {
    let plain = !format.timestamps && format.details.is_none() && (!format.by_line || format.tty);
    let outcome = if plain {
        pump_chunks(&mut reader, sender, format.tty)
    } else {
        pump_lines(&mut reader, sender, &format)
    };
    if let Err(error) = outcome {
        let _ = sender.blocking_send(Err(io::Error::other(explain(&error))));
    }
}

type Pumped = std::result::Result<(), corten_runtime::log::LogError>;

/// The bytes as they came, as many lines in one frame as fit.
fn pump_chunks(reader: &mut Reader, sender: &mpsc::Sender<io::Result<Bytes>>, tty: bool) -> Pumped {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK + 8);
        if !tty {
            chunk.extend_from_slice(&[0; 8]);
        }
        let head = chunk.len();
        let Some(stream) = reader.next_chunk(&mut chunk, CHUNK)? else { return Ok(()) };
        if !tty {
            let len = (chunk.len() - head) as u32;
            chunk[..8].copy_from_slice(&frame_header(stream, len));
        }
        if sender.blocking_send(Ok(chunk.into())).is_err() {
            return Ok(());
        }
    }
}

fn pump_lines(reader: &mut Reader, sender: &mpsc::Sender<io::Result<Bytes>>, format: &Format) -> Pumped {
    let mut buffer = BytesMut::with_capacity(CHUNK);
    while let Some(entry) = reader.next_entry()? {
        dress(&mut buffer, &entry, format);
        // Each line at once: a follower wants it now. The channel's receiver joins what has piled up.
        if sender.blocking_send(Ok(buffer.split().freeze())).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn dress(buffer: &mut BytesMut, entry: &Entry<'_>, format: &Format) {
    let mut prefix = Vec::new();
    if format.timestamps {
        prefix.extend_from_slice(corten_runtime::log::format_rfc3339(entry.time).as_bytes());
        prefix.push(b' ');
    }
    if let Some(details) = &format.details {
        prefix.extend_from_slice(details.as_bytes());
        prefix.push(b' ');
    }
    if !format.tty {
        buffer.put_slice(&frame_header(entry.stream, (prefix.len() + entry.line.len()) as u32));
    }
    buffer.put_slice(&prefix);
    buffer.put_slice(entry.line);
}

fn frame_header(stream: Stream, len: u32) -> [u8; 8] {
    let [a, b, c, d] = len.to_be_bytes();
    [stream as u8, 0, 0, 0, a, b, c, d]
}

fn explain(error: &corten_runtime::log::LogError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
