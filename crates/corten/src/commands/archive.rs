//! Archives between the engine and this host: to standard output, or to a file that only gets its name when it is whole; from
//! standard input or a file.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use corten_api::client::Response;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::cli::Failure;
use crate::output;

/// Where an archive goes.
pub enum Target {
    Stdout(output::Pour),
    File(Partial, PathBuf),
}

impl Target {
    /// Standard output when no file is named, or `-`.
    pub fn open(file: Option<&Path>) -> Result<Target, Failure> {
        match file.filter(|path| *path != Path::new("-")) {
            Some(path) => Ok(Target::File(Partial::create(path)?, path.to_owned())),
            None if io::stdout().is_terminal() => Err(Failure::new("an archive is nothing for a terminal")
                .hint("name a file with -o, or redirect standard output")),
            None => Ok(Target::Stdout(output::Pour::open()?)),
        }
    }

    /// Writes all that comes.
    pub async fn receive(self, mut archive: Response) -> Result<(), Failure> {
        while let Some(piece) = archive.chunk().await? {
            self.write(&piece)?;
        }
        self.finish()
    }

    pub fn write(&self, piece: &[u8]) -> Result<(), Failure> {
        match self {
            Target::Stdout(stdout) => Ok(stdout.write(piece)?),
            Target::File(partial, path) => partial
                .file()
                .write_all(piece)
                .map_err(|error| Failure::from(error).while_doing(format!("writing {}", path.display()))),
        }
    }

    /// It is whole: a file gets its name.
    pub fn finish(self) -> Result<(), Failure> {
        match self {
            Target::Stdout(_) => Ok(()),
            Target::File(partial, path) => partial.finish(&path),
        }
    }
}

/// An archive to be sent, and its length when it is a plain file.
pub type Source = (Box<dyn Read + Send>, Option<u64>);

/// Opens what is to be sent; standard input when no file is named, or `-`.
pub fn open(file: Option<&Path>) -> Result<Source, Failure> {
    let Some(path) = file.filter(|path| *path != Path::new("-")) else {
        if io::stdin().is_terminal() {
            return Err(Failure::new("there is no archive: standard input is a terminal")
                .hint("name a file, or redirect one to standard input"));
        }
        return Ok((Box::new(io::stdin()), None));
    };
    let failed = |error: io::Error| Failure::from(error).while_doing(format!("opening {}", path.display()));
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let length = meta.is_file().then_some(meta.len());
    Ok((Box::new(file), length))
}

/// A file on its way to its place.
pub struct Partial {
    file: File,
    /// The name beside its place that it bears meanwhile.
    path: PathBuf,
    state: PartialState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PartialState {
    /// What is no file (a pipe, /dev/null) is written to directly.
    Direct,
    /// It goes with this process, even if that is killed.
    Nameless,
    /// For file systems that have no nameless files.
    Named,
}

impl Partial {
    /// Opens a place beside `target`.
    fn create(target: &Path) -> Result<Partial, Failure> {
        let failed = |error: io::Error| {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let failure = Failure::from(error).while_doing(format!("creating {}", target.display()));
            if missing { failure.hint("make its directory first") } else { failure }
        };
        if fs::metadata(target).is_ok_and(|meta| !meta.is_file()) {
            let file = File::options().write(true).open(target).map_err(failed)?;
            return Ok(Partial { file, path: target.to_owned(), state: PartialState::Direct });
        }
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        let path = target.with_file_name(name);
        let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::open(directory.unwrap_or(Path::new(".")), flags, Mode::from_raw_mode(0o666)) {
            Ok(file) => Ok(Partial { file: file.into(), path, state: PartialState::Nameless }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
                let file = File::create(&path).map_err(failed)?;
                Ok(Partial { file, path, state: PartialState::Named })
            }
            Err(error) => Err(failed(error.into())),
        }
    }

    fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name.
    fn finish(mut self, target: &Path) -> Result<(), Failure> {
        let failed = |error: io::Error| {
            Failure::from(error).while_doing(format!("putting {} in place", target.display()))
        };
        if self.state == PartialState::Nameless {
            // A link replaces nothing, a rename does (open(2), O_TMPFILE).
            let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            rustix::fs::linkat(CWD, own, CWD, &self.path, AtFlags::SYMLINK_FOLLOW)
                .map_err(|error| failed(error.into()))?;
            self.state = PartialState::Named;
        }
        if self.state == PartialState::Named {
            fs::rename(&self.path, target).map_err(failed)?;
            self.state = PartialState::Direct;
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.state == PartialState::Named {
            // Half an archive is of no use.
            let _ = fs::remove_file(&self.path);
        }
    }
}
