//! Logs: the settings of a container's log, and reading it back as a stream.

use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use corten_api::Timestamp;
use corten_api::container::{AttachOptions, LogConfig, LogsOptions};
use corten_runtime::log::{Entry, Reader, Selection, Stop, Stream};
use corten_runtime::monitor::protocol::{self, LogDriver};
use tokio::sync::mpsc;

use super::{Container, Places, Record};
use crate::Engine;
use crate::error::{Error, Result};

/// Bounds of a log when nobody sets others: old output goes, the disk does not fill up.
const BYTES_MAX: u64 = 100 << 20;
const FILES_MAX: u32 = 2;
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

/// The settings as the monitor wants them.
pub fn launch_config(record: &Record, places: &Places) -> Result<protocol::LogConfig> {
    let (driver, bytes_max, files_max) = check_config(&record.host_config.log_config)?;
    let path = places.log(&record.host_config.log_config.kind, &record.id);
    Ok(protocol::LogConfig { driver, path, bytes_max, files_max })
}

/// Refuses what no log of ours can do.
pub fn check_config(config: &LogConfig) -> Result<(LogDriver, u64, u32)> {
    let driver = match config.kind.as_str() {
        "" | "json-file" => LogDriver::JsonFile,
        "local" => LogDriver::Local,
        "none" => LogDriver::None,
        other => {
            return Err(Error::invalid(format!("logger: no log driver named '{other}' is registered")));
        }
    };
    let (mut bytes_max, mut files_max) = (BYTES_MAX, FILES_MAX);
    for (name, value) in &config.config {
        let invalid = || Error::invalid(format!("invalid value for log option \"{name}\": \"{value}\""));
        match name.as_str() {
            "max-size" if value == "-1" => bytes_max = 0,
            "max-size" => bytes_max = parse_bytes(value).ok_or_else(invalid)?,
            "max-file" => files_max = value.parse().ok().filter(|&n| n > 0).ok_or_else(invalid)?,
            "compress" if value == "false" => {}
            "mode" if value == "blocking" => {}
            _ => {
                return Err(Error::invalid(format!(
                    "unknown log opt '{name}' for {} log driver, or a value it can't take: \"{value}\"",
                    config.kind
                )));
            }
        }
    }
    Ok((driver, bytes_max, files_max))
}

/// `10m`, `1g`, `4096`; units are powers of 1024.
fn parse_bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match lower[digits.len()..].trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(1 << shift).filter(|&bytes| bytes > 0)
}

impl Engine {
    pub async fn container_logs(&self, key: &str, options: LogsOptions) -> Result<LogStream> {
        let container = self.containers.find(key)?;
        if !options.stdout && !options.stderr {
            return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
        }
        let (tty, log) = {
            let record = container.read();
            (record.config.tty, launch_config(&record, &self.places(&container.id))?)
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
        let details = if options.details { Some(String::new()) } else { None };
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
        tokio::task::spawn_blocking(move || {
            let file = std::fs::File::from(fd);
            // A hijacked socket comes from the event loop, and waits for nobody until told to.
            rustix::io::ioctl_fionbio(&file, false).map_err(io::Error::from)?;
            while let Some(chunk) = stream.chunks.blocking_recv() {
                io::Write::write_all(&mut &file, &chunk?)?;
            }
            rustix::io::ioctl_fionbio(&file, true).map_err(io::Error::from)?;
            Ok(file.into())
        })
        .await
        .map_err(|e| Error::internal(e.to_string()))?
        .map_err(|e: io::Error| Error::internal(format!("replay the log: {e}")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_options() {
        assert_eq!(parse_bytes("10m"), Some(10 << 20));
        assert_eq!(parse_bytes("4096"), Some(4096));
        assert_eq!(parse_bytes("1GiB"), Some(1 << 30));
        assert_eq!(parse_bytes("x"), None);
        let config = |name: &str, value: &str| LogConfig {
            kind: "json-file".into(),
            config: [(name, value.to_owned())].into_iter().collect(),
        };
        assert_eq!(check_config(&config("max-size", "1k")).unwrap(), (LogDriver::JsonFile, 1024, FILES_MAX));
        assert!(check_config(&config("max-file", "0")).is_err());
        assert!(check_config(&config("colour", "red")).unwrap_err().message.contains("colour"));
    }
}
