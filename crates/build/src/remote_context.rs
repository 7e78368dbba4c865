//! Build contexts of other hosts: a repository, an archive, or a Dockerfile alone.

use std::sync::Arc;

use corten_image::Digest;
use corten_image::build::open_file;

use crate::archive;
use crate::error::{Error, Result};
use crate::material::Material;
use crate::pattern;
use crate::progress::Teller;
use crate::repository::{Repository, without_logins};
use crate::request::{Options, Tree};
use crate::vertex::Told;
use crate::worker::{FETCHED, Fetched, Worker};

/// With this build argument a repository's context has its `.git`.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// What lies at the URL of a context.
#[derive(Clone)]
pub struct RemoteContext {
    pub tree: Tree,
    /// It is the Dockerfile, by this name, and there is nothing else.
    pub dockerfile: Option<&'static str>,
    /// None of files that were sent.
    pub origin: Option<Origin>,
}

/// Where a context of another host is from, as the provenance tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Of a repository with the directory that is meant; without passwords.
    pub uri: String,
    pub material: Material,
    /// Whether the Dockerfile is from there, and not the asker's own.
    pub has_dockerfile: bool,
    /// Whether it is the Dockerfile itself.
    pub is_dockerfile: bool,
}

impl Origin {
    fn file(url: &str, fetched: &Fetched, is_dockerfile: bool) -> Origin {
        let material = Material::file(url, &fetched.digest);
        Origin { uri: material.uri.clone(), material, has_dockerfile: true, is_dockerfile }
    }

    fn git(repository: &Repository, fetched: &Fetched) -> Origin {
        let material = Material::git(repository, fetched);
        let uri = match (repository.reference.as_str(), repository.subdir.as_str()) {
            (_, "") => material.uri.clone(),
            ("", subdir) => format!("{}#:{subdir}", material.uri),
            (_, subdir) => format!("{}:{subdir}", material.uri),
        };
        Origin { uri, material, has_dockerfile: true, is_dockerfile: false }
    }
}

/// Whether a text that names a context names one of another host.
pub fn is_remote(text: &str) -> bool {
    pattern::is_url(text) || Repository::parse_context(text).is_some()
}

/// Fetches the context that is at a URL.
pub async fn remote_context(
    worker: Arc<dyn Worker>,
    url: &str,
    options: &Options,
    teller: &Teller,
) -> Result<RemoteContext> {
    let keeps_git_dir = options.build_args.get(KEEP_GIT_DIR).is_some_and(|value| is_true(value));
    fetch(worker.as_ref(), url, "[internal] load", keeps_git_dir, teller).await
}

/// Fetches what a URL leads to; `place` is what progress is told of.
pub async fn fetch(
    worker: &dyn Worker,
    url: &str,
    place: &str,
    keeps_git_dir: bool,
    teller: &Teller,
) -> Result<RemoteContext> {
    let repository = Repository::parse_context(url).transpose()?;
    let label = match &repository {
        Some(repository) => format!("{place} git source {}", repository.shown()),
        None => format!("{place} remote build context"),
    };
    let id = Digest::of(format!("{place} {url}").as_bytes());
    let mut told = Told::new(teller, id, label, Vec::new());
    told.start().await?;
    let fetched = async {
        let Some(mut repository) = repository else { return file(worker, url).await };
        if keeps_git_dir {
            repository.keep_git_dir = Some(true);
        }
        let fetched = worker.repository(&repository, true).await?;
        let origin = Origin::git(&repository, &fetched);
        let tree = fetched.tree.ok_or_else(|| not_fetched(url))?;
        Ok(RemoteContext { tree, dockerfile: None, origin: Some(origin) })
    };
    let fetched = fetched.await;
    told.end(fetched).await
}

async fn file(worker: &dyn Worker, url: &str) -> Result<RemoteContext> {
    if !pattern::is_url(url) {
        return Err(Error::Invalid(format!(
            "{}: it is neither the URL of a repository nor one of http or https",
            without_logins(url)
        )));
    }
    let fetched = worker.fetch(url, None, true).await?;
    let tree = fetched.tree.clone().ok_or_else(|| not_fetched(url))?;
    let failed = |error: std::io::Error| Error::Internal(format!("cannot read what was fetched: {error}"));
    let file = open_file(&tree.root, FETCHED.as_bytes()).map_err(failed)?;
    let is_archive = archive::is_archive(&file)?;
    let origin = Origin::file(url, &fetched, !is_archive);
    match is_archive {
        true => {
            Ok(RemoteContext { tree: worker.unpack(file).await?, dockerfile: None, origin: Some(origin) })
        }
        false => Ok(RemoteContext { tree, dockerfile: Some(FETCHED), origin: Some(origin) }),
    }
}

fn not_fetched(url: &str) -> Error {
    Error::Internal(format!("{} was not fetched", without_logins(url)))
}

/// As Go's `strconv.ParseBool` reads it.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}
