//! Volumes.

use crate::http::body::{json, no_content, ok};
use crate::http::{Call, Reply};
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
