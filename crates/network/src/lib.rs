//! Container networks: addresses, bridges, NAT, published ports.
//!
//! Data → plan → netlink: [`Settings`] and requests are turned into printable [`plan::Operation`]s, which a
//! small part applies and undoes. Knows nothing of images, containers' processes or HTTP: a container is a name
//! here, and what it gets is a network namespace by descriptor. Start with [`Networks`]; packet paths and names
//! in the kernel are in `docs/networking.md`.

mod addresses;
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
mod network;
mod networks;
mod nft;
pub mod plan;
mod port_owner;
mod ports;
mod prepare;
mod request;
mod resolver;
mod rtnl;
mod settings;
mod subnets;
mod warm;
mod watch;

pub use addresses::SubnetUse;
pub use endpoint::{
    Assigned, Endpoint, EndpointRequest, HostPort, PortRequest, Protocol, PublishedPort, RestoredSandbox,
    Sandbox, SandboxRequest,
};
pub use error::{Error, Result};
pub use mac::MacAddr;
pub use network::{BridgeNetwork, Driver, GatewayMode, Subnet, WaysOut, ways_out};
pub use networks::Networks;
pub use request::{NetworkRequest, SubnetRequest};
pub use settings::{AddressPool, Instance, Settings, is_interface_name};
