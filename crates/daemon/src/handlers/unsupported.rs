//! Endpoints that the API describes and this engine doesn't have: each says so, none pretends.

use crate::http::body::ok;
use crate::http::{ApiError, Call, Reply};
use hyper::StatusCode;
use serde_json::json;

/// Swarm's endpoints, as on a node that is in no swarm.
pub async fn no_swarm(_: Call) -> Reply {
    Err(ApiError::declined(
        StatusCode::SERVICE_UNAVAILABLE,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to \
         swarm and try again.",
    ))
}

/// Making or joining a swarm.
pub async fn swarm_declined(_: Call) -> Reply {
    Err(ApiError::declined(StatusCode::NOT_IMPLEMENTED, "Corten has no Swarm mode"))
}

/// The list of plugins: none.
pub async fn no_plugins(_: Call) -> Reply {
    Ok(ok(&json!([])))
}

/// What is done to a plugin that isn't there.
pub async fn no_such_plugin(call: Call) -> Reply {
    Err(ApiError::declined(StatusCode::NOT_FOUND, format!("plugin {:?} not found", call.capture("name"))))
}

/// Getting plugins.
pub async fn plugins_declined(_: Call) -> Reply {
    Err(ApiError::declined(StatusCode::NOT_IMPLEMENTED, "Corten has no managed plugins"))
}
