//! Which targets there are.

use serde::Serialize;

use super::{Answer, Location, json, parse, table};
use crate::base64::base64;
use crate::error::Result;
use crate::request::Definition;

#[derive(Serialize)]
struct List {
    targets: Vec<Target>,
    /// In base64.
    sources: [String; 1],
}

#[derive(Serialize)]
struct Target {
    name: String,
    #[serde(rename = "default", skip_serializing_if = "std::ops::Not::not")]
    is_default: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    base: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    location: Location,
}

pub fn answer(definition: &Definition) -> Result<Answer> {
    let dockerfile = parse(definition)?;
    let last = dockerfile.stages.len() - 1;
    let targets: Vec<Target> = dockerfile
        .stages
        .iter()
        .enumerate()
        .map(|(index, stage)| Target {
            name: stage.name().unwrap_or_default().to_owned(),
            is_default: index == last,
            description: stage.description(),
            base: stage.from.value.image.clone(),
            platform: stage.from.value.platform.clone(),
            location: stage.from.span.into(),
        })
        .collect();
    let rows: Vec<[String; 2]> = targets
        .iter()
        .map(|target| {
            let name = match (target.name.as_str(), target.is_default) {
                ("", true) => "(default)".to_owned(),
                (name, true) => format!("{name} (default)"),
                (name, false) => name.to_owned(),
            };
            [name, target.description.clone().unwrap_or_default()]
        })
        .collect();
    let text = table(["TARGET", "DESCRIPTION"], &rows);
    let list = List { targets, sources: [base64(definition.text.as_bytes())] };
    Ok(Answer { json: json(&list)?, text, warnings: 0, has_error: false })
}
