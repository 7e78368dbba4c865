//! `registry user`: the file of users. A registry that runs reads it again by itself.

use std::io::Read;
use std::path::PathBuf;

use corten_registry::server::access::htpasswd;

use super::place;
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::output;
use crate::stream::{ask_hidden, is_terminal};

#[derive(Clone, Debug, clap::Args)]
struct UsersFile {
    /// The file of users [default: as configured]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Configuration file [default: /etc/corten/registry.json, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl UsersFile {
    fn path(self) -> Result<PathBuf, Failure> {
        place::htpasswd(self.file, self.config)
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct AddUser {
    #[command(flatten)]
    file: UsersFile,
    /// Take the password from stdin
    #[arg(long)]
    password_stdin: bool,
    #[arg(value_name = "NAME")]
    name: String,
}

impl Verb for AddUser {
    const ABOUT: &'static str = "Add a user, or give one another password";
    const USAGE: &'static str = "[OPTIONS] NAME";

    fn run(self, context: &Context) -> Outcome {
        let path = self.file.path()?;
        // Before anybody types a password in vain.
        htpasswd::check_name(&self.name)
            .map_err(|why| Failure::new(format!("user {:?}: {why}", self.name)))?;
        let password = match self.password_stdin {
            true => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text)?;
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
            false if !is_terminal() => {
                return Err(Failure::new("there is no terminal to ask for a password")
                    .hint("give --password-stdin, and the password on standard input"));
            }
            false => {
                let password = context.block_on(ask_hidden("Password: "))??;
                if context.block_on(ask_hidden("Again: "))?? != password {
                    return Err(Failure::new("the passwords differ"));
                }
                password
            }
        };
        let new = htpasswd::set(&path, &self.name, &password)?;
        output::talk(&match new {
            true => format!("User {} added to {}\n", self.name, path.display()),
            false => format!("User {} has a new password in {}\n", self.name, path.display()),
        });
        Ok(0)
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct RmUser {
    #[command(flatten)]
    file: UsersFile,
    #[arg(value_name = "NAME", required = true, num_args = 1..)]
    names: Vec<String>,
}

impl Verb for RmUser {
    const ABOUT: &'static str = "Remove users; their logins and tokens end with them";
    const USAGE: &'static str = "[OPTIONS] NAME [NAME...]";

    fn run(self, _: &Context) -> Outcome {
        let path = self.file.path()?;
        for name in &self.names {
            htpasswd::remove(&path, name)?;
            output::line(name)?;
        }
        Ok(0)
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct LsUsers {
    #[command(flatten)]
    file: UsersFile,
}

impl Verb for LsUsers {
    const ABOUT: &'static str = "List users";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, _: &Context) -> Outcome {
        let path = self.file.path()?;
        for line in htpasswd::read(&path)?.1 {
            output::say!("corten: {}: {line}", path.display());
        }
        for name in htpasswd::names(&path)? {
            output::line(&name)?;
        }
        Ok(0)
    }
}
