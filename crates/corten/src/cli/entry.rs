//! The command tree as data, and how it becomes clap's.
//!
//! A command's options are only built when that command is parsed (`defer`): the whole tree has close to a thousand
//! of them, and `corten version` shall not pay for `run`.

use clap::{Arg, ArgAction, ArgMatches, Args, Command};

use super::{Context, Failure};

/// The exit status of a command, or why it failed.
pub type Outcome = Result<u8, Failure>;

/// A command: its options are the structure itself.
pub trait Verb: Args {
    const ABOUT: &'static str;
    /// What follows the command's name in the usage line.
    const USAGE: &'static str;

    fn run(self, context: &Context) -> Outcome;
}

/// A name in the tree.
pub struct Entry {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub about: &'static str,
    pub kind: EntryKind,
}

#[derive(Clone, Copy)]
pub enum EntryKind {
    Verb {
        augment: fn(Command) -> Command,
        /// The same with `--flag=true` and `--flag=false` for switches.
        augment_valued: fn(Command) -> Command,
        run: fn(&Context, &ArgMatches) -> Outcome,
        usage: &'static str,
    },
    Group(&'static [Entry]),
    /// Known from Docker but not there yet, with what to do meanwhile.
    Planned(&'static str),
}

/// What a tree is built for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Parsing.
    Plain,
    /// Parsing with values allowed for switches.
    Valued,
    /// Completions: without the commands that are only refused.
    Offered,
}

/// A command under `name`.
pub const fn verb<V: Verb>(name: &'static str) -> Entry {
    let (augment, augment_valued, run) = (augment::<V>, augment_valued::<V>, run::<V>);
    let kind = EntryKind::Verb { augment, augment_valued, run, usage: V::USAGE };
    Entry { name, aliases: &[], about: V::ABOUT, kind }
}

/// A group of commands.
pub const fn group(name: &'static str, about: &'static str, entries: &'static [Entry]) -> Entry {
    Entry { name, aliases: &[], about, kind: EntryKind::Group(entries) }
}

/// A command of Docker's that is refused for now.
pub const fn planned(name: &'static str, instead: &'static str) -> Entry {
    Entry { name, aliases: &[], about: "Not supported yet", kind: EntryKind::Planned(instead) }
}

impl Entry {
    pub const fn or(mut self, aliases: &'static [&'static str]) -> Entry {
        self.aliases = aliases;
        self
    }

    /// The entry that `name` means in `entries`.
    pub fn find<'a>(entries: &'a [Entry], name: &str) -> Option<&'a Entry> {
        entries.iter().find(|entry| entry.name == name || entry.aliases.contains(&name))
    }

    /// The clap commands of `entries`.
    pub fn commands(entries: &[Entry], form: Form) -> impl Iterator<Item = Command> {
        let offered =
            move |entry: &&Entry| form != Form::Offered || !matches!(entry.kind, EntryKind::Planned(_));
        entries.iter().filter(offered).map(move |entry| entry.command(form))
    }

    fn command(&self, form: Form) -> Command {
        let command = Command::new(self.name).about(self.about).aliases(self.aliases);
        match self.kind {
            EntryKind::Verb { augment, augment_valued, .. } => {
                command.defer(if form == Form::Valued { augment_valued } else { augment })
            }
            EntryKind::Group(entries) => command
                .subcommand_required(true)
                .arg_required_else_help(true)
                .disable_help_subcommand(true)
                .subcommands(Entry::commands(entries, form)),
            EntryKind::Planned(_) => {
                let rest = Arg::new("rest").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true);
                command.hide(true).disable_help_flag(true).arg(rest)
            }
        }
    }
}

fn run<V: Verb>(context: &Context, matches: &ArgMatches) -> Outcome {
    V::from_arg_matches(matches).map_err(Failure::usage)?.run(context)
}

fn augment<V: Verb>(command: Command) -> Command {
    // `-h` is the host name in `run`; where it is free it shows the help, as everywhere.
    // A flattened structure would put its own description in the place of the command's.
    let command = V::augment_args(command).about(V::ABOUT).long_about(None::<&str>).args_override_self(true);
    let taken = command.get_arguments().any(|arg| arg.get_short() == Some('h'));
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let command = command.override_usage(format!("{name} {}", V::USAGE)).mut_args(hyphen_values);
    if !taken {
        return command;
    }
    command
        .disable_help_flag(true)
        .arg(Arg::new("help").long("help").action(ArgAction::Help).help("Print help"))
}

fn augment_valued<V: Verb>(command: Command) -> Command {
    augment::<V>(command).mut_args(valued_switch)
}

/// As in Docker, what follows an option is its value, even when it looks like another option.
fn hyphen_values(arg: Arg) -> Arg {
    if arg.is_positional() || !arg.get_action().takes_values() { arg } else { arg.allow_hyphen_values(true) }
}

fn valued_switch(arg: Arg) -> Arg {
    if !matches!(arg.get_action(), ArgAction::SetTrue) {
        return arg;
    }
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_value("false")
        .default_missing_value("true")
        .value_parser(crate::options::values::boolean)
}
