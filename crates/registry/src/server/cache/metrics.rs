//! What is counted of upstreams, for Prometheus.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Cache;
use super::upstream::Counts;

/// A series: its name, kind, what it is about, and its values by labels beside the upstream's.
type Series =
    (&'static str, &'static str, &'static str, &'static [(&'static str, fn(&Counts) -> &AtomicU64)]);

const SERIES: [Series; 6] = [
    (
        "cache_hits_total",
        "counter",
        "What was served of upstreams without fetching it.",
        &[
            (",kind=\"manifest\"", |counts| &counts.manifest_hits),
            (",kind=\"blob\"", |counts| &counts.blob_hits),
        ],
    ),
    (
        "cache_misses_total",
        "counter",
        "What had to be fetched, or waited for.",
        &[
            (",kind=\"manifest\"", |counts| &counts.manifest_misses),
            (",kind=\"blob\"", |counts| &counts.blob_misses),
        ],
    ),
    (
        "cache_stale_total",
        "counter",
        "Served though the upstream couldn't be asked.",
        &[("", |counts| &counts.stale)],
    ),
    ("cache_errors_total", "counter", "Failures of upstreams.", &[("", |counts| &counts.errors)]),
    (
        "cache_fetched_bytes_total",
        "counter",
        "Bytes from upstreams.",
        &[("", |counts| &counts.fetched_bytes)],
    ),
    (
        "cache_fetches",
        "gauge",
        "Blobs being fetched, or waiting for that.",
        &[("", |counts| &counts.fetches)],
    ),
];

impl Cache {
    /// In Prometheus' text format; nothing where there are no upstreams.
    pub fn metrics(&self, bytes: u64) -> String {
        let mut text = String::new();
        let Some(size) = self.size else { return text };
        // Writing to a string can't fail.
        for (name, kind, about, values) in SERIES {
            let _ =
                writeln!(text, "# HELP corten_registry_{name} {about}\n# TYPE corten_registry_{name} {kind}");
            for (upstream, of) in &self.upstreams {
                for (labels, value) in values {
                    let value = value(&of.counts).load(Ordering::Relaxed);
                    let _ =
                        writeln!(text, "corten_registry_{name}{{upstream=\"{upstream}\"{labels}}} {value}");
                }
            }
        }
        for (name, about, value) in [
            ("cache_bytes", "Bytes that are cached and in no repository of one's own.", bytes),
            ("cache_bytes_max", "How many there may be.", size),
        ] {
            let _ =
                writeln!(text, "# HELP corten_registry_{name} {about}\n# TYPE corten_registry_{name} gauge");
            let _ = writeln!(text, "corten_registry_{name} {value}");
        }
        text
    }
}
