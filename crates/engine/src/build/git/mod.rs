//! Repositories of other hosts (`ADD git-URL`, contexts), by the host's `git`: one question for what a reference means, then the commit alone
//! is fetched, and its files are taken out as an archive. So git never writes a stranger's files, and links in them lead nowhere.
//!
//! Files are known by their commit. What is fetched goes with the build; what stays is a note (`urls`) of how old the commit is.

mod listing;
mod program;
mod submodules;

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use corten_api::base64;
use corten_build::{Asker, Error, Fetched, Repository, Result, Tree, is_commit};
use corten_image::Digest;
use corten_image::files::{Owner, Plain, UnpackOptions, unpack};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::agent::{self, Served};
use super::context::Scratch;
use super::fetch::Known;
use super::told;
use crate::Engine;
use listing::Link;
pub use program::end_leftovers;
use program::{Failure, Git};

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

/// A visit to one repository.
struct Visit<'v> {
    repository: &'v Repository,
    git: Git,
    /// Its directory beside the files.
    directory: String,
    _agent: Option<Served>,
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

impl Visit<'_> {
    /// The commit that the reference means, as the other side says.
    async fn resolve(&self) -> Result<Commit> {
        let reference = &self.repository.reference;
        if is_commit(reference) {
            return Ok(Commit { object: reference.clone(), ..Commit::default() });
        }
        let peeled = format!("{reference}^{{}}");
        let wanted = match reference.as_str() {
            "" => vec!["ls-remote", "--symref", "origin", "HEAD"],
            reference => vec!["ls-remote", "origin", reference, &peeled],
        };
        let answer = self.git.run(&wanted).await.map_err(|failure| self.failed(failure))?;
        meant(&String::from_utf8_lossy(&answer), reference).ok_or_else(|| {
            let what = if reference.is_empty() { "default branch" } else { "ref" };
            Error::Invalid(format!("{}: repository does not contain {what} {reference}", self.repository.url))
        })
    }

    /// Whether it is the commit that is expected.
    fn check(&self, commit: &Commit) -> Result<()> {
        let Some(expected) = &self.repository.checksum else { return Ok(()) };
        if [commit.object.as_str(), commit.id()].iter().any(|id| id.starts_with(expected)) {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "{}: expected checksum to match {expected}, got {}: another commit is there than the Dockerfile means",
            self.repository.shown(),
            commit.id()
        )))
    }

    /// Brings the commit alone; gives its time in Unix seconds.
    async fn fetch(&self, commit: &Commit) -> Result<i64> {
        let format = if commit.object.len() == 64 { "sha256" } else { "sha1" };
        let format = format!("--object-format={format}");
        let made = self.git.run(&["init", "-q", "--bare", "--template=", &format, &self.directory]).await;
        made.map_err(|failure| self.failed(failure))?;
        let mut fetched = self.fetch_with(&["--depth=1", "origin", &commit.object]).await;
        // A server of files knows nothing of a part of the history, an old one tells of nothing but what has a name.
        if said(&fetched, &["shallow", "--depth"]) {
            fetched = self.fetch_with(&["origin", &commit.object]).await;
        }
        if said(&fetched, &["not our ref", "unadvertised"]) {
            let all = ["origin", "+refs/heads/*:refs/fetched/heads/*", "+refs/tags/*:refs/fetched/tags/*"];
            fetched = self.fetch_with(&all).await;
        }
        fetched.map_err(|failure| self.failed(failure))?;
        let commit = format!("{}^{{commit}}", commit.object);
        let shown = self.git.run(&[&self.directory(), "log", "-1", "--format=%ct", &commit, "--"]).await;
        let shown = shown.map_err(|failure| self.failed(failure))?;
        let time = String::from_utf8_lossy(&shown).trim().parse::<i64>().unwrap_or(0);
        // A clock that went wrong somewhere is no reason to make files of the future.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(time.clamp(0, i64::try_from(now).unwrap_or(i64::MAX)))
    }

    async fn fetch_with(&self, what: &[&str]) -> std::result::Result<Vec<u8>, Failure> {
        let directory = self.directory();
        let start = [directory.as_str(), "fetch", "-q", "--no-tags", "--no-write-fetch-head"];
        self.git.run(&[&start[..], what].concat()).await
    }

    /// Takes out the files, of a directory alone where one is named, to a place below the files' directory; gives the places of other
    /// repositories in them. All have the same time, in Unix seconds.
    async fn take_out(
        &self,
        commit: &Commit,
        place: &str,
        subdir: &str,
        time: i64,
        bytes: &mut u64,
        entries: &mut u64,
    ) -> Result<Vec<Link>> {
        let directory = self.directory();
        let commit = format!("{}^{{commit}}", commit.object);
        let mut list = vec![directory.as_str(), "ls-tree", "-r", "-t", "-z", "--full-tree", &commit];
        if !subdir.is_empty() {
            list.extend(["--", subdir]);
        }
        let wanted = subdir.to_owned();
        let listed = self.git.read(&list, move |output| listing::read(BufReader::new(output), &wanted)).await;
        let listed = listed.map_err(|failure| self.failed(failure))?;
        *entries += listed.entries;
        if *entries > listing::ENTRIES_MAX {
            return Err(Error::Invalid(format!("{}: it has too many files", self.repository.shown())));
        }
        // What a repository says of its archives does not count: these are its files.
        let attributes = self.git.scratch.path().join(&self.directory).join("info");
        std::fs::create_dir_all(&attributes).map_err(|error| kept(&error))?;
        std::fs::write(attributes.join("attributes"), "* -export-ignore -export-subst\n")
            .map_err(|error| kept(&error))?;
        let target = self.git.scratch.path().join(FILES);
        let root = below(&target, place)
            .map_err(|error| Error::Invalid(format!("the submodule {place} has no place: {error}")))?;
        let mut archive = vec![directory.as_str(), "archive", "--format=tar", &commit];
        if !subdir.is_empty() {
            archive.extend(["--", subdir]);
        }
        let (most, shown) = (BYTES_MAX - *bytes, self.repository.shown());
        let taken = self.git.read(&archive, move |output| unpacked(output, &root, most, time, &shown)).await;
        *bytes += taken.map_err(|failure| self.failed(failure))?;
        Ok(listed.links)
    }

    /// Puts the repository's own directory to its files, as after a clone of this commit alone.
    async fn keep(&self, commit: &Commit, time: i64, files: &Path) -> Result<()> {
        let directory = self.directory();
        let mut steps = vec![vec!["update-ref", "--no-deref", "HEAD", commit.id()]];
        if let Some(name) = &commit.name {
            steps.push(vec!["update-ref", name, &commit.object]);
        }
        steps.push(vec!["read-tree", commit.id()]);
        for step in steps {
            let ran = self.git.run(&[&[directory.as_str()], &step[..]].concat()).await;
            ran.map_err(|failure| self.failed(failure))?;
        }
        let own = self.git.scratch.path().join(&self.directory);
        let extension = match commit.object.len() {
            64 => "1\n[extensions]\n\tobjectFormat = sha256\n[core]",
            _ => "0",
        };
        let config = format!(
            "[core]\n\trepositoryformatversion = {extension}\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n\
             [remote \"origin\"]\n\turl = {}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n",
            self.repository.url
        );
        let kept_at = files.join(".git");
        let placed = std::fs::remove_dir_all(own.join("info"))
            .and_then(|()| std::fs::write(own.join("config"), config))
            .and_then(|()| std::fs::rename(&own, &kept_at))
            .and_then(|()| age(&kept_at, time))
            .and_then(|()| set_time(files, time));
        placed.map_err(|error| kept(&error))
    }

    fn directory(&self) -> String {
        format!("--git-dir={}", self.directory)
    }

    fn failed(&self, failure: Failure) -> Error {
        failure.told(&format!("cannot fetch {}", self.repository.shown()))
    }
}

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

/// The value of the header by which the asker is known to a host.
///
/// A secret that names the host is for all of its repositories, one that doesn't for what was asked for alone; GitHub's count as one.
async fn authorization(
    asker: &dyn Asker,
    main: &Repository,
    repository: &Repository,
) -> Result<Option<String>> {
    let host = repository.host();
    let github = "https://github.com/";
    let is_meant =
        main.url == repository.url || (main.url.starts_with(github) && repository.url.starts_with(github));
    let named = [format!("GIT_AUTH_HEADER.{host}"), format!("GIT_AUTH_TOKEN.{host}")];
    let bare = ["GIT_AUTH_HEADER".to_owned(), "GIT_AUTH_TOKEN".to_owned()];
    let names = named.into_iter().chain(bare.into_iter().filter(|_| is_meant));
    for name in names {
        let Some(bytes) = asker.secret(&name).await? else { continue };
        let text = String::from_utf8(bytes).unwrap_or_default();
        let text = text.trim();
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(Error::Invalid(format!("the secret {name} is no header: it is one line of text")));
        }
        return Ok(Some(match name.starts_with("GIT_AUTH_TOKEN") {
            true => basic(&format!("x-access-token:{text}")),
            false => text.to_owned(),
        }));
    }
    let user = repository.user.as_ref();
    Ok(user.map(|user| if user.contains(':') { basic(user) } else { basic(&format!("{user}:")) }))
}

fn basic(user: &str) -> String {
    format!("Basic {}", base64::encode(user.as_bytes()))
}

/// Unpacks an archive of git's; gives its bytes.
fn unpacked(output: impl Read, root: &OwnedFd, most: u64, time: i64, shown: &str) -> Result<u64> {
    let mut limited = output.take(most + 1);
    let owner = Owner::Fixed { uid: 0, gid: 0 };
    let options = UnpackOptions { owner, ..UnpackOptions::default() };
    let done = unpack(root, b"/", Plain(BufReader::new(&mut limited)), &options);
    if limited.limit() == 0 {
        return Err(Error::Invalid(format!("{shown}: its files are larger than {} GiB", BYTES_MAX >> 30)));
    }
    let bytes = most + 1 - limited.limit();
    // Git pads its archives: it is to be heard to its end.
    std::io::copy(&mut limited, &mut std::io::sink()).map_err(|error| kept(&error))?;
    done.map_err(|error| Error::Invalid(format!("{shown}: cannot take out its files: {error}")))?;
    set_time_of(root, time).map_err(|error| kept(&error))?;
    Ok(bytes)
}

/// A directory below another one, to which no link leads.
fn below(above: &Path, path: &str) -> std::io::Result<OwnedFd> {
    let root = File::open(above)?;
    let path = if path.is_empty() { "." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// Gives a directory of ours and all in it one time.
fn age(directory: &Path, time: i64) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path: PathBuf = entry?.path();
        match path.symlink_metadata()?.is_dir() {
            true => age(&path, time)?,
            false => set_time(&path, time)?,
        }
    }
    set_time(directory, time)
}

fn set_time(path: &Path, time: i64) -> std::io::Result<()> {
    set_time_of(&File::open(path)?, time)
}

fn set_time_of(file: &impl std::os::fd::AsFd, time: i64) -> std::io::Result<()> {
    let time = rustix::fs::Timespec { tv_sec: time, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::futimens(file, &times)?)
}

/// Whether git has failed with one of these words.
fn said<T>(outcome: &std::result::Result<T, Failure>, words: &[&str]) -> bool {
    matches!(outcome, Err(Failure::Said(said)) if words.iter().any(|word| said.contains(word)))
}

fn kept(error: &std::io::Error) -> Error {
    Error::Internal(format!("cannot keep the files of a repository: {error}"))
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
