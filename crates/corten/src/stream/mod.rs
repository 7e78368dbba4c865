//! Keeps this process's terminal and a container's streams connected.
//!
//! `session` copies bytes on plain threads (a blocked terminal must not hold up signals and requests), `terminal` owns
//! raw mode and window size, `detach` the key sequence that leaves, `signals` what is passed on to the container.

mod demultiplex;
mod detach;
mod session;
mod signals;
mod terminal;

pub use demultiplex::Split;
pub use detach::DetachKeys;
pub use session::{End, Session, Wiring};
pub use signals::forward as forward_signals;
pub use terminal::{RawMode, Resized, ask, ask_hidden, follow_size, is_dumb, is_screen, is_terminal, window};
