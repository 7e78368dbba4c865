//! Checks of FROM: its variables, its platform, what it becomes when no argument is given.

use std::collections::{BTreeMap, BTreeSet};

use corten_image::{Platform, Reference};

use super::rules::{
    FROM_PLATFORM_FLAG_CONST_DISALLOWED, INVALID_DEFAULT_ARG_IN_FROM, REDUNDANT_TARGET_PLATFORM,
    UNDEFINED_ARG_IN_FROM,
};
use super::{Circumstances, Report};
use crate::dockerfile::ast::{Dockerfile, Located, Stage};
use crate::dockerfile::expand::{Expander, Expansion};
use crate::dockerfile::suggest;

/// Variables of FROM lines.
pub(super) struct Globals {
    pub values: BTreeMap<String, String>,
    /// With a value or without.
    declared: BTreeSet<String>,
}

impl Globals {
    /// The platforms' variables and ARG before the first FROM. `None`: one of them can't be expanded.
    fn new(
        dockerfile: &Dockerfile,
        circumstances: &Circumstances,
        build_args: &BTreeMap<String, String>,
    ) -> Option<Globals> {
        let mut values = predefined(dockerfile, circumstances);
        let mut declared: BTreeSet<String> = values.keys().cloned().collect();
        let expander = Expander::new(dockerfile.directives.escape);
        for entry in dockerfile.global_args.iter().flat_map(|located| &located.value.entries) {
            let value = match (build_args.get(&entry.name), &entry.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(text)) => Some(expander.word(text, &|name| values.get(name).cloned()).ok()?.text),
                (None, None) => None,
            };
            declared.insert(entry.name.clone());
            if let Some(value) = value {
                values.insert(entry.name.clone(), value);
            }
        }
        Some(Globals { values, declared })
    }

    fn expand(&self, expander: Expander, text: &str) -> Option<Expansion> {
        expander.word(text, &|name| self.values.get(name).cloned()).ok()
    }
}

fn predefined(dockerfile: &Dockerfile, circumstances: &Circumstances) -> BTreeMap<String, String> {
    let last = dockerfile.stages.last().and_then(Stage::name).unwrap_or("default");
    let target = if circumstances.target.is_empty() { last } else { circumstances.target };
    let mut values = BTreeMap::from([("TARGETSTAGE".to_owned(), target.to_owned())]);
    for (prefix, platform) in
        [("BUILD", circumstances.build_platform), ("TARGET", circumstances.target_platform)]
    {
        for (name, value) in [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("OSVERSION", platform.os_version.clone().unwrap_or_default()),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", platform.variant.clone().unwrap_or_default()),
        ] {
            values.insert(format!("{prefix}{name}"), value);
        }
    }
    for (name, value) in circumstances.build_args {
        if let Some(known) = values.get_mut(name) {
            known.clone_from(value);
        }
    }
    values
}

pub(super) fn check(dockerfile: &Dockerfile, circumstances: &Circumstances, report: &mut Report) -> Globals {
    let expander = Expander::new(dockerfile.directives.escape);
    if let Some(defaults) = Globals::new(dockerfile, circumstances, &BTreeMap::new()) {
        default_names(dockerfile, &defaults, expander, report);
    }
    let globals = Globals::new(dockerfile, circumstances, circumstances.build_args).unwrap_or_else(|| {
        Globals { values: predefined(dockerfile, circumstances), declared: BTreeSet::new() }
    });
    for stage in &dockerfile.stages {
        from(stage, &globals, expander, report);
    }
    globals
}

/// The base's name must be one even when no argument is given.
fn default_names(dockerfile: &Dockerfile, defaults: &Globals, expander: Expander, report: &mut Report) {
    for stage in &dockerfile.stages {
        let image = &stage.from.value.image;
        let Some(expanded) = defaults.expand(expander, image) else { return };
        if Reference::parse(&expanded.text).is_err() {
            let detail = format!("Default value for ARG {image} results in empty or invalid base image name");
            report.warn(&INVALID_DEFAULT_ARG_IN_FROM, stage.from.span, detail);
        }
    }
}

fn from(stage: &Stage, globals: &Globals, expander: Expander, report: &mut Report) {
    let Located { value, span, comments, .. } = &stage.from;
    if let Some(expanded) = globals.expand(expander, &value.image) {
        undeclared(stage, &expanded, globals, report);
    }
    let Some(written) = &value.platform else { return };
    let Some(expanded) = globals.expand(expander, written) else { return };
    undeclared(stage, &expanded, globals, report);
    let Expansion { text, used, undefined } = &expanded;
    if used.len() == 1
        && undefined.is_empty()
        && used.contains("TARGETPLATFORM")
        && globals.values.get("TARGETPLATFORM") == Some(text)
    {
        let detail = format!(
            "Setting platform to predefined {written} in FROM is redundant as this is the default behavior"
        );
        report.warn_below(comments, &REDUNDANT_TARGET_PLATFORM, *span, detail);
    }
    if used.is_empty()
        && undefined.is_empty()
        && let Ok(platform) = text.parse::<Platform>()
    {
        let name = value.name.as_deref().unwrap_or_default();
        // A stage that is named after its platform means it.
        if !name.contains(&platform.os) && !name.contains(&platform.architecture) {
            let quoted = corten_template::quote(text);
            let detail = format!("FROM --platform flag should not use constant value {quoted}");
            report.warn_below(comments, &FROM_PLATFORM_FLAG_CONST_DISALLOWED, *span, detail);
        }
    }
}

fn undeclared(stage: &Stage, expanded: &Expansion, globals: &Globals, report: &mut Report) {
    for name in expanded.undefined.difference(&globals.declared) {
        let mut detail = format!("FROM argument '{name}' is not declared");
        if let Some(meant) = suggest::nearest(name, globals.declared.iter().map(String::as_str)) {
            detail.push_str(&format!(" (did you mean {meant}?)"));
        }
        report.warn_below(&stage.from.comments, &UNDEFINED_ARG_IN_FROM, stage.from.span, detail);
    }
}
