//! The terminal: is there one, how large is it, and raw mode while a container has it.

use std::io::{self, BufRead, IsTerminal};

use corten_api::client::Client;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};

/// Whether our input is a terminal.
pub fn is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Whether our output is a terminal whose cursor can be moved.
pub fn is_screen() -> bool {
    io::stdout().is_terminal() && !is_dumb()
}

/// Whether the terminal knows of lines only.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|kind| kind.is_empty() || kind == "dumb")
}

/// The terminal's height and width, if output goes to one.
pub fn window() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// A line that is typed after a question.
pub fn ask(question: &str) -> io::Result<String> {
    crate::output::talk(question);
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The same for what nobody shall see. A signal that ends this process gives the terminal back first.
pub async fn ask_hidden(question: &str) -> io::Result<String> {
    let before = tcgetattr(io::stdin())?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    restore_at_signals(&before)?;
    tcsetattr(io::stdin(), OptionalActions::Now, &hidden)?;
    let question = question.to_owned();
    let line = tokio::task::spawn_blocking(move || ask(&question)).await;
    tcsetattr(io::stdin(), OptionalActions::Now, &before)?;
    crate::output::talk("\n");
    line.map_err(io::Error::other)?
}

/// Raw mode on our input, as long as it lives.
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Switches to raw mode; nothing happens when our input is no terminal. With `until_signal`, a signal that ends this process
    /// gives the terminal back first: for those who pass none on.
    pub fn enter(until_signal: bool) -> io::Result<Option<RawMode>> {
        if !is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        if until_signal {
            restore_at_signals(&before)?;
        }
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(RawMode { before }))
    }
}

fn restore_at_signals(before: &Termios) -> io::Result<()> {
    let all = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()];
    for kind in all {
        let mut caught = signal(kind)?;
        let before = before.clone();
        tokio::spawn(async move {
            if caught.recv().await.is_some() {
                // The terminal may be gone.
                let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
                std::process::exit(128 + kind.as_raw_value());
            }
        });
    }
    Ok(())
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Whose terminal follows ours.
#[derive(Clone, Debug)]
pub enum Resized {
    Container(String),
    Exec(String),
}

impl Resized {
    async fn set(&self, client: &Client, (height, width): (u16, u16)) {
        // It may have ended meanwhile, and a wrong size is no reason to stop.
        let _ = match self {
            Resized::Container(id) => client.container_resize(id, height, width).await,
            Resized::Exec(id) => client.exec_resize(id, height, width).await,
        };
    }
}

/// Keeps the other terminal as large as ours, from now until the returned task is dropped with the runtime.
pub fn follow_size(client: &Client, whose: Resized) -> io::Result<()> {
    let mut changes = signal(SignalKind::window_change())?;
    let client = client.clone();
    tokio::spawn(async move {
        loop {
            if let Some(size) = window() {
                whose.set(&client, size).await;
            }
            if changes.recv().await.is_none() {
                break;
            }
        }
    });
    Ok(())
}
