//! A volume as a tar archive: its files with owners, modes, times, links and attributes, its root directory among them.

use std::io::BufRead;
use std::path::Path;

use corten_api::Timestamp;
use corten_api::volume::{Volume, VolumeCreateRequest};
use corten_image::files::{self, Output, PackError, Source, UnpackOptions};

use super::OpenVolume;
use crate::Engine;
use crate::error::{Error, Result};
use crate::image::{apart, blocking};
use crate::volume::VolumeRecord;

/// A volume on its way out, held as long as that takes.
pub struct VolumeExport {
    name: String,
    open: OpenVolume,
}

impl VolumeExport {
    pub async fn write_to(self, mut output: impl Output + Send + 'static) -> Result<()> {
        apart("export", move || {
            let failed = |why: String| Error::internal(format!("export volume {}: {why}", self.name));
            let (source, _) = Source::find(&self.open, "/").map_err(|e| failed(e.to_string()))?;
            let packed = files::pack(source.named("."), &mut output);
            let packed = packed.and_then(|()| output.flush().map_err(PackError::Write));
            packed.map_err(|error| failed(in_full(&error)))
        })
        .await
    }
}

impl Engine {
    /// Gets at all files of a volume.
    pub async fn volume_export(&self, name: &str) -> Result<VolumeExport> {
        let (engine, name) = (self.clone(), name.to_owned());
        blocking(move || Ok(VolumeExport { open: engine.open_volume(&name)?, name })).await
    }

    /// Makes a volume of an archive, all of it or nothing; the archive may be compressed.
    pub async fn volume_import(
        &self,
        request: VolumeCreateRequest,
        archive: impl BufRead + Send + 'static,
    ) -> Result<Volume> {
        let engine = self.clone();
        let volume = apart("import", move || engine.import_volume(request, archive)).await?;
        self.volume_event(&volume.name, "create", &[("driver", "local")]);
        Ok(volume)
    }

    fn import_volume(&self, request: VolumeCreateRequest, archive: impl BufRead + Send) -> Result<Volume> {
        let name = request.name.clone();
        let record = VolumeRecord {
            name: request.name,
            created: Timestamp::now(),
            labels: request.labels,
            anonymous: false,
            options: request.driver_opts,
            renamed_from: None,
            project: None,
        };
        record.check_importable()?;
        let staged = self.volumes.stage(&name)?;
        let archive = corten_image::compression::decompressed(archive)
            .map_err(|e| Error::invalid(format!("import volume {name}: cannot read the archive: {e}")))?;
        let archive = std::cell::RefCell::new(Some(archive));
        let project = self.fill_staged(&staged, &record, &|into: &Path| {
            let Some(archive) = archive.borrow_mut().take() else { return Ok(()) };
            let root = std::fs::File::open(into).map_err(|e| Error::io("open", into, e))?;
            let options = UnpackOptions { own_entry: true, ..UnpackOptions::default() };
            files::unpack(&root, b"/", files::Plain(archive), &options)
                .map_err(|error| Error::invalid(format!("import volume {name}: {}", in_full(&error))))
        })?;
        staged.finish(VolumeRecord { project, ..record })
    }
}

fn in_full(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
