//! `history`: how an image came to be, layer by layer.

use corten_api::image::ImageHistory;

use super::list::since;
use crate::cli::{Context, Outcome, Verb};
use crate::format::listing::{self, Columns};
use crate::format::template::Value;
use crate::format::time::rfc3339;
use crate::format::{ellipsis, short_id, size};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct History {
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go TEMPLATE
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
    /// Print sizes and dates in human readable format
    #[arg(short = 'H', long, num_args = 0..=1, require_equals = true, default_value = "true",
        default_missing_value = "true", value_parser = crate::options::values::boolean,
        action = clap::ArgAction::Set, value_name = "BOOL")]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// Show history for the given platform (os[/arch[/variant]])
    #[arg(long)]
    platform: Option<String>,
    #[arg(value_name = "IMAGE")]
    image: String,
}

impl Verb for History {
    const ABOUT: &'static str = "Show the history of an image";
    const USAGE: &'static str = "[OPTIONS] IMAGE";

    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let platform = self.platform.as_deref().map(super::platform_json).transpose()?;
        let history = context.block_on(client.image_history(&self.image, platform.as_deref()))??;
        let rows: Vec<Value> = history.iter().map(|step| row(step, self.human, !self.no_trunc)).collect();
        output::print(&listing::render(&self.format, self.quiet, &columns(self.human), &rows)?)?;
        Ok(0)
    }
}

fn columns(human: bool) -> Columns {
    let table = if human {
        "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
    } else {
        "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
    };
    Columns {
        table: table.to_owned(),
        quiet: "{{.ID}}",
        titles: &[
            ("ID", "IMAGE"),
            ("CreatedSince", "CREATED"),
            ("CreatedAt", "CREATED AT"),
            ("CreatedBy", "CREATED BY"),
            ("Size", "SIZE"),
            ("Comment", "COMMENT"),
        ],
    }
}

fn row(step: &ImageHistory, human: bool, cut: bool) -> Value {
    let id = if cut { short_id(&step.id) } else { &step.id };
    let created_by = step.created_by.replace('\t', " ");
    let created_by = if cut { ellipsis(&created_by, 45) } else { created_by };
    let size = if human { size::decimal(step.size) } else { step.size.to_string() };
    let at = rfc3339(step.created);
    Value::row([
        ("ID", Value::from(id)),
        ("CreatedSince", if human { since(step.created) } else { at.clone() }.into()),
        ("CreatedAt", at.into()),
        ("CreatedBy", created_by.into()),
        ("Size", size.into()),
        ("Comment", step.comment.as_str().into()),
    ])
}
