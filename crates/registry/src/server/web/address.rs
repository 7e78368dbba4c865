//! Where pages are: what a path means, and links to them. Nothing of it lies below `/v2`. Pure.
//!
//! `/`, `/usage`, `/account`, `/sign-in`, `/sign-out`, `/r/REPOSITORY`, `/r/REPOSITORY/-/TAG-OR-DIGEST`, `/assets/HASH/NAME`. No part of a
//! repository's name is `-`, so what stands before `/-/` is all of it.

use std::fmt::Write;

use crate::server::digest::Digest;
use crate::server::name::{Reference, RepositoryName};
use crate::server::route::decode;

/// A page, or what belongs to pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    Repositories,
    Repository(RepositoryName),
    Image(RepositoryName, Reference),
    Usage,
    Account,
    SignIn,
    SignOut,
    /// By hash and name.
    Asset(String, String),
    /// Where browsers look for it by themselves.
    Icon,
    /// A path that pages have, but with names that nothing can have.
    Nothing,
}

impl Page {
    /// Of a path, percent-encoded as it came; none when it is no page's.
    pub fn parse(path: &str) -> Option<Page> {
        Some(match path {
            "/" => Page::Repositories,
            "/usage" => Page::Usage,
            "/account" => Page::Account,
            "/sign-in" => Page::SignIn,
            "/sign-out" => Page::SignOut,
            "/favicon.ico" => Page::Icon,
            _ => {
                if let Some(rest) = path.strip_prefix("/assets/") {
                    let (hash, name) = rest.split_once('/')?;
                    return Some(Page::Asset(hash.to_owned(), name.to_owned()));
                }
                let rest = path.strip_prefix("/r/")?;
                return Some(below(rest).unwrap_or(Page::Nothing));
            }
        })
    }

    pub fn href(&self) -> Href {
        Href(match self {
            Page::Repositories => "/".to_owned(),
            Page::Usage => "/usage".to_owned(),
            Page::Account => "/account".to_owned(),
            Page::SignIn => "/sign-in".to_owned(),
            Page::SignOut => "/sign-out".to_owned(),
            Page::Repository(name) => format!("/r/{name}"),
            Page::Image(name, reference) => format!("/r/{name}/-/{reference}"),
            Page::Asset(hash, name) => format!("/assets/{hash}/{name}"),
            Page::Icon => "/favicon.ico".to_owned(),
            Page::Nothing => "/".to_owned(),
        })
    }

    pub fn image(repository: &RepositoryName, digest: Digest) -> Page {
        Page::Image(repository.clone(), Reference::Digest(digest))
    }
}

fn below(rest: &str) -> Option<Page> {
    let rest = decode(rest)?;
    let rest = rest.strip_suffix('/').unwrap_or(&rest);
    match rest.split_once("/-/") {
        Some((name, reference)) => Some(Page::Image(name.parse().ok()?, reference.parse().ok()?)),
        None => Some(Page::Repository(rest.parse().ok()?)),
    }
}

/// Where a link leads: to one of our pages, or elsewhere by http.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Href(String);

impl Href {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// With a parameter more; an empty one is left away.
    pub fn with(mut self, key: &'static str, value: &str) -> Href {
        if !value.is_empty() {
            self.0.push(if self.0.contains('?') { '&' } else { '?' });
            self.0.push_str(key);
            self.0.push('=');
            encode(value, &mut self.0);
        }
        self
    }

    /// A place within the same page.
    pub fn anchor(name: &'static str) -> Href {
        Href(format!("#{name}"))
    }

    /// Another site, as somebody wrote it: only by http, with a host, and nothing in it that isn't a URL's.
    pub fn outside(text: &str) -> Option<Href> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"'<>\\^`{|}".contains(&byte);
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // What stands before an `@` only looks like a host.
        let fits = !host.is_empty() && !host.contains('@') && text.len() <= 1024 && text.bytes().all(plain);
        fits.then(|| Href(text.to_owned()))
    }

    /// One of our pages that somebody wants to get back to, as a request says it. Nothing that leads elsewhere.
    pub fn back(text: &str) -> Option<Href> {
        let path = text.split('?').next().unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\' && byte != b'#';
        let page = Page::parse(path).filter(|_| text.len() <= 1024 && text.bytes().all(plain))?;
        let kept =
            !matches!(page, Page::SignIn | Page::SignOut | Page::Asset(..) | Page::Icon | Page::Nothing);
        // A single slash before what isn't one: two of them begin a host's name.
        (kept && !text.starts_with("//")).then(|| Href(text.to_owned()))
    }
}

fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                into.push(char::from(byte))
            }
            other => {
                let _ = write!(into, "%{other:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn paths_lead_back_to_their_pages() {
        for path in [
            "/".to_owned(),
            "/usage".to_owned(),
            "/r/team/app".to_owned(),
            "/r/r/-/r".to_owned(),
            "/r/a/b/-/1.0".to_owned(),
            format!("/r/a/b/-/{DIGEST}"),
            "/assets/0011/style.css".to_owned(),
        ] {
            let page = Page::parse(&path).unwrap();
            assert_ne!(page, Page::Nothing, "{path}");
            assert_eq!(page.href().as_str(), path);
        }
        assert_eq!(Page::parse("/r/a/"), Page::parse("/r/a"));
        assert_eq!(
            Page::parse(&format!("/r/a/-/{}", DIGEST.replace(':', "%3A"))),
            Page::parse(&format!("/r/a/-/{DIGEST}"))
        );
        for path in [
            "/r/",
            "/r/A",
            "/r/a/-/",
            "/r/a/-/b/-/c",
            "/r/%ff",
            "/r/a/-/sha256:1",
            "/r/../v2",
            "/r/a%2F..%2Fb",
        ] {
            assert_eq!(Page::parse(path), Some(Page::Nothing), "{path}");
        }
        for path in ["", "/v2/", "/v1/search", "/usage/", "/token", "/healthz", "/assets/x", "//", "/R/a"] {
            assert_eq!(Page::parse(path), None, "{path}");
        }
    }

    #[test]
    fn links_are_what_they_should_be() {
        let href = Page::Repositories.href().with("q", "a b&c=\"<ä").with("sort", "").with("from", "50");
        assert_eq!(href.as_str(), "/?q=a%20b%26c%3D%22%3C%C3%A4&from=50");
        for text in ["https://example.org/a?b=c#d", "http://[::1]:80/"] {
            assert_eq!(Href::outside(text).unwrap().as_str(), text);
        }
        for text in [
            "javascript:alert(1)",
            "JAVASCRIPT:x",
            "data:text/html,x",
            "https://",
            "https:///x",
            " https://a",
            "https://a b",
            "https://a\"onclick=",
            "https://a\u{202e}b",
            "https://good.example@evil.example/",
            "//a",
            "ftp://a",
            "https://a\\b",
        ] {
            assert_eq!(Href::outside(text), None, "{text}");
        }
    }

    #[test]
    fn the_way_back_stays_here() {
        for text in ["/", "/?q=a", "/r/a/-/b?platform=linux/amd64", "/usage"] {
            assert_eq!(Href::back(text).unwrap().as_str(), text);
        }
        for text in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/v2/",
            "/sign-in",
            "/sign-out",
            "/r/..",
            "/?a\r\nb",
            "/ ",
        ] {
            assert_eq!(Href::back(text), None, "{text}");
        }
    }
}
