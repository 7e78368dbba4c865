//! Repositories of other hosts (`ADD git-URL`, contexts), by the host's `git`: one question for what a reference means, then the commit alone
//! is fetched, and its files are taken out as an archive. So git never writes a stranger's files, and links in them lead nowhere.
//!
//! Files are known by their commit. What is fetched goes with the build; what stays is a note (`urls`) of how old the commit is.

mod credentials;
mod listing;
mod program;
mod submodules;
mod visit;

use std::sync::Arc;
use std::time::Duration;

use corten_build::{Asker, Error, Fetched, Repository, Result, Tree, is_commit};
use corten_image::Digest;

use super::agent;
use super::context::Scratch;
use super::fetch::Known;
use super::told;
use crate::Engine;
use credentials::authorization;
use program::Git;
pub use program::end_leftovers;
use visit::{Visit, below, kept};

/// How long one may take, its submodules included.
const TIME_MAX: Duration = Duration::from_secs(60 * 60);
/// What its files may take, in bytes.
const BYTES_MAX: u64 = 32 << 30;
/// Repositories that one consists of, and how deep they lie in each other.
const REPOSITORIES_MAX: usize = 1000;
const DEPTH_MAX: usize = 16;
/// The name of an agent's socket in the directory where git runs: ssh takes no long path.
const AGENT: &str = "agent";

/// What a reference means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Commit {
    /// A commit, or a tag that says more than which commit.
    object: String,
    /// The commit that such a tag means.
    peeled: Option<String>,
    /// The reference's whole name.
    name: Option<String>,
}

impl Commit {
    fn id(&self) -> &str {
        self.peeled.as_ref().unwrap_or(&self.object)
    }
}

impl Engine {
    pub(super) async fn build_repository(
        &self,
        asker: &dyn Asker,
        repository: &Repository,
        wants_files: bool,
    ) -> Result<Fetched> {
        let fetched = tokio::time::timeout(TIME_MAX, self.fetch_repository(asker, repository, wants_files));
        let late = |_| {
            Error::Internal(format!("{}: it takes longer than {} s", repository.shown(), TIME_MAX.as_secs()))
        };
        fetched.await.map_err(late)?
    }

    async fn fetch_repository(
        &self,
        asker: &dyn Asker,
        repository: &Repository,
        wants_files: bool,
    ) -> Result<Fetched> {
        let scratch = Arc::new(self.build_scratch().map_err(told)?);
        let visit = self.visit(asker, repository, repository, &scratch, 0).await?;
        let commit = visit.resolve().await?;
        visit.check(&commit)?;
        let identity = identity(repository, &commit);
        let note = format!("git:{identity}");
        if !wants_files && let Some(known) = self.known_url(&note) {
            return Ok(Fetched { commit: Some(commit.id().to_owned()), ..known.fetched(None) });
        }
        let (bytes, modified) = self.check_out(asker, visit, &commit, &scratch).await?;
        let known =
            Known { digest: identity, bytes, modified: Some(modified), etag: None, last_modified: None };
        self.remember_url(&note, &known, &scratch)?;
        let root = below(&scratch.path().join(FILES), &repository.subdir).map_err(|error| {
            Error::Invalid(format!(
                "{}: {} is no directory of it: {error}",
                repository.shown(),
                repository.subdir
            ))
        })?;
        let tree = Tree { root: Arc::new(root), keep: Some(Arc::new(scratch)) };
        Ok(Fetched { commit: Some(commit.id().to_owned()), ..known.fetched(Some(tree)) })
    }

    /// Readies git for a repository; `main` is the one that was asked for, itself or what this one is a part of.
    async fn visit<'v>(
        &self,
        asker: &dyn Asker,
        main: &Repository,
        repository: &'v Repository,
        scratch: &Arc<Scratch>,
        number: usize,
    ) -> Result<Visit<'v>> {
        let mut settings = vec![("remote.origin.url".to_owned(), repository.url.clone())];
        let mut variables = self.registries.options().proxies.variables();
        // What this process trusts, git does too.
        if let Ok(file) = std::env::var("SSL_CERT_FILE") {
            variables.push(("GIT_SSL_CAINFO".to_owned(), file));
        }
        let mut agent = None;
        if repository.is_http()
            && let Some(header) = authorization(asker, main, repository).await?
        {
            let name = format!("http.{}.extraHeader", repository.url);
            settings.push((name, format!("Authorization: {header}")));
        }
        if repository.is_ssh() {
            let own = asker.ssh("default").await?.ok_or_else(|| {
                Error::Invalid(format!(
                    "{}: no SSH agent was given: give one by --ssh default",
                    repository.shown()
                ))
            })?;
            let socket = format!("{AGENT}-{number}");
            agent = Some(agent::serve_in(scratch.path(), &socket, own).map_err(told)?);
            variables.push(("SSH_AUTH_SOCK".to_owned(), socket));
            variables.push(("GIT_SSH_COMMAND".to_owned(), SSH.to_owned()));
            variables.push(("GIT_SSH_VARIANT".to_owned(), "ssh".to_owned()));
        }
        let git = Git::new(scratch.clone(), settings, variables);
        Ok(Visit { repository, git, directory: format!("repository-{number}"), _agent: agent })
    }

    /// Takes out the files of a commit and of its submodules; gives their bytes, and the time of the newest commit in Unix seconds.
    async fn check_out(
        &self,
        asker: &dyn Asker,
        visit: Visit<'_>,
        commit: &Commit,
        scratch: &Arc<Scratch>,
    ) -> Result<(u64, i64)> {
        let main = visit.repository;
        let files = scratch.path().join(FILES);
        std::fs::create_dir(&files).map_err(|error| kept(&error))?;
        let (mut bytes, mut entries) = (0, 0);
        let own_time = visit.fetch(commit).await?;
        let mut time = own_time;
        let links = visit.take_out(commit, "", &main.subdir, time, &mut bytes, &mut entries).await?;
        let mut left = submodules::of(&visit, commit, "", links, 1).await?;
        let mut number = 0;
        while let Some(module) = left.pop() {
            number += 1;
            if number >= REPOSITORIES_MAX || module.depth > DEPTH_MAX {
                return Err(Error::Invalid(format!("{}: it has submodules without end", main.shown())));
            }
            let visit = self.visit(asker, main, &module.repository, scratch, number).await?;
            let commit = Commit { object: module.commit, ..Commit::default() };
            let module_time = visit.fetch(&commit).await?;
            time = time.max(module_time);
            let links =
                visit.take_out(&commit, &module.place, "", module_time, &mut bytes, &mut entries).await?;
            left.extend(submodules::of(&visit, &commit, &module.place, links, module.depth + 1).await?);
        }
        // Of a part of it nothing could be said in its records.
        if main.keeps_git_dir() && main.subdir.is_empty() {
            visit.keep(commit, own_time, &files).await?;
        }
        Ok((bytes, time))
    }
}

/// The name of the directory with the files.
const FILES: &str = "files";

/// The client's keys alone are shown, by its agent. As everywhere in builds a host is believed, unless this one knows it otherwise.
const SSH: &str = "ssh -F /dev/null -o BatchMode=yes -o IdentityFile=none -o UserKnownHostsFile=/dev/null \
     -o StrictHostKeyChecking=accept-new -o LogLevel=ERROR -o ConnectTimeout=30 -o ServerAliveInterval=15";

/// What files are known by, besides where they are put.
fn identity(repository: &Repository, commit: &Commit) -> Digest {
    let mut parts = vec!["repository", commit.id(), &repository.subdir];
    if repository.skips_submodules {
        parts.push("without submodules");
    }
    // Their records name these.
    if repository.keeps_git_dir() {
        parts.extend(["with .git", &repository.url, &commit.object]);
        parts.extend(commit.name.as_deref());
    }
    Digest::of(parts.join("\0").as_bytes())
}

/// What of `git ls-remote`'s answer a reference means: the very name, else a branch, else a tag.
fn meant(answer: &str, reference: &str) -> Option<Commit> {
    let lines: Vec<(&str, &str)> = answer.lines().filter_map(|line| line.split_once('\t')).collect();
    let find =
        |name: &str| lines.iter().find(|(id, known)| *known == name && is_commit(id)).map(|(id, _)| *id);
    let commit = |name: &str| {
        let object = find(name)?.to_owned();
        let peeled = find(&format!("{name}^{{}}")).map(str::to_owned);
        Some(Commit { object, peeled, name: Some(name.to_owned()) })
    };
    if reference.is_empty() {
        let branch =
            lines.iter().find(|(_, name)| *name == "HEAD").and_then(|(to, _)| to.strip_prefix("ref: "));
        let object = find("HEAD")?.to_owned();
        let name = branch.filter(|name| name.starts_with("refs/heads/")).map(str::to_owned);
        return Some(Commit { object, peeled: None, name });
    }
    let short = |above: &str| format!("{above}{}", reference.strip_prefix(above).unwrap_or(reference));
    let names = [short("refs/"), short("refs/heads/"), short("refs/tags/")];
    names.iter().find_map(|name| commit(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_go_before_tags_and_tags_mean_commits() {
        let id = |digit: char| digit.to_string().repeat(40);
        let answer = format!(
            "{}\trefs/heads/x\n{}\trefs/tags/x\n{}\trefs/tags/x^{{}}\n{}\trefs/pull/1\n",
            id('1'),
            id('2'),
            id('3'),
            id('4')
        );
        let found = |reference: &str| {
            let commit = meant(&answer, reference)?;
            Some((commit.object[..1].to_owned(), commit.id()[..1].to_owned(), commit.name?))
        };
        let is =
            |object: &str, id: &str, name: &str| Some((object.to_owned(), id.to_owned(), name.to_owned()));
        assert_eq!(found("x"), is("1", "1", "refs/heads/x"));
        assert_eq!(found("refs/tags/x"), is("2", "3", "refs/tags/x"));
        assert_eq!(found("tags/x"), is("2", "3", "refs/tags/x"));
        assert_eq!(found("refs/pull/1"), is("4", "4", "refs/pull/1"));
        assert_eq!(found("y"), None);
        let head = format!("ref: refs/heads/x\tHEAD\n{}\tHEAD\n", id('1'));
        let commit = meant(&head, "").unwrap();
        assert_eq!((commit.object, commit.name.as_deref()), (id('1'), Some("refs/heads/x")));
        assert_eq!(meant("not a commit\tHEAD\n", ""), None);
    }
}
