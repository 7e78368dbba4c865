//! What commands print. A reader that has gone (`corten-oci list | head -1`) ends the command; it is no reason to panic.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use crate::failure::{Failure, Outcome};

/// One line, or several, on stdout.
pub fn line(text: impl Display) -> Outcome<()> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Failure::during("stdout")),
    }
}

/// A value as JSON with indentation.
pub fn json(value: &serde_json::Value) -> Outcome<()> {
    line(serde_json::to_string_pretty(value).map_err(Failure::during("JSON"))?)
}
