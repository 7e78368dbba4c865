//! The engine about itself: ping, version, info, events.

use crate::http::body::{ok, with_type};
use crate::http::{ApiError, Body, Call, Reply};
use crate::shape;
use bytes::Bytes;
use corten_api::Timestamp;
use corten_api::disk::DiskUsageOptions;
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
    headers.insert("builder-version", HeaderValue::from_static("2"));
    headers.insert("swarm", HeaderValue::from_static("inactive"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    Ok(response)
}

pub async fn version(call: Call) -> Reply {
    Ok(ok(&call.engine.version()))
}

pub async fn info(call: Call) -> Reply {
    Ok(ok(&shape::system::info(call.engine.info().await?, call.version)))
}

pub async fn auth(mut call: Call) -> Reply {
    let wanted = call.json().await?;
    Ok(ok(&call.engine.login(wanted).await?))
}

pub async fn events(call: Call) -> Reply {
    let query = &call.query;
    let time = |name: &str| match query.text(name) {
        // No bound for logs, but here a wish for everything that is kept.
        "0" => Ok(Some(Timestamp::from_unix(0, 0))),
        _ => query.time(name),
    };
    let options = EventsOptions { since: time("since")?, until: time("until")?, filters: query.filters()? };
    if options.until.zip(options.since).is_some_and(|(until, since)| until < since) {
        return Err(ApiError::bad_request(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            query.text("since"),
            query.text("until")
        )));
    }
    let version = call.version;
    let (content_type, framing) = shape::event::content_type(call.header("accept"), version);
    let mut events = call.engine.events(options)?;
    let lines = poll_fn(move |cx| events.poll_recv(cx)).filter_map(move |event| {
        let line = shape::event::line(event, framing, version);
        std::future::ready(line.map(|line| line.map(Bytes::from).map_err(io::Error::other)))
    });
    Ok(with_type(StatusCode::OK, content_type, Body::stream(lines)))
}

pub async fn disk_usage(call: Call) -> Reply {
    let mut asked = DiskUsageOptions::NONE;
    // Before API 1.42 there was no choice.
    let kinds: Vec<&str> = call.query.all("type").filter(|_| call.at_least(1, 42)).collect();
    for kind in &kinds {
        match *kind {
            "image" => asked.images = true,
            "container" => asked.containers = true,
            "volume" => asked.volumes = true,
            "build-cache" => asked.build_cache = true,
            other => return Err(ApiError::bad_request(format!("unknown object type: {other}"))),
        }
    }
    if kinds.is_empty() {
        asked = DiskUsageOptions::ALL;
    }
    let usage = call.engine.disk_usage(asked).await?;
    let verbose = call.query.flag("verbose");
    Ok(ok(&shape::disk::usage(usage, verbose, call.version)))
}
