//! Volumes.

use super::transfer::{streamed, with_body};
use crate::bridge::body_writer;
use crate::http::body::{json, no_content, ok, with_type};
use crate::http::{ApiError, Call, Reply};
use corten_api::Map;
use corten_api::volume::VolumeCreateRequest;
use hyper::StatusCode;

pub async fn create(mut call: Call) -> Reply {
    let request: VolumeCreateRequest = call.json_or_default().await?;
    Ok(json(StatusCode::CREATED, &call.engine.volume_create(request).await?))
}

pub async fn list(call: Call) -> Reply {
    Ok(ok(&call.engine.volume_list(&call.query.filters()?).await?))
}

pub async fn inspect(call: Call) -> Reply {
    Ok(ok(&call.engine.volume_inspect(call.capture("name")).await?))
}

pub async fn remove(call: Call) -> Reply {
    call.engine.volume_remove(call.capture("name"), call.query.flag("force")).await?;
    Ok(no_content())
}

pub async fn prune(call: Call) -> Reply {
    let mut filters = call.query.filters()?;
    // Named volumes were pruned without being asked for until API 1.41.
    if !call.at_least(1, 42) && !filters.contains("all") {
        filters.add("all", "true");
    }
    Ok(ok(&call.engine.volume_prune(&filters).await?))
}

/// Corten's own: another volume with the same files.
pub async fn clone(call: Call) -> Reply {
    let target = target(&call)?;
    let cloned = call.engine.volume_clone(call.capture("name"), target, call.query.flag("live")).await?;
    Ok(json(StatusCode::CREATED, &cloned))
}

/// Corten's own: the files as a tar archive.
pub async fn export(call: Call) -> Reply {
    let export = call.engine.volume_export(call.capture("name")).await?;
    let (writer, pieces) = body_writer();
    let body = streamed(pieces, export.write_to(writer)).await?;
    Ok(with_type(StatusCode::OK, "application/x-tar", body))
}

/// Corten's own: a new volume of a tar archive.
pub async fn import(call: Call) -> Reply {
    let pairs = |name: &str| -> Map<String> {
        let split = |text: &str| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            (key.to_owned(), value.to_owned())
        };
        call.query.all(name).map(split).collect()
    };
    let request = VolumeCreateRequest {
        name: call.capture("name").to_owned(),
        labels: pairs("label"),
        driver_opts: pairs("opt"),
        ..VolumeCreateRequest::default()
    };
    let name = request.name.clone();
    let Call { engine, body, .. } = call;
    let own = engine.clone();
    with_body(body, move |reader| async move { own.volume_import(request, reader).await }).await?;
    Ok(json(StatusCode::CREATED, &engine.volume_inspect(&name).await?))
}

/// Corten's own: another name.
pub async fn rename(call: Call) -> Reply {
    let target = target(&call)?;
    Ok(ok(&call.engine.volume_rename(call.capture("name"), target).await?))
}

fn target(call: &Call) -> Result<&str, ApiError> {
    call.query
        .option("to")
        .ok_or_else(|| ApiError::bad_request("the parameter to is missing: the other volume's name"))
}
