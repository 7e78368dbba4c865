//! Properties of the language: nothing makes the parser, the expansion or the matching panic, and they agree with
//! themselves.

use corten_build::dockerfile::expand::Expander;
use corten_build::dockerfile::{Escape, parse, parse_trigger};
use corten_build::ignore::{Ignore, Matches};
use proptest::prelude::*;

const PIECES: [&str; 44] = [
    "FROM ",
    "RUN ",
    "COPY ",
    "ENV ",
    "ARG ",
    "LABEL ",
    "ONBUILD ",
    "HEALTHCHECK ",
    "CMD ",
    "\n",
    "\n",
    "\\\n",
    "`\n",
    "#",
    "# escape=`\n",
    "a",
    "b=c",
    "\"",
    "'",
    "\\",
    "$A",
    "${A:-",
    "}",
    "${A#",
    "${A//",
    "/",
    "<<EOF",
    "<<-",
    "EOF\n",
    "[\"a\"]",
    "[",
    "--mount=",
    "type=cache",
    ",",
    "--from=x ",
    " ",
    "\t",
    "\r\n",
    "é",
    "\u{a0}",
    "=",
    "<",
    "AS ",
    "\u{feff}",
];

fn source() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn parsing_never_panics(source in source()) {
        let lines = source.split('\n').count() as u32;
        match parse(&source) {
            Ok(dockerfile) => {
                let mut line = 0;
                for stage in &dockerfile.stages {
                    for span in std::iter::once(stage.from.span).chain(stage.instructions.iter().map(|at| at.span)) {
                        prop_assert!(span.first_line > line && span.last_line >= span.first_line);
                        prop_assert!(span.last_line <= lines && span.column > 0);
                        line = span.last_line;
                    }
                }
            }
            Err(error) => {
                prop_assert!(!error.to_string().is_empty());
                prop_assert!(error.iter().all(|one| one.span.first_line <= lines));
            }
        }
        let _ = parse_trigger(&source);
    }

    #[test]
    fn expansion_never_panics(source in source(), value in ".{0,20}") {
        let variables = |name: &str| (name == "A").then(|| value.clone());
        for expander in [Expander::new(Escape::Backslash), Expander::new(Escape::Backtick), Expander::document(), Expander::display(Escape::Backslash)] {
            let _ = expander.words(&source, &variables);
            if let Ok(expanded) = expander.word(&source, &variables) {
                prop_assert!(expanded.used.iter().all(|name| name == "A"));
                prop_assert!(!expanded.undefined.contains("A"));
            }
        }
    }

    /// A text without anything special is itself.
    #[test]
    fn plain_words_stay(text in "[a-zA-Z0-9 ._/-]{0,40}") {
        let expanded = Expander::new(Escape::Backslash).word(&text, &|_| None).unwrap();
        prop_assert_eq!(expanded.text, text);
    }

    /// Who walks and leaves out what it may leave out finds the same files.
    #[test]
    fn walking_agrees_with_asking(
        patterns in prop::collection::vec("!?(/|\\*\\*/)?([ab*?]|\\*\\*|[a-b]{1,2}){1,2}(/([ab?*]|\\*\\*|ab)){0,2}", 0..6),
        paths in prop::collection::vec("(a|b|ab)(/(a|b|ab)){0,4}", 1..8),
    ) {
        let Ok(ignore) = Ignore::parse(&patterns.join("\n")) else { return Ok(()) };
        for path in paths {
            let mut matches = Matches::default();
            let mut left_out = false;
            for (end, _) in path.match_indices('/') {
                matches = ignore.below(&matches, &path[..end]);
                left_out |= !ignore.may_include_below(&matches, &path[..end]);
            }
            let walked = left_out || ignore.below(&matches, &path).excluded();
            prop_assert_eq!(walked, ignore.excludes(&path), "{:?} {}", patterns, path);
        }
    }
}
