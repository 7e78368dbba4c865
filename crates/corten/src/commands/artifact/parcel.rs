//! Files and what is said of them, as a manifest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use corten_image::Digest;
use corten_image::digest::Hasher;
use corten_image::manifest::{Descriptor, media};
use corten_registry::Repository;
use serde_json::{Value, json};

use super::{CREATED, TITLE};
use crate::cli::Failure;
use crate::options::values::strict_key_value;

/// Of what stands where a configuration would (image specification, "Guidance for an Empty Descriptor").
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const EMPTY: &[u8] = b"{}";
const FILE_TYPE: &str = "application/octet-stream";
const UNKNOWN_TYPE: &str = "application/vnd.unknown.artifact.v1";
const PIECE_BYTES: usize = 256 << 10;

#[derive(Clone, Debug, clap::Args)]
pub struct Contents {
    /// What they are, as a media type
    #[arg(long, value_name = "TYPE", default_value = UNKNOWN_TYPE)]
    artifact_type: String,
    /// Something to be known of them
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Files, with their media types where these matter
    #[arg(value_name = "FILE[:TYPE]", required = true)]
    files: Vec<String>,
}

/// What is sent.
pub struct Parcel {
    artifact_type: String,
    annotations: BTreeMap<String, String>,
    files: Vec<(PathBuf, Descriptor)>,
}

impl Contents {
    /// Looks at the files.
    pub fn parcel(self) -> Result<Parcel, Failure> {
        if !is_media_type(&self.artifact_type) {
            return Err(Failure::new(format!("{:?} is no media type", self.artifact_type))
                .hint("it has a form such as application/vnd.example.thing.v1"));
        }
        let mut annotations = BTreeMap::new();
        for text in &self.annotation {
            let (key, value) = strict_key_value("annotation", text)?;
            annotations.insert(key, value);
        }
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        annotations.entry(CREATED.to_owned()).or_insert(now);
        let files: Vec<_> = self.files.iter().map(|text| file(text)).collect::<Result<_, _>>()?;
        let titles: BTreeMap<_, _> =
            files.iter().map(|(path, file)| (file.annotation(TITLE), path)).collect();
        if titles.len() < files.len() {
            return Err(Failure::new("two of the files have one name"));
        }
        Ok(Parcel { artifact_type: self.artifact_type, annotations, files })
    }
}

impl Parcel {
    /// Sends the files; then the manifest is all that is missing.
    pub async fn send(&self, target: &Repository) -> Result<(), Failure> {
        let empty = Descriptor::of(EMPTY_TYPE, EMPTY);
        if target.blob_exists(&empty.digest).await?.is_none() {
            let mut upload = target.upload().await?;
            upload.send(Bytes::from_static(EMPTY)).await?;
            upload.finish(&empty.digest).await?;
        }
        for (path, file) in &self.files {
            if target.blob_exists(&file.digest).await?.is_some() {
                continue;
            }
            let mut upload = target.upload().await?;
            let mut input = File::open(path).map_err(|error| failed(path, error))?;
            loop {
                let mut piece = vec![0; PIECE_BYTES];
                let count = input.read(&mut piece).map_err(|error| failed(path, error))?;
                if count == 0 {
                    break;
                }
                piece.truncate(count);
                upload.send(piece.into()).await?;
            }
            // One that has changed meanwhile is refused by the registry.
            upload
                .finish(&file.digest)
                .await
                .map_err(|error| Failure::from(error).while_doing(path.display()))?;
        }
        Ok(())
    }

    /// The manifest, and how a list of referrers shows it.
    pub fn manifest(&self, subject: Option<&Descriptor>) -> (Descriptor, Vec<u8>) {
        let mut config = json!(Descriptor::of(EMPTY_TYPE, EMPTY));
        config["data"] = json!(corten_api::base64::encode(EMPTY));
        let layers: Vec<&Descriptor> = self.files.iter().map(|(_, file)| file).collect();
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "artifactType": self.artifact_type,
            "config": config, "layers": layers,
        });
        if let Some(subject) = subject {
            manifest["subject"] = json!(subject);
        }
        manifest["annotations"] = Value::from_iter(self.annotations.clone());
        let bytes = manifest.to_string().into_bytes();
        let mut descriptor = Descriptor::of(media::OCI_MANIFEST, &bytes);
        descriptor.artifact_type = Some(self.artifact_type.clone());
        descriptor.annotations = Some(self.annotations.clone());
        (descriptor, bytes)
    }
}

/// Of `FILE` or `FILE:TYPE`; a file with a colon in its name is meant as such where it is there.
fn file(text: &str) -> Result<(PathBuf, Descriptor), Failure> {
    let typed = text
        .rsplit_once(':')
        .filter(|(path, kind)| !path.is_empty() && is_media_type(kind) && !Path::new(text).exists());
    let (path, kind) = typed.unwrap_or((text, FILE_TYPE));
    let path = PathBuf::from(path);
    let title = title(&path)?;
    let mut input = File::open(&path).map_err(|error| failed(&path, error))?;
    if !input.metadata().map_err(|error| failed(&path, error))?.is_file() {
        return Err(Failure::new(format!("{} is no file", path.display()))
            .hint("a directory goes as an archive: tar -czf DIR.tar.gz DIR"));
    }
    let (mut hasher, mut size) = (Hasher::new(), 0);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match input.read(&mut piece).map_err(|error| failed(&path, error))? {
            0 => break,
            count => {
                hasher.update(&piece[..count]);
                size += count as u64;
            }
        }
    }
    let digest: Digest = hasher.finish();
    let mut descriptor = Descriptor::new(kind, digest, size);
    descriptor.annotations = Some(BTreeMap::from([(TITLE.to_owned(), title)]));
    Ok((path, descriptor))
}

/// What a file is called by those who have it: its path below here, or its last name.
fn title(path: &Path) -> Result<String, Failure> {
    let is_below = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let name = match is_below {
        true => path.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>(),
        false => path.file_name().map(PathBuf::from).unwrap_or_default(),
    };
    let name = name.to_str().filter(|name| !name.is_empty()).map(str::to_owned);
    name.ok_or_else(|| Failure::new(format!("{} has no name that others could use", path.display())))
}

/// RFC 6838, section 4.2.
fn is_media_type(text: &str) -> bool {
    let is_name = |name: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c);
        name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() <= 127 && name.chars().all(known)
    };
    text.split_once('/').is_some_and(|(kind, name)| is_name(kind) && is_name(name))
}

fn failed(path: &Path, error: std::io::Error) -> Failure {
    Failure::from(error).while_doing(path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_names_that_others_can_use() {
        let named = |path: &str| title(Path::new(path)).ok();
        assert_eq!(named("./a/b.json").as_deref(), Some("a/b.json"));
        assert_eq!(named("/etc/passwd").as_deref(), Some("passwd"));
        assert_eq!(named("../up").as_deref(), Some("up"));
        assert_eq!(named(".."), None);
    }

    #[test]
    fn media_types() {
        assert!(is_media_type("application/vnd.cyclonedx+json"));
        for text in ["", "text", "a/b/c", "a/", "/b", "a b/c", "a/b;c=d"] {
            assert!(!is_media_type(text), "{text}");
        }
    }
}
