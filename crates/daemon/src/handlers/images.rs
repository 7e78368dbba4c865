//! Images: what is told of them, tags, removal.

use crate::http::body::{empty, ok};
use crate::http::{ApiError, Call, Reply};
use crate::shape;
use corten_api::image::{ImageInspectOptions, ImageListOptions, ImageRemoveOptions, Platform};
use corten_build::SbomFormat;
use hyper::StatusCode;

pub async fn list(call: Call) -> Reply {
    let query = &call.query;
    let mut filters = query.filters()?;
    // Until API 1.40 a pattern could stand in a parameter of its own.
    if let Some(pattern) = query.option("filter").filter(|_| !call.at_least(1, 41)) {
        filters.add("reference", pattern);
    }
    let options = ImageListOptions {
        all: query.flag("all"),
        filters,
        digests: query.flag("digests"),
        shared_size: call.at_least(1, 42) && query.flag("shared-size"),
        manifests: call.at_least(1, 47) && query.flag("manifests"),
    };
    let mut images = call.engine.image_list(&options).await?;
    shape::image::list(&mut images, call.version);
    Ok(ok(&images))
}

pub async fn inspect(call: Call) -> Reply {
    let options = ImageInspectOptions {
        manifests: call.at_least(1, 48) && call.query.flag("manifests"),
        platform: if call.at_least(1, 49) { platform(&call)? } else { None },
    };
    let image = call.engine.image_inspect(call.capture("name"), &options).await?;
    Ok(ok(&shape::image::inspect(image, call.version)))
}

/// What a registry has under the name.
pub async fn distribution(call: Call) -> Reply {
    let auth = super::transfer::registry_auth(&call);
    Ok(ok(&call.engine.image_distribution(call.capture("name"), auth).await?))
}

/// Repositories of a registry that fit a term.
pub async fn search(call: Call) -> Reply {
    let auth = super::transfer::registry_auth(&call);
    // Nothing is the default, and so is 0 (as clients send it).
    let limit = call.query.number("limit")?.filter(|limit| *limit != 0);
    let filters = call.query.filters()?;
    Ok(ok(&call.engine.image_search(call.query.text("term"), limit, &filters, auth).await?))
}

pub async fn history(call: Call) -> Reply {
    let platform = if call.at_least(1, 48) { platform(&call)? } else { None };
    Ok(ok(&call.engine.image_history(call.capture("name"), platform.as_ref()).await?))
}

pub async fn tag(call: Call) -> Reply {
    let (repo, tag) = (call.query.text("repo"), call.query.text("tag"));
    call.engine.image_tag(call.capture("name"), repo, tag).await?;
    Ok(empty(StatusCode::CREATED))
}

pub async fn remove(call: Call) -> Reply {
    let platforms = if call.at_least(1, 50) { platforms(&call, "platforms")? } else { Vec::new() };
    let options = ImageRemoveOptions {
        force: call.query.flag("force"),
        noprune: call.query.flag("noprune"),
        platforms,
    };
    Ok(ok(&call.engine.image_remove(call.capture("name"), options).await?))
}

pub async fn prune(call: Call) -> Reply {
    Ok(ok(&call.engine.images_prune(&call.query.filters()?).await?))
}

pub async fn attestations(call: Call) -> Reply {
    let platform = platform(&call)?;
    let types: Vec<String> = call.query.all("type").map(str::to_owned).collect();
    let (name, whole) = (call.capture("name"), call.query.flag("statement"));
    Ok(ok(&call.engine.image_attestations(name, platform.as_ref(), &types, whole).await?))
}

/// `GET /corten/images/{name}/sbom?format=spdx|cyclonedx&platform=…`
pub async fn sbom(call: Call) -> Reply {
    let platform = platform(&call)?;
    let format = SbomFormat::parse(call.query.text("format"));
    let format = format.ok_or_else(|| ApiError::bad_request("the format of an SBOM is spdx or cyclonedx"))?;
    Ok(ok(&call.engine.image_sbom(call.capture("name"), platform.as_ref(), format).await?))
}

/// The `platform` parameter where one is taken.
fn platform(call: &Call) -> Result<Option<Platform>, ApiError> {
    let mut platforms = platforms(call, "platform")?;
    if platforms.len() > 1 {
        return Err(ApiError::bad_request("more than one platform specified"));
    }
    Ok(platforms.pop())
}

/// Platforms, each a JSON document, or `os[/architecture[/variant]]` as in some clients' older habits.
pub(super) fn platforms(call: &Call, name: &str) -> Result<Vec<Platform>, ApiError> {
    let parse = |text: &str| {
        if text.starts_with('{') {
            return corten_api::json::from_str::<Platform>(text)
                .map_err(|e| ApiError::bad_request(format!("failed to parse platform: {e}")));
        }
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        let (os, architecture, variant) = (next(), next(), next());
        Ok(Platform { os, architecture, variant, ..Platform::default() })
    };
    call.query.all(name).filter(|text| !text.is_empty()).map(parse).collect()
}
