//! `artifact ls`: what is attached to an image.

use corten_image::manifest::{Descriptor, media};

use super::CREATED;
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::image::pull::{parse, with_default_tag};
use crate::commands::remote::Remote;
use crate::format::listing::{self, Columns};
use crate::format::size;
use crate::format::template::Value;
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Ls {
    /// Only artifacts of this type
    #[arg(long, value_name = "TYPE")]
    artifact_type: Option<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go TEMPLATE
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Only show digests
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "IMAGE")]
    image: String,
}

impl Verb for Ls {
    const ABOUT: &'static str = "List what is attached to an image of a registry";
    const USAGE: &'static str = "[OPTIONS] IMAGE";

    fn run(self, context: &Context) -> Outcome {
        let image = with_default_tag(parse(&self.image)?)?;
        let remote = Remote::of(context, &image, self.insecure)?;
        let (found, media_type) = context.block_on(async {
            let (repository, subject) = remote.document(&image).await?;
            let found = repository.referrers(&subject.digest, self.artifact_type.as_deref()).await?;
            Ok::<_, Failure>((found, subject.media_type))
        })??;
        let rows: Vec<Value> = found.iter().map(row).collect();
        output::print(&listing::render(&self.format, self.quiet, &columns(), &rows)?)?;
        if rows.is_empty() && matches!(media_type.as_str(), media::OCI_INDEX | media::DOCKER_INDEX) {
            let name = image.familiar_name();
            output::say!(
                "{} is an index: what is attached to one of its images is listed by `corten artifact ls {name}@DIGEST`",
                self.image
            );
        }
        Ok(0)
    }
}

fn columns() -> Columns {
    Columns {
        table: "{{.Digest}}\t{{.ArtifactType}}\t{{.CreatedAt}}\t{{.Size}}".to_owned(),
        quiet: "{{.Digest}}",
        titles: &[
            ("Digest", "DIGEST"),
            ("ArtifactType", "TYPE"),
            ("CreatedAt", "CREATED"),
            ("Size", "SIZE"),
            ("Annotations", "ANNOTATIONS"),
        ],
    }
}

fn row(artifact: &Descriptor) -> Value {
    let annotations = artifact.annotations.iter().flatten();
    let annotations: Vec<String> = annotations.map(|(key, value)| format!("{key}={value}")).collect();
    Value::row([
        ("Digest", Value::from(artifact.digest.to_string())),
        ("ArtifactType", artifact.artifact_type.as_deref().unwrap_or(&artifact.media_type).into()),
        ("CreatedAt", artifact.annotation(CREATED).unwrap_or_default().into()),
        ("Size", size::decimal(artifact.size as i64).into()),
        ("Annotations", annotations.join(",").into()),
    ])
}
