//! Progress of long operations: bars on a terminal's standard error, the engine's words on standard output.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Read};

use corten_api::client::Messages;
use corten_api::stream::{JsonMessage, JsonProgress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::Failure;
use crate::output;
use crate::stream::is_dumb;

/// Shows what the engine says while it works.
pub struct Progress {
    quiet: bool,
    bars: Option<MultiProgress>,
    words: Words,
    /// The last state of each object stays on the screen.
    stays: bool,
}

/// Where the engine's words go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    Output,
    /// Standard error: standard output is somebody else's.
    Talk,
    Nowhere,
}

impl Progress {
    pub fn new(quiet: bool) -> Progress {
        let quiet = quiet || !io::stderr().is_terminal();
        let bars = (!quiet && !is_dumb())
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Progress { quiet, bars, words: Words::Output, stays: false }
    }

    /// The layers of an image on their way: a line for each, which stays.
    pub fn of_layers(words: Words) -> Progress {
        let quiet = words == Words::Nowhere;
        Progress { words, stays: true, ..Progress::new(quiet) }
    }

    /// Whether nobody asked for progress, or there is nobody to look at it.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Prints messages until the operation has ended; its failure is ours.
    pub async fn show(&self, mut messages: Messages<JsonMessage>) -> Result<(), Failure> {
        let mut known = HashMap::new();
        // What is said once there are lines that stay: it stands below them.
        let mut closing = Vec::new();
        while let Some(message) = messages.next().await? {
            if let Some(error) = failure(&message) {
                self.clear();
                return Err(Failure::new(error));
            }
            match &message.progress_detail {
                Some(detail) if detail.total > 0 || detail.current > 0 => {
                    self.advance(&mut known, &message, detail)
                }
                Some(_) if self.bars.is_some() && !message.id.is_empty() => self.state(&mut known, &message),
                _ if self.stays && !known.is_empty() => closing.push(message),
                _ => self.say(&message)?,
            }
        }
        match self.stays {
            true => known.values().for_each(ProgressBar::abandon),
            false => self.clear(),
        }
        Ok(closing.iter().try_for_each(|message| self.write(&words(message)))?)
    }

    /// A line that tells how many bytes have gone by.
    pub fn counter(&self, message: String) -> Option<ProgressBar> {
        let counter = self.bars.as_ref()?.add(ProgressBar::no_length());
        if let Ok(style) = ProgressStyle::with_template("{wide_msg} {decimal_bytes:>10}") {
            counter.set_style(style);
        }
        counter.set_message(message);
        Some(counter)
    }

    fn say(&self, message: &JsonMessage) -> io::Result<()> {
        let text = words(message);
        match &self.bars {
            _ if text.is_empty() => Ok(()),
            Some(bars) => bars.suspend(|| self.write(&text)),
            None => self.write(&text),
        }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        match self.words {
            Words::Output => output::print(text),
            Words::Talk => {
                output::talk(text);
                Ok(())
            }
            Words::Nowhere => Ok(()),
        }
    }

    /// What an object has come to, where there are no bytes to tell of.
    fn state(&self, known: &mut HashMap<String, ProgressBar>, message: &JsonMessage) {
        let Some(bars) = &self.bars else { return };
        let line = known.entry(message.id.clone()).or_insert_with(|| bars.add(ProgressBar::no_length()));
        if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
            line.set_style(style);
        }
        line.set_message(format!("{}: {}", message.id, message.status));
        line.tick();
    }

    fn advance(
        &self,
        known: &mut HashMap<String, ProgressBar>,
        message: &JsonMessage,
        detail: &JsonProgress,
    ) {
        let Some(bars) = &self.bars else { return };
        let total = u64::try_from(detail.total).unwrap_or(0);
        let bar = match known.get(&message.id) {
            Some(bar) if !self.stays => bar,
            Some(line) => {
                dress(line, total);
                line
            }
            None => known.entry(message.id.clone()).or_insert(bars.add(bar(total))),
        };
        bar.set_length(total);
        bar.set_position(u64::try_from(detail.current).unwrap_or(0));
        bar.set_message(format!("{}: {}", message.id, message.status));
        if !self.stays && detail.total > 0 && detail.current >= detail.total {
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

/// A message as people read it.
fn words(message: &JsonMessage) -> String {
    let mut text = message.stream.clone();
    if !message.status.is_empty() {
        let id = if message.id.is_empty() { String::new() } else { format!("{}: ", message.id) };
        text.push_str(&format!("{id}{}\n", message.status));
    }
    text
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
    dress(&bar, length);
    bar
}

fn dress(bar: &ProgressBar, length: u64) {
    let template = match length {
        0 => "{wide_msg} {decimal_bytes:>10}",
        _ => {
            "{wide_msg} {decimal_bytes:>10}/{decimal_total_bytes:10} {decimal_bytes_per_sec:>12} {bar:25} {eta:>4}"
        }
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
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
