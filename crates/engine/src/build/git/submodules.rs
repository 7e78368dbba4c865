//! Submodules: whose commits belong where, as `.gitmodules` says. By the protocols of repositories elsewhere alone.

use std::collections::HashMap;

use corten_build::{Error, Repository, Result};

use super::Commit;
use super::listing::Link;
use super::visit::Visit;

/// A repository that is a part of another one.
pub struct Module {
    pub repository: Repository,
    pub commit: String,
    /// Below the files of the whole.
    pub place: String,
    pub depth: usize,
}

/// What `.gitmodules` says of one.
#[derive(Default)]
struct Entry {
    path: String,
    url: String,
    is_left_out: bool,
}

/// The submodules of a commit whose files lie at a place.
pub async fn of(
    visit: &Visit<'_>,
    commit: &Commit,
    place: &str,
    links: Vec<Link>,
    depth: usize,
) -> Result<Vec<Module>> {
    if links.is_empty() || visit.repository.skips_submodules {
        return Ok(Vec::new());
    }
    let (directory, blob) = (visit.directory(), format!("--blob={}^{{commit}}:.gitmodules", commit.object));
    let listed = visit.git.run(&[&directory, "config", &blob, "-z", "--list"]).await;
    let listed = listed.map_err(|failure| {
        failure.told(&format!("{}: cannot read its .gitmodules", visit.repository.shown()))
    })?;
    let known = entries(&String::from_utf8_lossy(&listed));
    let mut modules = Vec::new();
    for Link { path, commit } in links {
        let entry = known.iter().find(|entry| entry.path == path);
        let entry = entry.filter(|entry| !entry.url.is_empty()).ok_or_else(|| {
            Error::Invalid(format!(
                "{}: no url found for submodule path {path:?} in .gitmodules",
                visit.repository.shown()
            ))
        })?;
        if entry.is_left_out {
            continue;
        }
        let repository = elsewhere(visit.repository, &entry.url)
            .map_err(|error| Error::Invalid(format!("the submodule {path}: {error}")))?;
        let place = if place.is_empty() { path } else { format!("{place}/{path}") };
        modules.push(Module { repository, commit, place, depth });
    }
    Ok(modules)
}

/// From `submodule.<name>.<key>`, a newline and the value, each ended by a zero; the last of a key counts.
fn entries(listed: &str) -> Vec<Entry> {
    let mut entries: HashMap<&str, Entry> = HashMap::new();
    for (key, value) in listed.split('\0').filter_map(|pair| pair.split_once('\n')) {
        let Some((name, key)) = key.strip_prefix("submodule.").and_then(|rest| rest.rsplit_once('.')) else {
            continue;
        };
        let entry = entries.entry(name).or_default();
        match key {
            "path" => value.trim_end_matches('/').clone_into(&mut entry.path),
            "url" => value.clone_into(&mut entry.url),
            "update" => entry.is_left_out = value == "none",
            _ => {}
        }
    }
    entries.into_values().collect()
}

/// The repository at a URL, which may be relative to that of the whole.
fn elsewhere(whole: &Repository, url: &str) -> Result<Repository> {
    if !url.starts_with("./") && !url.starts_with("../") {
        return Repository::at(url);
    }
    let mut base = whole.url.trim_end_matches('/').to_owned();
    let mut separator = '/';
    let mut rest = url;
    loop {
        if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("../") {
            rest = after;
            let at = base.rfind(['/', ':']).filter(|at| !base[..*at].ends_with(['/', ':']));
            let at = at.ok_or_else(|| Error::Invalid(format!("{url} leads out of {}", whole.url)))?;
            separator = if base[at..].starts_with(':') { ':' } else { '/' };
            base.truncate(at);
        } else {
            break;
        }
    }
    let user = whole.user.clone();
    Ok(Repository { user, ..Repository::at(&format!("{base}{separator}{rest}"))? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_urls_are_those_beside_the_whole() {
        let at = |url: &str| Repository::at(url).unwrap();
        for (whole, url, wanted) in [
            ("https://host/a/b.git", "../c.git", "https://host/a/c.git"),
            ("https://host/a/b.git", "../../x/c", "https://host/x/c"),
            ("https://host/a/b.git/", "./c", "https://host/a/b.git/c"),
            ("git@host:b.git", "../c.git", "git@host:c.git"),
            ("git@host:a/b.git", "../c.git", "git@host:a/c.git"),
            ("git@host:a/b.git", "git://other/c", "git://other/c"),
        ] {
            assert_eq!(elsewhere(&at(whole), url).unwrap().url, wanted, "{whole} {url}");
        }
        for url in ["../../../../x", "file:///etc", "/etc", "-u", "ext::sh -c x", "../../../etc"] {
            assert!(elsewhere(&at("https://host/a.git"), url).is_err(), "{url}");
        }
    }

    #[test]
    fn what_modules_are_is_read() {
        let read = entries(
            "submodule.a.b.path\nx\0submodule.a.b.url\nhttps://h/x\0core.x\ny\0submodule.a.b.update\nnone\0",
        );
        assert_eq!(read.len(), 1);
        assert!(
            (read[0].path.as_str(), read[0].url.as_str(), read[0].is_left_out) == ("x", "https://h/x", true)
        );
    }
}
