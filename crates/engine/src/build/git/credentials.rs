//! What the asker is known by to a repository's host: secrets, or the name and password of its URL.

use corten_api::base64;
use corten_build::{Asker, Error, Repository, Result};

/// The value of the header by which the asker is known to a host.
///
/// A secret that names the host is for all of its repositories, one that doesn't for what was asked for alone; GitHub's count as one.
pub async fn authorization(
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
