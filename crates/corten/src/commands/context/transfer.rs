//! Contexts on their way to other hosts.

use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use crate::cli::{Context, Failure, Outcome, Verb};
use crate::contexts::archive::{self, ARCHIVE_BYTES_MAX};
use crate::contexts::{DEFAULT, Meta, TlsFiles};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Export {
    /// Its name
    #[arg(value_name = "CONTEXT")]
    name: String,
    /// Where to write the archive ('-': standard output) [default: CONTEXT.dockercontext]
    #[arg(value_name = "FILE|-")]
    file: Option<String>,
}

impl Verb for Export {
    const ABOUT: &'static str = "Export a context to a tar archive FILE or a tar stream on STDOUT";
    const USAGE: &'static str = "CONTEXT [FILE|-]";

    fn run(self, context: &Context) -> Outcome {
        let (meta, files) = if self.name == DEFAULT {
            (Meta::new(DEFAULT, "", &context.default_host(), false), TlsFiles::default())
        } else {
            let store = context.contexts()?;
            (store.get(&self.name)?, store.tls(&self.name)?)
        };
        let bytes = archive::export(&meta, &files)?;
        let file = self.file.unwrap_or_else(|| format!("{}.dockercontext", self.name));
        if file == "-" {
            if std::io::stdout().is_terminal() {
                return Err(Failure::new("cowardly refusing to export to a terminal, specify a file path"));
            }
            output::write(&bytes)?;
            return Ok(0);
        }
        let failed = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::AlreadyExists => Failure::new(format!("open {file}: file exists")),
            _ => Failure::new(format!("{file}: {e}")),
        };
        // It may hold a key.
        let mut options = std::fs::OpenOptions::new();
        let mut target = options.write(true).create_new(true).mode(0o600).open(&file).map_err(failed)?;
        if let Err(error) = target.write_all(&bytes) {
            // Half an archive is of no use, and in the way of the next try.
            let _ = std::fs::remove_file(&file);
            return Err(failed(error));
        }
        output::say!("Written file \"{file}\"");
        Ok(0)
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Import {
    /// The name that it gets
    #[arg(value_name = "CONTEXT")]
    name: String,
    /// The archive ('-': standard input)
    #[arg(value_name = "FILE|-")]
    file: String,
}

impl Verb for Import {
    const ABOUT: &'static str = "Import a context from a tar file";
    const USAGE: &'static str = "CONTEXT FILE|-";

    fn run(self, context: &Context) -> Outcome {
        let store = context.contexts()?;
        store.check_new(&self.name)?;
        let source: Box<dyn Read> = match self.file.as_str() {
            "-" => Box::new(std::io::stdin()),
            path => {
                Box::new(std::fs::File::open(path).map_err(|e| Failure::new(format!("open {path}: {e}")))?)
            }
        };
        let mut bytes = Vec::new();
        source.take(ARCHIVE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > ARCHIVE_BYTES_MAX {
            return Err(Failure::new("the archive can't be imported: it is larger than 10 MiB"));
        }
        let (meta, files) = archive::import(&self.name, &bytes)?;
        store.put(&meta, (!files.is_empty()).then_some(&files))?;
        output::print(&format!("{}\n", self.name))?;
        output::say!("Successfully imported context \"{}\"", self.name);
        Ok(0)
    }
}
