//! `network ls`.

use corten_api::network::NetworkSummary;

use crate::cli::{Context, Outcome, Verb};
use crate::commands::{filters::filters, natural};
use crate::format::listing::{self, Columns};
use crate::format::short_id;
use crate::format::template::Value;
use crate::format::time::local_time;
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Ls {
    /// Filter output by dangling, driver, id, label, name, scope or type
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Ls {
    const ABOUT: &'static str = "List networks";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        let format = context.format(self.format.as_deref(), self.quiet, "networksFormat");
        let filters = filters(&self.filter)?;
        let client = context.client()?;
        let mut networks = context.block_on(client.network_list(&filters))??;
        networks.sort_by(|a, b| natural::compare(&a.name, &b.name));
        let rows: Vec<Value> = networks.iter().map(|network| row(network, !self.no_trunc)).collect();
        output::print(&listing::render(&format, self.quiet, &columns(), &rows)?)?;
        Ok(0)
    }
}

fn columns() -> Columns {
    Columns {
        table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}".to_owned(),
        quiet: "{{.ID}}",
        titles: &[
            ("ID", "NETWORK ID"),
            ("Name", "NAME"),
            ("Driver", "DRIVER"),
            ("Scope", "SCOPE"),
            ("IPv4", "IPV4"),
            ("IPv6", "IPV6"),
            ("Internal", "INTERNAL"),
            ("Labels", "LABELS"),
            ("Label", ""),
            ("CreatedAt", "CREATED AT"),
        ],
    }
}

fn row(network: &NetworkSummary, cut: bool) -> Value {
    let id = if cut { short_id(&network.id) } else { &network.id };
    let labels: Vec<String> = network.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let by_name = network.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    Value::row([
        ("ID", Value::from(id)),
        ("Name", network.name.as_str().into()),
        ("Driver", network.driver.as_str().into()),
        ("Scope", network.scope.as_str().into()),
        ("IPv4", network.enable_ipv4.to_string().into()),
        ("IPv6", network.enable_ipv6.to_string().into()),
        ("Internal", network.internal.to_string().into()),
        ("Labels", labels.join(",").into()),
        ("Label", Value::Lookup(by_name)),
        ("CreatedAt", local_time(network.created).into()),
    ])
}
