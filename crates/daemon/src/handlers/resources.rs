//! What containers may use and do use: update, statistics, prune.

use crate::http::body::{json_bytes, ok, with_type};
use crate::http::{Body, Call, Reply};
use bytes::Bytes;
use corten_api::List;
use corten_api::container::HostConfig;
use corten_api::stats::{BatchStatsOptions, StatsOptions};
use futures_util::stream::unfold;
use hyper::StatusCode;
use serde::Serialize;
use std::io;

/// The body is the resources of a `HostConfig` with its restart policy.
pub async fn update(mut call: Call) -> Reply {
    let mut wish: HostConfig = call.json().await?;
    if !call.at_least(1, 40) {
        wish.pids_limit = None;
    }
    if !call.at_least(1, 55) {
        wish.blkio_weight_device = List::default();
        wish.blkio_device_read_bps = List::default();
        wish.blkio_device_write_bps = List::default();
        wish.blkio_device_read_iops = List::default();
        wish.blkio_device_write_iops = List::default();
    }
    Ok(ok(&call.engine.container_update(call.capture("id"), wish).await?))
}

pub async fn stats(call: Call) -> Reply {
    let options = StatsOptions {
        stream: call.query.flag_or("stream", true),
        one_shot: call.query.flag("one-shot") && call.at_least(1, 41),
    };
    let feed = call.engine.container_stats(call.capture("id"), options).await?;
    let with_os = call.at_least(1, 52);
    let lines = unfold(feed, move |mut feed| async move {
        let mut stats = feed.next().await?;
        if !with_os {
            stats.os_type.clear();
        }
        Some((line(&stats), feed))
    });
    Ok(with_type(StatusCode::OK, "application/json", Body::stream(lines)))
}

/// `GET /corten/stats?container=…&container=…&all=…&stream=…`: a line per second, each the statistics of all of them.
pub async fn batch_stats(call: Call) -> Reply {
    let options = BatchStatsOptions {
        containers: call.query.all("container").filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        all: call.query.flag("all"),
        stream: call.query.flag("stream"),
    };
    let feed = call.engine.batch_stats(options)?;
    let lines = unfold(feed, |mut feed| async move { Some((line(&feed.next().await?), feed)) });
    Ok(with_type(StatusCode::OK, "application/json", Body::stream(lines)))
}

fn line(value: &impl Serialize) -> io::Result<Bytes> {
    json_bytes(value).map(Bytes::from).map_err(io::Error::other)
}

pub async fn prune(call: Call) -> Reply {
    Ok(ok(&call.engine.containers_prune(&call.query.filters()?).await?))
}
