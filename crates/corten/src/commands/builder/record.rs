//! One thing of the build cache as a row of a listing.

use corten_api::disk::BuildCache;

use crate::format::listing::Columns;
use crate::format::template::Value;
use crate::format::time::{local_time, seconds_since};
use crate::format::{duration, size};

/// Digits of an identity that are shown when it is cut short.
const SHORT: usize = 12;

pub fn columns(table: &str) -> Columns {
    Columns {
        table: table.to_owned(),
        quiet: "{{.ID}}",
        titles: &[
            ("ID", "CACHE ID"),
            ("CacheType", "CACHE TYPE"),
            ("Description", "DESCRIPTION"),
            ("Size", "SIZE"),
            ("CreatedAt", "CREATED"),
            ("CreatedSince", "CREATED"),
            ("LastUsedAt", "LAST USED"),
            ("LastUsedSince", "LAST USED"),
            ("UsageCount", "USAGE"),
            ("InUse", "IN USE"),
            ("Shared", "SHARED"),
            ("Reclaimable", "RECLAIMABLE"),
        ],
    }
}

pub fn row(record: &BuildCache, cut: bool) -> Value {
    let ago = |time: corten_api::Timestamp| format!("{} ago", duration::words(seconds_since(time.unix())));
    let mut id = record.id.clone();
    if cut && record.id.is_ascii() {
        id.truncate(SHORT);
    }
    // As Docker marks what a build uses.
    if record.in_use {
        id.push('*');
    }
    Value::row([
        ("ID", Value::from(id)),
        ("CacheType", record.kind.as_str().into()),
        ("Description", record.description.as_str().into()),
        ("Size", size::decimal_fine(record.size as f64).into()),
        ("CreatedAt", local_time(record.created_at).into()),
        ("CreatedSince", ago(record.created_at).into()),
        ("LastUsedAt", record.last_used_at.map(local_time).unwrap_or_default().into()),
        ("LastUsedSince", record.last_used_at.map(ago).unwrap_or_default().into()),
        ("UsageCount", record.usage_count.to_string().into()),
        ("InUse", record.in_use.to_string().into()),
        ("Shared", record.shared.to_string().into()),
        ("Reclaimable", is_reclaimable(record).to_string().into()),
    ])
}

/// Whether its removal frees anything.
pub fn is_reclaimable(record: &BuildCache) -> bool {
    !record.in_use && !record.shared
}
