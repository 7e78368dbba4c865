//! What a log says of its container besides the output: labels, variables and a tag, as the options ask for.

use std::collections::BTreeMap;

use corten_template::{Template, Value};
use regex_lite::Regex;

use super::{Options, Source};
use crate::error::{Error, Result};
use crate::id;

/// The tag of the drivers that always have one.
const DEFAULT_TAG: &str = "{{.ID}}";

/// Refuses expressions and templates that can't be read.
pub fn check(options: &Options) -> Result<()> {
    for name in ["labels-regex", "env-regex"] {
        expression(options, name)?;
    }
    let tag = options.get("tag").map_or("", String::as_str);
    Template::parse(tag).map(drop).map_err(|e| Error::invalid(format!("log-tag: {e}")))
}

fn expression(options: &Options, name: &str) -> Result<Option<Regex>> {
    let Some(text) = options.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    let parsed = Regex::new(text);
    parsed.map(Some).map_err(|e| Error::invalid(format!("error parsing regexp of log opt '{name}': {e}")))
}

/// Labels and variables under the names that `rename` gives them.
pub fn extra(source: &Source<'_>, rename: impl Fn(&str) -> String) -> Result<BTreeMap<String, String>> {
    let record = source.record;
    let options = &*record.host_config.log_config.config;
    let labels = record.config.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let variables = record.config.env.iter().filter_map(|entry| entry.split_once('='));
    let mut found = BTreeMap::new();
    select(options, ["labels", "labels-regex"], labels, &rename, &mut found)?;
    select(options, ["env", "env-regex"], variables, &rename, &mut found)?;
    Ok(found)
}

fn select<'a>(
    options: &Options,
    [list, regex]: [&str; 2],
    entries: impl Iterator<Item = (&'a str, &'a str)>,
    rename: &impl Fn(&str) -> String,
    found: &mut BTreeMap<String, String>,
) -> Result<()> {
    let named: Vec<&str> = options.get(list).map(|names| names.split(',').collect()).unwrap_or_default();
    let expression = expression(options, regex)?;
    for (name, value) in entries {
        if named.contains(&name) || expression.as_ref().is_some_and(|expression| expression.is_match(name)) {
            found.insert(rename(name), value.to_owned());
        }
    }
    Ok(())
}

/// The tag, by the template of the options or the one of the drivers that always have a tag.
pub fn tag(source: &Source<'_>) -> Result<String> {
    let own = own_tag(source)?;
    own.map_or_else(|| render(source, DEFAULT_TAG), Ok)
}

fn own_tag(source: &Source<'_>) -> Result<Option<String>> {
    let options = &source.record.host_config.log_config.config;
    options.get("tag").filter(|tag| !tag.is_empty()).map(|tag| render(source, tag)).transpose()
}

/// What a reader of the log is told with `details`, and a `json-file` says in every line.
fn attributes(source: &Source<'_>) -> Result<BTreeMap<String, String>> {
    let mut all = extra(source, str::to_owned)?;
    if let Some(tag) = own_tag(source)?.filter(|tag| !tag.is_empty()) {
        all.insert("tag".to_owned(), tag);
    }
    Ok(all)
}

/// The attributes as a JSON object; empty when there are none.
pub fn json(source: &Source<'_>) -> Result<String> {
    let all = attributes(source)?;
    if all.is_empty() {
        return Ok(String::new());
    }
    let text = serde_json::to_string(&all).map_err(|e| Error::internal(format!("log attributes: {e}")))?;
    // As Go writes JSON.
    Ok(text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"))
}

/// The attributes as `logs --details` shows them: `a=1,b=2`, escaped as in a URL's query.
pub fn details(source: &Source<'_>) -> Result<String> {
    let pairs =
        attributes(source)?.into_iter().map(|(name, value)| format!("{}={}", query(&name), query(&value)));
    Ok(pairs.collect::<Vec<_>>().join(","))
}

fn query(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

/// The program with its arguments, as one text.
pub fn command(source: &Source<'_>) -> String {
    crate::container::arguments(&source.record.config).unwrap_or_default().join(" ")
}

fn render(source: &Source<'_>, template: &str) -> Result<String> {
    let wrong = |e: corten_template::TemplateError| Error::invalid(format!("log-tag: {e}"));
    Template::parse(template).map_err(wrong)?.render(&data(source)).map_err(wrong)
}

/// What a tag's template can name.
fn data(source: &Source<'_>) -> Value {
    let record = source.record;
    let text = |text: &str| Value::Text(text.to_owned());
    let map = |entries: &BTreeMap<String, String>| {
        Value::map(entries.iter().map(|(name, value)| (name.clone(), text(value))))
    };
    let args = crate::container::arguments(&record.config).unwrap_or_default();
    let bare = record.image_id.split_once(':').map_or(record.image_id.as_str(), |(_, digits)| digits);
    let list = |items: &[String]| Value::List(items.iter().map(|item| text(item)).collect());
    let fields = [
        ("ID", text(id::short(&record.id))),
        ("FullID", text(&record.id)),
        ("Name", text(&record.name)),
        ("ImageID", text(id::short(bare))),
        ("ImageFullID", text(&record.image_id)),
        ("ImageName", text(&record.config.image)),
        ("Hostname", text(source.host)),
        ("Command", text(&args.join(" "))),
        ("DaemonName", text("corten")),
        ("ContainerID", text(&record.id)),
        ("ContainerName", text(&format!("/{}", record.name))),
        ("ContainerEntrypoint", text(args.first().map_or("", String::as_str))),
        ("ContainerArgs", list(args.get(1..).unwrap_or_default())),
        ("ContainerImageID", text(&record.image_id)),
        ("ContainerImageName", text(&record.config.image)),
        ("ContainerCreated", text(&record.created.to_string())),
        ("ContainerEnv", list(&record.config.env)),
        ("ContainerLabels", map(&record.config.labels)),
        ("Config", map(&record.host_config.log_config.config)),
    ];
    Value::row(fields)
}
