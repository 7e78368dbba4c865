//! A Dockerfile's lines: joins those that are continued, takes out comments, reads what a here-document holds.
//!
//! Knows nothing of instructions. Borrows from the source wherever a line stands alone.

use std::borrow::Cow;

use super::ast::{Escape, Span};
use super::diagnostic::{Kind, Problem};
use super::directives::Scan;

/// Docker's bound for one line, without its end.
const LINE_BYTES_MAX: usize = 65_535;

/// One instruction's text.
pub(super) struct Logical<'s> {
    /// Joined, comments taken out; blanks at its start are gone, those of continued lines are not.
    pub text: Cow<'s, str>,
    pub span: Span,
    pub comments: Vec<&'s str>,
    /// An empty line within.
    pub gap: bool,
}

pub(super) struct Lines<'s> {
    rest: &'s str,
    /// Of the line that was read last, from 1.
    number: u32,
    directives: Scan,
    escape: Escape,
    comments: Vec<&'s str>,
}

impl<'s> Lines<'s> {
    pub fn new(source: &'s str) -> Lines<'s> {
        let rest = source.strip_prefix('\u{feff}').unwrap_or(source);
        Lines {
            rest,
            number: 0,
            directives: Scan::default(),
            escape: Escape::default(),
            comments: Vec::new(),
        }
    }

    pub fn escape(&self) -> Escape {
        self.escape
    }

    /// The line that was read last.
    pub fn here(&self) -> Span {
        Span { first_line: self.number, last_line: self.number, column: 1 }
    }

    /// The next instruction; `None` at the end. After an error the next call goes on behind the line.
    pub fn next_logical(&mut self) -> Option<Result<Logical<'s>, Problem>> {
        loop {
            let raw = match self.next_line()? {
                Ok(raw) => raw,
                Err(problem) => return Some(Err(problem)),
            };
            let line = raw.trim_end_matches(['\r', '\n']).trim_start();
            if line.starts_with('#') {
                if let Err(problem) = self.comment(raw, line) {
                    return Some(Err(problem));
                }
                continue;
            }
            self.directives.end();
            let (start, continued) = self.continuation(line);
            if !continued && start.is_empty() {
                continue;
            }
            let column = raw[..raw.len() - raw.trim_start().len()].chars().count() + 1;
            let span = Span { column: u32::try_from(column).unwrap_or(u32::MAX), ..self.here() };
            return Some(self.join(start, continued, span));
        }
    }

    /// A comment line is a directive, or kept for the instruction below it.
    fn comment(&mut self, raw: &'s str, line: &str) -> Result<(), Problem> {
        if let Some(directive) = self.directives.comment(&line[1..])? {
            if let Some(escape) = directive.escape()? {
                self.escape = escape;
            }
            return Ok(());
        }
        // Docker cuts off the first character, be it the number sign or a blank before it.
        let mut letters = raw.chars();
        letters.next();
        match letters.as_str().trim() {
            "" => self.comments.clear(),
            text => self.comments.push(text),
        }
        Ok(())
    }

    fn join(&mut self, start: &'s str, mut continued: bool, span: Span) -> Result<Logical<'s>, Problem> {
        let mut text = Cow::Borrowed(start);
        let mut gap = false;
        while continued {
            let Some(raw) = self.next_line() else { break };
            let line = raw?.trim_end_matches(['\r', '\n']);
            let trimmed = line.trim_start();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                gap = true;
                continue;
            }
            let (part, more) = self.continuation(line);
            text.to_mut().push_str(part);
            continued = more;
        }
        let span = Span { last_line: self.number, ..span };
        Ok(Logical { text, span, comments: std::mem::take(&mut self.comments), gap })
    }

    /// Reads up to the line that is `delimiter`, which `chomp` lets stand behind tabs; `None` if it never comes.
    pub fn document(&mut self, delimiter: &str, chomp: bool) -> Result<Option<&'s str>, Problem> {
        let start = self.rest;
        while let Some(raw) = self.next_line() {
            let raw = raw?;
            let mut line = raw.trim_end_matches(['\r', '\n']);
            if chomp {
                line = line.trim_start_matches('\t');
            }
            if line == delimiter {
                return Ok(Some(&start[..start.len() - self.rest.len() - raw.len()]));
            }
        }
        Ok(None)
    }

    /// The line without the character that continues it, and whether there was one. Twice, it is itself escaped.
    fn continuation(&self, line: &'s str) -> (&'s str, bool) {
        let escape = self.escape.character();
        match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
            Some(start) if !start.ends_with(escape) => (start, true),
            _ => (line, false),
        }
    }

    /// The next line with its end.
    fn next_line(&mut self) -> Option<Result<&'s str, Problem>> {
        if self.rest.is_empty() {
            return None;
        }
        self.number = self.number.saturating_add(1);
        let end = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest;
        if line.len() - usize::from(line.ends_with('\n')) > LINE_BYTES_MAX {
            // What follows would be read as if this line had never been.
            self.rest = "";
            let message = format!("dockerfile line greater than max allowed size of {LINE_BYTES_MAX}");
            return Some(Err(Problem::new(Kind::Limit, message)));
        }
        Some(Ok(line))
    }
}
