//! Commands on images.

mod attested;
mod create_base;
mod history;
mod import;
pub(super) mod list;
mod load;
mod provenance;
mod prune;
pub(super) mod pull;
mod push;
mod remove;
mod save;
mod sbom;
mod search;
mod tag;
mod tree;

pub use crate::commands::inspect::InspectImage as Inspect;
pub use create_base::CreateBase;
pub use history::History;
pub use import::Import;
pub use list::Ls;
pub use load::Load;
pub use provenance::Provenance;
pub use prune::Prune;
pub use pull::Pull;
pub use push::Push;
pub use remove::Rm;
pub use save::Save;
pub use sbom::Sbom;
pub use search::Search;
pub use tag::Tag;

/// Splits `repository[:tag]` at the last colon that isn't part of a host's port.
pub fn repository_and_tag(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, ""),
    }
}

/// `os[/arch[/variant]]` as the JSON document that newer API versions want.
pub(super) fn platform_json(text: &str) -> Result<String, crate::cli::Failure> {
    let platform = platform(text)?;
    serde_json::to_string(&platform).map_err(|error| crate::cli::Failure::new(error.to_string()))
}

fn platform(text: &str) -> Result<corten_api::image::Platform, crate::cli::Failure> {
    let parts: Vec<&str> = text.split('/').collect();
    let (os, architecture, variant) = match parts.as_slice() {
        [os] => (*os, "", ""),
        [os, architecture] => (*os, *architecture, ""),
        [os, architecture, variant] => (*os, *architecture, *variant),
        _ => {
            return Err(crate::cli::Failure::new(format!(
                "{text:?} is no platform: expected os[/arch[/variant]]"
            )));
        }
    };
    Ok(corten_api::image::Platform {
        os: os.to_ascii_lowercase(),
        architecture: match architecture.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            other => other.to_owned(),
        },
        variant: variant.to_ascii_lowercase(),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_at_the_tag() {
        assert_eq!(repository_and_tag("a:b"), ("a", "b"));
        assert_eq!(repository_and_tag("host:5000/a"), ("host:5000/a", ""));
        assert_eq!(repository_and_tag("host:5000/a:v1"), ("host:5000/a", "v1"));
        assert_eq!(repository_and_tag("a"), ("a", ""));
    }

    #[test]
    fn platforms() {
        assert_eq!(platform_json("linux/x86_64").unwrap(), r#"{"architecture":"amd64","os":"linux"}"#);
        assert_eq!(
            platform_json("linux/arm/v7").unwrap(),
            r#"{"architecture":"arm","os":"linux","variant":"v7"}"#
        );
        assert!(platform_json("a/b/c/d").is_err());
    }
}
