//! Which patterns may match a path, by the names with which it begins and ends: lists of a thousand names cost no more than short ones.

use std::collections::HashMap;

use super::pattern::Pattern;

#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// By the first name of every path that they match.
    by_first: HashMap<String, Vec<usize>>,
    /// By the last one.
    by_last: HashMap<String, Vec<usize>>,
    /// A bit for each of all others.
    others: Vec<u64>,
}

impl Index {
    pub fn new(patterns: &[Pattern]) -> Index {
        let mut index = Index { others: vec![0; patterns.len().div_ceil(64)], ..Index::default() };
        for (number, pattern) in patterns.iter().enumerate() {
            if let Some(first) = pattern.first_name() {
                index.by_first.entry(first.to_owned()).or_default().push(number);
            } else if let Some(last) = pattern.last_name() {
                index.by_last.entry(last.to_owned()).or_default().push(number);
            } else {
                index.others[number / 64] |= 1 << (number % 64);
            }
        }
        index
    }

    /// A bit for each pattern that may match, and for each that has one in `known`.
    pub fn candidates(&self, path: &str, known: &[u64]) -> Vec<u64> {
        let mut bits = self.others.clone();
        bits.iter_mut().zip(known).for_each(|(word, known)| *word |= known);
        let first = path.split('/').next().and_then(|name| self.by_first.get(name));
        let last = path.rsplit('/').next().and_then(|name| self.by_last.get(name));
        for number in first.into_iter().chain(last).flatten() {
            bits[number / 64] |= 1 << (number % 64);
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ignore::Ignore;

    /// Knows of no name: everything is looked at.
    fn blind(count: usize) -> Index {
        let mut index = Index { others: vec![0; count.div_ceil(64)], ..Index::default() };
        (0..count).for_each(|number| index.others[number / 64] |= 1 << (number % 64));
        index
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn nothing_is_overlooked(
            patterns in prop::collection::vec("!?(/|\\*\\*/?)?([ab*?]|\\*\\*|[a-b]{1,2}|\\[ab\\]){1,2}(/([ab?*]|\\*\\*|ab)){0,2}", 0..80),
            paths in prop::collection::vec("(a|b|ab)(/(a|b|ab)){0,4}", 1..8),
        ) {
            let Ok(ignore) = Ignore::parse(&patterns.join("\n")) else { return Ok(()) };
            let looking = Ignore { index: blind(ignore.patterns.len()), patterns: ignore.patterns.clone() };
            for path in paths {
                prop_assert_eq!(ignore.excludes(&path), looking.excludes(&path), "{:?} {}", patterns, path);
            }
        }
    }
}
