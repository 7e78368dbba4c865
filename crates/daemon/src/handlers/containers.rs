//! Containers: their life, and what is told of them.

use crate::http::body::{empty, json, no_content, ok, with_type};
use crate::http::{ApiError, Body, Call, Reply};
use crate::shape;
use corten_api::container::{
    ContainerCreateRequest, ContainerListOptions, RemoveOptions, StopOptions, WaitCondition,
};
use futures_util::StreamExt;
use futures_util::stream::once;
use hyper::StatusCode;
use hyper::body::Body as _;

pub async fn create(mut call: Call) -> Reply {
    let name = call.query.option("name").map(str::to_owned);
    let platform = call.query.option("platform").map(str::to_owned);
    let mut request: ContainerCreateRequest = call.json().await?;
    let warnings = shape::request::create(&mut request, call.version)?;
    // Older clients' images are chosen by name alone.
    let platform = platform.filter(|_| call.at_least(1, 41));
    let mut created = call.engine.container_create(name, platform, request).await?;
    created.warnings.extend(warnings);
    Ok(json(StatusCode::CREATED, &created))
}

pub async fn list(call: Call) -> Reply {
    let options = ContainerListOptions {
        all: call.query.flag("all"),
        // Negative is "all of them", as zero is.
        limit: call.query.number::<i64>("limit")?.and_then(|n| u64::try_from(n).ok()).filter(|&n| n > 0),
        size: call.query.flag("size"),
        brief: call.query.flag("brief"),
        filters: call.query.filters()?,
    };
    let mut containers = call.engine.container_list(&options).await?;
    shape::container::list(&mut containers, call.version);
    Ok(ok(&containers))
}

pub async fn inspect(call: Call) -> Reply {
    let size = call.query.flag("size");
    let container = call.engine.container_inspect(call.capture("id"), size).await?;
    Ok(ok(&shape::container::inspect(container, call.version)))
}

pub async fn top(call: Call) -> Reply {
    Ok(ok(&call.engine.container_top(call.capture("id"), call.query.text("ps_args")).await?))
}

pub async fn start(call: Call) -> Reply {
    // A host configuration came with the start until API 1.23. Clients without one send nothing, `{}` or `null`.
    if call.body.size_hint().lower() > 7 {
        return Err(ApiError::bad_request(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    call.engine.container_start(call.capture("id")).await?;
    Ok(no_content())
}

pub async fn stop(call: Call) -> Reply {
    call.engine.container_stop(call.capture("id"), &stop_options(&call)?).await?;
    Ok(no_content())
}

pub async fn restart(call: Call) -> Reply {
    call.engine.container_restart(call.capture("id"), &stop_options(&call)?).await?;
    Ok(no_content())
}

fn stop_options(call: &Call) -> Result<StopOptions, ApiError> {
    let signal = call.query.option("signal").filter(|_| call.at_least(1, 42)).map(str::to_owned);
    Ok(StopOptions { signal, timeout_s: call.query.number("t")? })
}

pub async fn kill(call: Call) -> Reply {
    call.engine.container_kill(call.capture("id"), call.query.text("signal")).await?;
    Ok(no_content())
}

pub async fn pause(call: Call) -> Reply {
    call.engine.container_pause(call.capture("id")).await?;
    Ok(no_content())
}

pub async fn unpause(call: Call) -> Reply {
    call.engine.container_unpause(call.capture("id")).await?;
    Ok(no_content())
}

pub async fn rename(call: Call) -> Reply {
    call.engine.container_rename(call.capture("id"), call.query.text("name")).await?;
    Ok(no_content())
}

pub async fn resize(call: Call) -> Reply {
    let (height, width) = terminal_size(&call)?;
    call.engine.container_resize(call.capture("id"), height, width).await?;
    Ok(empty(StatusCode::OK))
}

/// `h` and `w`, both wanted.
pub(super) fn terminal_size(call: &Call) -> Result<(u16, u16), ApiError> {
    let side = |name: &str, what: &str| {
        let text = call.query.text(name);
        text.parse::<u16>().map_err(|_| {
            ApiError::bad_request(format!(
                "invalid resize {what} {text:?}: strconv.ParseUint: invalid syntax"
            ))
        })
    };
    Ok((side("h", "height")?, side("w", "width")?))
}

/// The head goes out before the wait begins to last, so that a client knows it is waiting before it starts the container.
pub async fn wait(call: Call) -> Reply {
    // Before API 1.30 there was one condition, and the head came with the answer.
    let condition = if call.at_least(1, 30) { call.query.text("condition") } else { "" };
    let condition = WaitCondition::parse(condition)
        .ok_or_else(|| ApiError::bad_request(format!("invalid condition: {condition:?}")))?;
    let end = call.engine.container_wait(call.capture("id"), condition)?;
    if !call.at_least(1, 30) {
        return Ok(ok(&end.await));
    }
    let answer = once(end).map(|end| {
        let bytes = crate::http::body::json_bytes(&end).map_err(std::io::Error::other)?;
        Ok(bytes.into())
    });
    Ok(with_type(StatusCode::OK, "application/json", Body::stream(answer)))
}

pub async fn remove(call: Call) -> Reply {
    let options = RemoveOptions {
        force: call.query.flag("force"),
        volumes: call.query.flag("v"),
        link: call.query.flag("link"),
    };
    call.engine.container_remove(call.capture("id"), options).await?;
    Ok(no_content())
}
