//! Which events a listener wants.

use corten_api::event::EventMessage;
use corten_api::filters::Filters;

pub const NAMES: [&str; 15] = [
    "builder",
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// Filters that are called like a type of object and take its name or id.
const OBJECTS: [&str; 10] =
    ["builder", "config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume"];

pub fn matches(event: &EventMessage, filters: &Filters) -> bool {
    if filters.is_empty() {
        return true;
    }
    let attribute = |name: &str| event.actor.attributes.get(name).map(String::as_str);
    filters.exact("type", &event.kind)
        && filters.exact("scope", &event.scope)
        && filters.any("event", |wish| event.action == wish || event.action.split(':').next() == Some(wish))
        && filters.labels(attribute)
        && matches_image(event, filters)
        && OBJECTS.iter().all(|kind| {
            filters.any(kind, |wish| {
                let name = attribute("name").unwrap_or_default();
                event.kind == *kind && (event.actor.id.starts_with(wish) || name.starts_with(wish))
            })
        })
}

/// An image by id or name, with its tag or without; also the image of a container.
fn matches_image(event: &EventMessage, filters: &Filters) -> bool {
    let attribute = if event.kind == "image" { "name" } else { "image" };
    let name = event.actor.attributes.get(attribute).map(String::as_str).unwrap_or_default();
    let id = event.actor.id.as_str();
    filters.any("image", |wish| [id, name, without_tag(id), without_tag(name)].contains(&wish))
}

/// A name without its tag; of a name with a registry's port only what stands after the last slash can be one.
fn without_tag(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    let last = name.rfind('/').map_or(0, |at| at + 1);
    name[last..].find(':').map_or(name, |at| &name[..last + at])
}
