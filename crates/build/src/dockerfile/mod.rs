//! The Dockerfile language: text to typed instructions, expansion of variables, checks.
//!
//! Behaves as BuildKit's front end does (docs/dockerfile.md says where not). Pure: reads no file, looks at no image, and a
//! Dockerfile may be a stranger's, so that everything takes time linear in its length. A source that isn't UTF-8
//! should come through `String::from_utf8_lossy`.
//!
//! `lines` → `statement` → `instruction` → `ast`; `expand` replaces variables when the time has come.

mod ast;
pub mod check;
mod diagnostic;
mod directives;
pub mod expand;
mod flags;
mod heredoc;
mod instruction;
mod lines;
mod mount;
pub mod port;
mod quantity;
mod statement;
mod suggest;
mod transfer;
mod words;

pub use ast::{
    Add, Arg, ArgEntry, Command, Copy, Device, Directives, Dockerfile, Document, Escape, Expose, Form, From,
    Healthcheck, Instruction, Located, Maintainer, Network, Onbuild, Pair, Pairs, Run, Security, Shell, Span,
    Stage, StageNaming, Stopsignal, Transfer, User, Volume, Workdir,
};
pub use diagnostic::{Diagnostic, Diagnostics, Kind};
pub use heredoc::chomp;
pub use mount::{Mount, MountError, MountType, RunMount, Sharing};

use diagnostic::{Collector, Problem};
use instruction::Parsed;
use lines::{Lines, Logical};
use statement::Statement;

/// Parses a whole Dockerfile.
pub fn parse(source: &str) -> Result<Dockerfile, Diagnostics> {
    let mut collector = Collector::default();
    let mut parts = Parts::default();
    let mut lines = Lines::new(source);
    while let Some(logical) = lines.next_logical() {
        let logical = match logical {
            Ok(logical) => logical,
            Err(problem) => {
                collector.text(problem, lines.here());
                continue;
            }
        };
        parts.started = true;
        if logical.gap {
            parts.empty_continuations.push(logical.span.last_line);
        }
        let Logical { text, mut span, comments, .. } = logical;
        match statement(&text, &mut lines) {
            Ok(statement) => {
                span.last_line = lines.here().last_line;
                parts.statement(statement, &text, span, &comments, &mut collector);
            }
            Err(problem) => {
                span.last_line = lines.here().last_line;
                collector.text(problem, span);
            }
        }
    }
    parts.complete(source, &lines, &mut collector);
    if !collector.is_empty() {
        return Err(collector.finish(source));
    }
    let directives = Directives {
        syntax: directives::syntax(source),
        escape: lines.escape(),
        check: directives::check(source),
    };
    let Parts { global_args, stages, empty_continuations, .. } = parts;
    Ok(Dockerfile { directives, global_args, stages, empty_continuations })
}

/// Parses one instruction alone: a trigger of ONBUILD from an image's configuration, or a change for `commit`.
pub fn parse_trigger(text: &str) -> Result<Located<Instruction>, Diagnostics> {
    let mut collector = Collector::default();
    let mut lines = Lines::new(text);
    let mut found = None;
    while let Some(logical) = lines.next_logical() {
        let here = lines.here();
        if found.is_some() {
            let message = "onbuild trigger should be a single expression";
            collector.text(Problem::new(Kind::Structure, message), here);
            break;
        }
        let parsed = logical.and_then(|logical| {
            let statement = statement(&logical.text, &mut lines)?;
            let word = statement.word.to_owned();
            let parsed = instruction::parse(statement, &logical.text, &logical.comments)?;
            Ok((logical.span, word, logical.text.trim().to_owned(), parsed))
        });
        match parsed {
            Ok((span, keyword, original, Parsed::Instruction(value))) => {
                found = Some(Located { value, span, keyword, original, comments: Vec::new() });
            }
            Ok((span, _, _, Parsed::From(_))) => {
                let message = "FROM isn't allowed as an ONBUILD trigger";
                collector.text(Problem::new(Kind::Structure, message), span);
            }
            Err(problem) => collector.text(problem, here),
        }
    }
    match found {
        Some(found) if collector.is_empty() => Ok(found),
        _ => {
            if collector.is_empty() {
                collector.text(Problem::new(Kind::Structure, "file with no instructions"), lines.here());
            }
            Err(collector.finish(text))
        }
    }
}

/// Cuts up one instruction and reads the here-documents that it opens.
fn statement<'t>(text: &'t str, lines: &mut Lines) -> Result<Statement<'t>, Problem> {
    let mut statement = Statement::split(text, lines.escape())?;
    if text.contains("<<") && statement.takes_documents() {
        for mut document in heredoc::openings(text)? {
            match lines.document(&document.name, document.chomp)? {
                Some(content) => document.content = content.to_owned(),
                None => {
                    let near = document.name;
                    return Err(Problem::new(Kind::Syntax, "unterminated heredoc").near(near));
                }
            }
            statement.documents.push(document);
        }
    }
    Ok(statement)
}

/// A Dockerfile in the making.
#[derive(Default)]
struct Parts {
    global_args: Vec<Located<Arg>>,
    stages: Vec<Stage>,
    empty_continuations: Vec<u32>,
    /// An instruction was seen, be it a wrong one.
    started: bool,
    /// A FROM was wrong: that what follows has no stage is not its fault.
    lost_stage: bool,
}

impl Parts {
    fn statement(
        &mut self,
        statement: Statement,
        text: &str,
        span: Span,
        comments: &[&str],
        collector: &mut Collector,
    ) {
        // Only what is wrong with the text as a whole could still come first.
        if collector.is_full() {
            return;
        }
        let is_from = statement.keyword == Some(statement::Keyword::From);
        let keyword = statement.word.to_owned();
        let parsed = match instruction::parse(statement, text, comments) {
            Ok(parsed) => parsed,
            Err(problem) => {
                self.lost_stage |= is_from;
                return collector.instruction(problem, span, true);
            }
        };
        let original = text.trim().to_owned();
        let comments = comments.iter().map(|comment| (*comment).to_owned()).collect();
        match (parsed, self.stages.last_mut()) {
            (Parsed::From(value), _) => {
                let from = Located { value, span, keyword, original, comments };
                self.stages.push(Stage { from, instructions: Vec::new() });
            }
            (Parsed::Instruction(value), Some(stage)) => {
                stage.instructions.push(Located { value, span, keyword, original, comments });
            }
            (Parsed::Instruction(Instruction::Arg(value)), None) => {
                self.global_args.push(Located { value, span, keyword, original, comments });
            }
            (Parsed::Instruction(_), None) if self.lost_stage => {}
            (Parsed::Instruction(_), None) => {
                let problem = Problem::new(Kind::Structure, "no build stage in current context");
                collector.instruction(problem.near(keyword), span, false);
            }
        }
    }

    /// Whether there is something to build at all.
    fn complete(&self, source: &str, lines: &Lines, collector: &mut Collector) {
        let missing = match () {
            () if source.is_empty() => "the Dockerfile cannot be empty",
            () if !self.started => "file with no instructions",
            () if self.stages.is_empty() => "dockerfile contains no stages to build",
            () => return,
        };
        if collector.is_empty() {
            collector.text(Problem::new(Kind::Structure, missing), lines.here());
        }
    }
}

#[cfg(test)]
mod tests;
