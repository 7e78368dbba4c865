//! `ADD URL`: files of other hosts, by what they hold.

use std::time::SystemTime;

use corten_image::Digest;

use crate::dockerfile::Add;
use crate::error::{Error, Result};
use crate::stage::Running;
use crate::vertex::Told;
use crate::worker::Fetched;

/// A file of another host that an instruction names.
pub struct Remote {
    pub url: String,
    pub expected: Option<Digest>,
    /// What it is called in a directory.
    pub name: String,
    pub fetched: Fetched,
}

impl Running<'_> {
    /// Asks whether a file is as it was, and fetches it where that isn't known.
    pub async fn remote(&self, add: &Add, url: &str, told: &Told) -> Result<Remote> {
        let expected = match &add.checksum {
            None => None,
            Some(text) => {
                let text = self.word(text)?;
                let digest = text.parse::<Digest>();
                Some(digest.map_err(|_| {
                    Error::Invalid(format!(
                        "invalid checksum {text:?} of {url}: write sha256: and 64 hexadecimal digits"
                    ))
                })?)
            }
        };
        let (url, name) = (url.to_owned(), name_of(url));
        let started = SystemTime::now();
        let wants_file = self.build.is_uncached(self.index);
        let fetched = self.build.worker.fetch(&url, expected.as_ref(), wants_file).await?;
        let remote = Remote { url, expected, name, fetched };
        if remote.fetched.tree.is_some() {
            remote.tell(told, started).await?;
        }
        Ok(remote)
    }

    /// Sees to it that the file itself is here; tells whether it had to be fetched for that. It may have become another one.
    pub async fn bring(&self, remote: &mut Remote, told: &Told) -> Result<bool> {
        if remote.fetched.tree.is_some() {
            return Ok(false);
        }
        let started = SystemTime::now();
        remote.fetched = self.build.worker.fetch(&remote.url, remote.expected.as_ref(), true).await?;
        remote.tell(told, started).await?;
        Ok(true)
    }
}

impl Remote {
    async fn tell(&self, told: &Told, started: SystemTime) -> Result<()> {
        told.done(format!("downloading {}", self.name), self.fetched.bytes, started).await
    }
}

/// The last part of the path, as Docker has it.
fn name_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once('/').map_or("", |(_, path)| path);
    let name = decoded(path.trim_end_matches('/').rsplit('/').next().unwrap_or_default());
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

/// A text in which `%41` is `A` (RFC 3986, section 2.1).
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|byte| *byte != 0) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
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
