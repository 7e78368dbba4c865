//! The form that clients want of an image, as attributes of its exporters have it: how layers are compressed, and annotations.

use crate::output::is_true;
use corten_build::ImageForm;
use corten_image::Platform;
use corten_image::compression::Compression;
use std::collections::BTreeMap;

/// What an annotation is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Manifest,
    /// What the index says of a manifest.
    Listed,
    Index,
}

/// Whether an attribute is one of these, with a value that can be.
pub fn knows(name: &str, value: &str) -> bool {
    match name {
        "compression" => compression(value).is_some(),
        "force-compression" => true,
        _ => annotation(name).is_some(),
    }
}

/// Of attributes that are known.
pub fn parse(attributes: &BTreeMap<String, String>) -> ImageForm {
    let mut form = ImageForm::default();
    for (name, value) in attributes {
        match name.as_str() {
            "compression" => form.compression = compression(value),
            "force-compression" => form.is_forced = value.is_empty() || is_true(value),
            name => {
                let Some((place, platform, key)) = annotation(name) else { continue };
                let (key, value) = (key.to_owned(), value.clone());
                match place {
                    Place::Manifest => form.annotations.manifests.insert((platform, key), value),
                    Place::Listed => form.annotations.listed.insert((platform, key), value),
                    Place::Index => form.annotations.index.insert(key, value),
                };
            }
        }
    }
    form
}

fn compression(name: &str) -> Option<Compression> {
    [Compression::None, Compression::Gzip, Compression::Zstd].into_iter().find(|own| own.name() == name)
}

/// `annotation.KEY`, `annotation-PLACE.KEY`, `annotation-PLACE[PLATFORM].KEY`: an empty platform stands for all.
fn annotation(name: &str) -> Option<(Place, String, &str)> {
    let rest = name.strip_prefix("annotation")?;
    let at = rest.find(['[', '.'])?;
    let place = match &rest[..at] {
        "" | "-manifest" => Place::Manifest,
        "-manifest-descriptor" => Place::Listed,
        "-index" => Place::Index,
        _ => return None,
    };
    let (platform, key) = match rest[at..].strip_prefix('[') {
        None => (String::new(), &rest[at + 1..]),
        Some(rest) => {
            let (platform, key) = rest.split_once("].")?;
            (platform.parse::<Platform>().ok()?.normalised().to_string(), key)
        }
    };
    // An index is one for all.
    let is_fit = !key.is_empty()
        && !key.contains(char::is_whitespace)
        && (place != Place::Index || platform.is_empty());
    is_fit.then_some((place, platform, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_say_where_they_belong() {
        let place =
            |name: &str| annotation(name).map(|(place, platform, key)| (place, platform, key.to_owned()));
        let all = |place, key: &str| Some((place, String::new(), key.to_owned()));
        assert_eq!(place("annotation.org.example.a"), all(Place::Manifest, "org.example.a"));
        assert_eq!(place("annotation-manifest.a"), all(Place::Manifest, "a"));
        assert_eq!(place("annotation-manifest-descriptor.a"), all(Place::Listed, "a"));
        assert_eq!(place("annotation-index.a[b].c"), all(Place::Index, "a[b].c"));
        let own = Some((Place::Manifest, "linux/arm64".to_owned(), "a".to_owned()));
        assert_eq!(place("annotation-manifest[linux/arm64].a"), own);
        assert_eq!(place("annotation[linux/arm64].a"), own);
        for name in [
            "annotation",
            "annotation.",
            "annotations.a",
            "annotation-index-descriptor.a",
            "annotation-index[linux/arm64].a",
            "annotation-manifest[linux/arm64]a",
            "annotation-manifest[a/b/c/d].a",
            "annotation.a b",
        ] {
            assert_eq!(place(name), None, "{name}");
        }
    }

    #[test]
    fn attributes_become_a_form() {
        let pairs =
            [("annotation.a", "b"), ("compression", "zstd"), ("force-compression", "true"), ("name", "x")];
        let form = parse(&pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert_eq!((form.compression, form.is_forced), (Some(Compression::Zstd), true));
        assert_eq!(form.annotations.manifests[&(String::new(), "a".to_owned())], "b");
        assert!(knows("compression", "uncompressed") && !knows("compression", "estargz"));
    }
}
