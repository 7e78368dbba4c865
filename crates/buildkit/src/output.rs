//! Where a build's outcome goes: exporters, as clients name them, become outputs. An attribute that would change the outcome and isn't
//! known is refused.

use crate::image_form;
use std::collections::BTreeMap;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    #[error("exporter {0:?} could not be found")]
    Unknown(String),
    #[error("the exporter {exporter:?} does not take {name}={value}")]
    Attribute { exporter: String, name: String, value: String },
    #[error("the exporter {exporter:?} does not take {name}={value}: {hint}")]
    Unfit { exporter: String, name: String, value: String, hint: &'static str },
    #[error("tag is needed when pushing to registry")]
    Nameless,
    #[error(
        "the images of one build have one form: give all outputs the same compression and the same annotations"
    )]
    Forms,
}

/// One output. Its number is its place in the client's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The image store; and from there to the registry.
    Store { names: Vec<String>, push: bool },
    /// An image as a file that the client writes.
    Image { number: usize, form: Form, names: Vec<String> },
    /// The files alone, as a tar archive that the client writes. `split`, here and below: whether each platform's are below a directory
    /// of their own; what suits their number where it isn't said.
    Archive { number: usize, split: Option<bool> },
    /// A directory that the client fills.
    Directory { number: usize, split: Option<bool> },
    /// Nothing but the cache.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An image as `docker load` takes it.
    Docker,
    /// An image as an OCI layout.
    Oci,
}

impl Output {
    /// The exporter with that number in the client's list.
    pub fn parse(
        number: usize,
        exporter: &str,
        attributes: &BTreeMap<String, String>,
    ) -> Result<Self, OutputError> {
        let text = |name: &str| attributes.get(name).map_or("", String::as_str);
        let names: Vec<String> =
            text("name").split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let push = is_true(text("push"));
        let file = |form| Self::Image { number, form, names: names.clone() };
        let split = attributes.get("platform-split").map(|text| is_true(text));
        let (output, known): (_, fn(&str, &str) -> bool) = match exporter {
            // What the docker driver calls the image store, and what all others do.
            "moby" | "image" => (Self::Store { names: names.clone(), push }, |name, value| match name {
                "name" | "push" => true,
                // The store always unpacks, and keeps what it made, an image without a name as well; each name is known with its
                // digest, too.
                "unpack" | "store" | "load" | "dangling-name-prefix" | "name-canonical" => true,
                "push-by-digest" | "registry.insecure" => !is_true(value),
                _ => is_default(name, value),
            }),
            "docker" => (file(Form::Docker), |name, value| match name {
                "name" => true,
                "tar" => is_true(value),
                _ => is_default(name, value),
            }),
            "oci" => (file(Form::Oci), |name, value| match name {
                "name" => true,
                "tar" => is_true(value),
                _ => is_default(name, value),
            }),
            "tar" => (Self::Archive { number, split }, |name, _| name == "platform-split"),
            "local" => (Self::Directory { number, split }, |name, _| name == "platform-split"),
            "cacheonly" => (Self::Nothing, |_, _| false),
            other => return Err(OutputError::Unknown(other.to_owned())),
        };
        // Where the client puts it is the client's affair.
        let has_form = output.wants_image();
        let is_known = |name: &str, value: &str| match name {
            "dest" => true,
            // What is plain is compressed when it is sent.
            "compression" if push && value == "uncompressed" => false,
            _ => known(name, value) || has_form && image_form::knows(name, value),
        };
        let refused = attributes.iter().find(|(name, value)| !is_known(name, value));
        if let Some((name, value)) = refused {
            let (exporter, name, value) = (exporter.to_owned(), name.clone(), value.clone());
            return Err(match hint(&name) {
                Some(hint) => OutputError::Unfit { exporter, name, value, hint },
                None => OutputError::Attribute { exporter, name, value },
            });
        }
        if push && names.is_empty() {
            return Err(OutputError::Nameless);
        }
        Ok(output)
    }

    /// The names that the image gets in the store.
    pub fn names(&self) -> &[String] {
        match self {
            // An archive is written from the store.
            Self::Store { names, .. } | Self::Image { names, .. } => names,
            Self::Archive { .. } | Self::Directory { .. } | Self::Nothing => &[],
        }
    }

    /// Whether an image is made for it.
    pub fn wants_image(&self) -> bool {
        matches!(self, Self::Store { .. } | Self::Image { .. })
    }
}

/// An attribute that asks for what is done anyway.
fn is_default(name: &str, value: &str) -> bool {
    match name {
        // No time in a layer is after SOURCE_DATE_EPOCH, where that is given.
        "rewrite-timestamp" => true,
        "oci-mediatypes" => value.is_empty() || is_true(value),
        "buildinfo" | "prefer-nondist-layers" | "oci-artifact" => !is_true(value),
        _ => false,
    }
}

/// What to do instead.
fn hint(name: &str) -> Option<&'static str> {
    Some(match name {
        "compression" => "layers are gzip, zstd or, where they aren't pushed, uncompressed",
        "compression-level" => "every image is compressed at the same level; leave it out",
        "registry.insecure" => "name the registry in insecure-registries of the engine's daemon.json",
        "push-by-digest" => {
            "images are pushed by name; build all platforms at once, or give each image a tag and make an index of them"
        }
        "oci-mediatypes" => "images have OCI's media types",
        _ if name.starts_with("annotation") => {
            "only an image has annotations (annotation.KEY, annotation-manifest[PLATFORM].KEY, \
             annotation-manifest-descriptor.KEY, annotation-index.KEY)"
        }
        _ => return None,
    })
}

/// As Go's `strconv.ParseBool`.
pub fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(exporter: &str, pairs: &[(&str, &str)]) -> Result<Output, OutputError> {
        let attributes = pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Output::parse(0, exporter, &attributes)
    }

    #[test]
    fn exporters_become_outputs() {
        parse("moby", &[("name", "a:1"), ("load", "true")]).unwrap();
        assert_eq!(
            parse("moby", &[("name", "a:1,b:2")]).unwrap(),
            Output::Store { names: vec!["a:1".into(), "b:2".into()], push: false }
        );
        assert_eq!(
            parse("image", &[("name", "r.example/a"), ("push", "true"), ("unpack", "false")]).unwrap(),
            Output::Store { names: vec!["r.example/a".into()], push: true }
        );
        assert_eq!(parse("tar", &[("dest", "x.tar")]).unwrap(), Output::Archive { number: 0, split: None });
        assert_eq!(
            parse("local", &[("dest", "out"), ("platform-split", "false")]).unwrap(),
            Output::Directory { number: 0, split: Some(false) }
        );
        assert_eq!(parse("cacheonly", &[]).unwrap(), Output::Nothing);
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        assert!(matches!(parse("zip", &[]), Err(OutputError::Unknown(_))));
        for (exporter, name, value) in [
            ("image", "push-by-digest", "true"),
            ("image", "compression", "estargz"),
            ("image", "compression-level", "9"),
            ("oci", "tar", "false"),
            ("oci", "oci-mediatypes", "false"),
            ("moby", "annotation-cloud.a", "b"),
            ("local", "annotation.a", "b"),
            ("tar", "compression", "gzip"),
            ("local", "mode", "delete"),
        ] {
            let refusal = parse(exporter, &[(name, value)]);
            let is_refused =
                matches!(refusal, Err(OutputError::Attribute { .. } | OutputError::Unfit { .. }));
            assert!(is_refused, "{exporter} {name}");
        }
        assert_eq!(parse("image", &[("push", "true")]), Err(OutputError::Nameless));
    }
}
