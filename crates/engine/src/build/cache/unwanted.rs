//! What of all that builds keep is to go.

use corten_api::Timestamp;

use super::CacheEntry;

/// How much may stay, in bytes; 0 is no bound. Without any bound all goes that is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheBounds {
    /// So much may stay in any case.
    pub reserved_bytes: u64,
    /// No more than this stays, unless it is reserved.
    pub used_bytes_max: u64,
    /// So much of the disk is to be free, as far as the cache can help.
    pub free_bytes_min: u64,
}

impl CacheBounds {
    /// How much of `total` bytes may stay while `free` bytes of the disk are; none when nothing has to.
    fn kept_bytes_max(&self, total: u64, free: u64) -> Option<u64> {
        if *self == CacheBounds::default() {
            return None;
        }
        let mut kept = match (self.used_bytes_max, self.free_bytes_min) {
            (0, 0) => 0,
            (0, _) => u64::MAX,
            (most, _) => most,
        };
        if free < self.free_bytes_min {
            kept = kept.min(total.saturating_sub(self.free_bytes_min - free));
        }
        Some(kept.max(self.reserved_bytes))
    }
}

/// Which entries are meant.
pub type Filter = Box<dyn Fn(&CacheEntry) -> bool + Send + Sync>;

/// What is to be pruned.
pub struct CachePrune {
    /// Also what an image has as well: found again by it, and gives nothing back.
    pub all: bool,
    /// Only what was used last before this.
    pub used_before: Option<Timestamp>,
    pub bounds: CacheBounds,
    pub filter: Filter,
}

impl CachePrune {
    /// Whether the filters let an entry through; it may be spared all the same.
    pub fn means(&self, entry: &CacheEntry) -> bool {
        self.used_before.is_none_or(|before| entry.used < before) && (self.filter)(entry)
    }
}

/// What goes of `entries`, of which that comes first that was used longest ago, while `free` bytes of the disk are.
pub fn unwanted(entries: Vec<CacheEntry>, wanted: &CachePrune, free: u64) -> Vec<CacheEntry> {
    let mut left: u64 = entries.iter().map(CacheEntry::own_bytes).sum();
    let kept_max = wanted.bounds.kept_bytes_max(left, free);
    let mut gone = Vec::new();
    for entry in entries {
        if kept_max.is_some_and(|most| left <= most) {
            break;
        }
        let is_spared = entry.is_in_use || (entry.is_shared && !wanted.all);
        if is_spared || !wanted.means(&entry) {
            continue;
        }
        left -= entry.own_bytes();
        gone.push(entry);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::super::CacheKind;
    use super::*;

    fn entry(id: &str, bytes: u64, used: i64) -> CacheEntry {
        CacheEntry {
            id: id.to_owned(),
            kind: CacheKind::Step,
            description: String::new(),
            bytes,
            created: Timestamp::ZERO,
            used: Timestamp::from_unix(used, 0),
            uses: 1,
            is_in_use: false,
            is_shared: false,
        }
    }

    fn gone(entries: &[CacheEntry], wanted: CachePrune, free: u64) -> String {
        unwanted(entries.to_vec(), &wanted, free).iter().map(|entry| entry.id.as_str()).collect()
    }

    fn wanted(all: bool, bounds: CacheBounds) -> CachePrune {
        CachePrune { all, used_before: None, bounds, filter: Box::new(|_| true) }
    }

    #[test]
    fn what_was_used_longest_ago_goes_until_the_rest_fits() {
        let mut entries = [entry("a", 10, 1), entry("b", 10, 2), entry("c", 0, 3), entry("d", 10, 4)];
        let bounds = |reserved_bytes, used_bytes_max, free_bytes_min| CacheBounds {
            reserved_bytes,
            used_bytes_max,
            free_bytes_min,
        };
        assert_eq!(gone(&entries, wanted(false, bounds(0, 0, 0)), 0), "abcd");
        assert_eq!(gone(&entries, wanted(false, bounds(0, 20, 0)), 0), "a");
        assert_eq!(gone(&entries, wanted(false, bounds(20, 0, 0)), 0), "a");
        assert_eq!(gone(&entries, wanted(false, bounds(20, 5, 0)), 0), "a", "what is reserved stays");
        assert_eq!(gone(&entries, wanted(false, bounds(0, 30, 0)), 0), "");
        assert_eq!(gone(&entries, wanted(false, bounds(0, 0, 100)), 95), "a");
        assert_eq!(gone(&entries, wanted(false, bounds(0, 0, 100)), 100), "", "enough is free");
        assert_eq!(gone(&entries, wanted(false, bounds(15, 0, 100)), 0), "ab", "but what is reserved");
        entries[0].is_in_use = true;
        assert_eq!(gone(&entries, wanted(true, bounds(0, 20, 0)), 0), "b");
        entries[1].is_shared = true;
        assert_eq!(
            gone(&entries, wanted(false, bounds(0, 10, 0)), 0),
            "cd",
            "what an image has costs nothing"
        );
        assert_eq!(gone(&entries, wanted(true, bounds(0, 0, 0)), 0), "bcd");
    }

    #[test]
    fn only_what_is_meant_goes() {
        let entries = [entry("a", 10, 1), entry("b", 10, 2)];
        let mut old = wanted(false, CacheBounds::default());
        old.used_before = Some(Timestamp::from_unix(2, 0));
        assert_eq!(gone(&entries, old, 0), "a");
        let mut named = wanted(false, CacheBounds::default());
        named.filter = Box::new(|entry| entry.id == "b");
        assert_eq!(gone(&entries, named, 0), "b");
    }
}
