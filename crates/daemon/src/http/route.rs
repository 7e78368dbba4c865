//! Routes as data, and finding one. A pattern's `{name}` takes one segment of a path, `{name...}` one or more: image
//! names hold slashes in the middle of a path (`/images/{name...}/json`), which the usual routers don't know.

use super::{ApiVersion, Call, Reply};
use hyper::Method;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

pub type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Reply> + Send>>;

/// How far an endpoint is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Works,
    /// Answers as an engine without Swarm or plugins does.
    Declined,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Works => "works",
            Self::Declined => "declined",
        })
    }
}

/// One line of the table in `routes`.
pub struct Route {
    pub method: Method,
    pub pattern: &'static str,
    /// The first API version that has it.
    pub since: ApiVersion,
    pub state: State,
    pub about: &'static str,
    pub handler: Handler,
}

impl Route {
    /// Whether it changes something, and so has to come to its end even when the client goes away in the middle.
    pub fn outlives_client(&self) -> bool {
        self.method != Method::GET && self.method != Method::HEAD && self.pattern != "/containers/{id}/wait"
    }
}

/// What the placeholders of a pattern stand for.
pub type Captures = Vec<(&'static str, String)>;

/// The first route of the table that fits; a later one never does when patterns are listed from special to general.
pub fn find<'t>(table: &'t [Route], method: &Method, path: &str) -> Option<(&'t Route, Captures)> {
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    table
        .iter()
        .filter(|route| route.method == *method)
        .find_map(|route| captures(route.pattern, &segments).map(|captured| (route, captured)))
}

fn captures(pattern: &'static str, segments: &[&str]) -> Option<Captures> {
    let wanted: Vec<&'static str> = pattern.trim_start_matches('/').split('/').collect();
    // A long placeholder takes what the others leave; there is at most one in a pattern.
    let surplus = segments.len().checked_sub(wanted.len())?;
    let mut captured = Captures::new();
    let mut at = 0;
    for want in wanted {
        let Some(name) = want.strip_prefix('{').and_then(|w| w.strip_suffix('}')) else {
            if segments[at] != want {
                return None;
            }
            at += 1;
            continue;
        };
        let (name, taken) = match name.strip_suffix("...") {
            Some(name) => (name, 1 + surplus),
            None => (name, 1),
        };
        let text = segments[at..at + taken].join("/");
        if text.is_empty() {
            return None;
        }
        captured.push((name, super::parameters::decode(&text, false).into_owned()));
        at += taken;
    }
    (at == segments.len()).then_some(captured)
}
