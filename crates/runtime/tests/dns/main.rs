//! The name server with real sockets, in network namespaces of the tests' own, against servers that the tests play.

mod client;
mod forwarding;
mod hostile;
mod local;
mod stage;
