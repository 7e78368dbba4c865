//! Dockerfile instructions that change an image's configuration: `docker import -c` and `docker commit -c`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{Empty, Healthcheck, RunConfig};

mod words;

use words::{Pair, expand, json_words, pairs};

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChangeError {
    #[error("{0} is not a valid change command")]
    Instruction(String),
    #[error("{0} requires at least one argument")]
    Empty(&'static str),
    #[error("{0} requires exactly one argument")]
    NotOne(&'static str),
    #[error("{instruction}: cannot read {text:?}: {reason}")]
    Syntax { instruction: &'static str, text: String, reason: &'static str },
    #[error("invalid containerPort: {0}")]
    Port(String),
    #[error("Unknown flag: {0}")]
    Flag(String),
    #[error("invalid signal: {0}")]
    Signal(String),
}

/// Applies instructions in order. Each change may hold several lines.
pub fn apply(config: &mut RunConfig, changes: &[String]) -> Result<(), ChangeError> {
    let mut cmd_set = false;
    for line in changes.iter().flat_map(|change| logical_lines(change)) {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
        let rest = rest.trim();
        match name.to_ascii_uppercase().as_str() {
            "CMD" => {
                config.cmd = Some(command(rest, "CMD", config)?);
                config.args_escaped = false;
                cmd_set = true;
            }
            "ENTRYPOINT" => {
                config.entrypoint =
                    Some(command(rest, "ENTRYPOINT", config)?).filter(|words| !words.is_empty());
                // A command of the image below is made for the entrypoint of the image below.
                if !cmd_set {
                    config.cmd = None;
                }
            }
            "ENV" => env(config, rest)?,
            "LABEL" => label(config, rest)?,
            "EXPOSE" => expose(config, rest)?,
            "VOLUME" => volume(config, rest)?,
            "USER" => config.user = one("USER", rest, config)?,
            "WORKDIR" => workdir(config, rest)?,
            "STOPSIGNAL" => {
                let signal = one("STOPSIGNAL", rest, config)?;
                if !is_signal(&signal) {
                    return Err(ChangeError::Signal(signal));
                }
                config.stop_signal = signal;
            }
            "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest)?),
            "ONBUILD" => onbuild(config, rest)?,
            other => return Err(ChangeError::Instruction(other.to_owned())),
        }
    }
    Ok(())
}

/// Lines without comments and empty ones, continued lines joined.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        match trimmed.strip_suffix('\\') {
            Some(start) => open.push_str(start),
            None => {
                open.push_str(trimmed);
                lines.push(std::mem::take(&mut open));
            }
        }
    }
    if !open.trim().is_empty() {
        lines.push(open);
    }
    lines
}

/// The exec form as it is, the shell form behind the image's shell.
fn command(rest: &str, name: &'static str, config: &RunConfig) -> Result<Vec<String>, ChangeError> {
    if let Some(words) = json_words(rest) {
        return Ok(words);
    }
    if rest.is_empty() {
        return Err(ChangeError::Empty(name));
    }
    let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
    let mut words = config.shell.clone().filter(|shell| !shell.is_empty()).unwrap_or_else(default);
    words.push(rest.to_owned());
    Ok(words)
}

fn environment(config: &RunConfig) -> BTreeMap<String, String> {
    let pair = |entry: &String| entry.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    config.env.iter().filter_map(pair).collect()
}

fn one(name: &'static str, rest: &str, config: &RunConfig) -> Result<String, ChangeError> {
    let words = expand(rest, &environment(config)).map_err(|reason| syntax(name, rest, reason))?;
    match <[String; 1]>::try_from(words) {
        Ok([word]) if !word.is_empty() => Ok(word),
        _ => Err(ChangeError::NotOne(name)),
    }
}

fn syntax(instruction: &'static str, text: &str, reason: &'static str) -> ChangeError {
    ChangeError::Syntax { instruction, text: text.to_owned(), reason }
}

fn env(config: &mut RunConfig, rest: &str) -> Result<(), ChangeError> {
    for Pair { key, value } in pairs_of("ENV", rest, config)? {
        let entry = format!("{key}={value}");
        let same =
            |known: &&mut String| known.split_once('=').map_or(known.as_str(), |(name, _)| name) == key;
        match config.env.iter_mut().find(same) {
            Some(known) => *known = entry,
            None => config.env.push(entry),
        }
    }
    Ok(())
}

fn label(config: &mut RunConfig, rest: &str) -> Result<(), ChangeError> {
    let new = pairs_of("LABEL", rest, config)?;
    config.labels.extend(new.into_iter().map(|Pair { key, value }| (key, value)));
    Ok(())
}

fn pairs_of(name: &'static str, rest: &str, config: &RunConfig) -> Result<Vec<Pair>, ChangeError> {
    if rest.is_empty() {
        return Err(ChangeError::Empty(name));
    }
    pairs(rest, &environment(config)).map_err(|reason| syntax(name, rest, reason))
}

fn expose(config: &mut RunConfig, rest: &str) -> Result<(), ChangeError> {
    let words = expand(rest, &environment(config)).map_err(|reason| syntax("EXPOSE", rest, reason))?;
    if words.is_empty() {
        return Err(ChangeError::Empty("EXPOSE"));
    }
    for word in words {
        let error = || ChangeError::Port(word.clone());
        let (range, protocol) = word.split_once('/').unwrap_or((&word, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        // `host:container` and `ip:host:container` expose the container's side.
        let range = range.rsplit(':').next().unwrap_or(range);
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let parse = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(error);
        let (first, last) = (parse(first)?, parse(last)?);
        if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") || first > last {
            return Err(error());
        }
        config.exposed_ports.extend((first..=last).map(|port| (format!("{port}/{protocol}"), Empty {})));
    }
    Ok(())
}

fn volume(config: &mut RunConfig, rest: &str) -> Result<(), ChangeError> {
    let words = match json_words(rest) {
        Some(words) => words,
        None => expand(rest, &environment(config)).map_err(|reason| syntax("VOLUME", rest, reason))?,
    };
    if words.is_empty() || words.iter().any(|word| word.trim().is_empty()) {
        return Err(ChangeError::Empty("VOLUME"));
    }
    config.volumes.extend(words.into_iter().map(|word| (word.trim().to_owned(), Empty {})));
    Ok(())
}

fn workdir(config: &mut RunConfig, rest: &str) -> Result<(), ChangeError> {
    let path = one("WORKDIR", rest, config)?;
    let base = if path.starts_with('/') { "" } else { config.working_dir.as_str() };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    config.working_dir = format!("/{}", parts.join("/"));
    Ok(())
}

fn healthcheck(rest: &str) -> Result<Healthcheck, ChangeError> {
    let mut check = Healthcheck::default();
    let mut rest = rest;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let unknown = || ChangeError::Flag(flag.to_owned());
        let (name, value) = flag.split_once('=').ok_or_else(unknown)?;
        let invalid = || syntax("HEALTHCHECK", value, "expected a duration of at least 1ms, as 30s or 1m30s");
        let time = || {
            let time = duration(value).ok_or_else(invalid)?;
            if time < Duration::from_millis(1) && !time.is_zero() {
                Err(invalid())
            } else {
                Ok(time.as_nanos() as i64)
            }
        };
        match name {
            "interval" => check.interval = time()?,
            "timeout" => check.timeout = time()?,
            "start-period" => check.start_period = time()?,
            "start-interval" => check.start_interval = time()?,
            "retries" => {
                let count: u32 =
                    value.parse().map_err(|_| syntax("HEALTHCHECK", value, "expected a number"))?;
                check.retries = i64::from(count);
            }
            _ => return Err(unknown()),
        }
        rest = after.trim_start();
    }
    let (kind, arguments) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if arguments.trim().is_empty() => check.test = vec!["NONE".to_owned()],
        "CMD" => match json_words(arguments.trim()) {
            Some(words) => check.test = [vec!["CMD".to_owned()], words].concat(),
            None if arguments.trim().is_empty() => return Err(ChangeError::Empty("HEALTHCHECK CMD")),
            None => check.test = vec!["CMD-SHELL".to_owned(), arguments.trim().to_owned()],
        },
        _ => return Err(syntax("HEALTHCHECK", rest, "expected CMD or NONE")),
    }
    Ok(check)
}

/// Go's duration syntax: `1h2m3.5s`, `300ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut total = 0f64;
    let mut rest = text;
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(total).ok() }
}

fn onbuild(config: &mut RunConfig, rest: &str) -> Result<(), ChangeError> {
    let trigger = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    match trigger.as_str() {
        "" => Err(ChangeError::Empty("ONBUILD")),
        "ONBUILD" => Err(syntax("ONBUILD", rest, "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        "FROM" | "MAINTAINER" => Err(syntax("ONBUILD", rest, "isn't allowed as an ONBUILD trigger")),
        _ => {
            config.on_build.push(rest.to_owned());
            Ok(())
        }
    }
}

/// A number from 1 to 64 or a name, with or without SIG; real-time signals as RTMIN+n and RTMAX-n.
fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u32>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    const NAMES: &str = "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT \
                         STOP SYS TERM TRAP TSTP TTIN TTOU UNUSED URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX";
    let (base, offset) = match name.find(['+', '-']) {
        Some(at) if name.starts_with("RT") => (&name[..at], &name[at + 1..]),
        _ => (name, "0"),
    };
    NAMES.split(' ').any(|known| known == base) && offset.parse::<u32>().is_ok_and(|offset| offset <= 30)
}

#[cfg(test)]
mod tests;
