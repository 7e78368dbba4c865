//! `images --tree`: each image with the platforms that its name stands for.

use corten_api::image::{ImageListOptions, ImageSummary, ManifestSummary};

use super::list::Ls;
use crate::cli::{Context, Failure, Outcome};
use crate::commands::filters::filters;
use crate::format::{short_id, size, tabwriter};
use crate::output;

const TITLES: &str = "IMAGE\tID\tDISK USAGE\tCONTENT SIZE\tIN USE";

impl Ls {
    pub(super) fn run_tree(self, context: &Context) -> Outcome {
        let conflicts = [
            (self.quiet, "--quiet"),
            (self.digests, "--digests"),
            (self.no_trunc, "--no-trunc"),
            (self.format.is_some(), "--format"),
        ];
        if let Some((_, flag)) = conflicts.iter().find(|(given, _)| *given) {
            return Err(Failure::new(format!("{flag} is not yet supported with --tree")));
        }
        let mut filters = filters(&self.filter)?;
        if let Some(name) = &self.name {
            filters.add("reference", name);
        }
        let options =
            ImageListOptions { all: self.all, filters, manifests: true, ..ImageListOptions::default() };
        let client = context.client()?;
        let images = context.block_on(client.image_list(&options))??;
        output::print(&render(&images))?;
        Ok(0)
    }
}

fn render(images: &[ImageSummary]) -> String {
    let mut text = format!("{TITLES}\n");
    for image in images {
        let platforms: Vec<&ManifestSummary> =
            image.manifests.iter().filter(|manifest| manifest.kind == "image").collect();
        let (mut content, mut unpacked, mut used) = (0, 0, image.containers > 0);
        for manifest in &platforms {
            content += manifest.size.content;
            unpacked += manifest.size.total - manifest.size.content;
            used |= manifest.image_data.as_ref().is_some_and(|data| !data.containers.is_empty());
        }
        let own =
            [short_id(&image.id), &size::decimal(content + unpacked), &size::decimal(content), mark(used)]
                .join("\t");
        let mut names: Vec<&str> = image.repo_tags.iter().map(String::as_str).collect();
        if names.is_empty() {
            names.push("<untagged>");
        }
        // All names of an image, and its platforms below the last.
        let (last, others) = names.split_last().unwrap_or((&"<untagged>", &[]));
        others.iter().for_each(|name| text.push_str(&format!("{name}\n")));
        text.push_str(&format!("{last}\t{own}\n"));
        for (number, manifest) in platforms.iter().enumerate() {
            let branch = if number + 1 == platforms.len() { "└─" } else { "├─" };
            text.push_str(&format!("{branch} {}\n", platform(manifest)));
        }
    }
    tabwriter::align(&text)
}

fn platform(manifest: &ManifestSummary) -> String {
    let data = manifest.image_data.clone().unwrap_or_default();
    let parts = [data.platform.os, data.platform.architecture, data.platform.variant];
    let name = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    if !manifest.available {
        return format!("{name}\t{}\t-\t-\t", short_id(&manifest.id));
    }
    let sizes = [manifest.size.total, manifest.size.content].map(size::decimal).join("\t");
    format!("{name}\t{}\t{sizes}\t{}", short_id(&manifest.id), mark(!data.containers.is_empty()))
}

fn mark(used: bool) -> &'static str {
    if used { "U" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_api::image::{ManifestImageData, ManifestSize, Platform};

    #[test]
    fn platforms_stand_below_the_names() {
        let manifest = |architecture: &str, available, containers: &[&str]| ManifestSummary {
            id: "sha256:0123456789abcdef".to_owned(),
            available,
            size: ManifestSize { total: 3_000_000, content: 1_000_000 },
            kind: "image".to_owned(),
            image_data: Some(ManifestImageData {
                platform: Platform {
                    os: "linux".into(),
                    architecture: architecture.into(),
                    ..Platform::default()
                },
                containers: containers.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>().into(),
                ..Default::default()
            }),
            ..ManifestSummary::default()
        };
        let image = ImageSummary {
            id: "sha256:fedcba9876543210".to_owned(),
            repo_tags: vec!["a:1".to_owned(), "a:2".to_owned()].into(),
            manifests: vec![manifest("amd64", true, &["c"]), manifest("arm64", false, &[])].into(),
            ..ImageSummary::default()
        };
        let text = render(&[image]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["a:1"]);
        assert_eq!(lines[2], ["a:2", "fedcba987654", "6MB", "2MB", "U"]);
        assert_eq!(lines[3], ["├─", "linux/amd64", "0123456789ab", "3MB", "1MB", "U"]);
        assert_eq!(lines[4], ["└─", "linux/arm64", "0123456789ab", "-", "-"]);
    }
}
