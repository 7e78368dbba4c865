//! A package, and its URL (github.com/package-url/purl-spec).

use std::collections::BTreeSet;

use crate::database::os_release::System;

/// What a database says of a name, a version, a licence or a supplier is cut off here.
const TEXT_CHARACTERS_MAX: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    /// Empty where nothing says it.
    pub version: String,
    /// Who made or packed it, with an address in brackets.
    pub supplier: String,
    /// As the database has it: not always an SPDX expression.
    pub licence: String,
    pub purl: String,
    /// Where it is told of.
    pub found_at: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    #[default]
    Deb,
    Apk,
    Rpm,
    Python,
    Npm,
    Go,
    Cargo,
    Gem,
    Maven,
    /// An archive of Java that nobody has told Maven's names of.
    Jar,
}

/// A package as its parser found it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    pub origin: Origin,
    pub name: String,
    pub version: String,
    pub architecture: String,
    pub epoch: String,
    pub supplier: String,
    pub licence: String,
    /// The file, and the place in it.
    pub found_at: String,
}

impl Draft {
    pub fn into_package(self, system: &System) -> Package {
        let purl = self.purl(system);
        let Draft { name, version, supplier, licence, .. } = self;
        let supplier = clean(&supplier.replace(['<', '['], "(").replace(['>', ']'], ")"));
        Package { name, version, supplier, licence: clean(&licence), purl, found_at: BTreeSet::new() }
    }

    fn purl(&self, system: &System) -> String {
        let of_system = |default: &str| escaped(if system.id.is_empty() { default } else { &system.id });
        let name = match self.origin {
            Origin::Deb => format!("deb/{}/{}", of_system("debian"), escaped(&self.name)),
            Origin::Apk => format!("apk/{}/{}", of_system("alpine"), escaped(&self.name)),
            Origin::Rpm => format!("rpm/{}/{}", of_system("unknown"), escaped(&self.name)),
            Origin::Python => format!("pypi/{}", escaped(&self.name.to_lowercase().replace('_', "-"))),
            Origin::Npm => format!("npm/{}", path(&self.name)),
            Origin::Go => format!("golang/{}", path(&self.name)),
            Origin::Cargo => format!("cargo/{}", escaped(&self.name)),
            Origin::Gem => format!("gem/{}", escaped(&self.name)),
            Origin::Maven => format!("maven/{}", path(&self.name)),
            Origin::Jar => format!("generic/{}", escaped(&self.name)),
        };
        let version = match self.version.as_str() {
            "" => String::new(),
            version => format!("@{}", escaped(version)),
        };
        let distro = match (system.id.as_str(), system.version.as_str()) {
            ("", _) => String::new(),
            (id, "") => id.to_owned(),
            (id, version) => format!("{id}-{version}"),
        };
        let is_of_system = matches!(self.origin, Origin::Deb | Origin::Apk | Origin::Rpm);
        let distro = if is_of_system { distro.as_str() } else { "" };
        let qualifiers = [("arch", self.architecture.as_str()), ("distro", distro), ("epoch", &self.epoch)];
        let qualifiers: Vec<String> = qualifiers
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}={}", escaped(value)))
            .collect();
        let qualifiers =
            if qualifiers.is_empty() { String::new() } else { format!("?{}", qualifiers.join("&")) };
        format!("pkg:{name}{version}{qualifiers}")
    }
}

/// A namespace and a name.
fn path(text: &str) -> String {
    text.split('/').map(escaped).collect::<Vec<_>>().join("/")
}

/// As the specification of package URLs has it: all but letters, digits and `.-_~:` is escaped.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'.' | b'-' | b'_' | b'~' | b':' => out.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => out.push(byte.into()),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A text on one line, without control characters, and not too long.
pub fn clean(text: &str) -> String {
    let visible = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    visible.take(TEXT_CHARACTERS_MAX).collect::<String>().trim().to_owned()
}
