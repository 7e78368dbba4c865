//! What a target takes: ARGs, secrets, SSH agents and caches, of its own stage and of those that it is made from.

use serde::Serialize;

use super::{Answer, Location, json, parse, table};
use crate::base64::base64;
use crate::bases::Survey;
use crate::build::target;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::{Dockerfile, Instruction, Mount, MountType, Span, Stage};
use crate::error::{Error, Result};
use crate::request::{Definition, Options};
use crate::variables::{Args, Globals};

#[derive(Serialize)]
struct Outline {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Arg>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<Need>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<Need>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cache: Vec<Cache>,
    /// In base64.
    sources: [String; 1],
}

#[derive(Serialize)]
struct Arg {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    location: Location,
}

/// Something that the asker has: a secret, an SSH agent.
#[derive(Serialize)]
struct Need {
    name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    location: Location,
}

#[derive(Serialize)]
struct Cache {
    #[serde(rename = "ID")]
    id: String,
    location: Location,
}

pub fn answer(definition: &Definition, options: &Options) -> Result<Answer> {
    let dockerfile = parse(definition)?;
    let platform = options.first_target();
    let escape = dockerfile.directives.escape;
    let globals = Globals::new(&dockerfile.global_args, options, escape, &platform)?;
    let target = target(&dockerfile, &options.target)?;
    let stage = &dockerfile.stages[target];
    let outline = Outline {
        name: stage.name().unwrap_or_default().to_owned(),
        description: stage.description(),
        args: Vec::new(),
        secrets: Vec::new(),
        ssh: Vec::new(),
        cache: Vec::new(),
        sources: [base64(definition.text.as_bytes())],
    };
    let survey = Survey { dockerfile: &dockerfile, options, globals: &globals, platform: &platform };
    let needed = survey.needed(target);
    let mut drawing = Drawing { dockerfile: &dockerfile, options, globals, outline };
    for stage in needed.into_iter().rev().map(|index| &dockerfile.stages[index]) {
        drawing.base(stage)?;
        drawing.instructions(stage);
    }
    let mut outline = drawing.outline;
    outline.args.sort_by_key(|arg| arg.location.ranges[0].start.line);
    let text = text(&outline);
    Ok(Answer { json: json(&outline)?, text, warnings: 0, has_error: false })
}

/// An outline on its way.
struct Drawing<'s> {
    dockerfile: &'s Dockerfile,
    options: &'s Options,
    globals: Globals,
    outline: Outline,
}

impl<'s> Drawing<'s> {
    /// The ARGs in the name behind FROM.
    fn base(&mut self, stage: &Stage) -> Result<()> {
        let expander = Expander::new(self.dockerfile.directives.escape);
        let expansion = expander.word(&stage.from.value.image, &|name| self.globals.value(name));
        let expansion = expansion.map_err(|error| {
            let span = stage.from.span;
            Error::Invalid(error.to_string()).at(span.first_line as usize, span.last_line as usize)
        })?;
        let globals = self.dockerfile.global_args.iter();
        for (entry, span) in
            globals.flat_map(|arg| arg.value.entries.iter().map(move |entry| (entry, arg.span)))
        {
            if expansion.used.contains(&entry.name) {
                let value = self.globals.value(&entry.name);
                self.arg(&entry.name, entry.description.clone(), value, span);
            }
        }
        Ok(())
    }

    fn instructions(&mut self, stage: &Stage) {
        let escape = self.dockerfile.directives.escape;
        let mut args = Args::default();
        for instruction in &stage.instructions {
            let expand = |args: &Args, text: &str| {
                let expansion = Expander::new(escape).word(text, &|name| args.value(name).map(str::to_owned));
                expansion.map(|expansion| expansion.text)
            };
            match &instruction.value {
                Instruction::Arg(arg) => {
                    for entry in &arg.entries {
                        let given = self.options.build_args.get(&entry.name).cloned();
                        // One that is wrong is told of when it is built.
                        let default = entry.default.as_deref().and_then(|text| expand(&args, text).ok());
                        let value = given.or(default).or_else(|| self.globals.value(&entry.name));
                        args.declare(&entry.name, value.clone());
                        self.arg(&entry.name, entry.description.clone(), value, instruction.span);
                    }
                }
                Instruction::Run(run) => {
                    for mount in &run.mounts {
                        // One that is wrong is told of when it is built.
                        if let Ok(mount) = mount.resolve(|text| expand(&args, text)) {
                            self.mount(&mount, instruction.span);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn arg(&mut self, name: &str, description: Option<String>, value: Option<String>, span: Span) {
        if self.outline.args.iter().all(|known| known.name != name) {
            let name = name.to_owned();
            self.outline.args.push(Arg { name, description, value, location: span.into() });
        }
    }

    fn mount(&mut self, mount: &Mount, span: Span) {
        let target = mount.target.as_deref().unwrap_or_default();
        let id = mount.id.clone();
        let needs = match mount.kind {
            MountType::Secret => &mut self.outline.secrets,
            MountType::Ssh => &mut self.outline.ssh,
            MountType::Cache => {
                let id = id.unwrap_or_else(|| target.to_owned());
                if self.outline.cache.iter().all(|known| known.id != id) {
                    self.outline.cache.push(Cache { id, location: span.into() });
                }
                return;
            }
            MountType::Bind | MountType::Tmpfs => return,
        };
        let name = id.unwrap_or_else(|| match mount.kind {
            MountType::Ssh => "default".to_owned(),
            _ => target.rsplit('/').next().unwrap_or_default().to_owned(),
        });
        match needs.iter_mut().find(|known| known.name == name) {
            Some(known) => known.required |= mount.required,
            None => needs.push(Need { name, required: mount.required, location: span.into() }),
        }
    }
}

fn text(outline: &Outline) -> String {
    let mut parts = Vec::new();
    if !outline.name.is_empty() || outline.description.is_some() {
        let name = if outline.name.is_empty() { "(default)" } else { &outline.name };
        let mut head = format!("TARGET:        {name}\n");
        if let Some(description) = &outline.description {
            head.push_str(&format!("DESCRIPTION:   {description}\n"));
        }
        parts.push(head);
    }
    if !outline.args.is_empty() {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let row = |arg: &Arg| [arg.name.clone(), text(&arg.value), text(&arg.description)];
        let rows: Vec<_> = outline.args.iter().map(row).collect();
        parts.push(table(["BUILD ARG", "VALUE", "DESCRIPTION"], &rows));
    }
    for (title, needs) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !needs.is_empty() {
            let required = |need: &Need| if need.required { "true" } else { "" }.to_owned();
            let rows: Vec<_> = needs.iter().map(|need| [need.name.clone(), required(need)]).collect();
            parts.push(table([title, "REQUIRED"], &rows));
        }
    }
    if !outline.cache.is_empty() {
        let rows: Vec<_> = outline.cache.iter().map(|cache| [cache.id.clone()]).collect();
        parts.push(table(["CACHE MOUNT"], &rows));
    }
    parts.join("\n")
}
