//! `images`: the images as a table.

use corten_api::image::{ImageListOptions, ImageSummary};

use crate::cli::{Context, Outcome, Verb};
use crate::commands::filters::filters;
use crate::format::listing::{self, Columns};
use crate::format::template::Value;
use crate::format::time::{created_at, seconds_since};
use crate::format::{duration, short_id, size};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Ls {
    /// Show all images (default hides intermediate images)
    #[arg(short, long)]
    pub(super) all: bool,
    /// Show digests
    #[arg(long)]
    pub(super) digests: bool,
    /// Filter output by before, dangling, label, reference, since or until
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(super) filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    pub(super) no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// List the platforms of each image as a tree
    #[arg(long)]
    tree: bool,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(super) name: Option<String>,
}

impl Verb for Ls {
    const ABOUT: &'static str = "List images";
    const USAGE: &'static str = "[OPTIONS] [REPOSITORY[:TAG]]";

    fn run(self, context: &Context) -> Outcome {
        if self.tree {
            return self.run_tree(context);
        }
        let format = context.format(self.format.as_deref(), self.quiet, "imagesFormat");
        let mut filters = filters(&self.filter)?;
        if let Some(name) = &self.name {
            filters.add("reference", name);
        }
        let options = ImageListOptions { all: self.all, filters, ..ImageListOptions::default() };
        let client = context.client()?;
        let images = context.block_on(client.image_list(&options))??;
        let digests = self.digests || format.contains(".Digest");
        let rows: Vec<Value> = images.iter().flat_map(|image| rows(image, digests, !self.no_trunc)).collect();
        output::print(&listing::render(&format, self.quiet, &columns(self.digests), &rows)?)?;
        Ok(0)
    }
}

pub(in crate::commands) fn columns(digests: bool) -> Columns {
    let table = match digests {
        false => "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
        true => "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    };
    Columns {
        table: table.to_owned(),
        quiet: "{{.ID}}",
        titles: &[
            ("ID", "IMAGE ID"),
            ("Repository", "REPOSITORY"),
            ("Tag", "TAG"),
            ("Digest", "DIGEST"),
            ("CreatedSince", "CREATED"),
            ("CreatedAt", "CREATED AT"),
            ("Size", "SIZE"),
            ("Containers", "CONTAINERS"),
            ("VirtualSize", "SIZE"),
            ("SharedSize", "SHARED SIZE"),
            ("UniqueSize", "UNIQUE SIZE"),
        ],
    }
}

const NONE: &str = "<none>";

/// One row for each name of the image: repository, tag, digest.
pub(in crate::commands) fn rows(image: &ImageSummary, digests: bool, cut: bool) -> Vec<Value> {
    let mut names: Vec<(&str, &str, &str)> = Vec::new();
    let digests_of = |repository: &str| {
        let split = image.repo_digests.iter().filter_map(|digest| digest.split_once('@'));
        split.filter(|(name, _)| *name == repository).map(|(_, digest)| digest).collect::<Vec<_>>()
    };
    let mut tagged: Vec<&str> = Vec::new();
    for name in image.repo_tags.iter().filter(|name| *name != "<none>:<none>") {
        let (repository, tag) = super::repository_and_tag(name);
        tagged.push(repository);
        if !digests {
            names.push((repository, tag, NONE));
            continue;
        }
        let known = digests_of(repository);
        if known.is_empty() {
            names.push((repository, tag, NONE));
        }
        names.extend(known.into_iter().map(|digest| (repository, tag, digest)));
    }
    for digest in image.repo_digests.iter().filter(|digest| *digest != "<none>@<none>") {
        let Some((repository, digest)) = digest.split_once('@') else { continue };
        let shown = names.iter().any(|(known, _, _)| *known == repository);
        if tagged.contains(&repository) || (shown && !digests) {
            continue;
        }
        names.push((repository, NONE, if digests { digest } else { "" }));
    }
    if names.is_empty() {
        names.push((NONE, NONE, NONE));
    }
    names.into_iter().map(|name| row(image, name, cut)).collect()
}

fn row(image: &ImageSummary, (repository, tag, digest): (&str, &str, &str), cut: bool) -> Value {
    let id = if cut { short_id(&image.id) } else { &image.id };
    let counted = |number: i64, text: String| if number < 0 { "N/A".to_owned() } else { text };
    let shared = counted(image.shared_size, size::decimal_fine(image.shared_size as f64));
    let unique = counted(image.shared_size, size::decimal_fine((image.size - image.shared_size) as f64));
    Value::row([
        ("ID", Value::from(id)),
        ("Repository", repository.into()),
        ("Tag", tag.into()),
        ("Digest", digest.into()),
        ("CreatedSince", since(image.created).into()),
        ("CreatedAt", created_at(image.created).into()),
        ("Size", size::decimal(image.size).into()),
        ("Containers", counted(image.containers, image.containers.to_string()).into()),
        ("VirtualSize", size::decimal_fine(image.size as f64).into()),
        ("SharedSize", shared.into()),
        ("UniqueSize", unique.into()),
    ])
}

/// "2 minutes ago", or that nobody wrote down when.
pub fn since(created: i64) -> String {
    // Reproducible images say 1970 or Go's zero time.
    if created <= -62_135_596_800 {
        return "N/A".to_owned();
    }
    format!("{} ago", duration::words(seconds_since(created)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tags: &[&str], digests: &[&str], with_digests: bool) -> Vec<String> {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let image = ImageSummary {
            id: "sha256:0123456789abcdef".to_owned(),
            repo_tags: owned(tags).into(),
            repo_digests: owned(digests).into(),
            ..ImageSummary::default()
        };
        let template = "{{.Repository}} {{.Tag}} {{.Digest}} {{.ID}}";
        let rows = rows(&image, with_digests, true);
        listing::render(template, false, &columns(false), &rows).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_row_for_each_name() {
        assert_eq!(
            names(&["a:1", "h:5000/b:2"], &["a@sha256:x"], false),
            ["a 1 <none> 0123456789ab", "h:5000/b 2 <none> 0123456789ab"]
        );
        assert_eq!(
            names(&["a:1", "b:2"], &["a@sha256:x", "a@sha256:y", "c@sha256:z"], true),
            [
                "a 1 sha256:x 0123456789ab",
                "a 1 sha256:y 0123456789ab",
                "b 2 <none> 0123456789ab",
                "c <none> sha256:z 0123456789ab"
            ]
        );
        assert_eq!(names(&[], &[], false), ["<none> <none> <none> 0123456789ab"]);
        assert_eq!(
            names(&["<none>:<none>"], &["<none>@<none>"], false),
            ["<none> <none> <none> 0123456789ab"]
        );
        assert_eq!(names(&[], &["c@sha256:z"], false), ["c <none>  0123456789ab"]);
    }
}
