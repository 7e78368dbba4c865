//! The command line itself: global options, finding the command, running it, telling of failures.

mod autostart;
mod context;
mod endpoint;
mod entry;
mod failure;
mod hints;
mod settings;
mod usage;

pub use context::Context;
pub use entry::{Entry, EntryKind, Form, Outcome, Verb, group, planned, verb};
pub use failure::{EXIT_ENGINE, Failure};

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::commands::COMMANDS;

/// Options that stand before the command.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Globals {
    /// Engine to connect to (unix:///path, tcp://host:port or ssh://user@host); also CORTEN_HOST or DOCKER_HOST
    #[arg(short = 'H', long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Name of the context to use (overrides DOCKER_HOST and what `context use` has chosen)
    #[arg(short, long, value_name = "NAME")]
    pub context: Option<String>,
    /// Use TLS; implied by --tlsverify
    #[arg(long)]
    pub tls: bool,
    /// Trust certs signed only by this CA [default: ca.pem in DOCKER_CERT_PATH or the config directory]
    #[arg(long, value_name = "FILE")]
    pub tlscacert: Option<PathBuf>,
    /// Path to TLS certificate file [default: cert.pem there]
    #[arg(long, value_name = "FILE")]
    pub tlscert: Option<PathBuf>,
    /// Path to TLS key file [default: key.pem there]
    #[arg(long, value_name = "FILE")]
    pub tlskey: Option<PathBuf>,
    /// Use TLS and verify the remote
    #[arg(long)]
    pub tlsverify: bool,
    /// Enable debug mode
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// Set the logging level (debug, info, warn, error, fatal)
    #[arg(short, long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Location of client config files
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// Don't start an engine when none listens
    #[arg(long)]
    pub no_autostart: bool,
}

/// The version as `--version` prints it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The whole tree.
pub fn tree(form: Form) -> Command {
    Globals::augment_args(Command::new("corten"))
        .about("Build, distribute and run containers")
        .override_usage("corten [OPTIONS] COMMAND")
        .version(VERSION)
        .disable_version_flag(true)
        .arg(
            clap::Arg::new("version")
                .short('v')
                .long("version")
                .action(clap::ArgAction::Version)
                .help("Print version"),
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(Entry::commands(COMMANDS, form))
}

/// Runs the command line to its exit status.
pub fn main(arguments: Vec<OsString>) -> u8 {
    let matches = match parse(&arguments) {
        Ok(matches) => matches,
        Err(error) => return refuse(&error, &arguments),
    };
    match dispatch(&matches) {
        Ok(status) => status,
        Err(failure) => {
            failure.report();
            failure.exit
        }
    }
}

/// Parses; when a switch may have been given a value (`--rm=false`, `-it=false`), parses again with a tree that takes
/// them. The first refusal counts when that doesn't help.
fn parse(arguments: &[OsString]) -> Result<ArgMatches, clap::Error> {
    tree(Form::Plain).try_get_matches_from(arguments).or_else(|error| match error.kind() {
        ErrorKind::TooManyValues => tree(Form::Valued).try_get_matches_from(arguments),
        ErrorKind::UnknownArgument => tree(Form::Valued).try_get_matches_from(arguments).map_err(|_| error),
        _ => Err(error),
    })
}

fn refuse(error: &clap::Error, arguments: &[OsString]) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed pipe is no failure.
            let _ = error.print();
            0
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            0
        }
        _ => {
            let failure = usage::explain(error, arguments);
            failure.report();
            failure.exit
        }
    }
}

fn dispatch(matches: &ArgMatches) -> Outcome {
    let globals = Globals::from_arg_matches(matches).map_err(Failure::usage)?;
    let context = Context::new(&globals);
    let mut entries = COMMANDS;
    let mut at = matches;
    let mut path = Vec::new();
    while let Some((name, below)) = at.subcommand() {
        let Some(entry) = Entry::find(entries, name) else { break };
        path.push(entry.name);
        match entry.kind {
            EntryKind::Group(inner) => (entries, at) = (inner, below),
            EntryKind::Planned(instead) => return Err(not_yet(&path, instead)),
            EntryKind::Verb { run, .. } => {
                let outcome = match run(&context, below) {
                    Err(failure) if failure.no_engine && context.may_start() => {
                        context.start_engine()?;
                        run(&context, below)
                    }
                    outcome => outcome,
                };
                return match outcome {
                    // Refused before anything was done, so that asking first would only cost time.
                    Err(Failure { older_engine: Some(version), .. }) if context.go_down_to(&version) => {
                        run(&context, below)
                    }
                    outcome => outcome,
                };
            }
        }
    }
    Err(Failure::new("no command was given").hint("`corten --help` lists them"))
}

fn not_yet(path: &[&str], instead: &str) -> Failure {
    Failure::new(format!("`corten {}` is not supported yet", path.join(" "))).hint(instead)
}
