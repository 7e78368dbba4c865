//! Where a build's outcome goes on this side: `--output`, `--push` and `--load`, as buildx has them.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, PipeWriter, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use corten_api::build::BuildOutput;
use corten_image::files::{Owner, Plain, UnpackError, UnpackOptions, unpack};

use super::made::Made;
use crate::cli::Failure;
use crate::commands::archive::Target;
use crate::options::csv;

/// One output: what the engine is asked for, and where that goes.
#[derive(Debug, PartialEq, Eq)]
pub struct Wish {
    pub output: BuildOutput,
    pub place: Place,
    /// Its form has room for one platform's image alone.
    pub is_for_one: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// It stays with the engine.
    Engine,
    Stdout,
    File(PathBuf),
    Directory(PathBuf),
}

/// All outputs, and the names that the image gets besides those of `--tag`.
pub fn wishes(
    outputs: &[String],
    push: bool,
    load: bool,
    tags: &[String],
) -> Result<(Vec<Wish>, Vec<String>), Failure> {
    let mut wishes = Vec::new();
    let mut more = Vec::new();
    let short = [(push, "type=registry"), (load, "type=docker")];
    let short = short.into_iter().filter(|(wanted, _)| *wanted).map(|(_, text)| text);
    for text in outputs.iter().map(String::as_str).chain(short) {
        let (wish, names) = wish(text, tags)?;
        more.extend(names);
        wishes.push(wish);
    }
    if wishes.iter().filter(|wish| wish.place == Place::Stdout).count() > 1 {
        return Err(Failure::new("only one output can go to standard output"));
    }
    Ok((wishes, more))
}

/// `DIR`, `-` or `type=TYPE[,KEY=VALUE]...`
fn wish(text: &str, tags: &[String]) -> Result<(Wish, Vec<String>), Failure> {
    let wrong = |why: &str| Failure::new(format!("invalid output {text:?}: {why}"));
    let fields = csv::fields(text).map_err(wrong)?;
    if let [field] = fields.as_slice()
        && !field.starts_with("type=")
    {
        let place = match field.as_str() {
            "" => return Err(wrong("name a directory, or - for standard output")),
            "-" => Place::Stdout,
            path => Place::Directory(path.into()),
        };
        return Ok((Wish { output: BuildOutput::Files(None), place, is_for_one: false }, Vec::new()));
    }
    let (mut kind, mut dest, mut names) = (None, None, Vec::new());
    let (mut push, mut tar, mut split) = (None, None, None);
    for field in &fields {
        let (key, value) = field.split_once('=').ok_or_else(|| wrong("write KEY=VALUE"))?;
        let flag = || match value {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
            _ => Err(wrong(&format!("{key} is true or false"))),
        };
        match key.to_ascii_lowercase().as_str() {
            "type" => kind = Some(value),
            "dest" => dest = Some(value).filter(|dest| !dest.is_empty()),
            "name" => names.extend(value.split(',').filter(|name| !name.is_empty()).map(str::to_owned)),
            "push" => push = flag()?,
            "tar" => tar = flag()?,
            "platform-split" => split = flag()?,
            _ => return Err(wrong(&format!("{key} is not supported"))),
        }
    }
    let kind = kind.ok_or_else(|| wrong("type is required"))?;
    let takes = |key: &str, is_given: bool, kinds: &[&str]| match is_given && !kinds.contains(&kind) {
        true => Err(wrong(&format!("type={kind} takes no {key}"))),
        false => Ok(()),
    };
    takes("dest", dest.is_some(), &["local", "tar", "oci", "docker"])?;
    takes("name", !names.is_empty(), &["image", "registry", "oci", "docker"])?;
    takes("push", push.is_some(), &["image", "registry"])?;
    takes("platform-split", split.is_some(), &["local", "tar"])?;
    takes("tar", tar.is_some(), &["oci", "docker"])?;
    let own = if names.is_empty() { tags.to_vec() } else { names.clone() };
    let file = || match dest {
        None | Some("-") => Place::Stdout,
        Some(path) => Place::File(path.into()),
    };
    let directory = || match dest {
        None => Err(wrong("dest is required: the directory")),
        Some("-") => Err(wrong("a directory can't go to standard output: use type=tar")),
        Some(path) => Ok(Place::Directory(path.into())),
    };
    let (output, place) = match kind {
        "local" => (BuildOutput::Files(split), directory()?),
        "tar" => (BuildOutput::Files(split), file()),
        "oci" | "docker" if tar == Some(false) => (BuildOutput::Archive(own), directory()?),
        "docker" if dest.is_none() => (BuildOutput::Store, Place::Engine),
        "oci" | "docker" => (BuildOutput::Archive(own), file()),
        "image" | "registry" if push.unwrap_or(kind == "registry") => match own.is_empty() {
            true => return Err(wrong("pushing needs a name: give one with --tag, or name=NAME")),
            false => (BuildOutput::Push(own), Place::Engine),
        },
        "image" | "registry" => (BuildOutput::Store, Place::Engine),
        _ => return Err(wrong("type is local, tar, oci, docker, image or registry")),
    };
    let is_for_one = kind == "docker" && matches!(output, BuildOutput::Archive(_));
    Ok((Wish { output, place, is_for_one }, names))
}

/// Takes what comes from the engine for one output.
pub enum Sink {
    Archive(Target),
    Directory {
        path: PathBuf,
        made: Made,
        is_begun: bool,
        archive: PipeWriter,
        unpacking: JoinHandle<Result<(), UnpackError>>,
    },
}

impl Sink {
    /// Opens the place, so that what can't be written to is told before anything is built; none where nothing comes.
    pub fn open(place: &Place) -> Result<Option<Sink>, Failure> {
        match place {
            Place::Engine => Ok(None),
            Place::Stdout if io::stdout().is_terminal() => {
                Err(Failure::new("an archive is nothing for a terminal")
                    .hint("name a file with dest=FILE, or redirect standard output"))
            }
            Place::Stdout => Ok(Some(Sink::Archive(Target::open(None)?))),
            Place::File(path) => Ok(Some(Sink::Archive(Target::open(Some(path))?))),
            Place::Directory(path) => Ok(Some(Sink::directory(path)?)),
        }
    }

    fn directory(path: &Path) -> Result<Sink, Failure> {
        let failed =
            |error: io::Error| Failure::from(error).while_doing(format!("creating {}", path.display()));
        let made = Made::directory(path).map_err(failed)?;
        let root = File::open(path).map_err(failed)?;
        let (reader, archive) = io::pipe().map_err(failed)?;
        let options = UnpackOptions {
            // What an image's users have made belongs to whoever asked for it.
            owner: Owner::Caller,
            // A directory of the caller's is never taken away for a file.
            keep_kinds: true,
            skip_refused_xattrs: true,
            ..UnpackOptions::default()
        };
        let unpacking =
            std::thread::spawn(move || unpack(&root, b"/", Plain(BufReader::new(reader)), &options));
        Ok(Sink::Directory { path: path.to_owned(), made, is_begun: false, archive, unpacking })
    }

    pub fn write(&mut self, piece: &[u8]) -> Result<(), Failure> {
        match self {
            Sink::Archive(target) => target.write(piece),
            // Who unpacks and gives up has a better reason, which is asked for in the end.
            Sink::Directory { archive, is_begun, .. } => {
                *is_begun = true;
                match archive.write_all(piece) {
                    Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
                    _ => Ok(()),
                }
            }
        }
    }

    /// What is to be known of an output that broke off.
    pub fn left_over(&self) -> Option<String> {
        match self {
            // Half an archive vanishes.
            Sink::Archive(_) | Sink::Directory { is_begun: false, .. } => None,
            Sink::Directory { path, .. } => Some(format!("the files in {} are not complete", path.display())),
        }
    }

    /// Everything was written.
    pub fn finish(self) -> Result<(), Failure> {
        match self {
            Sink::Archive(target) => target.finish(),
            Sink::Directory { path, made, archive, unpacking, .. } => {
                drop(archive);
                made.keep();
                let unpacked = unpacking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                unpacked.map_err(|error| {
                    let cause = std::error::Error::source(&error)
                        .map(|cause| format!(": {cause}"))
                        .unwrap_or_default();
                    Failure::new(format!(
                        "the files in {} are not complete: {error}{cause}; what comes after it is missing",
                        path.display()
                    ))
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Wish, String> {
        wish(text, &["t:1".to_owned()]).map(|(wish, _)| wish).map_err(|failure| failure.message)
    }

    #[test]
    fn outputs_are_read() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (text, output, place) in [
            ("out", BuildOutput::Files(None), Place::Directory("out".into())),
            ("-", BuildOutput::Files(None), Place::Stdout),
            ("type=local,dest=a b", BuildOutput::Files(None), Place::Directory("a b".into())),
            ("type=tar", BuildOutput::Files(None), Place::Stdout),
            ("type=tar,platform-split=true", BuildOutput::Files(Some(true)), Place::Stdout),
            ("type=tar,dest=x.tar", BuildOutput::Files(None), Place::File("x.tar".into())),
            ("type=oci,dest=-", BuildOutput::Archive(names(&["t:1"])), Place::Stdout),
            (
                "type=oci,tar=false,dest=l",
                BuildOutput::Archive(names(&["t:1"])),
                Place::Directory("l".into()),
            ),
            ("type=docker", BuildOutput::Store, Place::Engine),
            (
                "type=docker,name=n,dest=i.tar",
                BuildOutput::Archive(names(&["n"])),
                Place::File("i.tar".into()),
            ),
            ("type=image", BuildOutput::Store, Place::Engine),
            ("type=image,\"name=a,b\",push=true", BuildOutput::Push(names(&["a", "b"])), Place::Engine),
            ("type=registry", BuildOutput::Push(names(&["t:1"])), Place::Engine),
        ] {
            let is_for_one = text.starts_with("type=docker,");
            assert_eq!(one(text), Ok(Wish { output, place, is_for_one }), "{text}");
        }
        let (wishes, more) = wishes(&["type=docker,name=n".to_owned()], true, true, &names(&["t"])).unwrap();
        assert_eq!((wishes.len(), more), (3, names(&["n"])));
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        for (text, why) in [
            ("", "name a directory"),
            ("dest=x,name=y", "type is required"),
            ("type=local", "dest is required"),
            ("type=local,dest=-", "standard output"),
            ("type=tar,name=x", "takes no name"),
            ("type=oci,platform-split=true", "takes no platform-split"),
            ("type=image,dest=x", "takes no dest"),
            ("type=image,compression=zstd", "compression is not supported"),
            ("type=image,push=perhaps", "true or false"),
            ("type=oci,tar=false", "dest is required"),
            ("type=zip", "type is local"),
        ] {
            let told = one(text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
        assert!(wish("type=registry", &[]).unwrap_err().message.contains("needs a name"));
        assert!(wishes(&["-".to_owned(), "type=tar".to_owned()], false, false, &[]).is_err());
    }
}
