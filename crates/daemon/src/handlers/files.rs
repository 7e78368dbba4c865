//! A container's files: archives out and in, what has changed, the whole of them, an image of them.

use crate::bridge::body_writer;
use crate::handlers::transfer::{streamed, with_body};
use crate::hijack;
use crate::http::body::{empty, json, ok, with_type};
use crate::http::{ApiError, Call, Reply};
use corten_api::archive::{
    ArchivePutOptions, CommitOptions, CommitResponse, PASSING_PROTOCOL, PATH_STAT_HEADER, PassedReply,
    PathStat,
};
use corten_api::container::ContainerConfig;
use corten_engine::Buffered;
use flate2::write::GzEncoder;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use std::os::fd::{AsFd, OwnedFd};

pub async fn stat(call: Call) -> Reply {
    let stat = call.engine.container_stat_path(call.capture("id"), path(&call)?).await?;
    let mut response = empty(StatusCode::OK);
    describe(&mut response, &stat)?;
    Ok(response)
}

pub async fn get(call: Call) -> Reply {
    let archive = call.engine.container_archive(call.capture("id"), path(&call)?).await?;
    let stat = archive.stat.clone();
    if hijack::is_asked_for(&call, PASSING_PROTOCOL) {
        let mut response =
            hijack::switch(call, PASSING_PROTOCOL, move |connection| archive.pass_to(connection))?;
        describe(&mut response, &stat)?;
        return Ok(response);
    }
    let (writer, pieces) = body_writer();
    let compressed = accepts_gzip(&call.headers);
    let body = streamed(pieces, async move {
        if compressed {
            // Ends the stream when it is dropped.
            return archive
                .write_to(Buffered::new(GzEncoder::new(writer, flate2::Compression::fast())))
                .await;
        }
        archive.write_to(writer).await
    });
    let mut response = with_type(StatusCode::OK, "application/x-tar", body.await?);
    describe(&mut response, &stat)?;
    if compressed {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

pub async fn put(call: Call) -> Reply {
    let options = ArchivePutOptions {
        no_overwrite_dir_non_dir: call.query.flag("noOverwriteDirNonDir"),
        copy_uid_gid: call.query.flag("copyUIDGID"),
    };
    let (id, path) = (call.capture("id").to_owned(), path(&call)?.to_owned());
    if hijack::is_asked_for(&call, PASSING_PROTOCOL) {
        let engine = call.engine.clone();
        return hijack::switch(call, PASSING_PROTOCOL, move |connection| async move {
            let socket =
                connection.fd.try_clone().map_err(|e| corten_engine::Error::internal(e.to_string()))?;
            let outcome = engine.container_extract_passed(&id, &path, options, connection).await;
            answer(&socket, outcome.map_err(ApiError::from));
            Ok(())
        });
    }
    let Call { engine, body, .. } = call;
    with_body(body, move |reader| async move { engine.container_extract(&id, &path, options, reader).await })
        .await?;
    Ok(empty(StatusCode::OK))
}

/// Nothing else is ever written to that socket, so there is room.
fn answer(socket: &OwnedFd, outcome: Result<(), ApiError>) {
    let reply = match outcome {
        Ok(()) => PassedReply { status: StatusCode::OK.as_u16(), message: String::new() },
        Err(error) => PassedReply { status: error.status.as_u16(), message: error.message },
    };
    let reply = serde_json::to_vec(&reply).unwrap_or_default();
    if let Err(error) = corten_sys::fd::send(socket.as_fd(), &reply, &[]) {
        tracing::debug!(%error, "the client went before its archive was unpacked");
    }
}

pub async fn changes(call: Call) -> Reply {
    Ok(ok(&call.engine.container_changes(call.capture("id")).await?))
}

pub async fn export(call: Call) -> Reply {
    let export = call.engine.container_export(call.capture("id")).await?;
    let (writer, pieces) = body_writer();
    let body = streamed(pieces, export.write_to(writer)).await?;
    Ok(with_type(StatusCode::OK, "application/octet-stream", body))
}

pub async fn commit(mut call: Call) -> Reply {
    let config: Option<ContainerConfig> = call.json_or_default().await?;
    let query = &call.query;
    let options = CommitOptions {
        container: query.text("container").to_owned(),
        repo: query.text("repo").to_owned(),
        tag: query.text("tag").to_owned(),
        comment: query.text("comment").to_owned(),
        author: query.text("author").to_owned(),
        changes: query.all("changes").filter(|change| !change.is_empty()).map(str::to_owned).collect(),
        pause: query.flag_or("pause", true),
    };
    let id = call.engine.container_commit(options, config).await?;
    Ok(json(StatusCode::CREATED, &CommitResponse { id }))
}

fn path(call: &Call) -> Result<&str, ApiError> {
    call.query.option("path").ok_or_else(|| ApiError::bad_request("bad parameter: path cannot be empty"))
}

fn describe<B>(response: &mut Response<B>, stat: &PathStat) -> Result<(), ApiError> {
    let value =
        HeaderValue::try_from(stat.to_header()).map_err(|e| ApiError::internal(format!("encode: {e}")))?;
    response.headers_mut().insert(HeaderName::from_static(PATH_STAT_HEADER), value);
    Ok(())
}

/// Whether the client asks for gzip by name; `*` is no wish to have everything packed.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = parameters.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_those_who_name_it() {
        let accepts = |value: &'static str| {
            accepts_gzip(&[(ACCEPT_ENCODING, HeaderValue::from_static(value))].into_iter().collect())
        };
        assert!(accepts("gzip, deflate") && accepts("deflate;q=0.5, GZIP;q=0.8"));
        assert!(
            !accepts("identity") && !accepts("*") && !accepts("gzip;q=0") && !accepts_gzip(&HeaderMap::new())
        );
    }
}
