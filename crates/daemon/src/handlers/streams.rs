//! A container's streams: attach (by upgrade or WebSocket) and logs.

use crate::hijack;
use crate::http::body::with_type;
use crate::http::{ApiError, Body, Call, Reply};
use corten_api::container::{AttachOptions, LogsOptions};
use corten_api::stream::{MULTIPLEXED_STREAM, RAW_STREAM};
use futures_util::stream::poll_fn;
use hyper::StatusCode;

pub async fn attach(call: Call) -> Reply {
    let ticket = call.engine.container_attach(call.capture("id"), attach_options(&call)).await?;
    let tty = ticket.tty;
    hijack::stream(call, tty, move |connection| ticket.connect(connection))
}

/// By WebSocket all streams are attached that aren't asked otherwise.
pub async fn attach_websocket(call: Call) -> Reply {
    let asked = attach_options(&call);
    // Before API 1.42 the wish for single streams was ignored.
    let any = call.at_least(1, 42) && (asked.stdin || asked.stdout || asked.stderr);
    let options = AttachOptions {
        stream: call.query.flag_or("stream", true),
        stdin: asked.stdin || !any,
        stdout: asked.stdout || !any,
        stderr: asked.stderr || !any,
        ..asked
    };
    let ticket = call.engine.container_attach(call.capture("id"), options).await?;
    let tty = ticket.tty;
    hijack::websocket_attach(call, tty, move |connection| ticket.connect(connection))
}

fn attach_options(call: &Call) -> AttachOptions {
    AttachOptions {
        stream: call.query.flag("stream"),
        stdin: call.query.flag("stdin"),
        stdout: call.query.flag("stdout"),
        stderr: call.query.flag("stderr"),
        logs: call.query.flag("logs"),
        detach_keys: call.query.text("detachKeys").to_owned(),
    }
}

pub async fn logs(call: Call) -> Reply {
    let query = &call.query;
    let options = LogsOptions {
        follow: query.flag("follow"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        since: query.time("since")?,
        until: query.time("until")?,
        timestamps: query.flag("timestamps"),
        // "all", negative numbers and what is no number mean all lines, as in Docker.
        tail: query.text("tail").parse().ok(),
        details: query.flag("details"),
    };
    if !options.stdout && !options.stderr {
        return Err(ApiError::bad_request("Bad parameters: you must choose at least one stream"));
    }
    let mut log = call.engine.container_logs(call.capture("id"), options).await?;
    let content_type = if log.tty || !call.at_least(1, 42) { RAW_STREAM } else { MULTIPLEXED_STREAM };
    let body = Body::stream(poll_fn(move |cx| log.chunks.poll_recv(cx)));
    Ok(with_type(StatusCode::OK, content_type, body))
}
