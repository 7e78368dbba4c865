//! Which checks are made: `skip=all`, `skip=A,B`, `experimental=all`, `error=true`, separated by semicolons.

use super::rules::Rule;
use crate::dockerfile::mount::boolean;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// A warning makes the build fail.
    pub error: bool,
    skip: Names,
    experimental: Names,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    All,
    Some(Vec<String>),
}

impl Default for Names {
    fn default() -> Names {
        Names::Some(Vec::new())
    }
}

impl Names {
    fn parse(text: &str) -> Names {
        match text.trim() {
            "all" => Names::All,
            text => Names::Some(text.split(',').map(|name| name.trim().to_owned()).collect()),
        }
    }

    fn contains(&self, rule: &Rule) -> bool {
        match self {
            Names::All => true,
            Names::Some(names) => names.iter().any(|name| name == rule.name),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to parse check options: {0}")]
pub struct CheckError(String);

impl CheckOptions {
    pub fn parse(text: &str) -> Result<CheckOptions, CheckError> {
        let mut options = CheckOptions::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(options);
        }
        let quote = corten_template::quote;
        for part in text.splitn(3, ';') {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| CheckError(format!("invalid check option {}", quote(part))))?;
            match key.trim() {
                "skip" => options.skip = Names::parse(value),
                "experimental" => options.experimental = Names::parse(value),
                "error" => {
                    let value = value.trim();
                    options.error = boolean(value).ok_or_else(|| {
                        CheckError(format!(
                            "failed to parse check option {}: strconv.ParseBool: parsing {}: invalid syntax",
                            quote(part),
                            quote(value)
                        ))
                    })?;
                }
                key => return Err(CheckError(format!("invalid check option {}", quote(key)))),
            }
        }
        Ok(options)
    }

    /// Experimental rules are made only when they are asked for, and can't be skipped then.
    pub fn allows(&self, rule: &Rule) -> bool {
        if rule.experimental { self.experimental.contains(rule) } else { !self.skip.contains(rule) }
    }

    pub fn skips(&self, rule: &Rule) -> bool {
        !rule.experimental && self.skip.contains(rule)
    }
}

/// What the comments above an instruction say; the first that speaks of checks counts.
pub(super) fn of_comments(comments: &[String]) -> Option<CheckOptions> {
    let value = comments.iter().find_map(|comment| {
        let (name, value) = comment.split_once('=')?;
        name.trim_end().eq_ignore_ascii_case("check").then(|| value.trim())
    })?;
    CheckOptions::parse(value.split(' ').next().unwrap_or_default()).ok()
}
