//! `registry login` and `registry key`: what clients keep instead of a password, and what tokens are signed with.

use corten_registry::server::access::{Identity, now_s};

use super::place::{Place, ago, shown};
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::format::listing::{self, Columns};
use crate::format::template::Value;
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct LsLogins {
    #[command(flatten)]
    place: Place,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go TEMPLATE
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
}

impl Verb for LsLogins {
    const ABOUT: &'static str = "List logins";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, _: &Context) -> Outcome {
        let logins = self.place.store()?.logins()?;
        let rows: Vec<Value> = logins
            .iter()
            .map(|login| {
                Value::row([
                    ("Identity", login.identity.as_str().into()),
                    ("Client", login.client.as_str().into()),
                    ("Created", shown(login.made_s).as_str().into()),
                    ("Used", ago(login.used_s).as_str().into()),
                ])
            })
            .collect();
        let columns = Columns {
            table: "{{.Identity}}\t{{.Client}}\t{{.Created}}\t{{.Used}}".to_owned(),
            quiet: "{{.Identity}}",
            titles: &[
                ("Identity", "WHO"),
                ("Client", "CLIENT"),
                ("Created", "CREATED"),
                ("Used", "LAST USED"),
            ],
        };
        output::print(&listing::render(&self.format, false, &columns, &rows)?)?;
        Ok(0)
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct RevokeLogins {
    #[command(flatten)]
    place: Place,
    /// Of everybody
    #[arg(short, long, conflicts_with = "who")]
    all: bool,
    #[arg(value_name = "WHO")]
    who: Vec<String>,
}

impl Verb for RevokeLogins {
    const ABOUT: &'static str = "End logins: who had one has to show a password again";
    const USAGE: &'static str = "[OPTIONS] --all | WHO [WHO...]";

    fn run(self, _: &Context) -> Outcome {
        if !self.all && self.who.is_empty() {
            return Err(Failure::new("say whose logins: user:NAME, robot:NAME, or --all"));
        }
        let read = |who: &String| match Identity::parse(who) {
            Some(identity) => Ok(Some(identity)),
            None => Err(Failure::new(format!("{who:?}: want user:NAME or robot:NAME"))),
        };
        let mut whose = self.who.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if self.all {
            whose.push(None);
        }
        let mut store = self.place.store()?;
        let mut count = 0;
        for identity in &whose {
            count += store.remove_logins(identity.as_ref())?;
        }
        output::line(&format!("{count} logins ended"))?;
        Ok(0)
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct RotateKey {
    #[command(flatten)]
    place: Place,
    /// Forget the keys there were: tokens that are out are worth nothing from now on
    #[arg(long)]
    forget: bool,
}

impl Verb for RotateKey {
    const ABOUT: &'static str = "Make a new key to sign tokens with";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, _: &Context) -> Outcome {
        self.place.store()?.rotate_keys(now_s(), self.forget)?;
        Ok(0)
    }
}
