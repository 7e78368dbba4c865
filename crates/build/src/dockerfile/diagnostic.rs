//! What is wrong with a Dockerfile, as data: kind, place, Docker's words, a hint; and its display with the source.

use std::fmt;

use super::ast::Span;
use super::suggest;

/// At most so many are kept; the first is what Docker says.
const DIAGNOSTICS_MAX: usize = 20;
/// Longer source lines are cut for display.
const SHOWN_COLUMNS_MAX: usize = 160;
const SHOWN_LINES_MAX: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A parser directive.
    Directive,
    /// Words, quotes, JSON, here-documents.
    Syntax,
    UnknownInstruction,
    Flag,
    /// Too few arguments, too many, or of a wrong kind.
    Argument,
    /// An instruction before the first FROM, no FROM, no instruction.
    Structure,
    /// A bound of this parser.
    Limit,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub kind: Kind,
    pub span: Span,
    /// Docker's words, without the place and the hint.
    pub message: String,
    /// What may have been meant.
    pub suggestion: Option<String>,
    /// Characters from the column on that the caret underlines.
    pub width: u32,
    /// Whether Docker's words name the line, as they do for all that is found after the text was split into instructions.
    named_line: bool,
}

impl Diagnostic {
    pub(super) fn new(problem: Problem, span: Span) -> Diagnostic {
        let Problem { kind, message, suggestion, .. } = problem;
        Diagnostic { kind, span, message, suggestion, width: 1, named_line: false }
    }

    /// The message as Docker's tools print it.
    pub fn text(&self) -> String {
        let mut text = match self.named_line {
            true => format!("dockerfile parse error on line {}: {}", self.span.first_line, self.message),
            false => self.message.clone(),
        };
        if let Some(suggestion) = &self.suggestion {
            text.push_str(&format!(" (did you mean {suggestion}?)"));
        }
        text
    }
}

/// What is wrong, before it has a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub kind: Kind,
    pub message: String,
    pub suggestion: Option<String>,
    /// The text to point at, where it can be found in the source.
    pub near: Option<String>,
}

impl Problem {
    pub fn new(kind: Kind, message: impl Into<String>) -> Problem {
        Problem { kind, message: message.into(), suggestion: None, near: None }
    }

    pub fn near(mut self, text: impl Into<String>) -> Problem {
        self.near = Some(text.into());
        self
    }

    /// Looks for what `word` may have been meant to be.
    pub fn suggesting<'o>(mut self, word: &str, options: impl IntoIterator<Item = &'o str>) -> Problem {
        self.suggestion = suggest::nearest(word, options).map(str::to_owned);
        self
    }
}

/// All that is wrong with a Dockerfile; never empty. The first is the one that Docker reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    /// Source lines around the diagnostics, with their numbers.
    lines: Vec<(u32, String)>,
}

impl Diagnostics {
    pub fn first(&self) -> &Diagnostic {
        &self.list[0]
    }

    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            write!(out, "{}", diagnostic.text())?;
            let Span { first_line, last_line, column } = diagnostic.span;
            let width = self.lines.iter().map(|(number, _)| number.to_string().len()).max().unwrap_or(1);
            let shown = first_line..=last_line.min(first_line.saturating_add(SHOWN_LINES_MAX));
            for (number, line) in self.lines.iter().filter(|(number, _)| shown.contains(number)) {
                write!(out, "\n {number:>width$} | {line}")?;
                if *number == first_line && column as usize <= SHOWN_COLUMNS_MAX {
                    let before: String = line
                        .chars()
                        .take(column.saturating_sub(1) as usize)
                        .map(|letter| if letter == '\t' { '\t' } else { ' ' })
                        .collect();
                    let carets = "^".repeat(diagnostic.width.clamp(1, 60) as usize);
                    write!(out, "\n {:>width$} | {before}{carets}", "")?;
                }
            }
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// When something is found: Docker's parser first cuts the whole text into instructions, then looks at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Text,
    Instruction,
}

/// Collects what is wrong, in Docker's order.
#[derive(Debug, Default)]
pub(super) struct Collector {
    list: Vec<(Phase, Diagnostic, Option<String>)>,
}

impl Collector {
    pub fn text(&mut self, problem: Problem, span: Span) {
        self.push(Phase::Text, problem, span, false);
    }

    /// `named`: Docker's words name the line.
    pub fn instruction(&mut self, problem: Problem, span: Span, named: bool) {
        self.push(Phase::Instruction, problem, span, named);
    }

    fn push(&mut self, phase: Phase, mut problem: Problem, span: Span, named_line: bool) {
        // The first of each phase may turn out to be the first of all.
        if self.list.len() < DIAGNOSTICS_MAX || self.list.iter().all(|(known, ..)| *known != phase) {
            let near = problem.near.take();
            self.list.push((phase, Diagnostic { named_line, ..Diagnostic::new(problem, span) }, near));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// No more is kept of single instructions.
    pub fn is_full(&self) -> bool {
        self.list.len() >= DIAGNOSTICS_MAX && self.list.iter().any(|(phase, ..)| *phase == Phase::Instruction)
    }

    /// Points each at the exact text where that can be found, and keeps the source lines for display.
    pub fn finish(mut self, source: &str) -> Diagnostics {
        self.list.sort_by_key(|(phase, diagnostic, _)| (*phase, diagnostic.span.first_line));
        let wanted = |number: u32| {
            self.list.iter().any(|(_, Diagnostic { span, .. }, _)| {
                (span.first_line..=span.last_line.min(span.first_line.saturating_add(SHOWN_LINES_MAX)))
                    .contains(&number)
            })
        };
        let lines: Vec<(u32, &str)> = (1u32..)
            .zip(source.split('\n'))
            .filter(|(number, _)| wanted(*number))
            .map(|(number, line)| (number, line.trim_end_matches('\r')))
            .collect();
        let mut list = Vec::with_capacity(self.list.len());
        for (_, mut diagnostic, near) in self.list {
            if let Some(near) = near.filter(|near| !near.is_empty()) {
                point(&mut diagnostic, &near, &lines);
            }
            list.push(diagnostic);
        }
        let shown = |line: &str| {
            let clean = |letter: char| if letter.is_control() && letter != '\t' { ' ' } else { letter };
            line.chars().take(SHOWN_COLUMNS_MAX).map(clean).collect::<String>()
        };
        let lines = lines.into_iter().map(|(number, line)| (number, shown(line))).collect();
        Diagnostics { list, lines }
    }
}

/// Moves a diagnostic to where `near` stands within its lines.
fn point(diagnostic: &mut Diagnostic, near: &str, lines: &[(u32, &str)]) {
    let span = diagnostic.span;
    let found = lines
        .iter()
        .filter(|(number, _)| (span.first_line..=span.last_line).contains(number))
        .find_map(|(number, line)| line.find(near).map(|at| (*number, line[..at].chars().count())));
    if let Some((line, before)) = found {
        // Docker's words keep naming the line on which the instruction starts.
        if line == span.first_line || !diagnostic.named_line {
            diagnostic.span.first_line = line;
            diagnostic.span.column = u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1);
            diagnostic.width = u32::try_from(near.chars().count()).unwrap_or(u32::MAX);
        }
    }
}
