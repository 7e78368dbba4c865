//! The engine about itself: ping, version, info, events.

use crate::http::body::{json_bytes, ok, with_type};
use crate::http::{Body, Call, Reply};
use bytes::Bytes;
use corten_api::event::EventsOptions;
use futures_util::StreamExt;
use futures_util::stream::poll_fn;
use hyper::header::{CACHE_CONTROL, HeaderValue, PRAGMA};
use hyper::{Method, StatusCode};
use std::io;

/// The headers that all answers bear are set by the server; these are the ping's own.
pub async fn ping(call: Call) -> Reply {
    let body = if call.method == Method::HEAD { Body::empty() } else { Body::from("OK") };
    let mut response = with_type(StatusCode::OK, "text/plain; charset=utf-8", body);
    let headers = response.headers_mut();
    headers.insert("builder-version", HeaderValue::from_static("1"));
    headers.insert("swarm", HeaderValue::from_static("inactive"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    Ok(response)
}

pub async fn version(call: Call) -> Reply {
    Ok(ok(&call.engine.version()))
}

pub async fn info(call: Call) -> Reply {
    Ok(ok(&call.engine.info().await?))
}

pub async fn events(call: Call) -> Reply {
    let query = &call.query;
    let options =
        EventsOptions { since: query.time("since")?, until: query.time("until")?, filters: query.filters()? };
    let mut events = call.engine.events(options)?;
    let lines = poll_fn(move |cx| events.poll_recv(cx))
        .map(|event| json_bytes(&event).map(Bytes::from).map_err(io::Error::other));
    Ok(with_type(StatusCode::OK, "application/json", Body::stream(lines)))
}
