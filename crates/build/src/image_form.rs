//! The form of an image: how its layers are compressed, and what its manifests and its index are annotated with. What is in it is not
//! changed by that, and neither is its ID.

use std::collections::BTreeMap;

use corten_image::Platform;
use corten_image::build::Transport;
use corten_image::compression::Compression;

use crate::error::{Error, Result};

/// What was asked for; the default is what suits the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageForm {
    /// Of layers that are of no form yet: they are kept unpacked, and compressed when they are sent.
    pub compression: Option<Compression>,
    /// Of all layers.
    pub is_forced: bool,
    pub annotations: Annotations,
}

/// Texts by their keys; of manifests by platform and key, where an empty platform stands for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    pub index: BTreeMap<String, String>,
    pub manifests: BTreeMap<(String, String), String>,
    /// Of what the index says of a manifest.
    pub listed: BTreeMap<(String, String), String>,
}

impl ImageForm {
    pub fn is_default(&self) -> bool {
        *self == ImageForm::default()
    }

    pub fn transport(&self) -> Transport {
        let default = Transport::default();
        Transport { compression: self.compression.unwrap_or(default.compression), is_forced: self.is_forced }
    }

    /// Refuses annotations of what there won't be.
    pub fn check(&self, targets: &[Platform], has_index: bool) -> Result<()> {
        let Annotations { index, manifests, listed } = &self.annotations;
        if !has_index && let Some(key) = index.keys().chain(listed.keys().map(|(_, key)| key)).next() {
            return Err(Error::Invalid(format!(
                "the annotation {key:?} is one of an index, and this image has none: annotate its manifest, or build for several platforms"
            )));
        }
        for (platform, key) in manifests.keys().chain(listed.keys()) {
            if !platform.is_empty() && !targets.iter().any(|target| target.to_string() == *platform) {
                return Err(Error::Invalid(format!(
                    "the annotation {key:?} is for {platform}, which isn't built: add it to --platform, or leave the annotation out"
                )));
            }
        }
        Ok(())
    }
}

impl Annotations {
    /// Those of one platform: its own go before those of all.
    pub fn of(all: &BTreeMap<(String, String), String>, platform: &Platform) -> BTreeMap<String, String> {
        let platform = platform.to_string();
        let those = |of: &str| {
            let pairs = all.iter().filter(|((platform, _), _)| platform == of);
            pairs.map(|((_, key), text)| (key.clone(), text.clone())).collect::<BTreeMap<_, _>>()
        };
        let mut annotations = those("");
        annotations.extend(those(&platform));
        annotations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str, &str)]) -> BTreeMap<(String, String), String> {
        let pair = |(platform, key, text): &(&str, &str, &str)| {
            ((String::from(*platform), String::from(*key)), String::from(*text))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_platforms_own_annotations_go_before_those_of_all() {
        let all = pairs(&[("", "a", "all"), ("", "b", "all"), ("linux/arm64", "b", "own")]);
        let of = |platform: &str| {
            let own = Annotations::of(&all, &platform.parse().unwrap());
            own.into_values().collect::<Vec<_>>().join(" ")
        };
        assert_eq!((of("linux/arm64"), of("linux/amd64")), ("all own".into(), "all all".into()));
    }

    #[test]
    fn what_there_will_not_be_is_not_annotated() {
        let targets = ["linux/amd64".parse().unwrap()];
        let form = |annotations| ImageForm { annotations, ..ImageForm::default() };
        let index =
            Annotations { index: BTreeMap::from([("a".into(), "b".into())]), ..Annotations::default() };
        form(index.clone()).check(&targets, true).unwrap();
        assert!(form(index).check(&targets, false).is_err());
        let listed = Annotations { listed: pairs(&[("", "a", "b")]), ..Annotations::default() };
        assert!(form(listed).check(&targets, false).is_err());
        let other = Annotations { manifests: pairs(&[("linux/arm64", "a", "b")]), ..Annotations::default() };
        assert!(form(other).check(&targets, true).is_err());
        let own = Annotations { manifests: pairs(&[("linux/amd64", "a", "b")]), ..Annotations::default() };
        form(own).check(&targets, false).unwrap();
    }
}
