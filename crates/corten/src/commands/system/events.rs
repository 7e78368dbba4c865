//! `events`: what happens in the engine, as it happens.

use corten_api::event::{EventMessage, EventsOptions};

use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::container::bound;
use crate::commands::filters::filters;
use crate::format::template::{Template, Value};
use crate::format::time::event_time;
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Events {
    /// Filter output by container, daemon, event, image, label, network, scope, type or volume
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Format output: 'json' or a Go TEMPLATE
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
    /// Show all events created since timestamp
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Verb for Events {
    const ABOUT: &'static str = "Get real time events from the server";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        let template = match self.format.as_str() {
            "" => None,
            "json" => Some(Template::parse("{{json .}}")?),
            format => Some(Template::parse(format)?),
        };
        let options = EventsOptions {
            since: bound("--since", self.since.as_deref())?,
            until: bound("--until", self.until.as_deref())?,
            filters: filters(&self.filter)?,
        };
        let client = context.client()?;
        context.block_on_while_read(async {
            let mut events = client.events(&options).await?;
            while let Some(event) = events.next().await? {
                match &template {
                    None => output::line(&text(&event))?,
                    Some(template) => {
                        let value =
                            Value::from_serialize(&event).map_err(|error| Failure::new(error.to_string()))?;
                        output::line(&template.render(&value)?)?;
                    }
                }
            }
            Ok(0)
        })
    }
}

fn text(event: &EventMessage) -> String {
    let nanoseconds =
        if event.time_nano != 0 { event.time_nano } else { event.time.saturating_mul(1_000_000_000) };
    let mut line = format!("{} {} {} {}", event_time(nanoseconds), event.kind, event.action, event.actor.id);
    if !event.actor.attributes.is_empty() {
        let attributes: Vec<String> =
            event.actor.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        line.push_str(&format!(" ({})", attributes.join(", ")));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_event() {
        let mut event =
            EventMessage { kind: "container".into(), action: "start".into(), ..Default::default() };
        event.actor.id = "abc".into();
        event.time_nano = 1_700_000_000_000_000_005;
        assert!(text(&event).ends_with(" container start abc"));
        event.actor.attributes.insert("name".into(), "web".into());
        event.actor.attributes.insert("image".into(), "busybox".into());
        assert!(text(&event).ends_with(" container start abc (image=busybox, name=web)"));
        assert!(text(&event).contains(":20.000000005"));
    }
}
