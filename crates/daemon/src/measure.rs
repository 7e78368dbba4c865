//! Which requests are measured as actions, under the names that Docker's metrics have for them.

use corten_engine::Noun;
use hyper::Method;

/// Method, route, what is done to what. Requests that last as long as somebody listens are no actions.
const ACTIONS: &[(&str, &str, Noun, &str)] = &[
    ("POST", "/containers/create", Noun::Container, "create"),
    ("POST", "/containers/{id}/start", Noun::Container, "start"),
    ("POST", "/containers/{id}/stop", Noun::Container, "stop"),
    ("POST", "/containers/{id}/restart", Noun::Container, "restart"),
    ("POST", "/containers/{id}/kill", Noun::Container, "kill"),
    ("POST", "/containers/{id}/pause", Noun::Container, "pause"),
    ("POST", "/containers/{id}/unpause", Noun::Container, "unpause"),
    ("POST", "/containers/{id}/update", Noun::Container, "update"),
    ("POST", "/containers/{id}/rename", Noun::Container, "rename"),
    ("POST", "/containers/{id}/exec", Noun::Container, "exec"),
    ("DELETE", "/containers/{id...}", Noun::Container, "delete"),
    ("POST", "/containers/prune", Noun::Container, "prune"),
    ("GET", "/containers/{id}/changes", Noun::Container, "changes"),
    ("POST", "/commit", Noun::Container, "commit"),
    ("POST", "/images/load", Noun::Image, "load"),
    ("POST", "/images/create", Noun::Image, "import"),
    ("POST", "/images/{name...}/tag", Noun::Image, "tag"),
    ("DELETE", "/images/{name...}", Noun::Image, "delete"),
    ("POST", "/images/prune", Noun::Image, "prune"),
    ("POST", "/networks/create", Noun::Network, "create"),
    ("POST", "/networks/{id}/connect", Noun::Network, "connect"),
    ("POST", "/networks/{id}/disconnect", Noun::Network, "disconnect"),
    ("DELETE", "/networks/{id}", Noun::Network, "delete"),
    ("POST", "/networks/prune", Noun::Network, "prune"),
    ("POST", "/volumes/create", Noun::Volume, "create"),
    ("DELETE", "/volumes/{name}", Noun::Volume, "delete"),
    ("POST", "/volumes/prune", Noun::Volume, "prune"),
];

/// The action that a route is, if it is one.
pub fn action(method: &Method, pattern: &str) -> Option<(Noun, &'static str)> {
    let found = ACTIONS.iter().find(|(known, route, ..)| *known == method.as_str() && *route == pattern);
    found.map(|(.., noun, action)| (*noun, *action))
}

#[cfg(test)]
mod tests {
    use super::{ACTIONS, action};
    use crate::routes::ROUTES;

    #[test]
    fn every_action_is_a_route() {
        for (method, pattern, noun, name) in ACTIONS {
            let route = ROUTES.iter().find(|r| r.method.as_str() == *method && r.pattern == *pattern);
            let route = route.unwrap_or_else(|| panic!("{method} {pattern}"));
            assert_eq!(action(&route.method, route.pattern), Some((*noun, *name)));
        }
    }
}
