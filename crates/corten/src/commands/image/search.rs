//! `search`: repositories of a registry.

use corten_api::image::SearchResult;

use super::super::filters::filters;
use crate::cli::{Context, Outcome, Verb};
use crate::commands::login::auth_for;
use crate::format::ellipsis;
use crate::format::listing::{self, Columns};
use crate::format::template::Value;
use crate::output;

const DESCRIPTION_CHARS_MAX: usize = 45;

#[derive(Clone, Debug, clap::Args)]
pub struct Search {
    /// Filter output based on conditions provided (is-official=BOOL, stars=NUMBER)
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go TEMPLATE
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
    /// Max number of search results, up to 100
    #[arg(long, value_name = "NUMBER")]
    limit: Option<i64>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Part of a name; of Docker's hub, or of the registry that stands before it (HOST[:PORT]/TERM)
    #[arg(value_name = "TERM")]
    term: String,
}

impl Verb for Search {
    const ABOUT: &'static str = "Search a registry for images";
    const USAGE: &'static str = "[OPTIONS] TERM";

    fn run(self, context: &Context) -> Outcome {
        let domain = match self.term.split_once('/') {
            Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
            _ => "docker.io",
        };
        let auth = auth_for(context, domain)?;
        let client = context.client()?;
        let filters = filters(&self.filter)?;
        let found =
            context.block_on(client.image_search(&self.term, self.limit, &filters, auth.as_ref()))??;
        let is_json = self.format == "json";
        let rows: Vec<Value> = found.iter().map(|one| row(one, is_json, !self.no_trunc)).collect();
        output::print(&listing::render(&self.format, false, &columns(), &rows)?)?;
        Ok(0)
    }
}

fn columns() -> Columns {
    Columns {
        table: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}".to_owned(),
        quiet: "{{.Name}}",
        titles: &[
            ("Name", "NAME"),
            ("Description", "DESCRIPTION"),
            ("StarCount", "STARS"),
            ("IsOfficial", "OFFICIAL"),
        ],
    }
}

fn row(one: &SearchResult, is_json: bool, cut: bool) -> Value {
    let description = one.description.replace(['\n', '\r'], " ");
    let description = if cut { ellipsis(&description, DESCRIPTION_CHARS_MAX) } else { description };
    let truth = |is: bool| match (is_json, is) {
        (true, is) => is.to_string(),
        (false, true) => "[OK]".to_owned(),
        (false, false) => String::new(),
    };
    Value::row([
        ("Name", Value::from(one.name.as_str())),
        ("Description", description.into()),
        ("StarCount", one.star_count.to_string().into()),
        ("IsOfficial", truth(one.is_official).into()),
    ])
}
