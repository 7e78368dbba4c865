//! Says what is wrong with a command line, and what it may have meant.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{EXIT_ENGINE, Entry, EntryKind, Failure};
use crate::commands::COMMANDS;

/// Turns clap's refusal into ours.
pub fn explain(error: &clap::Error, arguments: &[OsString]) -> Failure {
    let (path, entries, usage) = command_path(arguments);
    let help = format!("`{path} --help` shows what it takes");
    let named = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let name = named(ContextKind::InvalidSubcommand).unwrap_or_default();
            let failure = Failure::new(format!("unknown command: {path} {name}"));
            match similar(
                name,
                entries
                    .iter()
                    .filter(|entry| !matches!(entry.kind, EntryKind::Planned(_)))
                    .map(|entry| entry.name),
            ) {
                Some(known) => failure.hint(format!("did you mean `{path} {known}`?")),
                None => failure.hint(format!("`{path} --help` lists the commands")),
            }
        }
        ErrorKind::MissingRequiredArgument | ErrorKind::TooFewValues => {
            let wanted = usage.trim_start_matches("[OPTIONS] ");
            Failure::new(format!("`{path}` needs more arguments: {wanted}")).hint(help)
        }
        ErrorKind::UnknownArgument => {
            let name = named(ContextKind::InvalidArg).unwrap_or_default();
            if !name.starts_with('-') {
                return Failure::new(format!("`{path}` takes no argument {name:?}; usage: {path} {usage}"))
                    .hint(help);
            }
            let failure = Failure::new(format!("unknown flag: {name}")).exit(EXIT_ENGINE);
            match named(ContextKind::SuggestedArg) {
                Some(known) => failure.hint(format!("did you mean {known}? {help}")),
                None => failure.hint(help),
            }
        }
        _ => {
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            // The usage line and the way to the help are the hint's business.
            let text = text.split("\n\nUsage:").next().unwrap_or(text);
            let text = text.split("\n\nFor more information").next().unwrap_or(text);
            let words: Vec<&str> = text.split_whitespace().collect();
            Failure::new(words.join(" ")).hint(help).exit(EXIT_ENGINE)
        }
    }
}

/// The command that the arguments name, as far as they do; which commands could follow, or what the command takes.
fn command_path(arguments: &[OsString]) -> (String, &'static [Entry], &'static str) {
    let mut path = "corten".to_owned();
    let mut entries = COMMANDS;
    for word in arguments.iter().skip(1).filter_map(|word| word.to_str()) {
        let Some(entry) = Entry::find(entries, word) else { continue };
        path.push(' ');
        path.push_str(entry.name);
        match entry.kind {
            EntryKind::Group(inner) => entries = inner,
            // Of several forms the first will do.
            EntryKind::Verb { usage, .. } => return (path, &[], usage.lines().next().unwrap_or_default()),
            EntryKind::Planned(_) => return (path, &[], ""),
        }
    }
    (path, entries, "")
}

/// The known name that differs least, if it differs by little.
fn similar<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).clamp(1, 3);
    let mut close: Vec<(usize, &str)> = known.map(|known| (distance(name, known), known)).collect();
    close.sort();
    close.first().filter(|(distance, _)| *distance <= limit).map(|(_, known)| *known)
}

/// Edits between two words, where swapping two neighbours is one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(line: &str) -> (String, String, u8) {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let error = crate::cli::tree(crate::cli::Form::Plain).try_get_matches_from(&arguments).unwrap_err();
        let failure = explain(&error, &arguments);
        (failure.message, failure.hint.unwrap_or_default(), failure.exit)
    }

    #[test]
    fn mistyped_commands_find_their_neighbours() {
        assert_eq!(
            explained("corten rnu"),
            ("unknown command: corten rnu".into(), "did you mean `corten run`?".into(), 1)
        );
        assert_eq!(explained("corten container stopp x").1, "did you mean `corten container stop`?");
        assert_eq!(explained("corten frobnicate").1, "`corten --help` lists the commands");
    }

    #[test]
    fn flags_and_values() {
        assert_eq!(
            explained("corten run --foo x"),
            ("unknown flag: --foo".into(), "`corten run --help` shows what it takes".into(), 125)
        );
        assert_eq!(
            explained("corten run --detatch x").1,
            "did you mean --detach? `corten run --help` shows what it takes"
        );
        let (message, _, exit) = explained("corten run --stop-timeout soon x");
        assert!(message.contains("invalid value 'soon' for '--stop-timeout"), "{message}");
        assert_eq!(exit, 125);
        let (message, _, exit) = explained("corten run");
        assert_eq!(
            (message.as_str(), exit),
            ("`corten run` needs more arguments: IMAGE [COMMAND] [ARG...]", 1)
        );
        let (message, _, exit) = explained("corten exec web");
        assert_eq!(
            (message.as_str(), exit),
            ("`corten exec` needs more arguments: CONTAINER COMMAND [ARG...]", 1)
        );
        let (message, _, exit) = explained("corten tag a b c");
        assert!(
            message.starts_with("`corten tag` takes no argument \"c\"; usage: corten tag SOURCE"),
            "{message}"
        );
        assert_eq!(exit, 1);
    }

    #[test]
    fn distances() {
        assert_eq!(distance("rnu", "run"), 1);
        assert_eq!(distance("", "ab"), 2);
        assert_eq!(distance("images", "image"), 1);
    }
}
