//! `--filter name=value`, as the engine wants it.

use corten_api::Filters;

use crate::cli::{EXIT_ENGINE, Failure};

/// Collects the words of `--filter`.
pub fn filters(words: &[String]) -> Result<Filters, Failure> {
    let mut filters = Filters::new();
    for word in words.iter().filter(|word| !word.is_empty()) {
        let Some((name, value)) = word.split_once('=') else {
            return Err(Failure::new(format!("invalid value {word:?} for --filter: expected name=value"))
                .exit(EXIT_ENGINE));
        };
        filters.add(name.trim().to_ascii_lowercase(), value.trim());
    }
    Ok(filters)
}
