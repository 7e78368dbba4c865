//! A visit to one repository: what its reference means, the commit alone, its files.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use corten_build::{Error, Repository, Result, is_commit};
use corten_image::files::{Owner, Plain, UnpackOptions, unpack};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::listing::{self, Link};
use super::program::{Failure, Git};
use super::{BYTES_MAX, Commit, FILES, meant};
use crate::build::agent::Served;

/// A visit to one repository.
pub struct Visit<'v> {
    pub repository: &'v Repository,
    pub git: Git,
    /// Its directory beside the files.
    pub directory: String,
    /// Served as long as this is.
    pub _agent: Option<Served>,
}

impl Visit<'_> {
    /// The commit that the reference means, as the other side says.
    pub async fn resolve(&self) -> Result<Commit> {
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
    pub fn check(&self, commit: &Commit) -> Result<()> {
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
    pub async fn fetch(&self, commit: &Commit) -> Result<i64> {
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
    pub async fn take_out(
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
        let listed = listed.map_err(|failure| match failure {
            Failure::Here(Error::Invalid(why)) => {
                Error::Invalid(format!("{}: {why}", self.repository.shown()))
            }
            failure => self.failed(failure),
        })?;
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
    pub async fn keep(&self, commit: &Commit, time: i64, files: &Path) -> Result<()> {
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

    pub fn directory(&self) -> String {
        format!("--git-dir={}", self.directory)
    }

    fn failed(&self, failure: Failure) -> Error {
        failure.told(&format!("cannot fetch {}", self.repository.shown()))
    }
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
pub fn below(above: &Path, path: &str) -> std::io::Result<OwnedFd> {
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

pub fn kept(error: &std::io::Error) -> Error {
    Error::Internal(format!("cannot keep the files of a repository: {error}"))
}
