//! Looking at contexts: `ls`, `inspect`, `show`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::{Context, Failure, Outcome, Verb};
use crate::contexts::{DEFAULT, Meta, Metadata, Store};
use crate::format::json;
use crate::format::listing::{self, Columns};
use crate::format::template::Value;
use crate::output;

const DEFAULT_DESCRIPTION: &str = "Current DOCKER_HOST based configuration";
/// Where the context is that nobody made.
const IN_MEMORY: &str = "<IN MEMORY>";

#[derive(Clone, Debug, clap::Args)]
pub struct Ls {
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go TEMPLATE
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
    /// Only show context names
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Ls {
    const ABOUT: &'static str = "List contexts";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        let current = context.name();
        let mut rows = vec![row(&current, DEFAULT, DEFAULT_DESCRIPTION, &context.default_host(), "")];
        let mut found = false;
        for meta in context.contexts()?.list()? {
            match meta {
                Ok(meta) => {
                    found |= meta.name == current;
                    rows.push(row(&current, &meta.name, &meta.metadata.description, meta.host(), ""));
                }
                Err(error) => output::say!("corten: {error}"),
            }
        }
        if current != DEFAULT && !found {
            let error = "context not found; `corten context use default` goes back to the default one";
            rows.push(row(&current, &current, "", "", error));
        }
        let columns = Columns {
            table: "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}"
                .to_owned(),
            quiet: "{{.Name}}",
            titles: &[
                ("Description", "DESCRIPTION"),
                ("DockerEndpoint", "DOCKER ENDPOINT"),
                ("Error", "ERROR"),
                ("Name", "NAME"),
            ],
        };
        // Names only, whatever the format says, as with Docker.
        let format = if self.quiet { "" } else { &self.format };
        output::print(&listing::render(format, self.quiet, &columns, &rows)?)?;
        if self.format.is_empty() && !self.quiet {
            warn_of_environment(context);
        }
        Ok(0)
    }
}

fn row(current: &str, name: &str, description: &str, endpoint: &str, error: &str) -> Value {
    Value::row([
        ("Current", Value::Bool(name == current)),
        ("Description", description.into()),
        ("DockerEndpoint", endpoint.into()),
        ("Error", error.into()),
        ("Name", name.into()),
    ])
}

/// The environment wins over what `context use` has chosen.
pub(super) fn warn_of_environment(context: &Context) {
    let chosen = context.contexts().ok().and_then(|store| store.current());
    if let (Some((variable, _)), Some(name)) = (context.host_of_environment(), chosen) {
        output::say!(
            "Warning: {variable} environment variable overrides the active context. To use \"{name}\", either set the \
             global --context flag, or unset {variable} environment variable."
        );
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Show {}

impl Verb for Show {
    const ABOUT: &'static str = "Print the name of the current context";
    const USAGE: &'static str = "";

    fn run(self, context: &Context) -> Outcome {
        let name = context.name();
        if name != DEFAULT {
            context.contexts()?.get(&name)?;
        }
        output::print(&format!("{name}\n"))?;
        Ok(0)
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Inspect {
    /// Format output: 'json' or a Go TEMPLATE
    #[arg(short, long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
    /// Names of contexts; the current one if there are none
    #[arg(value_name = "CONTEXT")]
    names: Vec<String>,
}

impl Verb for Inspect {
    const ABOUT: &'static str = "Display detailed information on one or more contexts";
    const USAGE: &'static str = "[OPTIONS] [CONTEXT] [CONTEXT...]";

    fn run(self, context: &Context) -> Outcome {
        let names = if self.names.is_empty() { vec![context.name()] } else { self.names };
        let store = context.contexts()?;
        let (mut found, mut failures) = (Vec::new(), Vec::<Failure>::new());
        for name in &names {
            match describe(context, &store, name) {
                Ok(description) => found.push(description),
                Err(failure) => failures.push(failure),
            }
        }
        if self.format.is_empty() {
            let text = serde_json::to_string(&found).map_err(|e| Failure::new(e.to_string()))?;
            // As Go writes JSON.
            let text = text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
            output::line(&json::indent(&text))?;
        } else {
            for description in found {
                let value = Value::from_serialize(&description).map_err(|e| Failure::new(e.to_string()))?;
                output::print(&listing::render_one(&self.format, &value)?)?;
            }
        }
        match failures.into_iter().next() {
            Some(failure) => Err(failure),
            None => Ok(0),
        }
    }
}

/// A context as `inspect` shows it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Description {
    name: String,
    metadata: Metadata,
    endpoints: BTreeMap<String, serde_json::Value>,
    #[serde(rename = "TLSMaterial")]
    tls_material: BTreeMap<&'static str, Vec<&'static str>>,
    storage: Storage,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Storage {
    metadata_path: String,
    #[serde(rename = "TLSPath")]
    tls_path: String,
}

fn describe(context: &Context, store: &Store, name: &str) -> Result<Description, Failure> {
    let mut tls_material = BTreeMap::new();
    let (meta, storage) = if name == DEFAULT {
        let meta = Meta::new(DEFAULT, "", &context.default_host(), false);
        (meta, Storage { metadata_path: IN_MEMORY.to_owned(), tls_path: IN_MEMORY.to_owned() })
    } else {
        let meta = store.get(name)?;
        let files = store.tls(name)?.names();
        if !files.is_empty() {
            tls_material.insert("docker", files);
        }
        let (directory, tls) = store.directories(name);
        let (metadata_path, tls_path) = (directory.display().to_string(), tls.display().to_string());
        (meta, Storage { metadata_path, tls_path })
    };
    let Meta { name, metadata, endpoints } = meta;
    Ok(Description { name, metadata, endpoints, tls_material, storage })
}
