//! `RUN --mount`: its options are read when the instruction is carried out, as their values may hold variables.

use super::diagnostic::{Kind, Problem};
use super::suggest;

/// One `--mount`, unexpanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunMount {
    /// The options as written, separated by commas.
    pub options: String,
    /// A stage, an image or a named context. Never holds variables, so that stages know on whom they depend.
    pub from: Option<String>,
}

/// What a mount brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MountType {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

const TYPES: [(&str, MountType); 5] = [
    ("bind", MountType::Bind),
    ("cache", MountType::Cache),
    ("tmpfs", MountType::Tmpfs),
    ("secret", MountType::Secret),
    ("ssh", MountType::Ssh),
];

impl MountType {
    pub fn name(self) -> &'static str {
        TYPES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// Who may use a cache at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sharing {
    #[default]
    Shared,
    Private,
    Locked,
}

const SHARINGS: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

/// A mount with its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountType,
    pub from: Option<String>,
    pub source: Option<String>,
    pub target: Option<String>,
    pub read_only: bool,
    /// Of a tmpfs; 0 or nothing means the system's own bound.
    pub size_bytes: Option<i64>,
    /// Of a cache, a secret or an SSH agent.
    pub id: Option<String>,
    pub sharing: Sharing,
    pub required: bool,
    /// The variable in which a secret is handed over.
    pub env: Option<String>,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountError<E> {
    #[error(transparent)]
    Expand(E),
    #[error("{0}")]
    Option(String),
}

impl RunMount {
    pub(super) fn parse(options: &str) -> Result<RunMount, Problem> {
        let mut from = None;
        let fields = fields(options)
            .map_err(|reason| problem(format!("failed to parse csv mounts: {reason}"), options))?;
        for field in fields {
            if let Some((key, value)) = field.split_once('=')
                && key.eq_ignore_ascii_case("from")
            {
                if value.find('$').is_some_and(|at| at + 1 != value.len()) {
                    let key = key.to_lowercase();
                    let message =
                        format!("'{key}' doesn't support variable expansion, define alias stage instead");
                    return Err(problem(message, value));
                }
                from = Some(value.to_owned()).filter(|value| !value.is_empty());
            }
        }
        Ok(RunMount { options: options.to_owned(), from })
    }

    /// Reads the options, with `expand` replacing the variables of each value.
    pub fn resolve<E>(
        &self,
        mut expand: impl FnMut(&str) -> Result<String, E>,
    ) -> Result<Mount, MountError<E>> {
        let mut draft = Draft::default();
        let fields = fields(&self.options)
            .map_err(|reason| MountError::Option(format!("failed to parse csv mounts: {reason}")))?;
        for field in fields {
            match field.split_once('=') {
                Some((key, value)) => {
                    let value = expand(value).map_err(MountError::Expand)?;
                    draft.pair(&key.to_lowercase(), value, &field).map_err(MountError::Option)?;
                }
                None => draft.switch(&field.to_lowercase(), &field).map_err(MountError::Option)?,
            }
        }
        draft.finish().map_err(MountError::Option)
    }
}

fn problem(message: String, near: &str) -> Problem {
    Problem::new(Kind::Flag, message).near(near)
}

/// Cuts a line of comma-separated values; quotes hold commas together, two of them within are one.
pub(super) fn fields(line: &str) -> Result<Vec<String>, String> {
    if line.is_empty() {
        return Err("EOF".to_owned());
    }
    let refused = |rest: &str, what: &str| {
        Err(format!("parse error on line 1, column {}: {what}", line.len() - rest.len() + 1))
    };
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            Some(quoted) => match unquote(quoted) {
                Ok(found) => found,
                Err(at) => return refused(at, "extraneous or missing \" in quoted-field"),
            },
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if let Some(at) = rest[..end].find('"') {
                    return refused(&rest[at..], "bare \" in non-quoted-field");
                }
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match behind.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Ok(fields),
        }
    }
}

/// A quoted field behind its first quote, and what follows its last; or where it is wrong.
fn unquote(text: &str) -> Result<(String, &str), &str> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let at = rest.find('"').ok_or(&rest[rest.len()..])?;
        field.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        match behind.chars().next() {
            Some('"') => {
                field.push('"');
                rest = &behind[1..];
            }
            None | Some(',') => return Ok((field, behind)),
            Some(_) => return Err(&rest[at..]),
        }
    }
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

#[derive(Default)]
struct Draft {
    mount: Mount,
    sharing: Option<Sharing>,
    read_only: Option<bool>,
}

impl Draft {
    fn switch(&mut self, key: &str, field: &str) -> Result<(), String> {
        match key {
            "readonly" | "ro" => self.read_only = Some(true),
            "readwrite" | "rw" => self.read_only = Some(false),
            "required" => {
                self.only_for(key, &[MountType::Secret, MountType::Ssh])?;
                self.mount.required = true;
            }
            _ => return Err(format!("invalid field '{field}' must be a key=value pair")),
        }
        Ok(())
    }

    fn pair(&mut self, key: &str, value: String, field: &str) -> Result<(), String> {
        let invalid = || format!("invalid value for {key}: {value}");
        let number = |radix| {
            u32::from_str_radix(&value, radix)
                .ok()
                .filter(|_| !value.starts_with('+'))
                .ok_or_else(|| format!("invalid value {value} for {key}"))
        };
        match key {
            "type" => self.mount.kind = choice("unsupported mount type", &value, &TYPES)?,
            "from" => self.mount.from = Some(value),
            "source" | "src" => self.mount.source = Some(value),
            "target" | "dst" | "destination" => self.mount.target = Some(value),
            "readonly" | "ro" => self.read_only = Some(boolean(&value).ok_or_else(invalid)?),
            "readwrite" | "rw" => self.read_only = Some(!boolean(&value).ok_or_else(invalid)?),
            "required" => {
                self.only_for(key, &[MountType::Secret, MountType::Ssh])?;
                self.mount.required = boolean(&value).ok_or_else(invalid)?;
            }
            "size" => {
                self.only_for(key, &[MountType::Tmpfs])?;
                self.mount.size_bytes = Some(super::quantity::bytes(&value).ok_or_else(invalid)?);
            }
            "id" => self.mount.id = Some(value),
            "sharing" => self.sharing = Some(choice("unsupported sharing value", &value, &SHARINGS)?),
            "mode" => self.mount.mode = Some(number(8)?),
            "uid" => self.mount.uid = Some(number(10)?),
            "gid" => self.mount.gid = Some(number(10)?),
            "env" => self.mount.env = Some(value),
            _ => {
                let message = format!("unexpected key '{key}' in '{field}'");
                return Err(with_suggestion(message, key, KEYS));
            }
        }
        Ok(())
    }

    /// Some options are known only to some types, and only behind `type=`.
    fn only_for(&self, key: &str, kinds: &[MountType]) -> Result<(), String> {
        match kinds.contains(&self.mount.kind) {
            true => Ok(()),
            false => Err(format!("unexpected key '{key}' for mount type '{}'", self.mount.kind.name())),
        }
    }

    fn finish(self) -> Result<Mount, String> {
        let Draft { mut mount, sharing, read_only } = self;
        let kind = mount.kind;
        for text in [&mut mount.from, &mut mount.source, &mut mount.target, &mut mount.id] {
            text.take_if(|text| text.is_empty());
        }
        if matches!(kind, MountType::Bind | MountType::Tmpfs) {
            let given = [("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)];
            if let Some((key, _)) = given.iter().find(|(_, value)| value.is_some()) {
                return Err(format!("{key} not allowed for \"{}\" type mounts", kind.name()));
            }
        }
        mount.read_only = read_only.unwrap_or(!matches!(kind, MountType::Cache | MountType::Tmpfs));
        if kind == MountType::Secret {
            let refused = |message: &str| Err(message.to_owned());
            match &mount {
                Mount { from: Some(_), .. } => return refused("secret mount should not have a from"),
                _ if sharing.is_some() => return refused("secret mount should not define sharing"),
                Mount { source: None, target: None, id: None, .. } => {
                    return refused("invalid secret mount. one of source, target required");
                }
                Mount { source: Some(_), id: Some(_), .. } => {
                    return refused("both source and id can't be set");
                }
                _ => {}
            }
        }
        if sharing.is_some() && kind != MountType::Cache {
            return Err(format!("invalid cache sharing set for {} mount", kind.name()));
        }
        mount.sharing = sharing.unwrap_or_default();
        Ok(mount)
    }
}

fn choice<T: Copy>(what: &str, value: &str, known: &[(&'static str, T)]) -> Result<T, String> {
    let lower = value.to_lowercase();
    match known.iter().find(|(name, _)| *name == lower) {
        Some((_, choice)) => Ok(*choice),
        None => {
            let message = format!("{what} {}", corten_template::quote(value));
            Err(with_suggestion(message, value, known.iter().map(|(name, _)| *name)))
        }
    }
}

pub(super) fn with_suggestion<'o>(
    message: String,
    word: &str,
    options: impl IntoIterator<Item = &'o str>,
) -> String {
    match suggest::nearest(word, options) {
        Some(option) => format!("{message} (did you mean {option}?)"),
        None => message,
    }
}

/// As Go reads truth.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
