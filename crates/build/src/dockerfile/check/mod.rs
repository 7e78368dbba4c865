//! Build checks: what BuildKit's linter says of a Dockerfile, by its names and in its words.
//!
//! `syntax` looks at the text alone, `stages` at FROM, `flow` follows variables and instructions through the stages. What
//! is an error is not said here: building says it. Pure: images are described by the caller, who may not know them.

mod flow;
mod options;
mod rules;
mod stages;
mod syntax;

use std::collections::{BTreeMap, BTreeSet};

use corten_image::{ImageConfig, Platform};

use super::ast::{Dockerfile, Span};
use crate::ignore::Ignore;

pub use options::{CheckError, CheckOptions};
pub use rules::{RULES, Rule};

/// One thing that could be better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub rule: &'static Rule,
    /// What it is here, in one line.
    pub detail: String,
    pub span: Span,
}

impl Warning {
    /// Where the rule is explained; empty for the one that has no page.
    pub fn url(&self) -> String {
        self.rule.url()
    }
}

/// What a build knows beside the Dockerfile.
pub struct Circumstances<'c> {
    /// Instead of the Dockerfile's own.
    pub options: Option<&'c CheckOptions>,
    pub build_args: &'c BTreeMap<String, String>,
    /// The stage that was asked for, empty for the last.
    pub target: &'c str,
    pub build_platform: &'c Platform,
    pub target_platform: &'c Platform,
    pub ignore: Option<&'c Ignore>,
    /// Indices of the stages that are built; `None` looks at all.
    pub stages: Option<&'c BTreeSet<usize>>,
    /// By their indices, the stages that start from something outside the Dockerfile; `None` where it isn't known.
    pub bases: &'c Bases,
}

pub type Bases = BTreeMap<usize, Option<Base>>;

/// An image that a stage starts from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// `NAME=value`.
    pub env: Vec<String>,
    /// It sets the shell of shell forms.
    pub has_shell: bool,
    /// Instructions for whoever starts from it.
    pub on_build: Vec<String>,
    pub platform: Option<Platform>,
}

impl From<&ImageConfig> for Base {
    fn from(image: &ImageConfig) -> Base {
        Base {
            env: image.config.env.clone(),
            has_shell: image.config.shell.is_some(),
            on_build: image.config.on_build.clone(),
            platform: Some(image.platform()),
        }
    }
}

/// Checks a Dockerfile. The warnings are in the order of the lines.
pub fn check(dockerfile: &Dockerfile, circumstances: &Circumstances) -> Result<Vec<Warning>, CheckError> {
    let own;
    let options = match (circumstances.options, &dockerfile.directives.check) {
        (Some(options), _) => options,
        (None, text) => {
            own = CheckOptions::parse(text.as_deref().unwrap_or_default())?;
            &own
        }
    };
    let mut report = Report { options, warnings: Vec::new() };
    syntax::check(dockerfile, &mut report);
    let globals = stages::check(dockerfile, circumstances, &mut report);
    flow::check(dockerfile, circumstances, &globals, &mut report);
    let mut warnings = report.warnings;
    warnings.sort_by_key(|warning| warning.span.first_line);
    Ok(warnings)
}

/// Collects warnings, but for those that are switched off.
struct Report<'o> {
    options: &'o CheckOptions,
    warnings: Vec<Warning>,
}

impl Report<'_> {
    fn warn(&mut self, rule: &'static Rule, span: Span, detail: String) {
        self.warn_below(&[], rule, span, detail);
    }

    /// `comments` above an instruction may switch a rule off for it: `# check=skip=StageNameCasing`.
    fn warn_below(&mut self, comments: &[String], rule: &'static Rule, span: Span, detail: String) {
        if self.options.allows(rule) && options::of_comments(comments).is_none_or(|own| !own.skips(rule))
            || rule.experimental && options::of_comments(comments).is_some_and(|own| own.allows(rule))
        {
            self.warnings.push(Warning { rule, detail, span });
        }
    }
}

#[cfg(test)]
mod tests;
