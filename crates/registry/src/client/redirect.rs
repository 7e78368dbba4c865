//! Whether a redirect is followed, and as what. Pure.

use hyper::header::{AUTHORIZATION, LOCATION};
use hyper::{Method, StatusCode, Uri};

use super::origin::{Channel, Origin, join};
use super::transport::{Answer, without_query};
use crate::{Cause, Error, Result};

pub(crate) const REDIRECTS_MAX: usize = 10;

/// Where an answer sends us: `None` when it is to be taken as it is.
pub(crate) fn target(answer: &Answer, method: &Method, is_replayable: bool) -> Result<Option<Uri>> {
    let follows = match answer.status {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => method.is_safe(),
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => is_replayable,
        _ => false,
    };
    match answer.header(LOCATION) {
        Some(location) if follows => join(&answer.url, location).map(Some),
        _ => Ok(None),
    }
}

/// By which channel to go there: never from an encrypted place to one that isn't.
pub(crate) fn channel(from: &Uri, at: Channel, to: &Uri, is_insecure: bool) -> Result<Channel> {
    let refused = |why: String| Error::Unreachable {
        url: without_query(&from.to_string()).to_owned(),
        cause: Cause::Redirect,
        why,
    };
    let place = to.authority().map(ToString::to_string).unwrap_or_default();
    match (to.scheme_str(), at) {
        (Some("https"), _) if is_insecure => Ok(Channel::Encrypted),
        (Some("https"), _) => Ok(Channel::Proven),
        (Some("http"), Channel::Plain) => Ok(Channel::Plain),
        (Some("http"), _) => Err(refused(format!(
            "it sends us from https on to http at {place}: not followed; a registry behind a proxy has to be told X-Forwarded-Proto"
        ))),
        (scheme, _) => Err(refused(format!("it sends us on to {place} by {:?}", scheme.unwrap_or_default()))),
    }
}

/// Credentials stay where they belong.
pub(crate) fn keeps_credentials(from: &Origin, to: &Origin) -> bool {
    from == to
}

/// What doesn't go along to another place.
pub(crate) fn strip(headers: &mut hyper::HeaderMap) {
    headers.remove(AUTHORIZATION);
}
