//! What a path of a request means. Pure: the path's text goes in, an endpoint with checked names comes out.
//!
//! Repository names hold slashes, so a path is read from its end.

use std::borrow::Cow;

use hyper::{Method, StatusCode};

use super::digest::Digest;
use super::gate::Intent;
use super::name::{Reference, RepositoryName, UploadId};
use super::refusal::{Code, Refusal};

/// The endpoints of the specification, with `_catalog`, which registries have beyond it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Version,
    Catalogue,
    Tags(RepositoryName),
    Manifest(RepositoryName, Reference),
    Referrers(RepositoryName, Digest),
    Blob(RepositoryName, Digest),
    Uploads(RepositoryName),
    Upload(RepositoryName, UploadId),
}

impl Endpoint {
    /// Of a path, percent-encoded as it came.
    pub fn parse(path: &str) -> Result<Endpoint, Refusal> {
        let no_page = || Refusal::new(StatusCode::NOT_FOUND, Code::Unsupported, "page not found");
        let rest = path.strip_prefix("/v2").ok_or_else(no_page)?;
        if rest.is_empty() || rest == "/" {
            return Ok(Endpoint::Version);
        }
        let rest = rest.strip_prefix('/').ok_or_else(no_page)?;
        let segments = rest.split('/').map(decode).collect::<Option<Vec<_>>>().ok_or_else(|| {
            Refusal::new(StatusCode::BAD_REQUEST, Code::NameInvalid, "the path is not encoded rightly")
        })?;
        let segments: Vec<&str> = segments.iter().map(Cow::as_ref).collect();
        let name = |name: &[&str]| name.join("/").parse::<RepositoryName>();
        Ok(match segments.as_slice() {
            ["_catalog"] => Endpoint::Catalogue,
            [repository @ .., "tags", "list"] => Endpoint::Tags(name(repository)?),
            [repository @ .., "blobs", "uploads"] | [repository @ .., "blobs", "uploads", ""] => {
                Endpoint::Uploads(name(repository)?)
            }
            [repository @ .., "blobs", "uploads", id] => {
                let id = id.parse().map_err(|()| {
                    let text = "blob upload unknown to registry";
                    Refusal::new(StatusCode::NOT_FOUND, Code::BlobUploadUnknown, text)
                })?;
                Endpoint::Upload(name(repository)?, id)
            }
            [repository @ .., "blobs", digest] => Endpoint::Blob(name(repository)?, digest.parse()?),
            [repository @ .., "manifests", reference] => {
                Endpoint::Manifest(name(repository)?, reference.parse()?)
            }
            [repository @ .., "referrers", digest] => Endpoint::Referrers(name(repository)?, digest.parse()?),
            _ => return Err(no_page()),
        })
    }

    pub fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Endpoint::Version | Endpoint::Catalogue => None,
            Endpoint::Tags(name)
            | Endpoint::Manifest(name, _)
            | Endpoint::Referrers(name, _)
            | Endpoint::Blob(name, _)
            | Endpoint::Uploads(name)
            | Endpoint::Upload(name, _) => Some(name),
        }
    }

    /// The tag or digest that is meant.
    pub fn reference(&self) -> Option<String> {
        match self {
            Endpoint::Manifest(_, reference) => Some(reference.to_string()),
            Endpoint::Referrers(_, digest) | Endpoint::Blob(_, digest) => Some(digest.to_string()),
            _ => None,
        }
    }

    /// What a method wants to do here; refuses methods that the endpoint doesn't have.
    pub fn action(&self, method: &Method) -> Result<Intent, Refusal> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let (action, allowed) = match self {
            Endpoint::Version => (reads.then_some(Intent::Version), "GET, HEAD"),
            Endpoint::Catalogue => (reads.then_some(Intent::Catalogue), "GET, HEAD"),
            Endpoint::Tags(_) | Endpoint::Referrers(..) => (reads.then_some(Intent::Read), "GET, HEAD"),
            Endpoint::Manifest(..) => match *method {
                Method::PUT => (Some(Intent::Write), ""),
                Method::DELETE => (Some(Intent::Delete), ""),
                _ => (reads.then_some(Intent::Read), "GET, HEAD, PUT, DELETE"),
            },
            Endpoint::Blob(..) => match *method {
                Method::DELETE => (Some(Intent::Delete), ""),
                _ => (reads.then_some(Intent::Read), "GET, HEAD, DELETE"),
            },
            Endpoint::Uploads(_) => ((*method == Method::POST).then_some(Intent::Write), "POST"),
            // Who cancels an upload takes nothing away that was anybody else's.
            Endpoint::Upload(..) => {
                let known = matches!(*method, Method::GET | Method::PATCH | Method::PUT | Method::DELETE);
                (known.then_some(Intent::Write), "GET, PATCH, PUT, DELETE")
            }
        };
        action.ok_or_else(|| Refusal::not_allowed(allowed))
    }
}

/// Undoes percent-encoding; none when what comes out is no text, or was not encoded rightly.
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(text.into());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::from)
}

/// The values of a query's parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(query: Option<&str>) -> Result<Query, Refusal> {
        let bad =
            || Refusal::new(StatusCode::BAD_REQUEST, Code::Unsupported, "the query is not encoded rightly");
        let mut pairs = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let plain = |text: &str| decode(&text.replace('+', " ")).map(Cow::into_owned);
            pairs.push((plain(key).ok_or_else(bad)?, plain(value).ok_or_else(bad)?));
        }
        Ok(Query(pairs))
    }

    /// The first value of a key; an empty one counts as none.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    pub fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(name, value)| name == key && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn paths() {
        let name = |text: &str| text.parse::<RepositoryName>().unwrap();
        let id = "01234567-89ab-4def-8123-456789abcdef";
        for (path, endpoint) in [
            ("/v2/", Endpoint::Version),
            ("/v2", Endpoint::Version),
            ("/v2/_catalog", Endpoint::Catalogue),
            ("/v2/a/b/tags/list", Endpoint::Tags(name("a/b"))),
            ("/v2/tags/list/tags/list", Endpoint::Tags(name("tags/list"))),
            ("/v2/a/manifests/latest", Endpoint::Manifest(name("a"), "latest".parse().unwrap())),
            ("/v2/a/blobs/sha256%3a", Endpoint::Version),
            ("/v2/a/blobs/uploads/", Endpoint::Uploads(name("a"))),
            ("/v2/a/blobs/uploads", Endpoint::Uploads(name("a"))),
            ("/v2/blobs/uploads/blobs/uploads/", Endpoint::Uploads(name("blobs/uploads"))),
            (&format!("/v2/a/blobs/uploads/{id}"), Endpoint::Upload(name("a"), id.parse().unwrap())),
            (&format!("/v2/a/blobs/{DIGEST}"), Endpoint::Blob(name("a"), DIGEST.parse().unwrap())),
            (
                &format!("/v2/a/blobs/{}", DIGEST.replace(':', "%3A")),
                Endpoint::Blob(name("a"), DIGEST.parse().unwrap()),
            ),
            (&format!("/v2/a/referrers/{DIGEST}"), Endpoint::Referrers(name("a"), DIGEST.parse().unwrap())),
        ] {
            match Endpoint::parse(path) {
                Ok(found) => assert_eq!(found, endpoint, "{path}"),
                Err(refusal) => assert_eq!((refusal.status.as_u16(), path), (400, "/v2/a/blobs/sha256%3a")),
            }
        }
    }

    #[test]
    fn tricks_with_paths() {
        for (path, status) in [
            ("", 404),
            ("/", 404),
            ("/v1/", 404),
            ("/v2x", 404),
            ("/v2/a", 404),
            ("/v2/../../etc/passwd", 404),
            ("/v2/../manifests/x", 400),
            ("/v2/%2e%2e/manifests/x", 400),
            ("/v2/a%2f..%2fb/manifests/x", 400),
            ("/v2//manifests/x", 400),
            ("/v2/a/manifests/..", 400),
            ("/v2/a/manifests/%2e%2e%2fx", 400),
            ("/v2/a/manifests/x%00", 400),
            ("/v2/a/manifests/%zz", 400),
            ("/v2/a/manifests/%+1", 400),
            ("/v2/a/manifests/%ff", 400),
            ("/v2/a/blobs/..", 400),
            ("/v2/a/blobs/uploads/../x", 404),
            ("/v2/a/blobs/uploads/..", 404),
            ("/v2/tags/list", 400),
        ] {
            let refusal = Endpoint::parse(path).expect_err(path);
            assert_eq!(refusal.status.as_u16(), status, "{path}");
        }
    }

    #[test]
    fn methods() {
        let blob = Endpoint::Blob("a".parse().unwrap(), DIGEST.parse().unwrap());
        assert_eq!(blob.action(&Method::HEAD).unwrap(), Intent::Read);
        assert_eq!(blob.action(&Method::DELETE).unwrap(), Intent::Delete);
        let refusal = blob.action(&Method::PUT).unwrap_err();
        assert_eq!((refusal.status.as_u16(), refusal.headers.len()), (405, 1));
    }

    #[test]
    fn queries() {
        let query = Query::parse(Some("tag=1&tag=b%2Bc&n=&last=x+y&flag")).unwrap();
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["1", "b+c"]);
        assert_eq!((query.get("last"), query.get("n"), query.get("flag")), (Some("x y"), None, None));
        assert!(Query::parse(Some("a=%f")).is_err());
    }
}
