//! The program: its arguments, environment and the places where it may be.

use std::ffi::CString;
use std::fmt;

use super::{c_string, environment, invalid};
use crate::monitor::protocol::StepError;
use crate::spec::Process;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is to be executed.
#[derive(Debug)]
pub struct Program {
    pub arguments: Vec<CString>,
    pub environment: Vec<CString>,
    /// Tried one after the other.
    pub candidates: Vec<CString>,
    /// `PATH` was searched: a name without a slash was given.
    pub searched: bool,
    /// The environment has no `HOME`: the user's directory is added.
    pub wants_home: bool,
}

impl Program {
    pub fn plan(process: &Process) -> Result<Self, StepError> {
        let name = process.args.first().ok_or_else(|| invalid("process.args", "is empty"))?;
        let arguments = process
            .args
            .iter()
            .map(|a| c_string("process.args", a.as_str()))
            .collect::<Result<Vec<_>, _>>()?;
        // Of a name that is set twice the last one counts, and only one is handed on.
        let mut variables: Vec<&str> = Vec::with_capacity(process.env.len());
        for entry in &process.env {
            if let Some((key, _)) = entry.split_once('=') {
                let twin = |v: &&str| v.split_once('=').is_some_and(|(k, _)| k == key);
                if let Some(position) = variables.iter().position(twin) {
                    variables.remove(position);
                }
            }
            variables.push(entry);
        }
        let variables =
            variables.into_iter().map(|e| c_string("process.env", e)).collect::<Result<Vec<_>, _>>()?;
        let searched = !name.contains('/');
        let candidates = if searched {
            let path = environment(process, "PATH").unwrap_or(DEFAULT_PATH);
            path.split(':')
                .map(|dir| match dir {
                    "" => c_string("process.args", format!("./{name}")),
                    dir => c_string("process.args", format!("{}/{name}", dir.trim_end_matches('/'))),
                })
                .collect::<Result<Vec<_>, _>>()?
        } else {
            vec![arguments[0].clone()]
        };
        let wants_home = environment(process, "HOME").is_none_or(str::is_empty);
        // An empty HOME is as good as none, but two entries would not be.
        let variables = if wants_home {
            variables.into_iter().filter(|v| !v.as_bytes().starts_with(b"HOME=")).collect()
        } else {
            variables
        };
        Ok(Self { arguments, environment: variables, candidates, searched, wants_home })
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, argument) in self.arguments.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { " " }, argument.to_string_lossy())?;
        }
        Ok(())
    }
}
