//! One pattern of a `.dockerignore`, compiled to the cheapest thing that matches the same.

use super::glob::{self, BadPattern, State};

#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// Cleaned, without the exclamation mark.
    pub text: String,
    pub inverts: bool,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// The path itself.
    Exact,
    /// `name**`: what starts so.
    Prefix(String),
    /// `**name`: what ends so; `**/name` also the name alone.
    Suffix(String),
    /// `prefix` and `suffix` are what every match starts and ends with: most paths are refused by them.
    States { states: Vec<State>, prefix: String, suffix: String },
}

impl Pattern {
    pub fn compile(text: &str, inverts: bool) -> Result<Pattern, BadPattern> {
        let states = glob::compile(text, true)?;
        let plain = |text: &str| !glob::has_wildcards(text) && !text.contains(']');
        let kind = if plain(text) {
            Kind::Exact
        } else if let Some(suffix) = text.strip_prefix("**").filter(|suffix| plain(suffix)) {
            Kind::Suffix(suffix.to_owned())
        } else if let Some(prefix) = text.strip_suffix("**").filter(|prefix| plain(prefix)) {
            Kind::Prefix(prefix.to_owned())
        } else {
            let letter = |state: &State| match state {
                State::Letter(letter) => Some(*letter),
                _ => None,
            };
            let prefix: String = states.iter().map_while(letter).collect();
            let suffix: String = states.iter().rev().map_while(letter).collect();
            Kind::States { prefix, suffix: suffix.chars().rev().collect(), states }
        };
        Ok(Pattern { text: text.to_owned(), inverts, kind })
    }

    /// The name with which every path begins that it matches, if there is one.
    pub fn first_name(&self) -> Option<&str> {
        match &self.kind {
            Kind::Exact => self.text.split('/').next(),
            Kind::Prefix(prefix) | Kind::States { prefix, .. } => {
                prefix.split_once('/').map(|(first, _)| first)
            }
            Kind::Suffix(_) => None,
        }
    }

    /// The name with which every path ends that it matches, if there is one.
    pub fn last_name(&self) -> Option<&str> {
        match &self.kind {
            Kind::Exact => self.text.rsplit('/').next(),
            Kind::Suffix(suffix) | Kind::States { suffix, .. } => {
                suffix.rsplit_once('/').map(|(_, last)| last)
            }
            Kind::Prefix(_) => None,
        }
    }

    pub fn matches(&self, path: &str) -> bool {
        match &self.kind {
            Kind::Exact => path == self.text,
            Kind::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Kind::Suffix(suffix) => {
                path.ends_with(suffix.as_str()) || suffix.strip_prefix('/').is_some_and(|name| path == name)
            }
            Kind::States { states, prefix, suffix } => {
                path.starts_with(prefix.as_str())
                    && path.ends_with(suffix.as_str())
                    && glob::run(states, path).matched
            }
        }
    }

    /// Whether some path below `directory` may match.
    pub fn may_match_below(&self, directory: &str) -> bool {
        let below = |text: &str| text.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
        match &self.kind {
            Kind::Exact => below(&self.text),
            Kind::Prefix(prefix) => {
                below(prefix) || directory.starts_with(prefix.as_str()) || *prefix == format!("{directory}/")
            }
            Kind::Suffix(_) => true,
            Kind::States { states, prefix, .. } => {
                let common = prefix.len().min(directory.len());
                prefix.as_bytes()[..common] == directory.as_bytes()[..common]
                    && glob::run(states, &format!("{directory}/")).open
            }
        }
    }
}
