//! What of a build is written down for programs: `--iidfile` and `--metadata-file`, with the keys that buildx uses.

use std::path::Path;

use corten_api::build::BuildImage;
use serde_json::json;

use crate::cli::Failure;
use crate::commands::archive::Target;

pub fn write(path: &Path, image: &BuildImage) -> Result<(), Failure> {
    let mut document = json!({});
    if !image.digest.is_empty() {
        document = json!({
            "containerimage.descriptor": {
                "mediaType": image.media_type,
                "digest": image.digest,
                "size": image.size,
            },
            "containerimage.digest": image.digest,
        });
    }
    if !image.id.is_empty() {
        document["containerimage.config.digest"] = image.id.as_str().into();
    }
    if !image.names.is_empty() {
        document["image.name"] = image.names.join(",").into();
    }
    let text = serde_json::to_string_pretty(&document)
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
    put(path, &format!("{text}\n"))
}

/// Writes a file that is there whole, or as it was.
pub fn put(path: &Path, text: &str) -> Result<(), Failure> {
    let target = Target::open(Some(path))?;
    target.write(text.as_bytes())?;
    target.finish()
}
