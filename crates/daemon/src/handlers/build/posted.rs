//! `POST /build?version=2`: what Docker's clients before buildx, and some SDKs, build by BuildKit with. Parameters are those of the
//! older builder, progress is BuildKit's messages in lines of JSON, and all else is asked for on the client's session.

use super::classic::{document, refuse, refuse_foreign};
use crate::bridge::{BodyReader, SharedReader};
use crate::handlers::transfer::with_progress;
use crate::http::body::{empty, no_content};
use crate::http::{ApiError, Call, Reply};
use corten_api::base64;
use corten_api::container::Ulimit;
use corten_api::stream::JsonMessage;
use corten_build::EVENTS_MAX;
use corten_buildkit::{Controller, Files, Output, Posted};
use hyper::StatusCode;
use hyper::body::Bytes;
use serde_json::json;
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// As `remote`: the client's session has the files; they come with another call, whose `buildid` has this and a colon before the build's.
const SESSION: &str = "client-session";
const UPLOAD: &str = "upload-request";
/// Messages of these ids carry BuildKit's progress, and the image's id.
const TRACE: &str = "moby.buildkit.trace";
const IMAGE: &str = "moby.image.id";

/// What `outputs` holds.
#[derive(Default, serde::Deserialize)]
struct Exporter {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Attrs", default)]
    attributes: Option<BTreeMap<String, String>>,
}

pub async fn build(call: Call) -> Reply {
    let id = call.query.text("buildid").to_owned();
    if let Some(id) = id.strip_prefix(UPLOAD).and_then(|rest| rest.strip_prefix(':')) {
        return upload(call, id).await;
    }
    let reference = if id.is_empty() { corten_engine::random_id() } else { id };
    let asked = attributes(&call).and_then(|attributes| Ok((attributes, exporter(&call)?)));
    let (mut attributes, exporter) = match asked {
        Ok(asked) => asked,
        Err(error) => return refuse(call, error).await,
    };
    let session = call.query.text("session").to_owned();
    if session.is_empty() && !matches!(exporter.0.as_str(), "moby" | "image" | "cacheonly") {
        let message = format!("the output {:?} goes to the client's session, and there is none", exporter.0);
        return Err(ApiError::bad_request(message));
    }
    let quiet = call.query.flag("q");
    let mut sent = None;
    let remote = call.query.text("remote").to_owned();
    let Call { engine, buildkit, body, .. } = call;
    let reader = SharedReader::new(BodyReader::new(body));
    match remote.as_str() {
        "" => sent = Some(reader.clone()),
        SESSION | UPLOAD => {}
        url => drop(attributes.insert("context".to_owned(), url.to_owned())),
    }
    with_progress(false, move |progress| async move {
        let files = match sent {
            Some(reader) => Files::Here(engine.build_context_of_archive(reader).await?),
            None if remote == UPLOAD => Files::Coming,
            None => Files::Elsewhere,
        };
        let outcome =
            run(&buildkit, Posted { reference, session, attributes, exporter, files }, quiet, &progress)
                .await;
        // A client that still sends would not see the answer.
        let _ = tokio::task::spawn_blocking(move || reader.drain()).await;
        outcome
    })
    .await
}

async fn run(
    buildkit: &Controller,
    posted: Posted,
    quiet: bool,
    progress: &mpsc::Sender<JsonMessage>,
) -> Result<(), ApiError> {
    let (trace, mut told) = mpsc::channel::<Bytes>(EVENTS_MAX);
    let shown = async {
        while let Some(message) = told.recv().await {
            let aux = Some(json!(base64::encode(&message)));
            let message = JsonMessage { id: TRACE.to_owned(), aux, ..JsonMessage::default() };
            if progress.send(message).await.is_err() {
                return;
            }
        }
    };
    let built = async { tokio::join!(buildkit.build_posted(posted, trace), shown).0 };
    let built = tokio::select! {
        built = built => built,
        // A client that is gone ends its build, also when there is nothing to tell.
        () = progress.closed() => return Ok(()),
    };
    let last = match built.map_err(ApiError::internal)? {
        None => return Ok(()),
        Some(id) if quiet => JsonMessage::stream(format!("{id}\n")),
        Some(id) => {
            JsonMessage { id: IMAGE.to_owned(), aux: Some(json!({ "ID": id })), ..JsonMessage::default() }
        }
    };
    let _ = progress.send(last).await;
    Ok(())
}

/// The files of a build that another call has begun.
async fn upload(call: Call, id: &str) -> Reply {
    let Call { engine, buildkit, body, .. } = call;
    let awaiting = buildkit.awaiting(id).await.map_err(ApiError::bad_request)?;
    let reader = SharedReader::new(BodyReader::new(body));
    let tree = engine.build_context_of_archive(reader.clone()).await;
    // A client that still sends would not see the answer.
    let _ = tokio::task::spawn_blocking(move || reader.drain()).await;
    awaiting.give(tree?);
    Ok(empty(StatusCode::OK))
}

/// `POST /build/cancel`: ends a build. One that is over, or never was, is no error.
pub async fn cancel(call: Call) -> Reply {
    match call.query.text("id") {
        "" => Err(ApiError::bad_request("build ID not provided")),
        id => {
            call.buildkit.cancel(id);
            Ok(no_content())
        }
    }
}

fn exporter(call: &Call) -> Result<(String, BTreeMap<String, String>), ApiError> {
    let outputs: Vec<Exporter> = document(call, "outputs")?;
    if outputs.len() > 1 {
        return Err(ApiError::bad_request("multiple outputs not supported"));
    }
    let names = call.query.all("t").filter(|tag| !tag.is_empty()).collect::<Vec<_>>().join(",");
    let Exporter { kind, attributes } = outputs.into_iter().next().unwrap_or_default();
    let mut attributes = attributes.unwrap_or_default();
    let kind = if kind.is_empty() { "moby".to_owned() } else { kind };
    if kind == "moby" && !names.is_empty() {
        attributes.insert("name".to_owned(), names);
    }
    Output::parse(0, &kind, &attributes).map_err(|error| ApiError::bad_request(error.to_string()))?;
    Ok((kind, attributes))
}

/// The parameters as attributes of the front end.
fn attributes(call: &Call) -> Result<BTreeMap<String, String>, ApiError> {
    let query = &call.query;
    refuse_foreign(query)?;
    for name in
        ["squash", "memory", "memswap", "cpushares", "cpuperiod", "cpuquota", "cpusetcpus", "cpusetmems"]
    {
        if !matches!(query.text(name), "" | "0" | "false") {
            return Err(ApiError::bad_request(format!("{name} is not supported with version=2")));
        }
    }
    let mut attributes = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        if !value.is_empty() {
            attributes.insert(name.to_owned(), value);
        }
    };
    set("filename", query.text("dockerfile").to_owned());
    set("target", query.text("target").to_owned());
    set("platform", query.text("platform").to_lowercase());
    set("cgroup-parent", query.text("cgroupparent").to_owned());
    if query.flag("pull") {
        set("image-resolve-mode", "pull".to_owned());
    }
    match query.text("networkmode") {
        "" | "default" => {}
        mode @ ("none" | "host") => set("force-network-mode", mode.to_owned()),
        mode => {
            let message =
                format!("network mode {mode:?} not supported by BuildKit: use default, none or host");
            return Err(ApiError::bad_request(message));
        }
    }
    match query.number::<u64>("shmsize")? {
        None | Some(0) => {}
        Some(bytes) => set("shm-size", bytes.to_string()),
    }
    let hosts = query.all("extrahosts").flat_map(|hosts| hosts.split(',')).filter(|host| !host.is_empty());
    let hosts: Vec<String> = hosts.map(|host| host.replacen(':', "=", 1)).collect();
    set("add-hosts", hosts.join(","));
    let ulimits: Option<Vec<Ulimit>> = document(call, "ulimits")?;
    let ulimits = ulimits.unwrap_or_default();
    let ulimits: Vec<String> =
        ulimits.iter().map(|own| format!("{}={}:{}", own.name, own.soft, own.hard)).collect();
    set("ulimit", ulimits.join(","));
    let sources: Option<Vec<String>> = document(call, "cachefrom")?;
    set("cache-from", sources.unwrap_or_default().join(","));
    if query.flag("nocache") {
        attributes.insert("no-cache".to_owned(), String::new());
    }
    let build_args: Option<BTreeMap<String, Option<String>>> = document(call, "buildargs")?;
    // A name without a value is one that the client's environment doesn't have.
    let given = build_args.unwrap_or_default().into_iter().filter_map(|(name, value)| Some((name, value?)));
    attributes.extend(given.map(|(name, value)| (format!("build-arg:{name}"), value)));
    let labels: Option<BTreeMap<String, String>> = document(call, "labels")?;
    attributes
        .extend(labels.unwrap_or_default().into_iter().map(|(name, value)| (format!("label:{name}"), value)));
    Ok(attributes)
}
