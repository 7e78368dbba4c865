//! Questions about a Dockerfile that are answered without building: what could be better in it, what its target takes, which targets
//! there are. The answers are those of BuildKit's subrequests `lint`, `outline` and `targets`, version 1.0.0: JSON that clients know,
//! and a text of the same for people.

mod lint;
mod outline;
mod targets;

use serde::Serialize;

use crate::bases::FindImage;
use crate::dockerfile::{self, Dockerfile, Span};
use crate::error::{Error, Result};
use crate::request::{Definition, Options};

pub(crate) use lint::Checks;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    Lint,
    Outline,
    Targets,
}

/// What a question yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub json: String,
    pub text: String,
    /// How many warnings it holds; of a lint.
    pub warnings: usize,
    /// The Dockerfile can't be built; of a lint, the others fail then.
    pub has_error: bool,
}

impl Question {
    /// By the name of BuildKit's subrequest without `frontend.`, or the one that people know.
    pub fn parse(name: &str) -> Option<Question> {
        match name {
            "lint" | "check" => Some(Question::Lint),
            "outline" => Some(Question::Outline),
            "targets" => Some(Question::Targets),
            _ => None,
        }
    }

    /// Answers for a Dockerfile; of the options the target, the ARGs, the contexts and the platform count. A lint looks
    /// at images, too.
    pub fn answer(self, definition: &Definition, options: &Options, images: &FindImage) -> Result<Answer> {
        match self {
            Question::Lint => lint::answer(definition, options, images),
            Question::Outline => outline::answer(definition, options),
            Question::Targets => targets::answer(definition),
        }
    }
}

fn parse(definition: &Definition) -> Result<Dockerfile> {
    dockerfile::parse(&definition.text).map_err(|error| {
        let span = error.first().span;
        Error::Invalid(error.to_string()).at(span.first_line as usize, span.last_line as usize)
    })
}

/// `pb.Location`, in one file.
#[derive(Serialize)]
struct Location {
    ranges: [Range; 1],
}

#[derive(Serialize)]
struct Range {
    start: Position,
    end: Position,
}

#[derive(Serialize)]
struct Position {
    line: u32,
}

impl From<Span> for Location {
    fn from(span: Span) -> Location {
        let position = |line| Position { line };
        Location { ranges: [Range { start: position(span.first_line), end: position(span.last_line) }] }
    }
}

fn json(document: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(document).map_err(|error| Error::Internal(error.to_string()))
}

/// Columns under their titles, three blanks apart.
fn table<const COLUMNS: usize>(titles: [&str; COLUMNS], rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([titles[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut text = String::new();
    for row in [titles.map(str::to_owned)].iter().chain(rows) {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}   "));
        text.push_str(cells.collect::<String>().trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
