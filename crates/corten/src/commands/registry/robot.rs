//! `registry robot`: accounts for programs. A registry that runs knows of changes within a second.

use corten_registry::server::access::now_s;
use corten_registry::server::access::robot::{Robot, RobotError, RobotGrant};
use corten_registry::server::duration;

use super::place::{Place, shown};
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::format::listing::{self, Columns};
use crate::format::template::Value;
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct CreateRobot {
    #[command(flatten)]
    place: Place,
    /// What it may do, as team/*:read,write (may be given more than once)
    #[arg(long, value_name = "PATTERN:ACTION[,ACTION...]")]
    allow: Vec<String>,
    /// When it ends (12h, 30d), or never
    #[arg(long, value_name = "TIME", default_value = "90d")]
    expires: String,
    #[arg(value_name = "NAME")]
    name: String,
}

impl Verb for CreateRobot {
    const ABOUT: &'static str = "Make a robot account; its secret is shown once";
    const USAGE: &'static str = "[OPTIONS] --allow PATTERN:ACTION[,ACTION...] NAME";

    fn run(self, _: &Context) -> Outcome {
        let now = now_s();
        let expires_s = match self.expires.as_str() {
            "never" => None,
            text => {
                let time = duration("--expires", text).map_err(|error| Failure::new(error.to_string()))?;
                Some(now + time.as_secs())
            }
        };
        let grants = self.allow.iter().map(|text| RobotGrant::parse(text)).collect::<Result<_, _>>()?;
        let (robot, secret) = Robot::make(&self.name, grants, expires_s, now)?;
        self.place.store()?.add_robot(&robot)?;
        let until = expires_s.map_or("for ever".to_owned(), |end| format!("until {}", shown(end)));
        output::talk(&format!(
            "It logs in as robot+{} {until}, with this secret, which is shown only now:\n",
            robot.name
        ));
        output::line(&secret)?;
        Ok(0)
    }
}

impl From<RobotError> for Failure {
    fn from(error: RobotError) -> Failure {
        Failure::new(error.to_string())
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct LsRobots {
    #[command(flatten)]
    place: Place,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go TEMPLATE
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
    /// Only show names
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for LsRobots {
    const ABOUT: &'static str = "List robot accounts";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, _: &Context) -> Outcome {
        let now = now_s();
        let rows: Vec<Value> = self.place.store()?.robots()?.iter().map(|robot| row(robot, now)).collect();
        let columns = Columns {
            table: "{{.Name}}\t{{.Expires}}\t{{.Allowed}}".to_owned(),
            quiet: "{{.Name}}",
            titles: &[
                ("Name", "NAME"),
                ("Expires", "EXPIRES"),
                ("Expired", "EXPIRED"),
                ("Created", "CREATED"),
                ("Allowed", "ALLOWED"),
            ],
        };
        output::print(&listing::render(&self.format, self.quiet, &columns, &rows)?)?;
        Ok(0)
    }
}

fn row(robot: &Robot, now: u64) -> Value {
    let expired = robot.is_expired(now);
    let expires = match robot.expires_s {
        None => "never".to_owned(),
        Some(end) if expired => format!("expired {}", shown(end)),
        Some(end) => shown(end),
    };
    let allowed =
        robot.grants.iter().map(|grant| format!("{}:{}", grant.repositories.join(","), grant.may.join(",")));
    Value::row([
        ("Name", robot.name.as_str().into()),
        ("Expires", expires.as_str().into()),
        ("Expired", Value::Bool(expired)),
        ("Created", shown(robot.made_s).as_str().into()),
        ("Allowed", allowed.collect::<Vec<_>>().join(" ").as_str().into()),
    ])
}

#[derive(Clone, Debug, clap::Args)]
pub struct RevokeRobot {
    #[command(flatten)]
    place: Place,
    #[arg(value_name = "NAME", required = true, num_args = 1..)]
    names: Vec<String>,
}

impl Verb for RevokeRobot {
    const ABOUT: &'static str = "End robot accounts, with their logins and tokens";
    const USAGE: &'static str = "[OPTIONS] NAME [NAME...]";

    fn run(self, _: &Context) -> Outcome {
        let mut store = self.place.store()?;
        for name in &self.names {
            store.remove_robot(name)?;
            output::line(name)?;
        }
        Ok(0)
    }
}
