//! Which addresses of a subnet are taken: the offsets of those that are, nothing else.
//!
//! Addresses are handed out in ascending order behind the last one and wrap around, so an address that was just freed
//! comes back as late as possible: neighbours' caches and tracked connections have forgotten it by then.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::{Error, Result};

/// The addresses of one subnet, of either family.
#[derive(Debug, Clone)]
pub struct Ipam {
    subnet: IpNet,
    base: u128,
    /// Offsets from the network address that `allocate` may hand out: `first..=last`.
    first: u128,
    last: u128,
    next: u128,
    /// Offsets of what is taken or reserved.
    taken: BTreeSet<u128>,
    /// How many of them lie in the range.
    taken_in_range: u128,
}

impl Ipam {
    /// `range` narrows what [`Ipam::allocate`] hands out; `reserved` are the gateway and the like. The network's address and,
    /// for IPv4, the broadcast address are reserved too, except where a subnet is too small to have them.
    pub fn new(subnet: IpNet, range: Option<IpNet>, reserved: &[IpAddr]) -> Result<Ipam> {
        let subnet = subnet.trunc();
        let range = range.map_or(subnet, |range| range.trunc());
        if !subnet.contains(&range) {
            return Err(Error::InvalidRange { range, subnet });
        }
        let base = number(subnet.network());
        let (first, last) = (number(range.network()) - base, number(range.broadcast()) - base);
        let mut ipam =
            Ipam { subnet, base, first, last, next: first, taken: BTreeSet::new(), taken_in_range: 0 };
        let host_bits = subnet.max_prefix_len() - subnet.prefix_len();
        if host_bits > 1 {
            ipam.set(0);
            if matches!(subnet, IpNet::V4(_)) {
                ipam.set(number(subnet.broadcast()) - base);
            }
        }
        for ip in reserved {
            if let Some(offset) = ipam.offset(*ip) {
                ipam.set(offset);
            }
        }
        Ok(ipam)
    }

    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// How many addresses of the subnet are taken or reserved.
    pub fn in_use(&self) -> u64 {
        self.taken.len() as u64
    }

    /// How many `allocate` can still hand out; a number that is too large for 64 bits counts as the largest one.
    pub fn available(&self) -> u64 {
        let free = (self.last - self.first).saturating_add(1).saturating_sub(self.taken_in_range);
        u64::try_from(free).unwrap_or(u64::MAX)
    }

    /// Takes the next free address.
    pub fn allocate(&mut self) -> Result<IpAddr> {
        let found = self.first_free(self.next, self.last).or_else(|| self.first_free(self.first, self.next));
        let offset = found.ok_or(Error::AddressesExhausted(self.subnet))?;
        self.set(offset);
        self.next = if offset == self.last { self.first } else { offset + 1 };
        Ok(self.address(offset))
    }

    /// Takes that address, which may lie outside the range.
    pub fn claim(&mut self, ip: IpAddr) -> Result<()> {
        let offset = self.offset(ip).ok_or(Error::AddressNotInSubnet { ip, subnet: self.subnet })?;
        if self.taken.contains(&offset) {
            return Err(Error::AddressInUse(ip));
        }
        self.set(offset);
        Ok(())
    }

    /// Gives an address back; the caller owns it, so it is none of the reserved ones.
    pub fn release(&mut self, ip: IpAddr) {
        let Some(offset) = self.offset(ip) else { return };
        if self.taken.remove(&offset) {
            self.taken_in_range -= u128::from((self.first..=self.last).contains(&offset));
        }
    }

    /// The taken ones come in order, so the first gap between them is the answer.
    fn first_free(&self, from: u128, to: u128) -> Option<u128> {
        if self.available() == 0 || from > to {
            return None;
        }
        let mut offset = from;
        for taken in self.taken.range(from..=to) {
            if *taken != offset {
                break;
            }
            offset += 1;
        }
        (offset <= to).then_some(offset)
    }

    fn offset(&self, ip: IpAddr) -> Option<u128> {
        self.subnet.contains(&ip).then(|| number(ip) - self.base)
    }

    fn address(&self, offset: u128) -> IpAddr {
        let number = self.base + offset;
        match self.subnet {
            // A subnet of IPv4 has no offset that leaves 32 bits.
            IpNet::V4(_) => IpAddr::V4((number as u32).into()),
            IpNet::V6(_) => IpAddr::V6(number.into()),
        }
    }

    fn set(&mut self, offset: u128) {
        if self.taken.insert(offset) {
            self.taken_in_range += u128::from((self.first..=self.last).contains(&offset));
        }
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

#[cfg(test)]
mod tests;
