//! The runtimes that containers can be made by: ours, and other OCI runtimes that the operator names.

use std::collections::BTreeMap;

use corten_api::system::Runtime;
use corten_runtime::monitor::protocol::Program;
/// The command line of another runtime.
pub use corten_runtime::monitor::protocol::Program as RuntimeProgram;

use crate::error::{Error, Result};

/// Ours. It is in the monitor itself.
pub const OWN: &str = "corten";
/// What clients call the runtime that every engine has.
const OTHER_NAMES: [&str; 2] = ["runc", "io.containerd.runc.v2"];

/// The other runtimes by name, and which one is meant when nobody says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runtimes {
    pub others: BTreeMap<String, Program>,
    /// Empty: ours.
    pub default: String,
}

impl Runtimes {
    /// The name that a container keeps when its creator gives none.
    pub fn default_name(&self) -> &str {
        if self.default.is_empty() { OWN } else { &self.default }
    }

    /// Another runtime's program, `None` for ours. A runtime that was configured as `runc` is meant by that name.
    pub fn find(&self, name: &str) -> Result<Option<&Program>> {
        if let Some(program) = self.others.get(name) {
            return Ok(Some(program));
        }
        if name == OWN || OTHER_NAMES.contains(&name) {
            return Ok(None);
        }
        Err(Error::invalid(format!("unknown or invalid runtime name: {name}")))
    }

    /// As `info` shows them.
    pub(crate) fn describe(&self) -> impl Iterator<Item = (&str, Runtime)> {
        let own = Runtime { path: "corten-shim".to_owned(), ..Runtime::default() };
        let others = self.others.iter().map(|(name, program)| {
            let path = program.path.display().to_string();
            let runtime = Runtime { path, runtime_args: program.args.clone().into(), ..Runtime::default() };
            (name.as_str(), runtime)
        });
        std::iter::once((OWN, own)).chain(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_runtime() {
        let program = Program { path: "/usr/sbin/runc".into(), args: Vec::new() };
        let mut runtimes = Runtimes::default();
        assert!(runtimes.find("runc").unwrap().is_none());
        assert!(runtimes.find("kata").unwrap_err().message.contains("kata"));
        runtimes.others.insert("runc".to_owned(), program.clone());
        assert_eq!(runtimes.find("runc").unwrap(), Some(&program));
        assert!(runtimes.find(OWN).unwrap().is_none());
    }
}
