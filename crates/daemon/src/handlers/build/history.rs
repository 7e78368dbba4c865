//! Builds that are under way, those that were and what they have left, as Corten's own clients ask for them.

use crate::http::body::{no_content, ok, with_type};
use crate::http::{ApiError, Body, Call, Reply};
use hyper::StatusCode;

/// `GET /corten/build/cache`
pub async fn cache(call: Call) -> Reply {
    Ok(ok(&call.engine.build_cache_listed(&call.query.filters()?).await?))
}

/// `GET /corten/builds`
pub async fn history(call: Call) -> Reply {
    Ok(ok(&call.engine.build_history().await?))
}

/// `GET /corten/builds/{reference}/log`: a line of JSON per event.
pub async fn log(call: Call) -> Reply {
    let events = call.engine.build_history_events(call.capture("reference")).await?;
    let mut lines = Vec::new();
    for event in events {
        let written = serde_json::to_writer(&mut lines, &corten_engine::build_event(event));
        written.map_err(|error| ApiError::internal(format!("cannot write an event: {error}")))?;
        lines.push(b'\n');
    }
    Ok(with_type(StatusCode::OK, "application/json", Body::from(lines)))
}

/// `DELETE /corten/builds/{reference}`
pub async fn forget(call: Call) -> Reply {
    call.engine.build_history_remove(call.capture("reference")).await?;
    Ok(no_content())
}

/// `POST /corten/builds/{reference}/pin?pinned=`
pub async fn pin(call: Call) -> Reply {
    call.engine.build_history_pin(call.capture("reference"), call.query.flag("pinned")).await?;
    Ok(no_content())
}
