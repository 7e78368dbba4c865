//! What goes into a build from outside, named so that others can find the same: images, files of other hosts, repositories.

use corten_image::{Digest, Image, Platform, Reference};

use crate::repository::Repository;
use crate::secrets::without_secrets;
use crate::worker::Fetched;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MaterialKind {
    Image,
    /// A file of another host.
    File,
    /// A commit of a repository.
    Git,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    pub kind: MaterialKind,
    /// Of an image a package URL; else where it was fetched from, without names, passwords and tokens.
    pub uri: String,
    /// `sha256:` or `sha1:` and hexadecimal digits.
    pub digest: String,
}

impl Material {
    /// An image by the name that the Dockerfile has for it.
    pub fn image(name: &str, platform: &Platform, image: &Image) -> Material {
        let named = Reference::parse(name).ok();
        // What a name stood for: an index, where it has several platforms.
        let digest = named.as_ref().and_then(Reference::digest).unwrap_or(image.descriptor.digest);
        let uri = named.map_or_else(|| format!("pkg:docker/{name}"), |named| purl(&named, Some(platform)));
        Material { kind: MaterialKind::Image, uri, digest: digest.to_string() }
    }

    /// An image of an image layout, by the name that the Dockerfile has for it.
    pub fn layout(name: &str, platform: &Platform, manifest: &Digest) -> Material {
        let text = |value: String| value.replace(':', "%3A").replace('/', "%2F");
        let (version, platform) = (text(manifest.to_string()), text(platform.to_string()));
        let uri = format!("pkg:oci/{}@{version}?platform={platform}", text(name.to_lowercase()));
        Material { kind: MaterialKind::Image, uri, digest: manifest.to_string() }
    }

    pub fn file(url: &str, digest: &Digest) -> Material {
        Material { kind: MaterialKind::File, uri: without_secrets(url), digest: digest.to_string() }
    }

    pub fn git(repository: &Repository, fetched: &Fetched) -> Material {
        let commit = fetched.commit.as_deref().unwrap_or_default();
        // A repository's hashes are SHA-256 where they are as long as that.
        let algorithm = if commit.len() == 64 { "sha256" } else { "sha1" };
        let reference = match repository.reference.as_str() {
            "" => String::new(),
            reference => format!("#{reference}"),
        };
        let uri = format!("{}{reference}", without_secrets(&repository.url));
        Material { kind: MaterialKind::Git, uri, digest: format!("{algorithm}:{commit}") }
    }
}

/// The package URL of an image (github.com/package-url/purl-spec, type `docker`), as BuildKit writes it.
pub fn purl(name: &Reference, platform: Option<&Platform>) -> String {
    let mut qualifiers = Vec::new();
    if let Some(digest) = name.digest() {
        qualifiers.push(format!("digest={digest}"));
    }
    if let Some(platform) = platform {
        qualifiers.push(format!("platform={}", platform.to_string().replace('/', "%2F")));
    }
    let version = match (name.tag(), name.digest()) {
        (Some(tag), _) => format!("@{tag}"),
        (None, Some(_)) => String::new(),
        (None, None) => "@latest".to_owned(),
    };
    let qualifiers = if qualifiers.is_empty() { String::new() } else { format!("?{}", qualifiers.join("&")) };
    format!("pkg:docker/{}{version}{qualifiers}", name.familiar_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_layouts_are_known_by_their_digests() {
        let (platform, manifest) = ("linux/arm/v7".parse::<Platform>().unwrap(), Digest::of(b""));
        let material = Material::layout("Base", &platform, &manifest);
        let version = format!("sha256%3A{}", manifest.hex());
        assert_eq!(material.uri, format!("pkg:oci/base@{version}?platform=linux%2Farm%2Fv7"));
        assert_eq!(material.digest, manifest.to_string());
    }

    #[test]
    fn images_are_named_by_package_urls() {
        let platform = "linux/arm/v7".parse::<Platform>().unwrap();
        for (name, expected) in [
            ("alpine:3.19", "pkg:docker/alpine@3.19?platform=linux%2Farm%2Fv7"),
            ("docker.io/library/alpine", "pkg:docker/alpine@latest?platform=linux%2Farm%2Fv7"),
            ("localhost:5000/a/b:1", "pkg:docker/localhost:5000/a/b@1?platform=linux%2Farm%2Fv7"),
        ] {
            assert_eq!(purl(&Reference::parse(name).unwrap(), Some(&platform)), expected, "{name}");
        }
        let digest = Digest::of(b"x");
        let pinned = Reference::parse(&format!("a/b@{digest}")).unwrap();
        assert_eq!(purl(&pinned, None), format!("pkg:docker/a/b?digest={digest}"));
    }

    #[test]
    fn who_fetches_is_nobody_s_business() {
        let digest = Digest::of(b"x");
        for (url, shown) in [
            ("https://me:secret@host:8/a@b?c#d", "https://host:8/a@b?c#d"),
            ("https://host", "https://host"),
            ("git@host:a/b", "git@host:a/b"),
        ] {
            assert_eq!(Material::file(url, &digest).uri, shown);
        }
    }
}
