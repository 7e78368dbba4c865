//! Importing a root file system tarball as an image of one layer: `docker import`.

use std::io::{self, Read};
use std::sync::Arc;
use std::thread;

use crate::archive::{Feed, Progress, feed_pipe, plain_blob};
use crate::catalogue::Image;
use crate::changes::{self, ChangeError};
use crate::compression::{Compression, UnsupportedCompression, peek};
use crate::config::{History, ImageConfig, RunConfig};
use crate::error::{Error, ErrorKind};
use crate::layer::{ImportOptions as LayerOptions, ImportedLayer, LayerError};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{Composition, Session, Store, layer_row};

/// How often progress is reported.
const REPORT_BYTES: u64 = 4 << 20;

#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The image's name; without it only the ID leads to it.
    pub reference: Option<String>,
    /// The comment in the history; `Imported from -` when empty.
    pub message: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// The host's by default.
    pub platform: Option<Platform>,
}

/// Why a tarball did not become an image. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("cannot read the tarball")]
    Read(#[source] io::Error),
    #[error("the tarball is {0}")]
    Compression(#[from] UnsupportedCompression),
    #[error("the tarball is empty")]
    Empty,
    #[error("cannot decompress the tarball")]
    Decompress(#[source] io::Error),
    #[error("cannot import the tarball")]
    Layer(#[source] LayerError),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

impl ImportError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            ImportError::Read(_)
            | ImportError::Thread(_)
            | ImportError::Layer(LayerError::NoSpace { .. } | LayerError::Write { .. }) => {
                ErrorKind::Internal
            }
            _ => ErrorKind::InvalidParameter,
        }
    }
}

impl Store {
    /// Makes an image of a tarball, compressed or not.
    pub fn import(
        &self,
        reader: &mut dyn Read,
        options: &ImportOptions,
        progress: &dyn Fn(Progress),
    ) -> Result<Arc<Image>, Error> {
        let reference = options.reference.as_deref().map(Reference::parse).transpose()?;
        if reference.as_ref().is_some_and(|name| name.digest().is_some()) {
            return Err(Error::TagByDigest);
        }
        let mut run = RunConfig::default();
        changes::apply(&mut run, &options.changes).map_err(ImportError::from)?;
        let session = self.session();
        let layer = self.import_stream(&session, reader, progress)?;
        let comment = if options.message.is_empty() { "Imported from -" } else { &options.message };
        let history = History { comment: comment.to_owned(), ..History::default() };
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        self.add_single(&layer, run, history, &platform, reference.as_ref())
    }

    fn import_stream(
        &self,
        session: &Session<'_>,
        reader: &mut dyn Read,
        progress: &dyn Fn(Progress),
    ) -> Result<ImportedLayer, ImportError> {
        let (head, whole) = peek(reader, 6).map_err(ImportError::Read)?;
        if head.is_empty() {
            return Err(ImportError::Empty);
        }
        let compression = Compression::detect(&head)?;
        let read_error =
            if compression == Compression::None { ImportError::Read } else { ImportError::Decompress };
        let mut plain = compression.reader(whole).map_err(ImportError::Read)?;
        self.import_fed(session, |feed| {
            let mut state = Progress { object: "Importing".to_owned(), current_bytes: 0, total_bytes: 0 };
            let mut reported_bytes = 0;
            loop {
                let count = feed.fill(&mut plain, u64::MAX).map_err(read_error)?;
                state.current_bytes += count as u64;
                if state.current_bytes - reported_bytes >= REPORT_BYTES
                    || (count == 0 && state.current_bytes > 0)
                {
                    reported_bytes = state.current_bytes;
                    progress(state.clone());
                }
                if count == 0 || feed.is_broken() {
                    return Ok(());
                }
            }
        })
    }

    /// Imports one layer on a thread of its own while `produce` fills the pipe on this one.
    pub(crate) fn import_fed<E>(
        &self,
        session: &Session<'_>,
        produce: impl FnOnce(&mut Feed) -> Result<(), E>,
    ) -> Result<ImportedLayer, E>
    where
        E: From<ImportError>,
    {
        let (mut feed, mut pipe) = feed_pipe();
        let options = LayerOptions { limits: self.limits.layer, expected: None };
        let (produced, imported) = thread::scope(|scope| {
            let importer = thread::Builder::new()
                .name("layer-import".to_owned())
                .spawn_scoped(scope, move || self.layers.import(&mut pipe, &options, &|_| {}))
                .map_err(|error| E::from(ImportError::Thread(error)))?;
            let produced = produce(&mut feed);
            match &produced {
                Ok(()) => feed.finish(),
                Err(_) => drop(feed),
            }
            let imported = importer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok::<_, E>((produced, imported))
        })?;
        if let Ok(layer) = &imported {
            session.brought_layer(layer.id);
        }
        // A producer that failed is why the importer failed.
        produced?;
        imported.map_err(|error| ImportError::Layer(error).into())
    }

    /// Adds an image that consists of one imported layer.
    pub(crate) fn add_single(
        &self,
        layer: &ImportedLayer,
        run: RunConfig,
        history: History,
        platform: &Platform,
        reference: Option<&Reference>,
    ) -> Result<Arc<Image>, Error> {
        let created = jiff::Timestamp::now().to_string();
        let config = ImageConfig {
            created: Some(created.clone()),
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone().unwrap_or_default(),
            os: platform.os.clone(),
            config: run,
            history: vec![History { created: Some(created), ..history }],
            ..ImageConfig::default()
        };
        let row = layer_row(layer);
        let (image, _) = self.compose(Composition {
            config,
            stack: vec![(row.diff_id, plain_blob(&row))],
            layers: vec![row],
            parent: None,
            names: reference.map(std::slice::from_ref).unwrap_or_default(),
        })?;
        Ok(image)
    }
}
