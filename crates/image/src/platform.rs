//! Platforms: operating system, architecture and variant, as `linux/arm64/v8`.
//! What the host offers, and which of several manifests suits it best.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    #[serde(rename = "os.features", default, skip_serializing_if = "Option::is_none")]
    pub os_features: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid platform {0:?}: expected os/architecture[/variant], as linux/amd64")]
pub struct PlatformError(String);

impl Platform {
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
            ..Platform::default()
        }
        .normalised()
    }

    /// What this machine runs.
    pub fn host() -> Platform {
        match std::env::consts::ARCH {
            "x86_64" => Platform::new("linux", "amd64", None),
            "x86" => Platform::new("linux", "386", None),
            "aarch64" => Platform::new("linux", "arm64", None),
            "arm" => Platform::new("linux", "arm", Some("v7")),
            "powerpc64" => Platform::new("linux", "ppc64le", None),
            other => Platform::new("linux", other, None),
        }
    }

    /// The one spelling of each platform: `x86_64` is `amd64`, `arm64/v8` is `arm64`, `arm` is `arm/v7`.
    pub fn normalised(mut self) -> Platform {
        self.os = self.os.to_ascii_lowercase();
        self.architecture = self.architecture.to_ascii_lowercase();
        let variant =
            self.variant.take().filter(|text| !text.is_empty()).map(|text| text.to_ascii_lowercase());
        let (architecture, variant) = match (self.architecture.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64" | "amd64", Some("v1") | None) => ("amd64", None),
            ("x86_64" | "x86-64", other) => ("amd64", other),
            ("i386" | "i486" | "i586" | "i686", _) => ("386", None),
            ("aarch64" | "arm64", Some("8" | "v8") | None) => ("arm64", None),
            ("aarch64", other) => ("arm64", other),
            ("armhf", _) => ("arm", Some("v7")),
            ("armel", _) => ("arm", Some("v6")),
            ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("6")) => ("arm", Some("v6")),
            (other, variant) => (other, variant),
        };
        let (architecture, variant) = (architecture.to_owned(), variant.map(str::to_owned));
        self.architecture = architecture;
        self.variant = variant;
        self
    }

    /// How well an image for `self` does on a machine that is `wanted`: 0 is exact, `None` is not at all.
    ///
    /// Older variants of the same architecture run on newer ones (arm/v6 on arm/v7), and 32-bit x86 on amd64 is
    /// not chosen by itself, as with Docker.
    pub fn fitness(&self, wanted: &Platform) -> Option<u32> {
        let (have, want) = (self.clone().normalised(), wanted.clone().normalised());
        if have.os != want.os || have.architecture != want.architecture {
            return None;
        }
        let level = |platform: &Platform| -> Option<u32> {
            match platform.variant.as_deref() {
                None => Some(if platform.architecture == "arm64" { 8 } else { 1 }),
                Some(variant) => variant.strip_prefix('v')?.parse().ok(),
            }
        };
        if have.variant == want.variant {
            return Some(0);
        }
        match (level(&have), level(&want)) {
            (Some(have), Some(want)) if have <= want => Some(want - have),
            _ => None,
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        let error = || PlatformError(text.to_owned());
        let parts: Vec<&str> = text.split('/').collect();
        let valid = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        if !parts.iter().all(valid) {
            return Err(error());
        }
        let host = Platform::host();
        match parts[..] {
            // One word is an operating system or an architecture of it.
            ["linux"] => Ok(host),
            ["windows"] => Ok(Platform::new("windows", &host.architecture, None)),
            [architecture] => {
                let known = Platform::new("linux", architecture, None);
                const KNOWN: [&str; 9] =
                    ["amd64", "386", "arm", "arm64", "ppc64le", "s390x", "riscv64", "loong64", "mips64le"];
                if KNOWN.contains(&known.architecture.as_str()) { Ok(known) } else { Err(error()) }
            }
            [os, architecture] => Ok(Platform::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Platform::new(os, architecture, Some(variant))),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_meet() {
        for (text, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("arm/v6", "arm/v6"),
            ("amd64", "linux/amd64"),
            ("Linux/armhf", "linux/arm/v7"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), normal, "{text}");
        }
        for bad in ["", "/", "linux/", "a/b/c/d", "linux amd64", "strange"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn fitness_prefers_the_nearest() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        let v7 = platform("linux/arm/v7");
        assert_eq!(platform("linux/arm/v7").fitness(&v7), Some(0));
        assert_eq!(platform("linux/arm/v6").fitness(&v7), Some(1));
        assert_eq!(platform("linux/arm/v8").fitness(&v7), None);
        assert_eq!(platform("linux/arm64").fitness(&v7), None);
        assert_eq!(platform("linux/amd64").fitness(&platform("linux/amd64/v3")), Some(2));
        assert_eq!(platform("linux/arm64/v8").fitness(&platform("linux/arm64")), Some(0));
    }
}
