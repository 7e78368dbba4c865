//! Images: what is told of them, tags, removal.

use crate::http::body::{empty, ok};
use crate::http::{Call, Reply};
use corten_api::image::{ImageInspect, ImageListOptions, ImageRemoveOptions};
use hyper::StatusCode;
use serde_json::{Value, json};

pub async fn list(call: Call) -> Reply {
    let query = &call.query;
    let mut filters = query.filters()?;
    // Until API 1.40 a pattern could stand in a parameter of its own.
    if let Some(pattern) = query.option("filter").filter(|_| !call.at_least(1, 41)) {
        filters.add("reference", pattern);
    }
    let options = ImageListOptions {
        all: query.flag("all"),
        filters,
        digests: query.flag("digests"),
        shared_size: call.at_least(1, 42) && query.flag("shared-size"),
        manifests: call.at_least(1, 47) && query.flag("manifests"),
    };
    let mut images = call.engine.image_list(&options).await?;
    for image in &mut images {
        image.virtual_size = if call.at_least(1, 44) { 0 } else { image.size };
        if !call.at_least(1, 48) {
            image.descriptor = None;
        }
    }
    Ok(ok(&images))
}

pub async fn inspect(call: Call) -> Reply {
    let mut image = call.engine.image_inspect(call.capture("name")).await?;
    image.virtual_size = if call.at_least(1, 44) { 0 } else { image.size };
    if !call.at_least(1, 48) {
        image.descriptor = None;
    }
    if call.at_least(1, 50) { Ok(ok(&image)) } else { Ok(ok(&with_full_config(&image))) }
}

/// Before API 1.50 an image's configuration was told as a container's: with all its fields, empty or not.
fn with_full_config(image: &ImageInspect) -> Value {
    let mut document = json!(image);
    if let Some(config) = document.get_mut("Config").and_then(Value::as_object_mut) {
        for name in ["AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"] {
            config.entry(name).or_insert(false.into());
        }
        for name in ["Hostname", "Domainname", "User", "Image", "WorkingDir"] {
            config.entry(name).or_insert("".into());
        }
        for name in ["Env", "Cmd", "Volumes", "Entrypoint", "OnBuild", "Labels"] {
            config.entry(name).or_insert(Value::Null);
        }
    }
    document
}

pub async fn history(call: Call) -> Reply {
    Ok(ok(&call.engine.image_history(call.capture("name")).await?))
}

pub async fn tag(call: Call) -> Reply {
    let (repo, tag) = (call.query.text("repo"), call.query.text("tag"));
    call.engine.image_tag(call.capture("name"), repo, tag).await?;
    Ok(empty(StatusCode::CREATED))
}

pub async fn remove(call: Call) -> Reply {
    let options = ImageRemoveOptions { force: call.query.flag("force"), noprune: call.query.flag("noprune") };
    Ok(ok(&call.engine.image_remove(call.capture("name"), options).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_clients_get_all_fields_of_an_images_configuration() {
        let image = ImageInspect { config: Some(Default::default()), ..Default::default() };
        let document = with_full_config(&image);
        assert_eq!(document["Config"]["Env"], Value::Null);
        assert_eq!(document["Config"]["Hostname"], "");
        assert_eq!(document["Config"]["Tty"], false);
        assert_eq!(json!(image)["Config"], json!({}));
    }
}
