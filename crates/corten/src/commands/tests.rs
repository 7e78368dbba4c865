//! The command line as it is typed: what is an option, what belongs to the container.

use std::ffi::OsString;

use clap::error::ErrorKind;

use crate::cli::{Entry, EntryKind, Form, tree};
use crate::commands::COMMANDS;

fn words(line: &str, form: Form) -> Result<Vec<String>, ErrorKind> {
    let arguments: Vec<OsString> = shlex::split(line).unwrap().into_iter().map(OsString::from).collect();
    let matches = tree(form).try_get_matches_from(arguments).map_err(|error| error.kind())?;
    let (_, below) = matches.subcommand().unwrap();
    Ok(below.get_many::<String>("words").unwrap().cloned().collect())
}

#[test]
fn options_end_at_the_image() {
    assert_eq!(
        words("corten run -it --rm busybox sh -c 'echo -n' --rm", Form::Plain).unwrap(),
        ["busybox", "sh", "-c", "echo -n", "--rm"]
    );
    assert_eq!(words("corten run -- busybox -x", Form::Plain).unwrap(), ["busybox", "-x"]);
    assert_eq!(words("corten run busybox -- foo", Form::Plain).unwrap(), ["busybox", "--", "foo"]);
    assert_eq!(words("corten run -e -x busybox", Form::Plain).unwrap(), ["busybox"]);
    assert_eq!(words("corten run --rm --rm busybox", Form::Plain).unwrap(), ["busybox"]);
    assert_eq!(words("corten run -h box busybox --help", Form::Plain).unwrap(), ["busybox", "--help"]);
    assert_eq!(words("corten exec -it web sh --help", Form::Plain).unwrap(), ["web", "sh", "--help"]);
    assert_eq!(words("corten run -eA=1 -p80:80 -v/a:/b busybox", Form::Plain).unwrap(), ["busybox"]);
    assert_eq!(words("corten run --foo busybox", Form::Plain), Err(ErrorKind::UnknownArgument));
    assert_eq!(words("corten run", Form::Plain), Err(ErrorKind::MissingRequiredArgument));
}

#[test]
fn switches_take_values_on_the_second_try() {
    assert_eq!(words("corten run --rm=false busybox", Form::Plain), Err(ErrorKind::TooManyValues));
    assert_eq!(words("corten run --rm=false -it busybox", Form::Valued).unwrap(), ["busybox"]);
    assert_eq!(words("corten run -it=false busybox", Form::Valued).unwrap(), ["busybox"]);
    assert_eq!(words("corten run --rm=maybe busybox", Form::Valued), Err(ErrorKind::ValueValidation));
}

#[test]
fn help_says_what_the_command_does() {
    fn visit(entries: &[Entry], path: &str) {
        for entry in entries {
            match entry.kind {
                EntryKind::Group(inner) => visit(inner, &format!("{path} {}", entry.name)),
                EntryKind::Planned(_) => {}
                EntryKind::Verb { .. } => {
                    let line = format!("{path} {} --help", entry.name);
                    let error = tree(Form::Plain).try_get_matches_from(line.split(' ')).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::DisplayHelp, "{line}");
                    let text = error.to_string();
                    assert!(text.starts_with(entry.about), "{line}: {text}");
                    assert!(text.contains(&format!("Usage: {path} {}", entry.name)), "{line}: {text}");
                }
            }
        }
    }
    visit(COMMANDS, "corten");
}

#[test]
fn completions_offer_what_there_is() {
    let offered = tree(Form::Offered);
    let names: Vec<&str> = offered.get_subcommands().map(|command| command.get_name()).collect();
    assert!(names.contains(&"run") && !names.contains(&"checkpoint"), "{names:?}");
    assert!(tree(Form::Plain).get_subcommands().any(|command| command.get_name() == "checkpoint"));
}

#[test]
fn the_tree_is_sound() {
    tree(Form::Plain).debug_assert();
    tree(Form::Valued).debug_assert();
}
