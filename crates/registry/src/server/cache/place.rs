//! Where a request belongs: `/v2/docker.io/library/nginx/…` is the usual way to say it. Who takes this for the mirror of a single
//! registry says which one before `/v2/` (`/docker.io/v2/library/nginx/…`), behind (`?ns=docker.io`, as containerd does), or by
//! where it comes in (Docker's engine). Pure.

use std::borrow::Cow;

use crate::server::route::Query;

/// The path of a request as if it had been asked in the usual way. A name that is no upstream's stays what it is: `ns` is also said
/// to registries that mirror nothing.
pub fn of<'p>(
    path: &'p str,
    query: Option<&str>,
    mirror_of: Option<&str>,
    is_upstream: impl Fn(&str) -> bool,
) -> Cow<'p, str> {
    let below = |upstream: &str, rest: &str| Cow::Owned(format!("/v2/{upstream}/{rest}"));
    if let Some((upstream, rest)) = path.strip_prefix('/').and_then(|path| path.split_once('/'))
        && let Some(rest) = rest.strip_prefix("v2").filter(|_| is_upstream(upstream))
    {
        return match rest {
            "" | "/" => Cow::Borrowed("/v2/"),
            _ => rest.strip_prefix('/').map_or(Cow::Borrowed(path), |rest| below(upstream, rest)),
        };
    }
    let Some(rest) = path.strip_prefix("/v2/").filter(|rest| !rest.is_empty()) else {
        return Cow::Borrowed(path);
    };
    // Links that we have given have the whole name.
    let is_below = |upstream: &str| rest.strip_prefix(upstream).is_some_and(|rest| rest.starts_with('/'));
    if let Some(upstream) = mirror_of {
        return if is_below(upstream) { Cow::Borrowed(path) } else { below(upstream, rest) };
    }
    // A query that makes no sense is the handler's to refuse.
    let query = Query::parse(query).unwrap_or_default();
    match query.get("ns").filter(|ns| is_upstream(ns)) {
        Some(ns) if !is_below(ns) && rest != "_catalog" => below(ns, rest),
        _ => Cow::Borrowed(path),
    }
}

#[cfg(test)]
mod tests {

    #[test]
    fn three_ways_to_say_it() {
        let of_door = |path, mirror_of| super::of(path, None, mirror_of, |_| true).into_owned();
        let of = |path, query| super::of(path, query, None, |name| name == "docker.io").into_owned();
        let there = "/v2/docker.io/library/nginx/manifests/1";
        for (path, query) in [
            (there, None),
            ("/docker.io/v2/library/nginx/manifests/1", None),
            ("/v2/library/nginx/manifests/1", Some("ns=docker.io")),
            (there, Some("ns=docker.io")),
        ] {
            assert_eq!(of(path, query), there, "{path} {query:?}");
        }
        for path in ["/v2/library/nginx/manifests/1", there] {
            assert_eq!(of_door(path, Some("docker.io")), there);
        }
        assert_eq!(of_door("/v2/_catalog", Some("docker.io")), "/v2/docker.io/_catalog");
        assert_eq!(of_door("/v2/", Some("docker.io")), "/v2/");
        for (path, query) in [
            ("/v2/library/nginx/manifests/1", Some("ns=ghcr.io")),
            ("/v2/library/nginx/manifests/1", Some("ns=%f")),
            ("/ghcr.io/v2/library/nginx/manifests/1", None),
            ("/docker.io/v2x/library/nginx/manifests/1", None),
            ("/v2/_catalog", Some("ns=docker.io")),
            ("/v2/", Some("ns=docker.io")),
            ("/docker.io", None),
        ] {
            assert_eq!(of(path, query), path);
        }
        assert_eq!((of("/docker.io/v2/", None), of("/docker.io/v2", None)), ("/v2/".into(), "/v2/".into()));
    }
}
