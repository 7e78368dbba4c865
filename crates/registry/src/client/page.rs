//! A file of any web server, by its URL: redirects are followed, a name and a password in the URL are shown to its own host alone.

use bytes::Bytes;
use corten_api::base64;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};

use super::origin::{Channel, Origin};
use super::payload::Payload;
use super::proxies::unescaped;
use super::transport::{Answer, Request, without_query};
use super::{Client, redirect, tokens};
use crate::{Error, Result};

/// The head of an answer, whatever its status; the body can be read.
pub struct Page {
    answer: Answer,
}

impl Client {
    /// Gets what is at a URL of http or https. `headers` go to wherever redirects lead, but for those that tell who we are.
    ///
    /// # Errors
    /// When there is no answer, or redirects lead in circles or from https to http. Every status is an answer.
    pub async fn page(&self, url: &str, headers: &[(&'static str, &str)]) -> Result<Page> {
        let (url, user) = without_user(url)?;
        let mut sent = HeaderMap::new();
        for &(name, value) in headers {
            let odd = |_| Error::Protocol {
                url: url.to_string(),
                why: format!("{name}: a header that is no text"),
            };
            sent.insert(HeaderName::from_static(name), HeaderValue::from_str(value).map_err(odd)?);
        }
        if let Some(user) = user {
            let value = format!("Basic {}", base64::encode(&user));
            sent.insert(AUTHORIZATION, tokens::secret(&value, &url.to_string())?);
        }
        let mut channel = match url.scheme_str() {
            Some("https") => Channel::Proven,
            _ => Channel::Plain,
        };
        let transport = &self.shared.transport;
        let patience = transport.options().patience.answer;
        let mut url = url;
        for _ in 0..=redirect::REDIRECTS_MAX {
            let request = Request {
                method: Method::GET,
                url: url.clone(),
                channel,
                headers: sent.clone(),
                payload: Payload::Nothing,
                patience,
            };
            let answer = transport.send(request).await?;
            let Some(target) = redirect::target(&answer, &Method::GET, true)? else {
                return Ok(Page { answer });
            };
            let from = Origin::of_url(&url, channel);
            channel = redirect::channel(&url, channel, &target, false)?;
            if from
                .zip(Origin::of_url(&target, channel))
                .is_none_or(|(from, to)| !redirect::keeps_credentials(&from, &to))
            {
                redirect::strip(&mut sent);
            }
            answer.dismiss().await;
            url = target;
        }
        Err(Error::Protocol {
            url: url.to_string(),
            why: format!("more than {} redirects", redirect::REDIRECTS_MAX),
        })
    }
}

/// A URL as it may be told, and the name and password that it has.
fn without_user(text: &str) -> Result<(Uri, Option<Vec<u8>>)> {
    let odd = |url: &str, why: &'static str| Error::Protocol { url: url.to_owned(), why: why.to_owned() };
    let (scheme, rest) = text.split_once("://").ok_or_else(|| odd(text, "it is no URL"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(unescaped(user)), host),
        None => (None, authority),
    };
    let bare = format!("{scheme}://{host}{path}");
    let url: Uri = bare.parse().map_err(|_| odd(&bare, "it is no URL"))?;
    let is_web = matches!(url.scheme_str(), Some("http" | "https"));
    if !is_web || url.host().is_none_or(str::is_empty) {
        return Err(odd(&bare, "it is no URL of http or https"));
    }
    Ok((url, user))
}

impl Page {
    pub fn status(&self) -> u16 {
        self.answer.status.as_u16()
    }

    /// `404 Not Found`
    pub fn said(&self) -> String {
        self.answer.status.to_string()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.answer.header(name)
    }

    /// Where it came from in the end, without what may be a secret in its query.
    pub fn url(&self) -> String {
        without_query(&self.answer.url.to_string()).to_owned()
    }

    /// What is still to come, where the other side has said so.
    pub fn bytes_left(&self) -> Option<u64> {
        self.answer.body.bytes_left()
    }

    /// The next bytes, none at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.answer.body.chunk().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_named_is_no_part_of_the_url() {
        let read = |text: &str| without_user(text).map(|(url, user)| (url.to_string(), user));
        assert_eq!(read("http://a/b?c#d").unwrap(), ("http://a/b?c".to_owned(), None));
        let (url, user) = read("https://joe:p%40ss@host:81/x@y").unwrap();
        assert_eq!((url.as_str(), user.as_deref()), ("https://host:81/x@y", Some(&b"joe:p@ss"[..])));
        for wrong in ["ftp://a/b", "http:///b", "/b", "http://a b/"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
