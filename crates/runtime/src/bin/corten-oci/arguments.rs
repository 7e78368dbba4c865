//! Command lines as Go's flag package reads them, because runc's callers write them for it: one dash or two, `--flag value` or
//! `--flag=value`, booleans with an optional `=false`; flags end at the first word that is none.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::failure::{Failure, Outcome};

/// One flag, as it is parsed and as help shows it.
pub struct Flag {
    pub long: &'static str,
    pub short: Option<char>,
    /// What its value is called; `None` for a switch.
    pub value: Option<&'static str>,
    pub help: &'static str,
}

/// The flags that were given, and the words behind them.
#[derive(Debug)]
pub struct Parsed {
    given: Vec<(&'static str, OsString)>,
    pub rest: Vec<OsString>,
}

impl Parsed {
    pub fn has(&self, name: &str) -> bool {
        self.given.iter().rev().find(|(flag, _)| *flag == name).is_some_and(|(_, value)| value != "false")
    }

    pub fn value(&self, name: &str) -> Option<&OsStr> {
        self.given.iter().rev().find(|(flag, _)| *flag == name).map(|(_, value)| value.as_os_str())
    }
}

pub fn parse(flags: &[&'static Flag], arguments: &[OsString]) -> Outcome<Parsed> {
    let mut given = Vec::new();
    let mut at = 0;
    while let Some(argument) = arguments.get(at) {
        let bytes = argument.as_bytes();
        if bytes == b"--" {
            at += 1;
            break;
        }
        if bytes.len() < 2 || bytes[0] != b'-' {
            break;
        }
        at += 1;
        let bare = bytes.strip_prefix(b"--").unwrap_or(&bytes[1..]);
        let (name, inline) = match bare.iter().position(|b| *b == b'=') {
            Some(equals) => (&bare[..equals], Some(OsStr::from_bytes(&bare[equals + 1..]).to_owned())),
            None => (bare, None),
        };
        let name = String::from_utf8_lossy(name);
        let mut found = vec![];
        if let Some(flag) = find(flags, &name) {
            found.push(flag);
        } else if !bytes.starts_with(b"--") && inline.is_none() {
            // `-it`: switches in one word, of which the last may take a value.
            found = name.chars().filter_map(|c| find(flags, c.encode_utf8(&mut [0; 4]))).collect();
        }
        let bundle =
            found.len() == name.chars().count() && found.iter().rev().skip(1).all(|f| f.value.is_none());
        if found.is_empty() || (found.len() > 1 && !bundle) {
            return Err(Failure::new(format!("unknown flag: {}; see --help", argument.to_string_lossy())));
        }
        let last = found.len() - 1;
        for (index, flag) in found.into_iter().enumerate() {
            let value = match (&inline, flag.value) {
                (Some(value), _) => value.clone(),
                (None, None) => "true".into(),
                (None, Some(_)) if index == last => {
                    let value = arguments.get(at).cloned();
                    at += 1;
                    value.ok_or_else(|| Failure::new(format!("--{} needs a value", flag.long)))?
                }
                (None, Some(_)) => return Err(Failure::new(format!("--{} needs a value", flag.long))),
            };
            given.push((flag.long, value));
        }
    }
    Ok(Parsed { given, rest: arguments[at.min(arguments.len())..].to_vec() })
}

fn find(flags: &[&'static Flag], name: &str) -> Option<&'static Flag> {
    let mut letters = name.chars();
    let letter = letters.next().filter(|_| letters.next().is_none());
    flags.iter().copied().find(|f| f.long == name || (letter.is_some() && f.short == letter))
}

/// A command's flags and words, all of them text.
pub struct Arguments {
    given: Vec<(&'static str, String)>,
    /// The container's name first, where the command is about one.
    pub words: Vec<String>,
}

impl Arguments {
    pub fn new(parsed: Parsed) -> Outcome<Self> {
        let text = |s: OsString| {
            s.into_string().map_err(|s| Failure::new(format!("{} is not UTF-8", s.to_string_lossy())))
        };
        let given = parsed.given.into_iter().map(|(name, value)| Ok((name, text(value)?)));
        Ok(Self {
            given: given.collect::<Outcome<_>>()?,
            words: parsed.rest.into_iter().map(text).collect::<Outcome<_>>()?,
        })
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value != "false")
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.given.iter().rev().find(|(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.given.iter().filter(move |(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Outcome<Option<T>> {
        self.value(name)
            .map(|text| {
                text.parse().map_err(|_| Failure::new(format!("--{name}: {text:?} is not a number in range")))
            })
            .transpose()
    }
}
