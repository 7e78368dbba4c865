//! Corten's own endpoints, below `/corten/`: outside Docker's versions and names.

use super::transfer::with_progress;
use crate::http::body::ok;
use crate::http::{ApiError, Call, Reply};
use crate::routes::ROUTES;
use serde_json::json;

pub async fn version(call: Call) -> Reply {
    let version = call.engine.version();
    Ok(ok(&json!({ "Version": version.version, "ApiVersion": version.api_version, "Arch": version.arch })))
}

/// The table of endpoints, with how far each is built.
pub async fn endpoints(_: Call) -> Reply {
    let rows: Vec<_> = ROUTES
        .iter()
        .map(|route| {
            json!({
                "Method": route.method.as_str(),
                "Path": route.pattern.replace("...", ""),
                "Since": route.since.to_string(),
                "State": route.state.to_string(),
                "About": route.about,
            })
        })
        .collect();
    Ok(ok(&rows))
}

/// `POST /corten/images/create-base?reference=…&package=…&package=…`: a base image from the host's own distribution.
pub async fn create_base(call: Call) -> Reply {
    let reference = call.query.option("reference").map(str::to_owned);
    let packages = call.query.all("package").filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let engine = call.engine.clone();
    with_progress(false, |progress| async move {
        engine.image_create_base(reference, packages, progress).await.map(drop).map_err(ApiError::from)
    })
    .await
}
