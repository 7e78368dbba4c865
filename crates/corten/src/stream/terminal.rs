//! The terminal: is there one, how large is it, and raw mode while a container has it.

use std::io::{self, IsTerminal};

use corten_api::client::Client;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};

/// Whether our input is a terminal.
pub fn is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// The terminal's height and width, if output goes to one.
pub fn window() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Raw mode on our input, as long as it lives.
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Switches to raw mode; nothing happens when our input is no terminal.
    pub fn enter() -> io::Result<Option<RawMode>> {
        if !is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(RawMode { before }))
    }
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
