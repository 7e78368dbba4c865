//! Progress of long operations: bars on a terminal's standard error, the engine's words on standard output.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Read};

use corten_api::client::Messages;
use corten_api::stream::{JsonMessage, JsonProgress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::Failure;
use crate::output;

/// Shows what the engine says while it works.
pub struct Progress {
    quiet: bool,
    bars: Option<MultiProgress>,
}

impl Progress {
    pub fn new(quiet: bool) -> Progress {
        let bars = (!quiet && io::stderr().is_terminal())
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Progress { quiet, bars }
    }

    /// Whether the engine may leave out its progress.
    pub fn is_quiet(&self) -> bool {
        self.quiet || self.bars.is_none()
    }

    /// Prints messages until the operation has ended; its failure is ours.
    pub async fn show(&self, mut messages: Messages<JsonMessage>) -> Result<(), Failure> {
        let mut known = HashMap::new();
        while let Some(message) = messages.next().await? {
            if let Some(error) = failure(&message) {
                self.clear();
                return Err(Failure::new(error));
            }
            match &message.progress_detail {
                Some(detail) if detail.total > 0 || detail.current > 0 => {
                    self.advance(&mut known, &message, detail)
                }
                _ => self.say(&message)?,
            }
        }
        self.clear();
        Ok(())
    }

    fn say(&self, message: &JsonMessage) -> io::Result<()> {
        let mut text = message.stream.clone();
        if !message.status.is_empty() {
            let id = if message.id.is_empty() { String::new() } else { format!("{}: ", message.id) };
            text.push_str(&format!("{id}{}\n", message.status));
        }
        match &self.bars {
            _ if text.is_empty() => Ok(()),
            Some(bars) => bars.suspend(|| output::print(&text)),
            None => output::print(&text),
        }
    }

    fn advance(
        &self,
        known: &mut HashMap<String, ProgressBar>,
        message: &JsonMessage,
        detail: &JsonProgress,
    ) {
        let Some(bars) = &self.bars else { return };
        let bar = known
            .entry(message.id.clone())
            .or_insert_with(|| bars.add(bar(u64::try_from(detail.total).unwrap_or(0))));
        bar.set_length(u64::try_from(detail.total).unwrap_or(0));
        bar.set_position(u64::try_from(detail.current).unwrap_or(0));
        bar.set_message(format!("{} {}", message.status, message.id));
        if detail.total > 0 && detail.current >= detail.total {
            bar.finish_and_clear();
        }
    }

    fn clear(&self) {
        if let Some(bars) = &self.bars {
            // Bars are decoration: a terminal that has gone is no failure.
            let _ = bars.clear();
        }
    }
}

fn failure(message: &JsonMessage) -> Option<String> {
    match &message.error_detail {
        Some(detail) if !detail.message.is_empty() => Some(detail.message.clone()),
        _ => Some(message.error.clone()).filter(|error| !error.is_empty()),
    }
}

fn bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::no_length();
    if length > 0 {
        bar.set_length(length);
    }
    if let Ok(style) = ProgressStyle::with_template(
        "{wide_msg} {decimal_bytes:>10}/{decimal_total_bytes:10} {bar:30} {eta:>4}",
    ) {
        bar.set_style(style);
    }
    bar
}

/// A reader that shows how much of it was sent.
pub struct Upload<R> {
    reader: R,
    bar: Option<ProgressBar>,
}

impl<R> Upload<R> {
    pub fn new(reader: R, length: Option<u64>, message: &'static str, progress: &Progress) -> Upload<R> {
        let bar = match (&progress.bars, length) {
            (Some(bars), Some(length)) => {
                let bar = bars.add(bar(length));
                bar.set_message(message);
                Some(bar)
            }
            _ => None,
        };
        Upload { reader, bar }
    }
}

impl<R: Read> Read for Upload<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        if let Some(bar) = &self.bar {
            bar.inc(read as u64);
            if read == 0 {
                bar.finish_and_clear();
            }
        }
        Ok(read)
    }
}
