//! Exec.

use super::containers::terminal_size;
use crate::hijack;
use crate::http::body::{empty, json, ok};
use crate::http::{ApiError, Call, Reply};
use corten_api::exec::{ExecCreateRequest, ExecCreateResponse, ExecStartRequest};
use hyper::StatusCode;

pub async fn create(mut call: Call) -> Reply {
    let mut request: ExecCreateRequest = call.json().await?;
    if request.cmd.is_empty() {
        return Err(ApiError::bad_request("no exec command specified"));
    }
    if !call.at_least(1, 42) {
        request.console_size = None;
    }
    let id = call.engine.exec_create(call.capture("id"), request).await?;
    Ok(json(StatusCode::CREATED, &ExecCreateResponse { id }))
}

pub async fn start(mut call: Call) -> Reply {
    let mut request: ExecStartRequest = call.json_or_default().await?;
    if !call.at_least(1, 42) {
        request.console_size = None;
    }
    let detach = request.detach;
    let ticket = call.engine.exec_start(call.capture("id"), request).await?;
    if detach {
        ticket.connect(None).await?;
        return Ok(empty(StatusCode::OK));
    }
    let tty = ticket.tty;
    hijack::stream(call, tty, move |connection| ticket.connect(Some(connection)))
}

pub async fn inspect(call: Call) -> Reply {
    Ok(ok(&call.engine.exec_inspect(call.capture("id")).await?))
}

pub async fn resize(call: Call) -> Reply {
    let (height, width) = terminal_size(&call)?;
    call.engine.exec_resize(call.capture("id"), height, width).await?;
    Ok(empty(StatusCode::OK))
}
