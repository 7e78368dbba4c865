//! Which addresses of which network are taken.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::{Error, Result};
use crate::ipam::Ipam;
use crate::network::BridgeNetwork;

/// How full a subnet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubnetUse {
    pub subnet: IpNet,
    /// Taken or reserved.
    pub in_use: u64,
    /// Can still be handed out.
    pub available: u64,
}

/// The addresses of all networks, by the network's id.
#[derive(Debug, Default)]
pub struct Addresses {
    networks: HashMap<String, Vec<Ipam>>,
}

impl Addresses {
    /// Idempotent: what is taken in a network that is known stays taken.
    pub fn add(&mut self, network: &BridgeNetwork) -> Result<()> {
        if self.networks.contains_key(&network.id) {
            return Ok(());
        }
        let subnets = network.subnets.iter();
        let ipams: Result<Vec<Ipam>> =
            subnets.map(|subnet| Ipam::new(subnet.net, subnet.range, &subnet.taken())).collect();
        self.networks.insert(network.id.clone(), ipams?);
        Ok(())
    }

    pub fn remove(&mut self, network: &str) {
        self.networks.remove(network);
    }

    /// The next free address of the first subnet of that family that has one.
    pub fn allocate(&mut self, network: &str, ipv4: bool) -> Result<IpAddr> {
        let ipams = self.networks.get_mut(network).ok_or_else(|| Error::NoNetwork(network.to_owned()))?;
        let mut full = Error::NoNetwork(network.to_owned());
        for ipam in ipams.iter_mut().filter(|ipam| matches!(ipam.subnet(), IpNet::V4(_)) == ipv4) {
            match ipam.allocate() {
                Ok(ip) => return Ok(ip),
                Err(error) => full = error,
            }
        }
        Err(full)
    }

    /// That very address.
    pub fn claim(&mut self, network: &str, ip: IpAddr) -> Result<()> {
        let ipam = self.ipam_of(network, ip);
        ipam.ok_or(Error::AddressInNoSubnet(ip))?.claim(ip)
    }

    /// Gives one back; of a network that is gone too.
    pub fn release(&mut self, network: &str, ip: IpAddr) {
        if let Some(ipam) = self.ipam_of(network, ip) {
            ipam.release(ip);
        }
    }

    pub fn usage(&self, network: &str) -> Vec<SubnetUse> {
        let ipams = self.networks.get(network).into_iter().flatten();
        ipams
            .map(|ipam| SubnetUse {
                subnet: ipam.subnet(),
                in_use: ipam.in_use(),
                available: ipam.available(),
            })
            .collect()
    }

    fn ipam_of(&mut self, network: &str, ip: IpAddr) -> Option<&mut Ipam> {
        self.networks.get_mut(network)?.iter_mut().find(|ipam| ipam.subnet().contains(&ip))
    }
}
