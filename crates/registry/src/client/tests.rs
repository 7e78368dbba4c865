//! The client beside real registries and hostile ones.

mod bodies;
mod hostile;
mod real;
mod tokens;
mod ways;
