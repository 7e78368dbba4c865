//! Images, as older clients know them.

use super::{knows, within};
use crate::http::ApiVersion;
use corten_api::container::ContainerConfig;
use corten_api::image::{ImageInspect, ImageSummary};
use serde_json::{Value, json};

/// Always there until 1.51.
const IMAGE_TEXTS: [&str; 4] = ["Parent", "Comment", "DockerVersion", "Author"];
/// Of an image's configuration, empty or not, until 1.51.
const CONFIG_TEXTS: [&str; 2] = ["User", "WorkingDir"];
const CONFIG_LISTS: [&str; 6] = ["Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "Volumes"];
/// Until 1.49 it was told as a container's configuration, though these mean nothing for an image.
const CONTAINER_FLAGS: [&str; 6] =
    ["AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"];
const CONTAINER_TEXTS: [&str; 3] = ["Hostname", "Domainname", "Image"];

pub fn list(images: &mut [ImageSummary], version: ApiVersion) {
    for image in images {
        if !knows(version, 43) && image.repo_tags.is_empty() && image.repo_digests.is_empty() {
            image.repo_tags = vec!["<none>:<none>".to_owned()].into();
            image.repo_digests = vec!["<none>@<none>".to_owned()].into();
        }
        image.virtual_size = if knows(version, 44) { 0 } else { image.size };
        if !knows(version, 48) {
            image.descriptor = None;
        }
        if !knows(version, 51) {
            image.containers = -1;
        }
    }
}

pub fn inspect(mut image: ImageInspect, version: ApiVersion) -> Value {
    image.virtual_size = if knows(version, 44) { 0 } else { image.size };
    if !knows(version, 48) {
        image.descriptor = None;
    }
    let mut document = json!(image);
    if !knows(version, 53) {
        document.as_object_mut().map(|fields| fields.shift_remove("Identity"));
    }
    if knows(version, 52) {
        return document;
    }
    for name in IMAGE_TEXTS {
        if document.get(name).is_none() {
            document[name] = "".into();
        }
    }
    within(&mut document, "Config", |config| {
        for name in CONFIG_TEXTS {
            config.entry(name).or_insert("".into());
        }
        for name in CONFIG_LISTS {
            config.entry(name).or_insert(Value::Null);
        }
        if !knows(version, 50) {
            for name in CONTAINER_FLAGS {
                config.entry(name).or_insert(false.into());
            }
            for name in CONTAINER_TEXTS {
                config.entry(name).or_insert("".into());
            }
        }
    });
    if !knows(version, 45) {
        document["Container"] = "".into();
        document["ContainerConfig"] = json!(ContainerConfig::default());
    }
    if !knows(version, 44) && document.get("Created").is_none() {
        document["Created"] = "0001-01-01T00:00:00Z".into();
    }
    document
}
