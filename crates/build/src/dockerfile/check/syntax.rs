//! Checks of the text alone: letters' case, names of stages, comments, what is out of date.

use super::Report;
use super::rules::{
    CONSISTENT_INSTRUCTION_CASING, DUPLICATE_STAGE_NAME, FROM_AS_CASING, INVALID_DEFINITION_DESCRIPTION,
    MAINTAINER_DEPRECATED, NO_EMPTY_CONTINUATION, RESERVED_STAGE_NAME, STAGE_NAME_CASING,
};
use crate::dockerfile::ast::{Arg, Dockerfile, From, Instruction, Located, Span};

pub(super) fn check(dockerfile: &Dockerfile, report: &mut Report) {
    for line in &dockerfile.empty_continuations {
        let span = Span { first_line: *line, last_line: *line, column: 1 };
        report.warn(&NO_EMPTY_CONTINUATION, span, "Empty continuation line".to_owned());
    }
    for located in &dockerfile.global_args {
        argument(&located.value, &located.comments, located.span, report);
    }
    for stage in &dockerfile.stages {
        from(&stage.from, report);
        for located in &stage.instructions {
            match &located.value {
                Instruction::Maintainer(_) => {
                    let detail = "Maintainer instruction is deprecated in favor of using label";
                    let comments = &located.comments;
                    report.warn_below(comments, &MAINTAINER_DEPRECATED, located.span, detail.to_owned());
                }
                Instruction::Arg(arg) => argument(arg, &located.comments, located.span, report),
                _ => {}
            }
        }
    }
    stage_names(dockerfile, report);
    casing(dockerfile, report);
}

fn from(from: &Located<From>, report: &mut Report) {
    let Located { value, span, keyword, comments, .. } = from;
    if let Some(written) = &value.written {
        if written.name != written.name.to_lowercase() {
            let detail = format!("Stage name '{}' should be lowercase", written.name);
            report.warn_below(comments, &STAGE_NAME_CASING, *span, detail);
        }
        let matches = match () {
            () if *keyword == keyword.to_lowercase() => written.keyword == written.keyword.to_lowercase(),
            () if *keyword == keyword.to_uppercase() => written.keyword == written.keyword.to_uppercase(),
            // A keyword in mixed case has a check of its own.
            () => true,
        };
        if !matches {
            let detail = format!("'{}' and '{keyword}' keywords' casing do not match", written.keyword);
            report.warn_below(comments, &FROM_AS_CASING, *span, detail);
        }
    }
    if let Some(name) = &value.name {
        description("FROM", &[name], comments, *span, report);
    }
}

fn argument(arg: &Arg, comments: &[String], span: Span, report: &mut Report) {
    let names: Vec<&String> = arg.entries.iter().map(|entry| &entry.name).collect();
    description("ARG", &names, comments, span, report);
}

fn description(keyword: &str, names: &[&String], comments: &[String], span: Span, report: &mut Report) {
    let Some(comment) = comments.last() else { return };
    let first = comment.split(' ').next().unwrap_or_default();
    if names.is_empty() || names.iter().any(|name| *name == first) {
        return;
    }
    let example = if let [name] = names { name } else { "<arg_key>" };
    let detail = format!("Comment for {keyword} should follow the format: `# {example} <description>`");
    report.warn_below(comments, &INVALID_DEFINITION_DESCRIPTION, span, detail);
}

fn stage_names(dockerfile: &Dockerfile, report: &mut Report) {
    let mut seen = std::collections::BTreeSet::new();
    for stage in &dockerfile.stages {
        let Some(name) = stage.name() else { continue };
        let span = stage.from.span;
        let quoted = corten_template::quote(name);
        if matches!(name, "context" | "scratch") {
            let detail = format!("Stage name should not use the same name as reserved stage {quoted}");
            report.warn(&RESERVED_STAGE_NAME, span, detail);
        }
        if !seen.insert(name) {
            let detail = format!("Duplicate stage name {quoted}, stage names should be unique");
            report.warn(&DUPLICATE_STAGE_NAME, span, detail);
        }
    }
}

/// All keywords should be written as most are; ARG before the first FROM doesn't count.
fn casing(dockerfile: &Dockerfile, report: &mut Report) {
    let keywords = || {
        dockerfile.stages.iter().flat_map(|stage| {
            let from = (stage.from.keyword.as_str(), stage.from.span);
            let rest = stage.instructions.iter().map(|located| (located.keyword.as_str(), located.span));
            std::iter::once(from).chain(rest)
        })
    };
    let is_lower = |word: &str| word == word.to_lowercase();
    let is_upper = |word: &str| word == word.to_uppercase();
    let lower = keywords().filter(|(word, _)| is_lower(word)).count();
    let upper = keywords().filter(|(word, _)| !is_lower(word) && is_upper(word)).count();
    for (word, span) in keywords() {
        let wanted = match lower > upper {
            true if !is_lower(word) => "lowercase",
            false if !is_upper(word) => "uppercase",
            _ => continue,
        };
        let detail = format!("Command '{word}' should match the case of the command majority ({wanted})");
        report.warn(&CONSISTENT_INSTRUCTION_CASING, span, detail);
    }
}
