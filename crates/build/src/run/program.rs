//! The program of a RUN step, and its environment.

use crate::dockerfile::{self, Form, Run};
use crate::error::Result;
use crate::stage::Running;
use crate::state::name_of;
use crate::variables::proxies;
use crate::worker::{MountSource, StepMount};

/// What all steps call their host, unless [`HOSTNAME_ARG`] says otherwise: programs that write it down write the same every time.
const HOSTNAME: &str = "buildkitsandbox";
const HOSTNAME_ARG: &str = "BUILDKIT_SANDBOX_HOSTNAME";

/// Where scripts of here-documents lie while they run.
const SCRIPTS: &str = "/dev/pipes";

/// A program as it is run, and as the history shows it.
pub(super) struct Program {
    pub command: Vec<String>,
    pub shown: String,
    pub script: Option<StepMount>,
}

impl Running<'_> {
    pub(super) fn program(&self, run: &Run) -> Result<Program> {
        let documents = &run.command.documents;
        let shown_arg = |name: &str| format!("{name}={}", self.variable(name).unwrap_or_default());
        let args: Vec<String> = self.state.args.counted().map(shown_arg).collect();
        let with_args = |shown: String| match args.len() {
            0 => format!("RUN {shown} # buildkit"),
            count => format!("RUN |{count} {} {shown} # buildkit", args.join(" ")),
        };
        let text = match &run.command.form {
            Form::Exec(words) => {
                return Ok(Program {
                    shown: with_args(words.join(" ")),
                    command: words.clone(),
                    script: None,
                });
            }
            Form::Shell(text) => text,
        };
        let is_alone = text.starts_with("<<") && !text.trim().contains(char::is_whitespace);
        match &documents[..] {
            [] => {
                let command = self.state.command(&run.command.form);
                Ok(Program { shown: with_args(command.join(" ")), command, script: None })
            }
            [document] if is_alone => {
                let content = match document.chomp {
                    true => dockerfile::chomp(&document.content).to_string(),
                    false => document.content.clone(),
                };
                if !content.starts_with("#!") {
                    let command = [self.state.shell(), vec![content]].concat();
                    return Ok(Program { shown: with_args(command.join(" ")), command, script: None });
                }
                let path = format!("{SCRIPTS}/{}", document.name);
                let command = interpreted(&content, &path);
                let shown = with_args(format!("{}{content}{}", text, document.name));
                let source = MountSource::Secret { bytes: content.into_bytes(), mode: 0o755, uid: 0, gid: 0 };
                let script = StepMount { target: path.clone(), is_read_only: true, source };
                Ok(Program { shown, command, script: Some(script) })
            }
            documents => {
                let mut whole = text.clone();
                for document in documents {
                    whole.push('\n');
                    whole.push_str(&document.content);
                    whole.push_str(&document.name);
                }
                let command = [self.state.shell(), vec![whole]].concat();
                Ok(Program { shown: with_args(command.join(" ")), command, script: None })
            }
        }
    }

    /// What the program sees of ENV and ARG.
    pub(super) fn environment(&self) -> Vec<String> {
        let mut state = self.state.clone();
        for name in self.state.args.counted() {
            if let Some(value) = self.variable(name) {
                state.set_env(name, &value);
            }
        }
        state.image.config.env
    }

    pub(super) fn hostname(&self) -> &str {
        let said = self.build.options.build_args.get(HOSTNAME_ARG).filter(|name| !name.is_empty());
        said.map_or(HOSTNAME, String::as_str)
    }

    /// The name of the host, where it isn't the same as in all builds.
    pub(super) fn own_hostname(&self) -> Option<&str> {
        Some(self.hostname()).filter(|name| *name != HOSTNAME)
    }

    /// What it sees besides: proxies, and the time for those who write times.
    pub(super) fn undeclared(&self, env: &mut Vec<String>) {
        let is_set = |env: &[String], name: &str| env.iter().any(|entry| name_of(entry) == name);
        for (name, value) in proxies(&self.build.options.build_args) {
            if !is_set(env, name) {
                env.push(format!("{name}={value}"));
            }
        }
        if !is_set(env, "SOURCE_DATE_EPOCH") {
            env.push(format!("SOURCE_DATE_EPOCH={}", self.state.newest));
        }
    }
}

/// How the kernel would start a script (execve(2)): the interpreter, at most one argument, the path. The script lies where nothing is
/// executed.
fn interpreted(script: &str, path: &str) -> Vec<String> {
    let line = script.strip_prefix("#!").unwrap_or(script).lines().next().unwrap_or_default().trim();
    let (interpreter, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let words = [interpreter, argument.trim_start(), path];
    words.into_iter().filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
