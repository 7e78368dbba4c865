//! Lists of manifests that are not pushed yet: a directory each below `<config>/manifests`, with a file per image. The files are those of
//! Docker's client.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use corten_api::base64;
use corten_image::Reference;
use corten_image::manifest::{Descriptor, media};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cli::{Context, Failure};
use crate::contexts::write;
use crate::format::json;

/// One platform's image of a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Where it is from.
    #[serde(rename = "Ref")]
    pub name: String,
    #[serde(rename = "Descriptor")]
    pub descriptor: Descriptor,
    /// The manifest's bytes, in base64.
    #[serde(rename = "Raw")]
    raw: String,
    /// The manifest for people to read.
    #[serde(flatten)]
    shown: Shown,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Shown {
    #[serde(rename = "OCIManifest")]
    Oci(Value),
    #[serde(rename = "SchemaV2Manifest")]
    Docker(Value),
}

impl Member {
    pub fn new(name: &Reference, descriptor: Descriptor, bytes: &[u8]) -> Result<Member, Failure> {
        let shown = serde_json::from_slice(bytes)
            .map_err(|error| Failure::new(error.to_string()).while_doing(name.familiar()))?;
        let shown = match descriptor.media_type.as_str() {
            media::DOCKER_MANIFEST => Shown::Docker(shown),
            _ => Shown::Oci(shown),
        };
        Ok(Member { name: whole(name), descriptor, raw: base64::encode(bytes), shown })
    }

    /// The manifest as the registry had it.
    pub fn bytes(&self) -> Result<Vec<u8>, Failure> {
        let bytes = base64::decode(&self.raw)
            .filter(|bytes| corten_image::Digest::of(bytes) == self.descriptor.digest);
        bytes.ok_or_else(|| Failure::new(format!("the manifest that was kept of {} is damaged", self.name)))
    }

    /// The manifest for people to read.
    pub fn shown(&self) -> &Value {
        let (Shown::Oci(shown) | Shown::Docker(shown)) = &self.shown;
        shown
    }
}

/// The document that stands for some images, as it is pushed, with its media type.
pub fn document(members: &[Member]) -> (&'static str, String) {
    let is_oci = members.iter().any(|member| member.descriptor.media_type == media::OCI_MANIFEST);
    let media_type = if is_oci { media::OCI_INDEX } else { media::DOCKER_INDEX };
    let entry = |member: &Member| {
        let Descriptor { media_type, digest, size, platform, .. } = &member.descriptor;
        let mut entry = json!({"mediaType": media_type, "size": size, "digest": digest});
        if let Some(platform) = platform {
            entry["platform"] = json!(platform);
        }
        entry
    };
    let manifests: Vec<Value> = members.iter().map(entry).collect();
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    (media_type, json::indent_by("   ", &index.to_string()))
}

/// All lists of a user.
pub struct Lists(PathBuf);

impl Lists {
    pub fn of(context: &Context) -> Result<Lists, Failure> {
        Ok(Lists(context.contexts()?.directory().join("manifests")))
    }

    /// A list's images by their names; none when there is no such list.
    pub fn get(&self, list: &Reference) -> Result<Option<Vec<Member>>, Failure> {
        let directory = self.directory(list);
        let failed = |error: std::io::Error| Failure::from(error).while_doing(directory.display());
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
        let mut paths = paths.map_err(failed)?;
        paths.sort();
        paths
            .iter()
            .filter(|path| !is_unfinished(path))
            .map(|path| read(path))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// An image of a list.
    pub fn member(&self, list: &Reference, image: &Reference) -> Result<Option<Member>, Failure> {
        let path = self.directory(list).join(file_name(image));
        path.exists().then(|| read(&path)).transpose()
    }

    /// Puts an image into a list, which comes to be with the first.
    pub fn put(&self, list: &Reference, image: &Reference, member: &Member) -> Result<(), Failure> {
        let content = json!(member).to_string();
        Ok(write(&self.directory(list).join(file_name(image)), content.as_bytes(), 0o644)?)
    }

    /// Forgets a list; false when there is none.
    pub fn remove(&self, list: &Reference) -> Result<bool, Failure> {
        let directory = self.directory(list);
        match fs::remove_dir_all(&directory) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Failure::from(error).while_doing(directory.display())),
        }
    }

    fn directory(&self, list: &Reference) -> PathBuf {
        self.0.join(file_name(list))
    }
}

/// What a killed process was writing.
fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let number = name.strip_suffix(".new").and_then(|name| name.rsplit_once('.'));
    number.is_some_and(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn read(path: &Path) -> Result<Member, Failure> {
    let text = fs::read(path).map_err(|error| Failure::from(error).while_doing(path.display()))?;
    serde_json::from_slice(&text).map_err(|error| Failure::new(error.to_string()).while_doing(path.display()))
}

/// `docker.io/library/busybox:latest`.
fn whole(name: &Reference) -> String {
    match (name.tag(), name.digest()) {
        (_, Some(digest)) => format!("{}@{digest}", name.name()),
        (Some(tag), None) => format!("{}:{tag}", name.name()),
        (None, None) => name.name(),
    }
}

fn file_name(name: &Reference) -> String {
    whole(name).replace(':', "-").replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_as_docker_s_client_calls_them() {
        let name = |text: &str| file_name(&Reference::parse(text).unwrap());
        assert_eq!(name("busybox"), "docker.io_library_busybox-latest");
        assert!(is_unfinished(Path::new("/a/x-1.42.new")) && !is_unfinished(Path::new("/a/x-1.new")));
        assert_eq!(name("127.0.0.1:5000/team/list:1"), "127.0.0.1-5000_team_list-1");
    }
}
