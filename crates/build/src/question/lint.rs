//! What could be better in a Dockerfile, and what is wrong.

use std::collections::BTreeSet;

use corten_image::Platform;
use serde::Serialize;

use super::{Answer, Location, json, parse};
use crate::base64::base64;
use crate::bases::{FindImage, Survey};
use crate::build::target;
use crate::dockerfile::Span;
use crate::dockerfile::check::{self, Bases, CheckOptions, Circumstances};
use crate::error::{Error, Result};
use crate::ignore::Ignore;
use crate::request::{Definition, Options};
use crate::variables::Globals;

/// The ARG that stands above the directive `# check`.
const CHECK_ARG: &str = "BUILDKIT_DOCKERFILE_CHECK";
/// Lines shown around one that is meant, on both sides together; fewer around several.
const LINES_AROUND: u32 = 4;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Results<'r> {
    warnings: Vec<Warning<'r>>,
    sources: [Source<'r>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    build_error: Option<BuildError>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Warning<'r> {
    rule_name: &'r str,
    description: &'r str,
    #[serde(skip_serializing_if = "String::is_empty")]
    url: String,
    detail: &'r str,
    location: Location,
}

#[derive(Serialize)]
struct Source<'r> {
    filename: &'r str,
    /// In base64.
    data: String,
    language: &'static str,
}

#[derive(Serialize)]
struct BuildError {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Location>,
}

pub fn answer(definition: &Definition, options: &Options, images: &FindImage) -> Result<Answer> {
    let looked = look(definition, options, images);
    let (found, error) = match &looked {
        Ok(found) => (found.as_slice(), None),
        Err(error) => (&[][..], Some(error)),
    };
    let warnings = found.iter().map(|warning| Warning {
        rule_name: warning.rule.name,
        description: warning.rule.description,
        url: warning.url(),
        detail: &warning.detail,
        location: warning.span.into(),
    });
    let place = |error: &Error| {
        let (first, last) = error.lines()?;
        let line = |line| u32::try_from(line).unwrap_or(u32::MAX);
        Some(Span { first_line: line(first), last_line: line(last), column: 1 })
    };
    let results = Results {
        warnings: warnings.collect(),
        sources: [Source {
            filename: &definition.name,
            data: base64(definition.text.as_bytes()),
            language: "Dockerfile",
        }],
        build_error: error.map(|error| BuildError {
            message: error.to_string(),
            location: place(error).map(Location::from),
        }),
    };
    let mut text = String::new();
    for warning in found {
        text.push_str(&format!("\nWARNING: {}", warning.rule.name));
        match warning.url() {
            url if url.is_empty() => {}
            url => text.push_str(&format!(" - {url}")),
        }
        text.push_str(&format!("\n{}\n{}", warning.detail, excerpt(definition, warning.span)));
    }
    if let Some(error) = error {
        let excerpt = place(error).map(|span| excerpt(definition, span)).unwrap_or_default();
        text.push_str(&format!("\nERROR: {error}\n{excerpt}"));
    }
    Ok(Answer { json: json(&results)?, text, warnings: found.len(), has_error: error.is_some() })
}

/// What is found; the error is what building would begin with.
fn look(definition: &Definition, options: &Options, images: &FindImage) -> Result<Vec<check::Warning>> {
    let dockerfile = parse(definition)?;
    let platform = options.first_target();
    let globals = Globals::new(&dockerfile.global_args, options, dockerfile.directives.escape, &platform)?;
    let target = target(&dockerfile, &options.target)?;
    let survey = Survey { dockerfile: &dockerfile, options, globals: &globals, platform: &platform };
    // Who names no target asks about all.
    let stages = if options.target.is_empty() { survey.all() } else { survey.needed(target) };
    let bases = survey.bases(&stages, images);
    Checks::new(&survey)?.findings(definition.ignore.as_deref(), &stages, &bases)
}

/// The checks that are wanted of a Dockerfile.
pub struct Checks<'c> {
    survey: &'c Survey<'c>,
    wanted: CheckOptions,
}

impl<'c> Checks<'c> {
    pub fn new(survey: &'c Survey<'c>) -> Result<Checks<'c>> {
        let Survey { dockerfile, options, .. } = survey;
        let wanted = options.build_args.get(CHECK_ARG).or(dockerfile.directives.check.as_ref());
        let wanted = CheckOptions::parse(wanted.map_or("", String::as_str)).map_err(invalid)?;
        Ok(Checks { survey, wanted })
    }

    /// Whether what could be better is an error.
    pub fn are_strict(&self) -> bool {
        self.wanted.error
    }

    /// What could be better in a Dockerfile, in these stages of it.
    pub fn findings(
        &self,
        ignore: Option<&str>,
        stages: &BTreeSet<usize>,
        bases: &Bases,
    ) -> Result<Vec<check::Warning>> {
        let Survey { dockerfile, options, platform, .. } = self.survey;
        // Patterns that can't be read are told of as an error, elsewhere.
        let ignore = ignore.and_then(|text| Ignore::parse(text).ok());
        let circumstances = Circumstances {
            options: Some(&self.wanted),
            build_args: &options.build_args,
            target: &options.target,
            build_platform: &Platform::host(),
            target_platform: platform,
            ignore: ignore.as_ref(),
            stages: Some(stages),
            bases,
        };
        check::check(dockerfile, &circumstances).map_err(invalid)
    }
}

fn invalid(error: check::CheckError) -> Error {
    Error::Invalid(error.to_string())
}

/// The lines that are meant, marked, and some around them.
fn excerpt(definition: &Definition, span: Span) -> String {
    let lines: Vec<&str> = definition.text.split('\n').collect();
    let count = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    let (mut first, mut last) = (span.first_line, span.last_line.min(count));
    if first < 1 || first > count {
        return String::new();
    }
    let around = if first == last { LINES_AROUND } else { LINES_AROUND / 2 };
    let mut shown = 0;
    while shown < around {
        if first > 1 {
            first -= 1;
            shown += 1;
        }
        if last < count {
            last += 1;
            shown += 1;
        }
        // It ends in a file that is shorter, too.
        shown += 1;
    }
    let ruler = "-".repeat(20);
    let mut text = format!("{}:{}\n{ruler}\n", definition.name, span.first_line);
    for (number, line) in (1..).zip(&lines).filter(|(number, _)| (first..=last).contains(number)) {
        let mark = if (span.first_line..=span.last_line).contains(&number) { ">>>" } else { "   " };
        text.push_str(&format!(" {number:3} | {mark} {}\n", line.trim_end_matches('\r')));
    }
    text + &ruler + "\n"
}
