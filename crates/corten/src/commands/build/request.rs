//! What is asked of the engine: the Dockerfile's text, where the files are, and all that the flags say.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use corten_api::base64;
use corten_api::build::{BuildContext, BuildDefinition, BuildDirectory, BuildNamedContext, BuildRequest};
use corten_image::Reference;
use corten_image::compression::looks_like_archive;
use corten_image::files::{Buffered, pack_contents};

use super::Build;
use super::agents::Agents;
use super::attestations;
use super::cache;
use super::debug;
use super::outputs::{Place, wishes};
use super::stores::Stores;
use crate::cli::{Context, EXIT_ENGINE, Failure};
use crate::commands::container::DEFAULT_PLATFORM;
use crate::commands::login::{auth_for, known_registries};
use crate::options::values::bytes_of;

/// A secret of a build is a key or a password.
const SECRET_BYTES_MAX: u64 = 500 << 10;

/// What tells an archive from a Dockerfile: a tar block.
const HEAD_BYTES: u64 = 512;

pub struct Asked {
    pub request: BuildRequest,
    /// Which the engine may ask for.
    pub agents: Agents,
    /// Whose blobs the engine may ask for.
    pub stores: Stores,
    /// Where each output goes.
    pub places: Vec<Place>,
    /// What is sent behind the request where it is asked for.
    archive: Archive,
}

enum Archive {
    Nothing,
    /// The directory with the context.
    Directory(PathBuf),
    /// What came in of it so far; the rest is still to be read.
    Stdin(Vec<u8>),
}

impl Asked {
    pub fn new(flags: Build, context: &Context) -> Result<Asked, Failure> {
        let limits = flags.limits.limits()?;
        let (path, file) = (Path::new(&flags.path), flags.file.as_deref());
        let has_stdin = flags.path != "-" && file != Some(Path::new("-"));
        let mut archive = Archive::Nothing;
        let (mut definition, mut dockerfile) = (BuildDefinition::default(), None);
        let files = match flags.path.as_str() {
            "-" => {
                let head = head_of_stdin()?;
                if !looks_like_archive(&head) {
                    definition = Dockerfile::Stdin(head).read(None)?;
                    BuildContext::Nothing
                } else if file == Some(Path::new("-")) {
                    return Err(Failure::new(
                        "invalid argument: can't use stdin for both build context and dockerfile",
                    ));
                } else {
                    archive = Archive::Stdin(head);
                    dockerfile = Some(path_in_context(file)?);
                    BuildContext::Archive
                }
            }
            url if corten_build::is_remote(url) && !path.is_dir() => {
                match file {
                    // Another one than those of the context.
                    Some(file) if file.is_absolute() || file == Path::new("-") => {
                        definition = Dockerfile::of(file)?.read(None)?;
                    }
                    file => dockerfile = Some(path_in_context(file)?),
                }
                BuildContext::Remote(url.to_owned())
            }
            _ => {
                archive = Archive::Directory(path.to_owned());
                let file = file.map_or_else(|| path.join("Dockerfile"), Path::to_owned);
                definition = Dockerfile::of(&file)?.read(Some(path))?;
                BuildContext::Directory(identity(path)?)
            }
        };
        let (wishes, more_tags) = wishes(&flags.output, flags.push, flags.load, &flags.tag)?;
        let platform = flags.platform.join(",");
        let platform = match platform.is_empty() {
            true => std::env::var(DEFAULT_PLATFORM).unwrap_or_default(),
            false => platform,
        };
        let attestations =
            attestations::wishes(&flags.attest, flags.provenance.as_deref(), flags.sbom.as_deref())?;
        let is_index = platform.contains(',') || !attestations.is_empty();
        if is_index && wishes.iter().any(|wish| wish.is_for_one) {
            return Err(Failure::new(
                "an archive of type=docker holds one platform's image, and nothing beside it",
            )
            .hint("use type=oci, or build for one platform and without attestations"));
        }
        let (outputs, places): (Vec<_>, Vec<_>) =
            wishes.into_iter().map(|wish| (wish.output, wish.place)).unzip();
        let tags = [flags.tag, more_tags].concat();
        let agents = Agents::new(&flags.ssh)?;
        let mut stores = Stores::default();
        let cache_from = stores.sources(cache::places("--cache-from", &flags.cache_from)?)?;
        let cache_to = cache::places("--cache-to", &flags.cache_to)?;
        let mut elsewhere: Vec<&str> = tags.iter().map(String::as_str).collect();
        elsewhere.extend(
            cache_from.iter().chain(&cache_to).filter_map(|place| place.keys.get("ref")).map(String::as_str),
        );
        let request = BuildRequest {
            call: String::new(),
            context: files,
            contexts: contexts(&flags.build_context, &mut stores)?,
            target: flags.target,
            build_args: pairs(&flags.build_arg, true),
            labels: pairs(&flags.label, false),
            platform,
            attestations,
            no_cache: flags.no_cache,
            no_cache_stages: flags.no_cache_filter,
            pull: flags.pull,
            network: flags.network,
            allows_host_network: allows_host_network(&flags.allow)?,
            extra_hosts: flags.add_host,
            shm_size: u64::try_from(bytes_of("shm-size", flags.shm_size.as_deref())?).unwrap_or(0),
            ulimits: flags.ulimit,
            limits,
            cgroup_parent: flags.cgroup_parent,
            secrets: secrets(&flags.secret)?,
            agents: agents.ids(),
            auths: match dockerfile.is_some() {
                true => known_auths(context)?,
                false => auths(context, &definition.text, &elsewhere)?,
            },
            cache_from,
            cache_to,
            tags,
            verify_reproducible: flags.verify_reproducible,
            debug: debug::wish(flags.debug_on_failure, has_stdin, &places)?,
            outputs,
            definition,
            dockerfile,
        };
        Ok(Asked { request, agents, stores, places, archive })
    }

    /// A question about the Dockerfile: files are of no use for it, unless it is among them.
    pub fn ask(&mut self, method: &str) {
        self.request.call = method.to_owned();
        if self.request.dockerfile.is_none() {
            self.request.context = BuildContext::Nothing;
        }
    }

    /// The engine doesn't see the directory: its files are sent.
    pub fn send_archive(&mut self) {
        self.request.context = BuildContext::Archive;
    }

    /// The request's line, and the archive behind it where one is sent.
    pub fn body(&self) -> Result<Box<dyn Read + Send>, Failure> {
        let failed =
            |error: &dyn std::fmt::Display| Failure::new(format!("cannot make the request: {error}"));
        let mut line = serde_json::to_vec(&self.request).map_err(|error| failed(&error))?;
        line.push(b'\n');
        let line = Cursor::new(line);
        let directory = match (&self.request.context, &self.archive) {
            (BuildContext::Archive, Archive::Directory(directory)) => directory,
            (BuildContext::Archive, Archive::Stdin(head)) => {
                return Ok(Box::new(line.chain(Cursor::new(head.clone())).chain(io::stdin())));
            }
            _ => return Ok(Box::new(line)),
        };
        let root = File::open(directory).map_err(|error| failed(&error))?;
        let (reader, writer) = io::pipe().map_err(|error| failed(&error))?;
        std::thread::spawn(move || {
            // Its failure is the archive's early end, which the engine tells of.
            let _ = pack_contents(root.into(), &mut Buffered::new(writer));
        });
        Ok(Box::new(line.chain(reader)))
    }
}

/// Whether steps may ask for the host's network, which is all that can be allowed.
fn allows_host_network(allow: &[String]) -> Result<bool, Failure> {
    match allow.iter().find(|entitlement| *entitlement != "network.host") {
        Some(other) => Err(Failure::new(format!("--allow {other} is not supported"))
            .hint("what can be allowed is network.host")
            .exit(EXIT_ENGINE)),
        None => Ok(!allow.is_empty()),
    }
}

/// As much of standard input as tells what it is.
fn head_of_stdin() -> Result<Vec<u8>, Failure> {
    let mut head = Vec::new();
    io::stdin().take(HEAD_BYTES).read_to_end(&mut head).map_err(|error| unreadable_stdin(&error))?;
    Ok(head)
}

fn unreadable_stdin(error: &io::Error) -> Failure {
    Failure::new(format!("cannot read standard input: {error}"))
}

/// A Dockerfile's path in a context that is not here.
fn path_in_context(file: Option<&Path>) -> Result<String, Failure> {
    let path = file.unwrap_or(Path::new("Dockerfile"));
    let text = path.to_str();
    text.map(str::to_owned).ok_or_else(|| Failure::new(format!("{}: the path is not UTF-8", path.display())))
}

/// Where a Dockerfile is read from.
enum Dockerfile {
    /// Of which this came in so far.
    Stdin(Vec<u8>),
    File(PathBuf),
}

impl Dockerfile {
    fn of(file: &Path) -> Result<Dockerfile, Failure> {
        match file == Path::new("-") {
            true => Ok(Dockerfile::Stdin(Vec::new())),
            false => Ok(Dockerfile::File(file.to_owned())),
        }
    }

    /// Reads it, and what it leaves out of a directory here.
    fn read(self, directory: Option<&Path>) -> Result<BuildDefinition, Failure> {
        let (name, bytes, own) = match self {
            Dockerfile::Stdin(mut bytes) => {
                io::stdin().read_to_end(&mut bytes).map_err(|error| unreadable_stdin(&error))?;
                ("Dockerfile".to_owned(), bytes, None)
            }
            Dockerfile::File(path) => {
                let bytes = fs::read(&path).map_err(|error| {
                    Failure::new(format!(
                        "unable to prepare context: failed to read {}: {error}",
                        path.display()
                    ))
                })?;
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                let mut own = path.into_os_string();
                own.push(".dockerignore");
                (name.unwrap_or_default(), bytes, ignore(Path::new(&own))?)
            }
        };
        // Its own list goes before that of the context.
        let ignore = match (own, directory) {
            (Some(own), _) => Some(own),
            (None, Some(directory)) => ignore(&directory.join(".dockerignore"))?,
            (None, None) => None,
        };
        Ok(BuildDefinition { name, text: String::from_utf8_lossy(&bytes).into_owned(), ignore })
    }
}

fn ignore(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::new(format!("cannot read {}: {error}", path.display()))),
    }
}

fn identity(path: &Path) -> Result<BuildDirectory, Failure> {
    let failed =
        |error| Failure::new(format!("unable to prepare context: path {:?}: {error}", path.display()));
    let path = path.canonicalize().map_err(failed)?;
    let found = path.metadata().map_err(failed)?;
    if !found.is_dir() {
        return Err(Failure::new(format!(
            "unable to prepare context: {} is not a directory",
            path.display()
        )));
    }
    // Who may not list it may not have it built from either.
    fs::read_dir(&path).map_err(failed)?;
    let text =
        path.to_str().ok_or_else(|| Failure::new(format!("{}: the path is not UTF-8", path.display())))?;
    Ok(BuildDirectory { path: text.to_owned(), device: found.dev(), inode: found.ino() })
}

fn contexts(flags: &[String], stores: &mut Stores) -> Result<BTreeMap<String, BuildNamedContext>, Failure> {
    let mut contexts = BTreeMap::new();
    for flag in flags {
        let (name, value) = flag
            .split_once('=')
            .filter(|(name, value)| !name.is_empty() && !value.is_empty())
            .ok_or_else(|| Failure::new(format!("invalid context value: {flag}, expected key=value")))?;
        let path = Path::new(value);
        let context = if let Some(image) = value.strip_prefix("docker-image://") {
            BuildNamedContext::Image(image.to_owned())
        } else if let Some(layout) = value.strip_prefix("oci-layout://") {
            BuildNamedContext::Layout(stores.context(name, layout)?)
        } else if corten_build::is_remote(value) && !path.is_dir() {
            BuildNamedContext::Remote(value.to_owned())
        } else {
            BuildNamedContext::Directory(identity(path)?)
        };
        contexts.insert(name.to_owned(), context);
    }
    Ok(contexts)
}

/// `NAME=VALUE`; of a name alone, what the environment has, where that is wanted.
fn pairs(flags: &[String], from_environment: bool) -> BTreeMap<String, String> {
    let pair = |flag: &String| match flag.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None if from_environment => Some((flag.clone(), std::env::var(flag).ok()?)),
        None => Some((flag.clone(), String::new())),
    };
    flags.iter().filter_map(pair).collect()
}

/// `id=NAME[,src=FILE|,env=NAME]`
fn secrets(flags: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut secrets = BTreeMap::new();
    for flag in flags {
        let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
        for field in flag.split(',') {
            let (key, value) = field.split_once('=').ok_or_else(|| {
                Failure::new(format!("invalid field {field:?} of secret {flag:?}: must be a key=value pair"))
            })?;
            let key = match key {
                "source" | "src" => "src",
                "id" | "env" | "type" => key,
                _ => return Err(Failure::new(format!("unexpected key {key:?} in {field:?}"))),
            };
            fields.insert(key, value);
        }
        let id = fields.get("id").copied().filter(|id| !id.is_empty());
        let id =
            id.ok_or_else(|| Failure::new(format!("secret {flag:?} has no id: write id=NAME,src=FILE")))?;
        let file = fields.get("src").copied().filter(|_| fields.get("type") != Some(&"env"));
        let variable =
            fields.get("env").copied().or_else(|| fields.get("src").copied().filter(|_| file.is_none()));
        let bytes = match (file, variable) {
            (Some(path), _) => secret_file(flag, path)?,
            (None, variable) => match std::env::var(variable.unwrap_or(id)) {
                Ok(value) => value.into_bytes(),
                Err(_) if variable.is_none() => secret_file(flag, id)?,
                Err(_) => Vec::new(),
            },
        };
        secrets.insert(id.to_owned(), base64::encode(&bytes));
    }
    Ok(secrets)
}

fn secret_file(flag: &str, path: &str) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::new(format!("--secret {flag}: cannot read {path}: {error}"));
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(Failure::new(format!(
            "--secret {flag}: {path} is too big: at most {SECRET_BYTES_MAX} bytes"
        )));
    }
    Ok(bytes)
}

/// What is known of all registries: which of them the Dockerfile means is not known here.
fn known_auths(context: &Context) -> Result<BTreeMap<String, corten_api::auth::AuthConfig>, Failure> {
    let mut auths = BTreeMap::new();
    for domain in known_registries(context) {
        if let Some(auth) = auth_for(context, &domain)? {
            auths.insert(domain, auth);
        }
    }
    Ok(auths)
}

/// What is known of the registries that the Dockerfile may mean, and of those where the image or a cache may go.
fn auths(
    context: &Context,
    text: &str,
    names: &[&str],
) -> Result<BTreeMap<String, corten_api::auth::AuthConfig>, Failure> {
    let mut auths = BTreeMap::new();
    let words =
        text.lines().flat_map(str::split_whitespace).map(|word| word.rsplit("from=").next().unwrap_or(word));
    let words = words.chain(names.iter().copied());
    let domains = words.filter_map(|word| Reference::parse(word).ok()).map(|name| name.domain().to_owned());
    for domain in domains.filter(|domain| domain == "docker.io" || domain.contains(['.', ':'])) {
        if !auths.contains_key(&domain)
            && let Some(auth) = auth_for(context, &domain)?
        {
            auths.insert(domain, auth);
        }
    }
    Ok(auths)
}
