//! What a caller asks of a network that is to be made. Pure data; `bring_up` decides what comes of it.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::network::GatewayMode;

/// A further network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRequest {
    pub id: String,
    pub name: String,
    /// `None`: a name of ours. A bridge that exists is used and stays.
    pub bridge: Option<String>,
    pub ipv4: bool,
    pub ipv6: bool,
    /// A family that is enabled and has none here gets one from the pools.
    pub subnets: Vec<SubnetRequest>,
    pub internal: bool,
    pub inter_container: bool,
    pub masquerade: bool,
    /// `None`: as the default network.
    pub host_ip: Option<IpAddr>,
    pub mtu: Option<u32>,
    pub interface_prefix: Option<String>,
    /// The bridge gets the IPv4 gateway's address.
    pub bridge_address: bool,
    pub ipv4_mode: GatewayMode,
    pub ipv6_mode: GatewayMode,
}

impl NetworkRequest {
    /// With Docker's defaults.
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> NetworkRequest {
        NetworkRequest {
            id: id.into(),
            name: name.into(),
            bridge: None,
            ipv4: true,
            ipv6: false,
            subnets: Vec::new(),
            internal: false,
            inter_container: true,
            masquerade: true,
            host_ip: None,
            mtu: None,
            interface_prefix: None,
            bridge_address: true,
            ipv4_mode: GatewayMode::Nat,
            ipv6_mode: GatewayMode::Nat,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetRequest {
    pub net: IpNet,
    /// Addresses are handed out from this part only.
    pub range: Option<IpNet>,
    /// The bridge's address.
    pub gateway: Option<IpAddr>,
    /// The containers' way out, if it is another one than the bridge's address.
    pub default_gateway: Option<IpAddr>,
    /// Never handed out.
    pub reserved: Vec<IpAddr>,
}

impl SubnetRequest {
    pub fn new(net: IpNet) -> SubnetRequest {
        SubnetRequest { net, range: None, gateway: None, default_gateway: None, reserved: Vec::new() }
    }

    pub fn is_ipv4(&self) -> bool {
        matches!(self.net, IpNet::V4(_))
    }
}
