//! The name server of a container, which its monitor runs behind 127.0.0.11: so names go on resolving while no engine runs.
//!
//! * [`message`]: queries in, answers out, as bytes. * [`names`]: the file of a network's names, written by the engine and read here.
//! * [`Resolver`]: what a container is to be told. * `lookup`: the answer to a question, out of those files. * `forward`:
//!   everything else is asked of other servers. * [`Server`]: the sockets, and the loop's part in the monitor. docs/dns.md
//!
//! Knows nothing of containers, of the engine, and of how packets get to its sockets.

mod forward;
mod framed;
mod lookup;
pub mod message;
pub mod names;
mod server;
mod settings;

pub use server::Server;
pub use settings::{Link, NetworkNames, Resolver};

/// Where containers find their name server; the port is 53.
pub const ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(127, 0, 0, 11);
