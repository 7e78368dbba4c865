//! Statements become instructions: flags and arguments are checked and typed.

use super::ast::{
    Add, Arg, ArgEntry, Command, Copy, Device, Expose, Form, From, Healthcheck, Instruction, Maintainer,
    Network, Onbuild, Pair, Pairs, Run, Security, Shell, StageNaming, Stopsignal, User, Volume, Workdir,
};
use super::diagnostic::{Kind, Problem};
use super::flags::{Flags, Takes};
use super::mount::{self, RunMount};
use super::quantity;
use super::statement::{Arguments, Keyword, Statement};
use super::{suggest, transfer};

/// What a statement is.
pub(super) enum Parsed {
    From(From),
    Instruction(Instruction),
}

/// `original` is the statement's whole text, `comments` what stands above it.
pub(super) fn parse(statement: Statement, original: &str, comments: &[&str]) -> Result<Parsed, Problem> {
    let Some(keyword) = statement.keyword else {
        return Err(unknown(statement.word));
    };
    let instruction = match keyword {
        Keyword::From => return Ok(Parsed::From(from(statement)?)),
        Keyword::Add => Instruction::Add(add(statement)?),
        Keyword::Arg => Instruction::Arg(arg(statement, comments)?),
        Keyword::Cmd => Instruction::Cmd(command(statement)?),
        Keyword::Copy => Instruction::Copy(copy(statement)?),
        Keyword::Entrypoint => Instruction::Entrypoint(command(statement)?),
        Keyword::Env => Instruction::Env(pairs(statement)?),
        Keyword::Expose => Instruction::Expose(expose(statement)?),
        Keyword::Healthcheck => Instruction::Healthcheck(healthcheck(statement)?),
        Keyword::Label => Instruction::Label(pairs(statement)?),
        Keyword::Maintainer => Instruction::Maintainer(Maintainer { name: one(statement)? }),
        Keyword::Onbuild => Instruction::Onbuild(onbuild(statement, original)?),
        Keyword::Run => Instruction::Run(run(statement)?),
        Keyword::Shell => Instruction::Shell(shell(statement, original)?),
        Keyword::Stopsignal => Instruction::Stopsignal(Stopsignal { signal: one(statement)? }),
        Keyword::User => Instruction::User(User { user: one(statement)? }),
        Keyword::Volume => Instruction::Volume(volume(statement)?),
        Keyword::Workdir => Instruction::Workdir(Workdir { path: one(statement)? }),
    };
    Ok(Parsed::Instruction(instruction))
}

fn unknown(word: &str) -> Problem {
    let mut problem =
        Problem::new(Kind::UnknownInstruction, format!("unknown instruction: {word}")).near(word);
    let upper = word.to_uppercase();
    problem.suggestion = suggest::nearest(&upper, Keyword::names()).map(|name| {
        // In the case that its writer uses; mixed case gets Docker's own, which is lower.
        if word == upper { name.to_owned() } else { name.to_lowercase() }
    });
    problem
}

fn argument(message: impl Into<String>) -> Problem {
    Problem::new(Kind::Argument, message)
}

fn at_least_one(keyword: &str) -> Problem {
    argument(format!("{keyword} requires at least one argument"))
}

fn no_flags(words: Vec<String>) -> Result<(), Problem> {
    Flags::parse(words, &[]).map(|_| ())
}

fn one(statement: Statement) -> Result<String, Problem> {
    let keyword = statement.keyword.map_or("", Keyword::name);
    let Arguments::Text(text) = statement.arguments else {
        return Err(argument(format!("{keyword} requires exactly one argument")));
    };
    no_flags(statement.flags)?;
    Ok(text.to_owned())
}

/// The words of a list, be it JSON or not.
fn list(arguments: Arguments) -> Vec<String> {
    match arguments {
        Arguments::Words(words) | Arguments::Json(words) => words,
        _ => Vec::new(),
    }
}

fn form(arguments: Arguments) -> Form {
    match arguments {
        Arguments::Json(words) => Form::Exec(words),
        Arguments::Text(text) => Form::Shell(text.to_owned()),
        _ => Form::Shell(String::new()),
    }
}

fn from(statement: Statement) -> Result<From, Problem> {
    let words = list(statement.arguments);
    let (image, written) = match <[String; 3]>::try_from(words) {
        Ok([image, keyword, name]) if keyword.eq_ignore_ascii_case("as") => {
            (image, Some(StageNaming { keyword, name }))
        }
        Ok(_) => return Err(argument("FROM requires either one or three arguments")),
        Err(words) => match <[String; 1]>::try_from(words) {
            Ok([image]) => (image, None),
            Err(_) => return Err(argument("FROM requires either one or three arguments")),
        },
    };
    let name = written.as_ref().map(|written| stage_name(&written.name)).transpose()?;
    let mut flags = Flags::parse(statement.flags, &[("platform", Takes::Value)])?;
    Ok(From { image, platform: flags.text("platform"), name, written })
}

fn stage_name(written: &str) -> Result<String, Problem> {
    let name = written.to_lowercase();
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    if name.starts_with(|letter: char| letter.is_ascii_lowercase()) && name.bytes().all(allowed) {
        return Ok(name);
    }
    let message = format!(
        "invalid name for build stage: {}, name can't start with a number or contain symbols",
        corten_template::quote(written)
    );
    Err(argument(message).near(written))
}

fn add(statement: Statement) -> Result<Add, Problem> {
    let words = transfer::words(statement.arguments, "ADD")?;
    let mut flags = Flags::parse(
        statement.flags,
        &[
            ("chmod", Takes::Value),
            ("chown", Takes::Value),
            ("link", Takes::Switch),
            ("keep-git-dir", Takes::Switch),
            ("checksum", Takes::Value),
            ("unpack", Takes::Switch),
            ("exclude", Takes::Values),
        ],
    )?;
    Ok(Add {
        transfer: transfer::transfer(words, statement.documents, &mut flags, "ADD")?,
        checksum: flags.text("checksum"),
        keep_git_dir: flags.switch("keep-git-dir"),
        unpack: flags.switch("unpack"),
    })
}

fn copy(statement: Statement) -> Result<Copy, Problem> {
    let words = transfer::words(statement.arguments, "COPY")?;
    let mut flags = Flags::parse(
        statement.flags,
        &[
            ("chmod", Takes::Value),
            ("chown", Takes::Value),
            ("from", Takes::Value),
            ("link", Takes::Switch),
            ("exclude", Takes::Values),
            ("parents", Takes::Switch),
        ],
    )?;
    Ok(Copy {
        transfer: transfer::transfer(words, statement.documents, &mut flags, "COPY")?,
        from: flags.text("from"),
        parents: flags.switch("parents").unwrap_or(false),
    })
}

fn arg(statement: Statement, comments: &[&str]) -> Result<Arg, Problem> {
    let words = list(statement.arguments);
    if words.is_empty() {
        return Err(at_least_one("ARG"));
    }
    no_flags(statement.flags)?;
    let entries = words.into_iter().map(|word| {
        let (name, default) = match word.split_once('=') {
            Some(("", _)) => return Err(argument("ARG names can not be blank").near(word)),
            Some((name, default)) => (name.to_owned(), Some(default.to_owned())),
            None => (word, None),
        };
        let description = description(comments, &name);
        Ok(ArgEntry { name, default, description })
    });
    Ok(Arg { entries: entries.collect::<Result<_, _>>()? })
}

/// What a comment `# NAME description` says of a name.
pub(super) fn description(comments: &[&str], name: &str) -> Option<String> {
    let behind = |line: &&str| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
    comments.iter().find_map(behind).filter(|text| !text.is_empty() && !name.is_empty())
}

fn command(statement: Statement) -> Result<Command, Problem> {
    no_flags(statement.flags)?;
    Ok(Command { form: form(statement.arguments), documents: statement.documents })
}

fn pairs(statement: Statement) -> Result<Pairs, Problem> {
    no_flags(statement.flags)?;
    let keyword = statement.keyword.map_or("", Keyword::name);
    let pairs: Vec<Pair> = match statement.arguments {
        Arguments::Pairs(pairs) if !pairs.is_empty() => pairs,
        _ => return Err(at_least_one(keyword)),
    };
    match pairs.iter().any(|pair| pair.key.is_empty()) {
        true => Err(argument(format!("{keyword} names can not be blank"))),
        false => Ok(Pairs { pairs }),
    }
}

fn expose(statement: Statement) -> Result<Expose, Problem> {
    let mut ports = list(statement.arguments);
    if ports.is_empty() {
        return Err(at_least_one("EXPOSE"));
    }
    no_flags(statement.flags)?;
    ports.sort();
    Ok(Expose { ports })
}

fn volume(statement: Statement) -> Result<Volume, Problem> {
    let words = list(statement.arguments);
    if words.is_empty() {
        return Err(at_least_one("VOLUME"));
    }
    no_flags(statement.flags)?;
    let volumes: Vec<String> = words.iter().map(|word| word.trim().to_owned()).collect();
    match volumes.iter().any(String::is_empty) {
        true => Err(argument("VOLUME specified can not be an empty string")),
        false => Ok(Volume { volumes }),
    }
}

fn shell(statement: Statement, original: &str) -> Result<Shell, Problem> {
    no_flags(statement.flags)?;
    match statement.arguments {
        Arguments::Json(words) if !words.is_empty() => Ok(Shell { words }),
        Arguments::Text(_) => {
            let message = "SHELL requires the arguments to be in JSON form";
            Err(argument(message).near(original.trim()))
        }
        _ => Err(at_least_one("SHELL")),
    }
}

fn onbuild(statement: Statement, original: &str) -> Result<Onbuild, Problem> {
    let Arguments::Trigger(trigger) = &statement.arguments else {
        return Err(at_least_one("ONBUILD"));
    };
    no_flags(statement.flags)?;
    match trigger.keyword {
        Some(Keyword::Onbuild) => {
            let message = "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed";
            return Err(argument(message));
        }
        Some(keyword @ (Keyword::Maintainer | Keyword::From)) => {
            let message = format!("{} isn't allowed as an ONBUILD trigger", keyword.name());
            return Err(argument(message).near(trigger.word));
        }
        _ => {}
    }
    let behind = original.trim_start().get("ONBUILD".len()..).unwrap_or_default();
    let mut expression = behind.trim_start_matches(['\t', '\x0c', '\r', ' ']).to_owned();
    for document in &statement.documents {
        expression.push('\n');
        expression.push_str(&document.content);
        expression.push_str(&document.name);
    }
    Ok(Onbuild { expression })
}

fn run(statement: Statement) -> Result<Run, Problem> {
    let mut flags = Flags::parse(
        statement.flags,
        &[
            ("device", Takes::Values),
            ("mount", Takes::Values),
            ("network", Takes::Value),
            ("security", Takes::Value),
        ],
    )?;
    let refused = |message: String, near: &str| Err(Problem::new(Kind::Flag, message).near(near));
    let mounts =
        flags.values("mount").iter().map(|options| RunMount::parse(options)).collect::<Result<_, _>>()?;
    let devices = flags.values("device").iter().map(|text| device(text)).collect::<Result<_, _>>()?;
    let network = match flags.value("network").as_deref() {
        None | Some("default") => Network::Default,
        Some("none") => Network::None,
        Some("host") => Network::Host,
        Some(other) => {
            return refused(format!("invalid network mode {}", corten_template::quote(other)), other);
        }
    };
    let security = match flags.value("security").as_deref() {
        None | Some("sandbox") => Security::Sandbox,
        Some("insecure") => Security::Insecure,
        Some(other) => {
            return refused(format!("security {} is not valid", corten_template::quote(other)), other);
        }
    };
    let command = Command { form: form(statement.arguments), documents: statement.documents };
    Ok(Run { command, mounts, network, security, devices })
}

fn device(text: &str) -> Result<Device, Problem> {
    let refused = |message: String| Problem::new(Kind::Flag, message).near(text);
    let mut device = Device::default();
    let fields =
        mount::fields(text).map_err(|reason| refused(format!("failed to parse csv devices: {reason}")))?;
    for field in fields {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("required", None) => device.required = true,
            ("required", Some(value)) => {
                let invalid = || refused(format!("invalid value for required: {value}"));
                device.required = mount::boolean(value).ok_or_else(invalid)?;
            }
            ("name", Some(value)) if device.name.is_empty() => device.name = value.to_owned(),
            ("name", Some(_)) => {
                return Err(refused(format!("device name already set to {}", device.name)));
            }
            // A name may hold an equals sign: vendor.com/class=name.
            _ if device.name.is_empty() => device.name = field,
            (_, None) => return Err(refused(format!("invalid field '{field}' must be a key=value pair"))),
            (key, Some(_)) => {
                let message = format!("unexpected key '{key}' in '{field}'");
                return Err(refused(message).suggesting(key, ["name", "required"]));
            }
        }
    }
    Ok(device)
}

fn healthcheck(statement: Statement) -> Result<Healthcheck, Problem> {
    let Arguments::Check(kind, inner) = statement.arguments else {
        return Err(at_least_one("HEALTHCHECK"));
    };
    let upper = kind.to_uppercase();
    let none = upper == "NONE";
    if none && !matches!(&*inner, Arguments::None) {
        return Err(argument("HEALTHCHECK NONE takes no arguments"));
    }
    let names = ["interval", "timeout", "start-period", "start-interval", "retries"];
    let mut flags = Flags::parse(statement.flags, &names.map(|name| (name, Takes::Value)))?;
    if none {
        return Ok(Healthcheck {
            command: None,
            interval_ns: 0,
            timeout_ns: 0,
            start_period_ns: 0,
            start_interval_ns: 0,
            retries: 0,
        });
    }
    if upper != "CMD" {
        let message = format!("Unknown type {} in HEALTHCHECK (try CMD)", corten_template::quote(&upper));
        return Err(argument(message).near(kind));
    }
    let command = match form(*inner) {
        Form::Shell(text) if text.is_empty() => None,
        Form::Exec(words) if words.is_empty() => None,
        form => Some(form),
    };
    if command.is_none() {
        return Err(argument("Missing command after HEALTHCHECK CMD"));
    }
    let mut time = |name: &str| interval(name, flags.text(name));
    Ok(Healthcheck {
        command,
        interval_ns: time("interval")?,
        timeout_ns: time("timeout")?,
        start_period_ns: time("start-period")?,
        start_interval_ns: time("start-interval")?,
        retries: retries(flags.text("retries"))?,
    })
}

fn interval(name: &str, text: Option<String>) -> Result<i64, Problem> {
    const SHORTEST_NS: i64 = 1_000_000;
    let Some(text) = text else { return Ok(0) };
    match quantity::duration_ns(&text) {
        Ok(time) if time == 0 || time >= SHORTEST_NS => Ok(time),
        Ok(_) => {
            let message = format!("Interval {} cannot be less than 1ms", corten_template::quote(name));
            Err(Problem::new(Kind::Flag, message).near(text))
        }
        Err(message) => Err(Problem::new(Kind::Flag, message).near(text)),
    }
}

fn retries(text: Option<String>) -> Result<i32, Problem> {
    let Some(text) = text else { return Ok(0) };
    let refused = |message: String| Problem::new(Kind::Flag, message).near(text.clone());
    match text.parse::<i32>() {
        Ok(count) if count < 0 => Err(refused(format!("--retries cannot be negative ({count})"))),
        Ok(count) => Ok(count),
        Err(error) => {
            use std::num::IntErrorKind::{NegOverflow, PosOverflow};
            let reason = match error.kind() {
                PosOverflow | NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Err(refused(format!("strconv.ParseInt: parsing {}: {reason}", corten_template::quote(&text))))
        }
    }
}
