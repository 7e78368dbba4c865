//! How answers are shown: tables, JSON, Go templates, sizes, durations.
//!
//! Everything here is pure: data in, text out. Which columns a listing has is said by its command.

pub mod duration;
pub mod json;
pub mod listing;
pub mod ports;
pub mod size;
pub mod tabwriter;
pub mod time;

pub use corten_template as template;

/// Cuts `text` to `width` characters, the last of which becomes `…` when something was lost.
pub fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// The short form of an id: without its algorithm, twelve digits.
pub fn short_id(id: &str) -> &str {
    let bare = id.split_once(':').map_or(id, |(_, digits)| digits);
    bare.get(..12).unwrap_or(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ellipsis_counts_characters() {
        assert_eq!(ellipsis("sleep", 5), "sleep");
        assert_eq!(ellipsis("sleep 3600", 5), "slee…");
        assert_eq!(ellipsis("ééé", 2), "é…");
    }

    #[test]
    fn short_ids() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("abc"), "abc");
    }
}
