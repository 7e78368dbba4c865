//! `ADD URL`: files of other hosts, by what they hold, and repositories, by their commits.

use std::time::SystemTime;

use corten_image::Digest;

use crate::dockerfile::Add;
use crate::error::{Error, Result};
use crate::material::Material;
use crate::pattern;
use crate::repository::{Repository, decoded};
use crate::stage::Running;
use crate::vertex::Told;
use crate::worker::Fetched;

/// What an instruction names of another host.
pub struct Remote {
    pub origin: Origin,
    pub fetched: Fetched,
}

pub enum Origin {
    File {
        url: String,
        expected: Option<Digest>,
        /// What it is called in a directory.
        name: String,
    },
    Repository(Repository),
}

impl Running<'_> {
    /// Asks whether something is as it was, and fetches it where that isn't known.
    pub async fn remote(&self, origin: Origin, told: &Told) -> Result<Remote> {
        let started = SystemTime::now();
        let wants_files = self.build.is_uncached(self.index);
        let fetched = self.fetch(&origin, wants_files).await?;
        let remote = Remote { origin, fetched };
        if remote.fetched.tree.is_some() {
            remote.tell(told, started).await?;
        }
        Ok(remote)
    }

    /// Sees to it that the files themselves are here; tells whether they had to be fetched for that. They may have become others.
    pub async fn bring(&self, remote: &mut Remote, told: &Told) -> Result<bool> {
        if remote.fetched.tree.is_some() {
            return Ok(false);
        }
        let started = SystemTime::now();
        remote.fetched = self.fetch(&remote.origin, true).await?;
        remote.tell(told, started).await?;
        Ok(true)
    }

    async fn fetch(&self, origin: &Origin, wants_files: bool) -> Result<Fetched> {
        let worker = &self.build.worker;
        let fetched = match origin {
            Origin::File { url, expected, .. } => worker.fetch(url, expected.as_ref(), wants_files).await?,
            Origin::Repository(repository) => worker.repository(repository, wants_files).await?,
        };
        self.build.note(match origin {
            Origin::File { url, .. } => Material::file(url, &fetched.digest),
            Origin::Repository(repository) => Material::git(repository, &fetched),
        });
        Ok(fetched)
    }

    /// What a source of ADD means; none where it is no URL.
    pub fn origin(&self, add: &Add, source: &str) -> Result<Option<Origin>> {
        let checksum = add.checksum.as_ref().map(|text| self.word(text)).transpose()?;
        if let Some(repository) = Repository::parse(source) {
            let mut repository = repository?;
            if let Some(text) = &checksum {
                repository.expect(text)?;
            }
            match (add.keep_git_dir, repository.keep_git_dir) {
                (Some(flag), Some(query)) if flag != query => {
                    return Err(Error::Invalid(format!(
                        "{}: --keep-git-dir={flag} and keep-git-dir={query} contradict each other",
                        repository.url
                    )));
                }
                (flag, query) => repository.keep_git_dir = flag.or(query),
            }
            return Ok(Some(Origin::Repository(repository)));
        }
        if !pattern::is_url(source) {
            return Ok(None);
        }
        let expected = checksum.map(|text| {
            text.parse::<Digest>().map_err(|_| {
                Error::Invalid(format!(
                    "invalid checksum {text:?} of {source}: write sha256: and 64 hexadecimal digits"
                ))
            })
        });
        let expected = expected.transpose()?;
        Ok(Some(Origin::File { url: source.to_owned(), expected, name: name_of(source) }))
    }
}

impl Remote {
    async fn tell(&self, told: &Told, started: SystemTime) -> Result<()> {
        let what = match &self.origin {
            Origin::File { name, .. } => format!("downloading {name}"),
            Origin::Repository(repository) => format!("fetching {}", repository.shown()),
        };
        told.done(what, self.fetched.bytes, started).await
    }
}

/// The last part of the path, as Docker has it.
pub fn name_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once('/').map_or("", |(_, path)| path);
    let name = decoded(path.trim_end_matches('/').rsplit('/').next().unwrap_or_default(), false);
    match name.as_str() {
        "" | "." | ".." => "__unnamed__".to_owned(),
        // What a `%2f` has become leads nowhere.
        name => name
            .rsplit('/')
            .next()
            .filter(|name| !matches!(*name, "" | "." | ".."))
            .unwrap_or("__unnamed__")
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_as_their_urls_end() {
        for (url, name) in [
            ("https://a/b/c.tar.gz?x=/y#z", "c.tar.gz"),
            ("http://a/b/", "b"),
            ("http://a", "__unnamed__"),
            ("http://a/", "__unnamed__"),
            ("http://a/x%20y", "x y"),
            ("http://a/x%2f..", "__unnamed__"),
            ("http://a/..%2f..%2fetc%2fpasswd", "passwd"),
            ("http://a/%00%zz", "%00%zz"),
        ] {
            assert_eq!(name_of(url), name, "{url}");
        }
    }
}
