//! Progress on a terminal. Steps that are over become lines that stay and scroll away; below them stand, painted again and again, those
//! that run, each with what it printed last. What is painted again never has more rows than the terminal, however small that is or becomes.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use corten_api::base64;
use corten_api::build::{BuildEvent, BuildLog, BuildStatus, BuildVertex, BuildWarning};
use rustix::termios::tcgetwinsize;
use unicode_width::UnicodeWidthChar;

use super::show::about;
use crate::format::size::decimal;
use crate::output;
use crate::stream::is_dumb;

/// How often it is painted, so that times go on.
pub const INTERVAL: Duration = Duration::from_millis(100);
/// Lines of output kept of a step, for the time when it fails; and how many of them are shown while it runs.
const LINES_KEPT: usize = 20;
const LINES_SHOWN: usize = 6;
/// What is kept of a line that does not end.
const LINE_BYTES_MAX: usize = 4096;
/// Columns of a time.
const TIME_COLUMNS: usize = 8;
/// A terminal that doesn't tell its size.
const USUAL: (usize, usize) = (24, 80);

pub struct Screen {
    /// The Dockerfile's.
    name: String,
    begun: Instant,
    painted_at: Option<Instant>,
    steps: Vec<Step>,
    /// By digest.
    numbers: HashMap<String, usize>,
    warnings: Vec<BuildWarning>,
    /// Lines that are to stay, and are not painted yet.
    settled: Vec<Line>,
    /// Columns of each line that will be painted again.
    painted: Vec<usize>,
    has_colours: bool,
}

#[derive(Default)]
struct Step {
    name: String,
    /// On this side's clock: the engine's may be another.
    begun: Option<Instant>,
    is_over: bool,
    is_cached: bool,
    /// Parts on their way, by name.
    parts: Vec<Part>,
    lines: VecDeque<String>,
    /// What was printed since the last whole line.
    rest: Vec<u8>,
}

struct Part {
    id: String,
    current: u64,
    total: u64,
    is_over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colour {
    None,
    Blue,
    Red,
    Yellow,
    Dim,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    text: String,
    /// At the right edge.
    time: String,
    colour: Colour,
    /// It is shown whole although it is longer than a row.
    is_whole: bool,
}

impl Line {
    fn new(text: impl Into<String>, colour: Colour) -> Line {
        Line { text: text.into(), time: String::new(), colour, is_whole: false }
    }

    fn timed(text: impl Into<String>, took: Duration, colour: Colour) -> Line {
        Line { time: format!("{:.1}s", took.as_secs_f64()), ..Line::new(text, colour) }
    }

    fn whole(text: impl Into<String>, colour: Colour) -> Line {
        Line { is_whole: true, ..Line::new(text, colour) }
    }
}

/// Whether there is a terminal that can be painted on.
pub fn is_there() -> bool {
    io::stderr().is_terminal() && !is_dumb()
}

impl Screen {
    pub fn new(name: String) -> Screen {
        // As https://no-color.org has it.
        let has_colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Screen {
            name,
            begun: Instant::now(),
            painted_at: None,
            steps: Vec::new(),
            numbers: HashMap::new(),
            warnings: Vec::new(),
            settled: Vec::new(),
            painted: Vec::new(),
            has_colours,
        }
    }

    pub fn event(&mut self, event: BuildEvent) {
        match event {
            BuildEvent::Vertex(vertex) => self.vertex(vertex),
            BuildEvent::Log(log) => self.log(&log),
            BuildEvent::Status(status) => self.status(status),
            BuildEvent::Warning(warning) => self.warnings.push(warning),
            // The others are for whoever drives the build.
            _ => {}
        }
    }

    /// Paints what has changed, unless that was done a moment ago.
    pub fn paint(&mut self) {
        if self.painted_at.is_none_or(|at| at.elapsed() >= INTERVAL) {
            let (height, width) = size();
            let live = self.live(height);
            self.put(&live, width);
            self.painted_at = Some(Instant::now());
        }
    }

    /// Only what stays is left; `is_done` says whether the build came to its end.
    pub fn close(&mut self, is_done: bool) {
        let end = if is_done { " FINISHED" } else { "" };
        self.settled.push(Line::new(self.summary() + end, Colour::None));
        if !self.warnings.is_empty() {
            let count = match self.warnings.len() {
                1 => "1 warning found".to_owned(),
                many => format!("{many} warnings found"),
            };
            self.settled.push(Line::whole(format!("\n {count} (use --check to expand):"), Colour::Yellow));
        }
        for warning in std::mem::take(&mut self.warnings) {
            let text = format!(" - {}", clean(&about(&warning, &self.name)));
            self.settled.push(Line::whole(text, Colour::Yellow));
        }
        self.settle();
    }

    /// Leaves nothing that would be painted again.
    pub fn settle(&mut self) {
        self.put(&[], size().1);
    }

    fn step(&mut self, digest: &str) -> &mut Step {
        let next = self.steps.len();
        let number = *self.numbers.entry(digest.to_owned()).or_insert(next);
        if number == next {
            self.steps.push(Step::default());
        }
        &mut self.steps[number]
    }

    fn vertex(&mut self, vertex: BuildVertex) {
        let step = self.step(&vertex.digest);
        step.name = clean(&vertex.name);
        if vertex.started.is_some() {
            step.begun.get_or_insert_with(Instant::now);
        }
        let Some(completed) = vertex.completed.filter(|_| !step.is_over) else { return };
        step.end_line();
        (step.is_over, step.is_cached) = (true, vertex.cached);
        let took = completed - vertex.started.unwrap_or(completed);
        let took = Duration::from_nanos(u64::try_from(took).unwrap_or(0));
        let name = std::mem::take(&mut step.name);
        let mut lines = Vec::new();
        match vertex.error {
            None if vertex.cached => lines.push(Line::new(format!(" => CACHED {name}"), Colour::Blue)),
            None => lines.push(Line::timed(format!(" => {name}"), took, Colour::Blue)),
            Some(_) => {
                lines.push(Line::timed(format!(" => ERROR {name}"), took, Colour::Red));
                let printed =
                    step.lines.iter().map(|line| Line::whole(format!(" => => # {line}"), Colour::None));
                lines.extend(printed);
            }
        }
        (step.lines, step.parts) = (VecDeque::new(), Vec::new());
        self.settled.extend(lines);
    }

    fn log(&mut self, log: &BuildLog) {
        let bytes = base64::decode(&log.data).unwrap_or_default();
        let step = self.step(&log.vertex);
        for byte in bytes {
            match byte {
                b'\n' => step.end_line(),
                // A program paints a line of its own again.
                b'\r' if step.rest.last() == Some(&b'\r') => {}
                _ if step.rest.len() >= LINE_BYTES_MAX => {}
                byte => step.rest.push(byte),
            }
        }
    }

    fn status(&mut self, status: BuildStatus) {
        let step = self.step(&status.vertex);
        let is_over = status.completed.is_some();
        let part = Part { id: clean(&status.id), current: status.current, total: status.total, is_over };
        match step.parts.iter_mut().find(|known| known.id == part.id) {
            Some(known) => *known = part,
            None => step.parts.push(part),
        }
    }

    fn summary(&self) -> String {
        let over = self.steps.iter().filter(|step| step.is_over).count();
        format!("[+] Building {:.1}s ({over}/{})", self.begun.elapsed().as_secs_f64(), self.steps.len())
    }

    /// What is painted again: at most one row less than the terminal has, as the cursor stands below.
    fn live(&self, height: usize) -> Vec<Line> {
        let mut rows = height.saturating_sub(1);
        let mut lines = Vec::new();
        if rows > 1 {
            lines.push(Line::new(self.summary(), Colour::None));
            rows -= 1;
        }
        let running: Vec<&Step> =
            self.steps.iter().filter(|step| step.begun.is_some() && !step.is_over).collect();
        let mut shown = running.len().min(rows);
        if shown < running.len() {
            // Room for saying so.
            shown = shown.saturating_sub(1);
        }
        let spare = rows.saturating_sub(running.len());
        let below = (spare / running.len().max(1)).min(LINES_SHOWN);
        for step in &running[..shown] {
            let took = step.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
            lines.push(Line::timed(format!(" => {}", step.name), took, Colour::None));
            lines.extend(step.below(below));
        }
        if shown < running.len() && lines.len() < height {
            lines.push(Line::new(format!(" => and {} more", running.len() - shown), Colour::Dim));
        }
        lines.truncate(height.saturating_sub(1));
        lines
    }

    /// Replaces what was painted by what stays from now on and, below, by these lines.
    fn put(&mut self, live: &[Line], width: usize) {
        let mut text = String::new();
        // A terminal that became narrower has broken long lines.
        let rows: usize = self.painted.iter().map(|columns| columns.div_ceil(width).max(1)).sum();
        if rows > 0 {
            text.push_str(&format!("\x1b[{rows}A\r\x1b[J"));
        }
        for line in std::mem::take(&mut self.settled) {
            self.write(&line, width, &mut text);
        }
        self.painted = live.iter().map(|line| self.write(line, width, &mut text)).collect();
        output::talk(&text);
    }

    /// Writes a line; gives its columns.
    fn write(&self, line: &Line, width: usize, text: &mut String) -> usize {
        let laid = lay(line, width);
        let code = match line.colour {
            _ if !self.has_colours => "",
            Colour::None => "",
            Colour::Blue => "34",
            Colour::Red => "31",
            Colour::Yellow => "33",
            Colour::Dim => "2",
        };
        match code {
            "" => text.push_str(&laid),
            code => text.push_str(&format!("\x1b[{code}m{laid}\x1b[0m")),
        }
        text.push('\n');
        columns(&laid)
    }
}

impl Step {
    /// What stands below a step that runs.
    fn below(&self, rows: usize) -> Vec<Line> {
        let parts = self.parts.iter().filter(|part| !part.is_over).map(|part| {
            let size = |bytes: u64| decimal(i64::try_from(bytes).unwrap_or(i64::MAX));
            let of = if part.total > 0 { format!(" / {}", size(part.total)) } else { String::new() };
            Line::new(format!(" => => {} {}{of}", part.id, size(part.current)), Colour::None)
        });
        let mut lines: Vec<Line> = parts.take(rows).collect();
        let printed = rows - lines.len();
        let skipped = self.lines.len().saturating_sub(printed);
        let printed = self.lines.iter().skip(skipped);
        lines.extend(printed.map(|line| Line::new(format!(" => => # {line}"), Colour::Dim)));
        lines
    }

    fn end_line(&mut self) {
        if self.rest.is_empty() {
            return;
        }
        let rest = std::mem::take(&mut self.rest);
        let text = String::from_utf8_lossy(&rest);
        // What a program has painted over is not shown.
        let last = text.split('\r').rfind(|part| !part.is_empty()).unwrap_or_default();
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(clean(last));
    }
}

/// A line as it fits in a row, with its time at the right edge where there is room. The last column stays free: in some terminals what
/// stands there breaks the line.
fn lay(line: &Line, width: usize) -> String {
    let room = width.saturating_sub(1);
    if line.is_whole {
        return line.text.clone();
    }
    if line.time.is_empty() || room < 3 * TIME_COLUMNS {
        return cut(&line.text, room);
    }
    let text = cut(&line.text, room - TIME_COLUMNS - 1);
    let blanks = room - columns(&text) - columns(&line.time).min(TIME_COLUMNS);
    format!("{text}{:blanks$}{}", "", line.time)
}

/// As much of a text as fits, with dots where something is missing.
fn cut(text: &str, room: usize) -> String {
    if columns(text) <= room {
        return text.to_owned();
    }
    let dots = if room > 8 { "..." } else { "" };
    let mut left = room - dots.len();
    let fits = |letter: &char| {
        let wide = letter.width().unwrap_or(0);
        let fits = wide <= left;
        left = left.saturating_sub(wide);
        fits
    };
    text.chars().take_while(fits).collect::<String>() + dots
}

fn columns(text: &str) -> usize {
    text.chars().filter_map(UnicodeWidthChar::width).sum()
}

/// A text without what a terminal would do something else with than show it.
fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\x1b' => match letters.next() {
                // Control sequences end with a letter or the like (ECMA-48, 5.4), texts for the terminal with a bell or an escape.
                Some('[') => drop(letters.find(|letter| matches!(letter, '@'..='~'))),
                Some(']') => drop(letters.find(|letter| matches!(letter, '\x07' | '\x1b'))),
                _ => {}
            },
            '\t' => cleaned.push_str("    "),
            '\n' => cleaned.push(' '),
            letter if letter.is_control() => {}
            letter => cleaned.push(letter),
        }
    }
    cleaned
}

/// Height and width of the terminal that is painted on.
fn size() -> (usize, usize) {
    match tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row.into(), size.ws_col.into()),
        _ => USUAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vertex(digest: &str, started: Option<i64>, completed: Option<i64>) -> BuildEvent {
        let (digest, name) = (digest.to_owned(), format!("[{digest}] RUN it"));
        BuildEvent::Vertex(BuildVertex { digest, name, started, completed, ..BuildVertex::default() })
    }

    fn log(vertex: &str, text: &str) -> BuildEvent {
        BuildEvent::Log(BuildLog {
            vertex: vertex.to_owned(),
            data: base64::encode(text.as_bytes()),
            ..BuildLog::default()
        })
    }

    #[test]
    fn no_more_is_painted_than_there_are_rows() {
        let mut screen = Screen::new("Dockerfile".to_owned());
        for number in 0..9 {
            screen.event(vertex(&format!("{number}"), Some(1), None));
            screen.event(log(&format!("{number}"), &"line\n".repeat(50)));
        }
        for height in 0..80 {
            let live = screen.live(height);
            assert!(live.len() < height.max(1), "{} lines in {height} rows", live.len());
        }
        let live = screen.live(6);
        assert_eq!(live.last().unwrap().text, " => and 6 more");
        assert_eq!(screen.live(80).len(), 1 + 9 * (1 + LINES_SHOWN));
        screen.event(vertex("3", Some(1), Some(2_000_000_001)));
        assert_eq!(screen.live(80).len(), 1 + 8 * (1 + LINES_SHOWN));
        assert_eq!(screen.settled[0].time, "2.0s");
    }

    #[test]
    fn lines_fit_in_every_width() {
        let line =
            Line::timed(" => [1/2] RUN 世界 and more of the kind", Duration::from_secs(3), Colour::None);
        for width in 0..100 {
            let laid = lay(&line, width);
            assert!(columns(&laid) < width.max(1), "{width}: {laid:?}");
        }
        assert!(lay(&line, 80).ends_with("  3.0s"));
        assert!(lay(&line, 40).contains("..."));
    }

    #[test]
    fn what_programs_print_moves_no_cursor() {
        assert_eq!(clean("a\x1b[31mb\x1b[2J\tc\x07\x1b]0;title\x07d\x1b(e"), "ab    cde");
        let mut screen = Screen::new("Dockerfile".to_owned());
        screen.event(vertex("a", Some(1), None));
        screen.event(log("a", "10%\r50%\r100%\r\nnext"));
        screen.event(log("a", " line\n"));
        assert_eq!(screen.steps[0].lines, ["100%", "next line"]);
        screen.event(log("a", &"x".repeat(10 * LINE_BYTES_MAX)));
        assert_eq!(screen.steps[0].rest.len(), LINE_BYTES_MAX);
    }

    #[test]
    fn a_failed_step_leaves_what_it_printed() {
        let mut screen = Screen::new("Dockerfile".to_owned());
        screen.event(vertex("a", Some(1), None));
        screen.event(log("a", "why it failed"));
        let error = Some("exit code: 1".to_owned());
        screen.event(BuildEvent::Vertex(BuildVertex {
            digest: "a".to_owned(),
            name: "RUN false".to_owned(),
            started: Some(1),
            completed: Some(1),
            error,
            ..BuildVertex::default()
        }));
        let texts: Vec<&str> = screen.settled.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, [" => ERROR RUN false", " => => # why it failed"]);
    }
}
