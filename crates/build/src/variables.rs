//! Which variables an instruction sees: ARG of the stage, below ENV, and the ones that are always there.

use std::collections::BTreeMap;

use corten_image::Platform;

use crate::dockerfile::expand::Expander;
use crate::dockerfile::{Arg, Escape, Located};
use crate::error::{Error, Result};
use crate::request::Options;

/// What a RUN step sees without being declared, and what no cache key and no history ever holds. Programs look for either spelling.
const PROXIES: [(&str, &str); 5] = [
    ("HTTP_PROXY", "http_proxy"),
    ("HTTPS_PROXY", "https_proxy"),
    ("FTP_PROXY", "ftp_proxy"),
    ("NO_PROXY", "no_proxy"),
    ("ALL_PROXY", "all_proxy"),
];

pub fn is_undeclared(name: &str) -> bool {
    PROXIES.iter().any(|(upper, lower)| [*upper, *lower].contains(&name))
}

/// The proxies that were given, each in both spellings.
pub fn proxies(build_args: &BTreeMap<String, String>) -> impl Iterator<Item = (&'static str, &str)> {
    let both = PROXIES.iter().flat_map(|&(upper, lower)| [(upper, lower), (lower, upper)]);
    both.filter_map(|(name, other)| {
        Some((name, build_args.get(name).or_else(|| build_args.get(other))?.as_str()))
    })
}

/// What holds for all stages: the platforms, and ARG before the first FROM.
#[derive(Clone, Debug)]
pub struct Globals {
    pub platform: BTreeMap<String, String>,
    /// Only those of FROM lines, and what stages take over by an ARG without a value.
    pub declared: BTreeMap<String, String>,
}

impl Globals {
    pub fn new(
        args: &[Located<Arg>],
        options: &Options,
        escape: Escape,
        target: &Platform,
    ) -> Result<Globals> {
        let host = Platform::host();
        let target_stage = if options.target.is_empty() { "default" } else { &options.target };
        let mut platform = BTreeMap::from([("TARGETSTAGE".to_owned(), target_stage.to_owned())]);
        for (prefix, of) in [("BUILD", &host), ("TARGET", target)] {
            let variant = of.variant.clone().unwrap_or_default();
            for (name, value) in [
                ("PLATFORM", of.to_string()),
                ("OS", of.os.clone()),
                ("ARCH", of.architecture.clone()),
                ("VARIANT", variant),
                ("OSVERSION", of.os_version.clone().unwrap_or_default()),
            ] {
                platform.insert(format!("{prefix}{name}"), value);
            }
        }
        let mut globals = Globals { platform, declared: BTreeMap::new() };
        for arg in args {
            for entry in &arg.value.entries {
                let given = options.build_args.get(&entry.name).cloned();
                let default = entry.default.as_deref().map(|text| globals.expand(escape, text)).transpose();
                let default =
                    default.map_err(|e| e.at(arg.span.first_line as usize, arg.span.last_line as usize))?;
                if let Some(value) = given.or(default) {
                    globals.declared.insert(entry.name.clone(), value);
                }
            }
        }
        Ok(globals)
    }

    pub fn value(&self, name: &str) -> Option<String> {
        self.declared.get(name).or_else(|| self.platform.get(name)).cloned()
    }

    /// For the words of FROM and of ARG before it.
    pub fn expand(&self, escape: Escape, text: &str) -> Result<String> {
        let expansion = Expander::new(escape).word(text, &|name| self.value(name));
        expansion.map(|expansion| expansion.text).map_err(|error| Error::Invalid(error.to_string()))
    }
}

/// The ARGs of a stage, in the order of their first declaration.
#[derive(Clone, Debug, Default)]
pub struct Args(Vec<Declared>);

#[derive(Clone, Debug)]
struct Declared {
    name: String,
    value: Option<String>,
    /// Of an ARG and an ENV of one name the later one counts.
    is_above_env: bool,
}

impl Args {
    pub fn declare(&mut self, name: &str, value: Option<String>) {
        match self.0.iter_mut().find(|known| known.name == name) {
            // A second declaration without a value changes nothing.
            Some(known) => {
                known.is_above_env |= value.is_some();
                known.value = value.or(known.value.take());
            }
            None => {
                let is_above_env = value.is_some();
                self.0.push(Declared { name: name.to_owned(), value, is_above_env });
            }
        }
    }

    /// ENV has set a variable of that name.
    pub fn give_way(&mut self, name: &str) {
        self.0.iter_mut().filter(|known| known.name == name).for_each(|known| known.is_above_env = false);
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.find(name)?.value.as_deref()
    }

    pub fn is_above_env(&self, name: &str) -> bool {
        self.find(name).is_some_and(|known| known.is_above_env)
    }

    /// The names of those that count for keys and the history.
    pub fn counted(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|known| known.name.as_str()).filter(|name| !is_undeclared(name))
    }

    fn find(&self, name: &str) -> Option<&Declared> {
        self.0.iter().find(|known| known.name == name)
    }
}
