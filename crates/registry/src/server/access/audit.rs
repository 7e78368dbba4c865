//! The audit log: who did what, or was kept from it; a line of JSON each. Written by a thread of its own, so that no request waits for
//! a disk; what it can't take in time is counted, and the count is written. Files are of bounded size and number.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use serde_json::json;

use super::clock::now_s;
use super::config::AuditConfig;

/// Lines that wait to be written: some 2 MiB.
const LINES_MAX: usize = 8192;
/// What clients say of themselves is cut to this.
const TEXT_MAX: usize = 256;

/// Refusals that are written in a second. What comes beyond is counted: else whoever is refused often enough could make the files go round
/// until nothing of before is in them.
const REFUSALS_MAX: u32 = 20;

/// What is noted of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry<'a> {
    pub action: &'a str,
    /// An identity, or the name that somebody claimed to have.
    pub who: &'a str,
    pub repository: Option<&'a str>,
    /// A tag or a digest.
    pub reference: Option<&'a str>,
    pub status: u16,
    /// Why it was refused.
    pub why: Option<&'a str>,
}

pub struct Audit {
    /// Taken at the end, which ends the writer.
    lines: Option<SyncSender<String>>,
    lost: Arc<AtomicU64>,
    /// For those who have proven who they are, and for others: these can't keep those out.
    refusals: [Mutex<Refusals>; 2],
    writer: Option<JoinHandle<()>>,
}

/// How many there were in this second, and how many were not written since the last one that was.
#[derive(Default)]
struct Refusals {
    second: u64,
    count: u32,
    skipped: u64,
}

impl Refusals {
    /// Whether another one is written, with the number of those before it that were not.
    fn take(&mut self, now_s: u64) -> Option<u64> {
        if self.second != now_s {
            (self.second, self.count) = (now_s, 0);
        }
        if self.count >= REFUSALS_MAX {
            self.skipped += 1;
            return None;
        }
        self.count += 1;
        Some(std::mem::take(&mut self.skipped))
    }
}

impl Audit {
    pub fn open(config: &AuditConfig) -> io::Result<Self> {
        let place = match &config.file {
            None => Place::Stderr,
            Some(path) => Place::File(Rotated::open(path, config.file_mib_max << 20, config.files_max)?),
        };
        let (sender, receiver) = sync_channel(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = lost.clone();
        let writer = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || write_all(&receiver, place, &counted))?;
        Ok(Self { lines: Some(sender), lost, refusals: Default::default(), writer: Some(writer) })
    }

    /// Notes a refusal, unless there are too many; `proven`: of somebody who is known.
    pub fn note_refusal(&self, request: &str, address: IpAddr, entry: &Entry<'_>, proven: bool) {
        let refusals = &self.refusals[usize::from(proven)];
        let taken = refusals.lock().unwrap_or_else(PoisonError::into_inner).take(now_s());
        if let Some(skipped) = taken {
            self.write(request, Some(address), entry, skipped);
        }
    }

    /// Notes something; never waits.
    pub fn note(&self, request: &str, address: IpAddr, entry: &Entry<'_>) {
        self.write(request, Some(address), entry, 0);
    }

    /// The same for what nobody has asked for.
    pub fn note_own(&self, entry: &Entry<'_>) {
        self.write("", None, entry, 0);
    }

    fn write(&self, request: &str, address: Option<IpAddr>, entry: &Entry<'_>, skipped: u64) {
        let mut line = json!({
            "time": jiff::Timestamp::now().to_string(),
            "identity": cut(entry.who),
            "action": entry.action,
            "status": entry.status,
        });
        let address = address.map(|address| address.to_string());
        let request = Some(request).filter(|request| !request.is_empty());
        for (name, text) in [
            ("request", request),
            ("address", address.as_deref()),
            ("repository", entry.repository),
            ("reference", entry.reference),
            ("reason", entry.why),
        ] {
            if let Some(text) = text {
                line[name] = cut(text).into();
            }
        }
        if skipped > 0 {
            line["skipped"] = skipped.into();
        }
        if let Some(lines) = &self.lines
            && let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
                lines.try_send(line.to_string())
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(TEXT_MAX).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

enum Place {
    Stderr,
    File(Rotated),
}

fn write_all(lines: &Receiver<String>, mut place: Place, lost: &AtomicU64) {
    let mut failing = false;
    for mut line in lines {
        line.push('\n');
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let note =
                json!({ "time": jiff::Timestamp::now().to_string(), "action": "lost", "count": missing });
            line = format!("{note}\n{line}");
        }
        let written = match &mut place {
            Place::Stderr => io::stderr().write_all(line.as_bytes()),
            Place::File(file) => file.write(line.as_bytes()),
        };
        match written {
            Ok(()) => failing = false,
            Err(error) => {
                lost.fetch_add(missing + 1, Ordering::Relaxed);
                if !failing {
                    tracing::error!(%error, "the audit log can't be written; lines are counted until it can");
                }
                failing = true;
            }
        }
    }
}

/// A file that is set aside when it is full: `audit.log`, `audit.log.1` (the newest of the old ones), `audit.log.2`, ….
struct Rotated {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    files_max: u32,
}

impl Rotated {
    fn open(path: &Path, bytes_max: u64, files_max: u32) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = append(path).map_err(named)?;
        let bytes = file.metadata().map_err(named)?.len();
        let mut rotated = Self { path: path.to_owned(), file, bytes, bytes_max, files_max };
        // A line that a crash has cut off ends here.
        if bytes > 0 && !ends_a_line(path).map_err(named)? {
            rotated.write(b"\n").map_err(named)?;
        }
        Ok(rotated)
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(line) {
            // What of it is there would run into the next line.
            if let Ok(metadata) = self.file.metadata()
                && metadata.len() > self.bytes
            {
                let _ = self.file.set_len(self.bytes);
            }
            return Err(error);
        }
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let old = |n: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        let missing_is_fine = |done: io::Result<()>| match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        match self.files_max {
            0 => missing_is_fine(fs::remove_file(&self.path))?,
            files_max => {
                for n in (1..files_max).rev() {
                    missing_is_fine(fs::rename(old(n), old(n + 1)))?;
                }
                missing_is_fine(fs::rename(&self.path, old(1)))?;
            }
        }
        self.file = append(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn ends_a_line(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut last = [0];
    file.read_exact_at(&mut last, bytes.saturating_sub(1))?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests;
