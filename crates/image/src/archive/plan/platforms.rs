//! The platforms of an image of an archive: which there are, which one becomes the image, and what is kept of the others.

use super::{Content, DEPTH_MAX, LoadError, Planner, blob_row, check_size, document, missing, or};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Document, Index, Manifest, media};
use crate::metadata::{BlobRow, DocumentRow, NewImage};
use crate::platform::Platform;

pub(super) struct Candidate {
    pub descriptor: Descriptor,
    pub bytes: Vec<u8>,
    pub manifest: Box<Manifest>,
}

/// What else belongs to an index.
#[derive(Default)]
pub(super) struct Extras {
    indexes: Vec<DocumentRow>,
    attestations: Vec<(Descriptor, Vec<u8>)>,
}

impl Planner<'_> {
    /// Collects the image manifests below a descriptor, and the rest of its indexes.
    pub(super) fn candidates(
        &self,
        descriptor: &Descriptor,
        candidates: &mut Vec<Candidate>,
        extras: &mut Extras,
        depth: usize,
    ) -> Result<(), LoadError> {
        if depth > DEPTH_MAX {
            return Err(LoadError::Nesting(descriptor.digest));
        }
        let Some(bytes) = self.document_bytes(descriptor)? else {
            // A sparse index lists platforms whose content stayed elsewhere.
            return if depth > 0 { Ok(()) } else { Err(missing(descriptor)) };
        };
        if descriptor.is_attestation() {
            extras.attestations.push((descriptor.clone(), bytes));
            return Ok(());
        }
        match Document::parse(&bytes, &descriptor.media_type)? {
            Document::Manifest(manifest) => {
                candidates.push(Candidate { descriptor: descriptor.clone(), bytes, manifest });
            }
            Document::Index(Index { manifests, .. }) => {
                let media_type = or(&descriptor.media_type, media::OCI_INDEX);
                extras.indexes.push(document(media_type, bytes));
                for below in &manifests {
                    self.candidates(below, candidates, extras, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    /// Leaves the manifests that suit the wanted platforms best, one each, and what is said of them.
    pub(super) fn keep_wanted(
        &self,
        shown: &str,
        candidates: &mut Vec<Candidate>,
        extras: &mut Extras,
    ) -> Result<(), LoadError> {
        if self.options.platforms.is_empty() {
            return Ok(());
        }
        let mut kept = Vec::new();
        for wanted in &self.options.platforms {
            let best = self.best(candidates, wanted)?;
            let missing =
                || LoadError::Platform { image: shown.to_owned(), platform: Box::new(wanted.clone()) };
            kept.push(best.ok_or_else(missing)?.descriptor.digest);
        }
        candidates.retain(|candidate| kept.contains(&candidate.descriptor.digest));
        extras.attestations.retain(|(descriptor, _)| {
            descriptor.attestation_subject().is_none_or(|subject| kept.contains(&subject))
        });
        Ok(())
    }

    /// The manifest that becomes the image: what its name stands for here already, else what this host runs, else the first that is whole.
    pub(super) fn choose<'c>(
        &self,
        shown: &str,
        candidates: &'c [Candidate],
        known: Option<Digest>,
    ) -> Result<&'c Candidate, LoadError> {
        if let Some(known) =
            candidates.iter().find(|candidate| Some(candidate.manifest.config.digest) == known)
        {
            return Ok(known);
        }
        if let [only] = candidates {
            return Ok(only);
        }
        if let Some(best) = self.best(candidates, &Platform::host())? {
            return Ok(best);
        }
        for candidate in candidates {
            if self.is_whole(&candidate.manifest)? {
                return Ok(candidate);
            }
        }
        let platform = Box::new(Platform::host());
        Err(LoadError::Platform { image: shown.to_owned(), platform })
    }

    fn best<'c>(
        &self,
        candidates: &'c [Candidate],
        wanted: &Platform,
    ) -> Result<Option<&'c Candidate>, LoadError> {
        let mut best: Option<(u32, &Candidate)> = None;
        for candidate in candidates {
            let platform = match &candidate.descriptor.platform {
                Some(platform) => platform.clone(),
                None => match self.config_of(&candidate.manifest)? {
                    Some((_, config)) => config.platform(),
                    None => continue,
                },
            };
            if let Some(fitness) = platform.fitness(wanted)
                && best.is_none_or(|(best, _)| fitness < best)
                && self.is_whole(&candidate.manifest)?
            {
                best = Some((fitness, candidate));
            }
        }
        Ok(best.map(|(_, candidate)| candidate))
    }

    /// Whether the archive or the store has all that a manifest names. A sparse index names what stayed elsewhere.
    fn is_whole(&self, manifest: &Manifest) -> Result<bool, LoadError> {
        for descriptor in manifest.layers.iter().chain([&manifest.config]) {
            // A layer that is not compressed may have come compressed before.
            let is_here = self.content(&descriptor.digest).is_some()
                || self.known.document(&descriptor.digest)?.is_some()
                || self.known.blob(&descriptor.digest)?.is_some()
                || self.known.layer(&descriptor.digest)?.is_some();
            if !is_here {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Keeps another platform's image as it came, so that the index stays whole; it is not unpacked.
    pub(super) fn keep_platform(&self, other: &Candidate, new: &mut NewImage) -> Result<(), LoadError> {
        let media_type = or(&other.descriptor.media_type, media::OCI_MANIFEST);
        self.charge(other.bytes.len())?;
        new.documents.push(document(media_type, other.bytes.clone()));
        self.keep_blobs(&other.manifest, new)
    }

    pub(super) fn keep_extras(&self, extras: Extras, new: &mut NewImage) -> Result<(), LoadError> {
        new.documents.extend(extras.indexes);
        for (descriptor, bytes) in extras.attestations {
            let manifest = match Document::parse(&bytes, &descriptor.media_type) {
                Ok(Document::Manifest(manifest)) => Some(manifest),
                _ => None,
            };
            new.documents.push(document(or(&descriptor.media_type, media::OCI_MANIFEST), bytes));
            if let Some(manifest) = manifest {
                self.keep_blobs(&manifest, new)?;
            }
        }
        Ok(())
    }

    fn keep_blobs(&self, manifest: &Manifest, new: &mut NewImage) -> Result<(), LoadError> {
        for descriptor in manifest.layers.iter().chain([&manifest.config]) {
            let Some(content) = self.content(&descriptor.digest) else { continue };
            match content {
                Content::Bytes { bytes, .. } => {
                    check_size(descriptor, bytes.len() as u64)?;
                    self.charge(bytes.len())?;
                    new.documents.push(document(&descriptor.media_type, bytes.to_vec()));
                }
                Content::Opaque { digest, size, .. } => {
                    check_size(descriptor, *size)?;
                    let media_type = descriptor.media_type.clone();
                    new.blobs.push(BlobRow {
                        digest: *digest,
                        media_type,
                        size: *size,
                        diff_id: None,
                        stored: true,
                    });
                }
                Content::Layer(taken) => {
                    check_size(descriptor, taken.blob_bytes)?;
                    let mut row = blob_row(taken, &descriptor.media_type);
                    if row.stored {
                        row.diff_id = None;
                    } else {
                        // A plain tar lives in its unpacked layer only.
                        new.layers.push(taken.layer);
                    }
                    new.blobs.push(row);
                }
                Content::Broken { .. } => {}
            }
        }
        Ok(())
    }
}
