//! What a build tells: painted on a terminal (`screen`), for programs (`raw`), or line by line in the words of BuildKit's plain progress.

use std::collections::{HashMap, HashSet};

use corten_api::base64;
use corten_api::build::{BuildError, BuildEvent, BuildStatus, BuildVertex, BuildWarning};

use super::raw;
use super::screen::{self, Screen};
use crate::cli::Failure;
use crate::output;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    Auto,
    Plain,
    Quiet,
    Rawjson,
    Tty,
}

/// How many lines around a wrong one are shown.
const CONTEXT_LINES: usize = 3;

pub struct Show {
    mode: Mode,
    screen: Option<Screen>,
    /// The Dockerfile's.
    pub name: String,
    /// Numbers of steps, in the order in which they began.
    numbers: HashMap<String, usize>,
    names: HashMap<String, String>,
    begun: HashMap<String, i64>,
    /// Parts whose end was told.
    over: HashSet<(String, String)>,
    /// What a step has printed since its last whole line.
    rest: HashMap<String, String>,
}

impl Show {
    pub fn new(mode: Mode, name: String) -> Result<Show, Failure> {
        let screen = match mode {
            Mode::Tty if !screen::is_there() => {
                return Err(Failure::new("--progress=tty wants a terminal as standard error")
                    .hint("use --progress=plain"));
            }
            Mode::Auto | Mode::Tty if screen::is_there() => Some(Screen::new(name.clone())),
            _ => None,
        };
        let (numbers, names, begun) = (HashMap::new(), HashMap::new(), HashMap::new());
        Ok(Show { mode, screen, name, numbers, names, begun, over: HashSet::new(), rest: HashMap::new() })
    }

    /// Time has gone by.
    pub fn tick(&mut self) {
        if let Some(screen) = &mut self.screen {
            screen.paint();
        }
    }

    /// Somebody else has the terminal for a while.
    pub fn pause(&mut self) {
        if let Some(screen) = &mut self.screen {
            screen.settle();
        }
    }

    /// Nothing more comes.
    pub fn close(&mut self, is_done: bool) {
        if let Some(mut screen) = self.screen.take() {
            screen.close(is_done);
        }
    }

    pub fn event(&mut self, event: BuildEvent) -> Result<(), Failure> {
        if let Some(screen) = &mut self.screen {
            screen.event(event);
            screen.paint();
            return Ok(());
        }
        match self.mode {
            Mode::Quiet => return Ok(()),
            Mode::Rawjson => {
                if let Some(document) = raw::document(&event, &self.name) {
                    output::say!("{document}");
                }
                return Ok(());
            }
            Mode::Auto | Mode::Plain | Mode::Tty => {}
        }
        match event {
            BuildEvent::Vertex(vertex) => self.vertex(&vertex),
            BuildEvent::Log(log) => {
                let bytes = base64::decode(&log.data).unwrap_or_default();
                self.log(&log.vertex, &String::from_utf8_lossy(&bytes), log.timestamp)
            }
            BuildEvent::Status(status) => self.status(&status),
            BuildEvent::Warning(warning) => self.say(&format!("WARN: {}", about(&warning, &self.name))),
            // The others are for whoever drives the build.
            _ => Ok(()),
        }
    }

    fn number(&mut self, vertex: &str) -> usize {
        let next = self.numbers.len() + 1;
        *self.numbers.entry(vertex.to_owned()).or_insert(next)
    }

    fn say(&self, line: &str) -> Result<(), Failure> {
        output::say!("{line}");
        Ok(())
    }

    fn vertex(&mut self, vertex: &BuildVertex) -> Result<(), Failure> {
        let number = self.number(&vertex.digest);
        if self.names.insert(vertex.digest.clone(), vertex.name.clone()).is_none() {
            self.say(&format!("#{number} {}", vertex.name))?;
        }
        self.begun.insert(vertex.digest.clone(), vertex.started.unwrap_or_default());
        let Some(completed) = vertex.completed else { return Ok(()) };
        if let Some(rest) = self.rest.remove(&vertex.digest).filter(|rest| !rest.is_empty()) {
            let since = seconds(completed - vertex.started.unwrap_or(completed));
            self.say(&format!("#{number} {since:.3} {rest}"))?;
        }
        let line = match (&vertex.error, vertex.cached) {
            (Some(error), _) => format!("#{number} ERROR: {error}"),
            (None, true) => format!("#{number} CACHED"),
            (None, false) => {
                let took = seconds(completed - vertex.started.unwrap_or(completed));
                format!("#{number} DONE {took:.1}s")
            }
        };
        self.say(&line)?;
        self.say("")
    }

    /// Whole lines, each with its step and its time.
    fn log(&mut self, vertex: &str, text: &str, at: i64) -> Result<(), Failure> {
        let number = self.number(vertex);
        let since = seconds(at - self.begun.get(vertex).copied().unwrap_or(at));
        let mut whole = self.rest.remove(vertex).unwrap_or_default();
        whole.push_str(text);
        let mut lines: Vec<&str> = whole.split('\n').collect();
        let rest = lines.pop().unwrap_or_default().to_owned();
        for line in lines {
            self.say(&format!("#{number} {since:.3} {}", line.trim_end_matches('\r')))?;
        }
        self.rest.insert(vertex.to_owned(), rest);
        Ok(())
    }

    fn status(&mut self, status: &BuildStatus) -> Result<(), Failure> {
        let Some(completed) = status.completed else { return Ok(()) };
        if !self.over.insert((status.vertex.clone(), status.id.clone())) {
            return Ok(());
        }
        let number = self.number(&status.vertex);
        let took = seconds(completed - status.started);
        let size = crate::format::size::decimal(i64::try_from(status.current).unwrap_or(i64::MAX));
        self.say(&format!("#{number} {}: {size} {took:.1}s done", status.id))
    }

    /// What went wrong, with the lines of the Dockerfile where it did.
    pub fn failure(&self, error: &BuildError, source: &str) -> Failure {
        let mut message = String::new();
        if error.first_line > 0 {
            message.push_str(&format!("{}:{}\n--------------------\n", self.name, error.first_line));
            let from = error.first_line.saturating_sub(CONTEXT_LINES).max(1);
            let to = error.last_line + CONTEXT_LINES;
            for (number, line) in source.lines().enumerate().map(|(at, line)| (at + 1, line)) {
                if (from..=to).contains(&number) {
                    let mark =
                        if (error.first_line..=error.last_line).contains(&number) { ">>>" } else { "   " };
                    message.push_str(&format!("{number:>4} | {mark} {line}\n"));
                }
            }
            message.push_str("--------------------\n");
        }
        Failure::new(format!("{message}failed to build: {}", error.message))
    }
}

/// A warning on one line, with its place in the Dockerfile where it has one.
pub fn about(warning: &BuildWarning, file: &str) -> String {
    let place = match warning.first_line {
        0 => String::new(),
        line => format!(" ({file}:{line})"),
    };
    format!("{}: {}{place}", warning.rule, warning.short)
}

fn seconds(nanoseconds: i64) -> f64 {
    nanoseconds.max(0) as f64 / 1e9
}
