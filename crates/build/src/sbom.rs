//! What an image is made of: a walk through the merged files for `corten_sbom`, which says what they tell.

use std::io;
use std::os::fd::OwnedFd;

use corten_image::Digest;
use corten_image::build::{Stack, open_file};
use corten_image::files::describe;
use corten_image::tar::Kind;
use corten_sbom::{About, Inventory, Scan};
use serde_json::Value;

use crate::attest::Predicate;
use crate::error::{Error, Result};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SbomFormat {
    /// SPDX 2.3
    #[default]
    Spdx,
    /// CycloneDX 1.6
    CycloneDx,
}

impl SbomFormat {
    pub fn parse(text: &str) -> Option<SbomFormat> {
        match text {
            "" | "spdx" => Some(SbomFormat::Spdx),
            "cyclonedx" => Some(SbomFormat::CycloneDx),
            _ => None,
        }
    }
}

/// What is installed in a tree of files; none is an empty one. Links in it are not followed.
pub fn inventory(root: Option<&OwnedFd>) -> Result<Inventory> {
    let mut scan = Scan::default();
    let Some(root) = root else { return Ok(scan.finish()) };
    let mut look = |entry: corten_image::tar::Entry| -> io::Result<()> {
        // What no tool would write as a name is not of a package manager.
        let (Kind::File, Ok(path)) = (entry.kind, std::str::from_utf8(&entry.path)) else { return Ok(()) };
        if !corten_sbom::is_wanted(path, entry.mode & 0o111 != 0, entry.size) {
            return Ok(());
        }
        match open_file(root, path.as_bytes()) {
            Ok(mut file) => scan.file(path, entry.size, &mut file),
            Err(error) => scan.note(path, &error.to_string()),
        }
        Ok(())
    };
    let walked = describe(root, &mut look);
    walked
        .map_err(|error| Error::Internal(format!("cannot look through the files for the SBOM: {error}")))?;
    Ok(scan.finish())
}

/// An inventory as a document. What tells it from others are the layers: the same ones have the same document.
pub fn document(inventory: &Inventory, format: SbomFormat, name: &str, stack: &Stack, created: i64) -> Value {
    let layers: Vec<String> = stack.ids().iter().map(ToString::to_string).collect();
    let about = About {
        name: name.to_owned(),
        digest: Digest::of(layers.join("\n").as_bytes()).hex(),
        created,
        tool: format!("corten-{}", env!("CARGO_PKG_VERSION")),
    };
    match format {
        SbomFormat::Spdx => corten_sbom::spdx(inventory, &about),
        SbomFormat::CycloneDx => corten_sbom::cyclonedx(inventory, &about),
    }
}

/// What is said of a platform's image.
pub fn predicate(content: Value, format: SbomFormat) -> Predicate {
    let (kind, file_name) = match format {
        SbomFormat::Spdx => ("https://spdx.dev/Document", "sbom.spdx.json"),
        SbomFormat::CycloneDx => ("https://cyclonedx.org/bom", "sbom.cdx.json"),
    };
    Predicate { kind, file_name, content }
}
