//! Standard output: data only, and a closed pipe is the end, not a failure.

use std::io::{self, Write};

/// Writes text; a reader that went away ends the program quietly.
pub fn print(text: &str) -> io::Result<()> {
    write(text.as_bytes())
}

/// Writes a line.
pub fn line(text: &str) -> io::Result<()> {
    write(format!("{text}\n").as_bytes())
}

/// Writes bytes as they are.
pub fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other,
    }
}
