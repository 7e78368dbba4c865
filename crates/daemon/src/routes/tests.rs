use super::*;
use crate::http::route::{Captures, find};
use crate::http::version::split_version;
use crate::http::{ApiError, Parameters};
use crate::server::resolve;
use corten_engine::{Error as EngineError, ErrorKind};
use hyper::StatusCode;
use hyper::body::Body as _;
use proptest::prelude::*;
use std::fmt::Write;

fn route(method: Method, path: &str) -> Option<(&'static str, Captures)> {
    find(&ROUTES, &method, path).map(|(route, captures)| (route.pattern, captures))
}

#[test]
fn image_names_keep_their_slashes() {
    let (pattern, captures) = route(Method::GET, "/images/reg.io:5000/a/b@sha256:00/json").unwrap();
    assert_eq!(pattern, "/images/{name...}/json");
    assert_eq!(captures, [("name", "reg.io:5000/a/b@sha256:00".to_owned())]);
    assert_eq!(route(Method::DELETE, "/images/a/b:c").unwrap().1, [("name", "a/b:c".to_owned())]);
    assert_eq!(route(Method::GET, "/images/a%2Fb/json").unwrap().1, [("name", "a/b".to_owned())]);
    assert_eq!(route(Method::GET, "/images/json").unwrap().0, "/images/json");
    assert_eq!(route(Method::GET, "/images/get").unwrap().0, "/images/get");
    assert_eq!(route(Method::GET, "/images/json/json").unwrap().1, [("name", "json".to_owned())]);
}

#[test]
fn containers_named_like_an_endpoint_are_found() {
    assert_eq!(route(Method::GET, "/containers/json").unwrap().0, "/containers/json");
    assert_eq!(route(Method::GET, "/containers/json/json").unwrap().1, [("id", "json".to_owned())]);
    assert_eq!(route(Method::GET, "/containers/x/attach/ws").unwrap().0, "/containers/{id}/attach/ws");
    assert_eq!(route(Method::POST, "/containers/create").unwrap().0, "/containers/create");
}

#[test]
fn what_no_route_knows_is_not_found_in_dockers_words() {
    for (method, path) in [
        (Method::GET, "/"),
        (Method::GET, "/v1.55"),
        (Method::GET, "/nothing"),
        (Method::GET, "/containers//json"),
        (Method::DELETE, "/version"),
        (Method::GET, "/containers/a/b/json"),
    ] {
        let error = resolve(&ROUTES, &method, path).err().unwrap();
        assert_eq!(error, ApiError::page_not_found(), "{method} {path}");
    }
    let response = ApiError::page_not_found().into_response();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(response.headers()["content-type"], "application/json");
}

#[test]
fn versions_are_negotiated() {
    let ask = |path: &str| resolve(&ROUTES, &Method::GET, path).map(|(_, _, version)| version.to_string());
    assert_eq!(ask("/v1.24/version").unwrap(), "1.24");
    assert_eq!(ask("/v1.55/version").unwrap(), "1.55");
    assert_eq!(ask("/version").unwrap(), "1.55");
    let new = ask("/v1.99/version").unwrap_err();
    assert_eq!(new.to_string(), "client version 1.99 is too new. Maximum supported API version is 1.55");
    assert_eq!(new.status, StatusCode::BAD_REQUEST);
    let old = ask("/v1.11/version").unwrap_err();
    assert_eq!(
        old.to_string(),
        "client version 1.11 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
    );
    assert!(resolve(&ROUTES, &Method::GET, "/v1.29/secrets/x").is_ok());
    let early = resolve(&ROUTES, &Method::GET, "/v1.29/configs").err().unwrap();
    assert!(early.message.contains("requires API version 1.30"), "{early}");
    assert_eq!(split_version("/volumes"), (None, "/volumes"));
    assert_eq!(split_version("/v1.x/volumes"), (None, "/v1.x/volumes"));
}

#[test]
fn error_kinds_have_their_status() {
    for (kind, status) in [
        (ErrorKind::NotFound, 404),
        (ErrorKind::Conflict, 409),
        (ErrorKind::InvalidParameter, 400),
        (ErrorKind::NotModified, 304),
        (ErrorKind::Forbidden, 403),
        (ErrorKind::NotImplemented, 501),
        (ErrorKind::Unavailable, 503),
        (ErrorKind::Internal, 500),
    ] {
        let response = ApiError::from(EngineError::new(kind, "why")).into_response();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.body().is_end_stream(), status == 304, "{status}");
    }
}

#[test]
fn parameters_are_read_as_docker_reads_them() {
    let query = Parameters::parse("all=1&size=False&t=-1&name=a%2Fb+c&x=%zz&names=a&names=b&empty=");
    assert!(
        query.flag("all") && !query.flag("size") && !query.flag("absent") && query.flag_or("absent", true)
    );
    assert_eq!(query.number::<i64>("t"), Ok(Some(-1)));
    assert_eq!(query.number::<i64>("empty"), Ok(None));
    assert!(query.number::<u32>("t").is_err());
    assert_eq!(query.text("name"), "a/b c");
    assert_eq!(query.text("x"), "%zz");
    assert_eq!(query.all("names").collect::<Vec<_>>(), ["a", "b"]);
    assert!(query.time("x").is_err() && query.time("absent") == Ok(None));
    assert!(Parameters::parse("filters=%7B%22a%22").filters().is_err());
}

proptest! {
    #[test]
    fn no_path_and_no_query_makes_it_panic(path in "/?[/a-z%.0-9{}é]{0,40}", query in "[&=%+a-zé0-9]{0,40}") {
        let _ = resolve(&ROUTES, &Method::GET, &path);
        let _ = Parameters::parse(&query);
    }
}

#[test]
fn no_route_hides_another() {
    for known in ROUTES.iter() {
        let path = known.pattern.replace("{name...}", "a/b").replace("{name}", "a").replace("{id}", "a");
        let (found, _) = find(&ROUTES, &known.method, &path).unwrap();
        assert_eq!(found.pattern, known.pattern, "{}", known.method);
    }
}

/// `UPDATE_DOCS=1 cargo test -p corten-daemon` writes the table anew.
#[test]
fn the_documentation_holds_this_table() {
    let mut table = String::from("| endpoint | since | state | what |\n|---|---|---|---|\n");
    for route in ROUTES.iter() {
        let state = route.state;
        let (method, pattern, since) = (&route.method, route.pattern.replace("...", ""), route.since);
        writeln!(table, "| `{method} {pattern}` | {since} | {state} | {} |", route.about).unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/engine-api.md");
    let page = std::fs::read_to_string(path).unwrap();
    let begin = page.find("| endpoint |").unwrap();
    let end = begin + page[begin..].find("\n\n").map_or(page.len() - begin, |offset| offset + 1);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{}{table}{}", &page[..begin], &page[end..])).unwrap();
    } else {
        assert_eq!(&page[begin..end], table, "run with UPDATE_DOCS=1");
    }
}
