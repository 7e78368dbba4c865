//! Parser directives: comments `# name = value` before anything else.
//!
//! Two readers, as in BuildKit: the escape character is read line by line with the instructions; `syntax` and `check`
//! are looked for in the source as it is, behind a `#!` line, and `syntax` in other languages' comments as well.

use super::ast::Escape;
use super::diagnostic::{Kind, Problem};

const NAMES: [&str; 3] = ["syntax", "escape", "check"];

pub(super) struct Directive<'s> {
    name: &'static str,
    value: &'s str,
}

impl Directive<'_> {
    /// The escape character, if this directive sets it.
    pub fn escape(&self) -> Result<Option<Escape>, Problem> {
        match (self.name, self.value) {
            ("escape", "\\") => Ok(Some(Escape::Backslash)),
            ("escape", "`") => Ok(Some(Escape::Backtick)),
            ("escape", other) => {
                let message = format!("invalid escape token '{other}' does not match ` or \\");
                Err(Problem::new(Kind::Directive, message).near(other))
            }
            _ => Ok(None),
        }
    }
}

/// Where among the directives a reader is.
#[derive(Debug, Default)]
pub(super) struct Scan {
    seen: [bool; NAMES.len()],
    ended: bool,
}

impl Scan {
    /// Something else came: no directives any more.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// The directive in a comment, whose mark is gone; anything else ends the directives.
    pub fn comment<'s>(&mut self, comment: &'s str) -> Result<Option<Directive<'s>>, Problem> {
        if self.ended {
            return Ok(None);
        }
        let Some((index, value)) = split(comment) else {
            self.ended = true;
            return Ok(None);
        };
        if std::mem::replace(&mut self.seen[index], true) {
            let message = format!("only one {} parser directive can be used", NAMES[index]);
            return Err(Problem::new(Kind::Directive, message));
        }
        Ok(Some(Directive { name: NAMES[index], value }))
    }
}

/// `name = value`, for the names that are known.
fn split(text: &str) -> Option<(usize, &str)> {
    // The pattern behind this knows ASCII blanks only, and its value must not be empty nor hold a line's end.
    let blank = |letter: char| matches!(letter, '\t' | '\n' | '\x0c' | '\r' | ' ');
    let (name, value) = text.trim_start().split_once('=')?;
    let name = name.trim_end_matches(blank);
    let value = value.trim_matches(blank);
    let index = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name))?;
    (!value.is_empty()).then_some((index, value))
}

/// The front end that the source asks for, with what follows it: `# syntax`, `// syntax` or `{"syntax": …}`.
pub(super) fn syntax(source: &str) -> Option<String> {
    let text = behind_shebang(source);
    let from_comments = find("syntax", text, "#").or_else(|| find("syntax", text, "//"));
    from_comments.or_else(|| {
        let text = text.trim_start().starts_with('{').then_some(text)?;
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        Some(value.get("syntax")?.as_str()?.to_owned())
    })
}

/// The options of the checks, up to the first blank.
pub(super) fn check(source: &str) -> Option<String> {
    let value = find("check", behind_shebang(source), "#")?;
    Some(value.split(' ').next().unwrap_or_default().to_owned())
}

fn behind_shebang(source: &str) -> &str {
    let text = source.strip_prefix('\u{feff}').unwrap_or(source);
    match text.starts_with("#!") {
        true => text.split_once('\n').map_or("", |(_, rest)| rest),
        false => text,
    }
}

fn find(name: &str, text: &str, comment: &str) -> Option<String> {
    let mut scan = Scan::default();
    for line in text.split('\n') {
        let directive = scan.comment(line.strip_prefix(comment)?).ok()??;
        if directive.name == name {
            return Some(directive.value.to_owned());
        }
    }
    None
}
