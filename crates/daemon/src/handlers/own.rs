//! Corten's own endpoints, below `/corten/`: outside Docker's versions and names.

use super::transfer::with_progress;
use crate::http::body::{ok, with_type};
use crate::http::{ApiError, Body, Call, Reply};
use crate::routes::ROUTES;
use hyper::StatusCode;
use serde_json::json;

pub async fn version(call: Call) -> Reply {
    let version = call.engine.version();
    Ok(ok(&json!({ "Version": version.version, "ApiVersion": version.api_version, "Arch": version.arch })))
}

pub async fn data_root_usage(call: Call) -> Reply {
    Ok(ok(&call.engine.data_root_usage().await?))
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

/// OpenMetrics for those who ask for it, as Prometheus does; Prometheus' older text for all others.
pub async fn metrics(call: Call) -> Reply {
    const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";
    let text = call.engine.scrape().await?;
    if call.header("accept").contains("application/openmetrics-text") {
        return Ok(with_type(StatusCode::OK, OPEN, Body::from(text)));
    }
    Ok(with_type(StatusCode::OK, PLAIN, Body::from(corten_engine::plain_metrics(&text))))
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
