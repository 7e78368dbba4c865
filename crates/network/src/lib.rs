//! Container networks: addresses, bridges, NAT, published ports.
//!
//! Data → plan → netlink: [`Settings`] and requests are turned into printable [`plan::Operation`]s, which a
//! small part applies and undoes. Knows nothing of images, containers' processes or HTTP: a container is a name
//! here, and what it gets is a network namespace by descriptor. Start with [`Networks`]; packet paths and names
//! in the kernel are in `docs/networking.md`.

mod apply;
mod bring_up;
mod conntrack;
mod endpoint;
mod error;
mod firewall;
mod foreign;
mod interface;
mod ipam;
mod mac;
mod networks;
mod nft;
pub mod plan;
mod port_owner;
mod ports;
mod prepare;
mod rtnl;
mod settings;
mod warm;
mod watch;

pub use endpoint::{
    AttachRequest, Endpoint, HostPort, PortRequest, Protocol, PublishedPort, RestoredEndpoint,
};
pub use error::{Error, Result};
pub use ipam::Ipam;
pub use mac::MacAddr;
pub use networks::{NatNetwork, Networks};
pub use settings::{Instance, Settings};
