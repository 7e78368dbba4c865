//! Block device statistics: version 1's table of files and version 2's `io.stat`, in Docker's shape.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file;
use super::stats::Pressure;

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct BlockStats {
    /// Bytes by device and operation (`Read`, `Write`, `Sync`, …).
    pub service_bytes: Vec<BlockEntry>,
    /// Operations.
    pub serviced: Vec<BlockEntry>,
    pub queued: Vec<BlockEntry>,
    /// Nanoseconds.
    pub service_time: Vec<BlockEntry>,
    pub wait_time: Vec<BlockEntry>,
    pub merged: Vec<BlockEntry>,
    pub time: Vec<BlockEntry>,
    pub sectors: Vec<BlockEntry>,
    pub pressure: Option<Pressure>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct BlockEntry {
    pub major: u64,
    pub minor: u64,
    /// Empty where the kernel does not tell operations apart.
    pub operation: String,
    pub value: u64,
}

/// Schedulers that weigh groups have numbers of their own; the throttle's are always there.
pub(super) fn read_v1(dir: &Path) -> BlockStats {
    let first = |names: &[&str]| {
        let texts = names.iter().filter_map(|name| file::read(dir, name).ok());
        texts.map(|text| parse_v1(&text)).find(|entries| !entries.is_empty()).unwrap_or_default()
    };
    let stats = BlockStats {
        service_bytes: first(&[
            "blkio.bfq.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes_recursive",
        ]),
        serviced: first(&["blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive"]),
        ..BlockStats::default()
    };
    // The others come together, in kernels that were built to debug the scheduler (CONFIG_BFQ_CGROUP_DEBUG).
    let Ok(time) = file::read(dir, "blkio.bfq.time_recursive") else { return stats };
    BlockStats {
        queued: first(&["blkio.bfq.io_queued_recursive"]),
        service_time: first(&["blkio.bfq.io_service_time_recursive"]),
        wait_time: first(&["blkio.bfq.io_wait_time_recursive"]),
        merged: first(&["blkio.bfq.io_merged_recursive"]),
        time: parse_v1(&time),
        sectors: first(&["blkio.bfq.sectors_recursive"]),
        ..stats
    }
}

/// `8:0 Read 4096`, `8:0 512`, and a last line `Total 4096`.
pub(super) fn parse_v1(text: &str) -> Vec<BlockEntry> {
    let entry = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (major, minor) = device(words.next()?)?;
        let (second, third) = (words.next()?, words.next());
        let (operation, value) = third.map_or(("", second), |value| (second, value));
        Some(BlockEntry { major, minor, operation: operation.into(), value: file::parse_number(value) })
    };
    text.lines().filter_map(entry).collect()
}

pub(super) fn read_v2(dir: &Path) -> BlockStats {
    file::read(dir, "io.stat").map_or_else(|_| BlockStats::default(), |text| parse_v2(&text))
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`
pub(super) fn parse_v2(text: &str) -> BlockStats {
    let mut stats = BlockStats::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, operation) = match key {
                "rbytes" => (&mut stats.service_bytes, "Read"),
                "wbytes" => (&mut stats.service_bytes, "Write"),
                "dbytes" => (&mut stats.service_bytes, "Discard"),
                "rios" => (&mut stats.serviced, "Read"),
                "wios" => (&mut stats.serviced, "Write"),
                "dios" => (&mut stats.serviced, "Discard"),
                _ => continue,
            };
            let value = file::parse_number(value);
            list.push(BlockEntry { major, minor, operation: operation.into(), value });
        }
    }
    stats
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
