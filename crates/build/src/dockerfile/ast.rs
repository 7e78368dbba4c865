//! What a Dockerfile says, as types: stages of instructions, each with its place in the source.
//!
//! Words are as written: variables are replaced while a graph is built, because ARG and ENV change them on the way. Knows nothing of files, images or how an instruction is carried out.

use super::mount::RunMount;

/// A parsed Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    pub directives: Directives,
    /// ARG instructions before the first FROM.
    pub global_args: Vec<Located<Arg>>,
    /// At least one.
    pub stages: Vec<Stage>,
    /// Last lines of instructions that were continued over an empty line: an error some day, a check today.
    pub empty_continuations: Vec<u32>,
}

impl Dockerfile {
    /// The stage before `before` that has this name or number.
    pub fn find_stage(&self, name: &str, before: usize) -> Option<usize> {
        let earlier = &self.stages[..before];
        let named =
            earlier.iter().rposition(|stage| stage.name().is_some_and(|own| own.eq_ignore_ascii_case(name)));
        named.or_else(|| name.parse().ok().filter(|number| *number < before))
    }
}

/// Parser directives, from the comments that start a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// The front end that was asked for, e.g. `docker/dockerfile:1`, with what follows it on its line.
    pub syntax: Option<String>,
    /// Continues lines and escapes characters.
    pub escape: Escape,
    /// Options for the checks, e.g. `skip=StageNameCasing;error=true`.
    pub check: Option<String>,
}

/// The escape character: a backslash, or a backtick by `# escape`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Escape {
    #[default]
    Backslash,
    Backtick,
}

impl Escape {
    pub fn character(self) -> char {
        match self {
            Escape::Backslash => '\\',
            Escape::Backtick => '`',
        }
    }
}

/// Where something stands: lines from 1, the column of its first character from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    pub first_line: u32,
    pub last_line: u32,
    pub column: u32,
}

/// A thing with its place and the text it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    pub value: T,
    pub span: Span,
    /// The keyword as written, e.g. `run`.
    pub keyword: String,
    /// The instruction on one line, without comments and without the contents of its here-documents.
    pub original: String,
    /// Comments right above it.
    pub comments: Vec<String>,
}

/// FROM and what follows until the next FROM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    pub from: Located<From>,
    pub instructions: Vec<Located<Instruction>>,
}

impl Stage {
    pub fn name(&self) -> Option<&str> {
        self.from.value.name.as_deref()
    }

    /// From a comment `# NAME description` above.
    pub fn description(&self) -> Option<String> {
        let comments: Vec<&str> = self.from.comments.iter().map(String::as_str).collect();
        super::instruction::description(&comments, self.name()?)
    }

    /// What steps copy or mount files from: stages, images, contexts.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.instructions.iter().flat_map(|instruction| match &instruction.value {
            Instruction::Copy(copy) => copy.from.as_deref().into_iter().collect(),
            Instruction::Run(run) => run.mounts.iter().filter_map(|mount| mount.from.as_deref()).collect(),
            _ => Vec::new(),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// An image, a stage or `scratch`; unexpanded.
    pub image: String,
    pub platform: Option<String>,
    /// In lower case, as all comparisons of names of stages are.
    pub name: Option<String>,
    pub written: Option<StageNaming>,
}

/// `AS name` as it was written; only the checks look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageNaming {
    pub keyword: String,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    Add(Add),
    Arg(Arg),
    Cmd(Command),
    Copy(Copy),
    Entrypoint(Command),
    Env(Pairs),
    Expose(Expose),
    Healthcheck(Healthcheck),
    Label(Pairs),
    Maintainer(Maintainer),
    Onbuild(Onbuild),
    Run(Run),
    Shell(Shell),
    Stopsignal(Stopsignal),
    User(User),
    Volume(Volume),
    Workdir(Workdir),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arg {
    pub entries: Vec<ArgEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgEntry {
    pub name: String,
    pub default: Option<String>,
    /// From a comment `# NAME description` above.
    pub description: Option<String>,
}

/// What ENV and LABEL set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs {
    pub pairs: Vec<Pair>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub key: String,
    pub value: String,
    /// Written as `ENV key the rest`.
    pub legacy: bool,
}

/// What RUN, CMD and ENTRYPOINT start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub form: Form,
    /// In the order of their openings; only RUN has some.
    pub documents: Vec<Document>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Handed to the image's shell.
    Shell(String),
    /// `["program", "argument"]`.
    Exec(Vec<String>),
}

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The delimiter; for COPY and ADD also the name of the file.
    pub name: String,
    /// The lines with their ends, tabs not yet removed.
    pub content: String,
    /// The delimiter was not quoted: COPY and ADD replace variables.
    pub expand: bool,
    /// `<<-`: tabs at the start of lines go.
    pub chomp: bool,
    /// The number before `<<`, 0 without one.
    pub descriptor: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub command: Command,
    pub mounts: Vec<RunMount>,
    pub network: Network,
    pub security: Security,
    pub devices: Vec<Device>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Network {
    #[default]
    Default,
    None,
    Host,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Security {
    #[default]
    Sandbox,
    Insecure,
}

/// `--device=vendor.com/class=name,required`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    pub required: bool,
}

/// What COPY and ADD bring, and whereto.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    pub sources: Vec<String>,
    /// Files that stand in the Dockerfile: tabs removed, variables not yet replaced.
    pub documents: Vec<Document>,
    pub destination: String,
    pub chown: Option<String>,
    pub chmod: Option<String>,
    pub link: bool,
    /// Patterns of `.dockerignore` for what stays behind; never expanded.
    pub exclude: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    pub transfer: Transfer,
    /// A stage's name or number, an image or a named context. Variables are refused.
    pub from: Option<String>,
    pub parents: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    pub transfer: Transfer,
    pub checksum: Option<String>,
    pub keep_git_dir: Option<bool>,
    pub unpack: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expose {
    /// Sorted as text; each may hold variables, and what they hold is split at blanks.
    pub ports: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healthcheck {
    /// `None` switches the base image's check off.
    pub command: Option<Form>,
    /// Times in nanoseconds; 0 inherits.
    pub interval_ns: i64,
    pub timeout_ns: i64,
    pub start_period_ns: i64,
    pub start_interval_ns: i64,
    pub retries: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintainer {
    pub name: String,
}

/// An instruction for builds that start from this image; `dockerfile::parse_trigger` reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onbuild {
    /// As the image's configuration holds it, here-documents below it.
    pub expression: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shell {
    /// Not empty.
    pub words: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopsignal {
    pub signal: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub user: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub volumes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workdir {
    pub path: String,
}
