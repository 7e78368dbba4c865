//! Which addresses of a subnet are taken: one bit each, nothing else.
//!
//! Addresses are handed out in ascending order behind the last one and wrap around, so an address that was just freed
//! comes back as late as possible: neighbours' ARP caches and tracked connections have forgotten it by then.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::error::{Error, Result};

/// The addresses of one subnet.
#[derive(Debug, Clone)]
pub struct Ipam {
    subnet: Ipv4Net,
    /// Offsets from the network address that `allocate` may hand out: `first..=last`.
    first: u32,
    last: u32,
    next: u32,
    /// Bit set: taken or reserved. Indexed by the offset from the network address.
    taken: Vec<u64>,
    free_in_range: u32,
}

impl Ipam {
    /// `range` narrows what [`Ipam::allocate`] hands out; `reserved` are the gateway and the like. The network's and the
    /// broadcast address are reserved too, except in /31 and /32, which have none.
    pub fn new(subnet: Ipv4Net, range: Option<Ipv4Net>, reserved: &[Ipv4Addr]) -> Result<Ipam> {
        let subnet = subnet.trunc();
        let range = range.map_or(subnet, |range| range.trunc());
        if !subnet.contains(&range) {
            return Err(Error::InvalidFixedCidr { cidr: range, subnet });
        }
        let base = u32::from(subnet.network());
        let size = u64::from(u32::from(subnet.broadcast()) - base) + 1;
        let first = u32::from(range.network()) - base;
        let last = u32::from(range.broadcast()) - base;
        let mut ipam = Ipam {
            subnet,
            first,
            last,
            next: first,
            taken: vec![0; size.div_ceil(64) as usize],
            free_in_range: (last - first).saturating_add(1),
        };
        if subnet.prefix_len() < 31 {
            ipam.set(0);
            ipam.set((size - 1) as u32);
        }
        for ip in reserved {
            if let Some(offset) = ipam.offset(*ip) {
                ipam.set(offset);
            }
        }
        Ok(ipam)
    }

    pub fn subnet(&self) -> Ipv4Net {
        self.subnet
    }

    pub fn is_taken(&self, ip: Ipv4Addr) -> bool {
        self.offset(ip).is_some_and(|offset| self.get(offset))
    }

    /// Takes the next free address.
    pub fn allocate(&mut self) -> Result<Ipv4Addr> {
        let found = (self.free_in_range > 0)
            .then(|| self.first_free(self.next, self.last).or_else(|| self.first_free(self.first, self.next)))
            .flatten()
            .ok_or(Error::AddressesExhausted(self.subnet))?;
        self.set(found);
        self.next = if found == self.last { self.first } else { found + 1 };
        Ok(self.address(found))
    }

    /// Takes this very address.
    pub fn claim(&mut self, ip: Ipv4Addr) -> Result<()> {
        let offset = self.offset(ip).ok_or(Error::AddressNotInSubnet { ip, subnet: self.subnet })?;
        if self.get(offset) {
            return Err(Error::AddressInUse(ip));
        }
        self.set(offset);
        Ok(())
    }

    /// Gives an address back; the caller owns it, so it is none of the reserved ones.
    pub fn release(&mut self, ip: Ipv4Addr) {
        let Some(offset) = self.offset(ip) else { return };
        if self.get(offset) {
            self.taken[offset as usize / 64] &= !(1 << (offset % 64));
            self.free_in_range += u32::from((self.first..=self.last).contains(&offset));
        }
    }

    fn first_free(&self, from: u32, to: u32) -> Option<u32> {
        let mut offset = from;
        while offset <= to {
            let word = !self.taken[offset as usize / 64] & (u64::MAX << (offset % 64));
            if word != 0 {
                let found = offset / 64 * 64 + word.trailing_zeros();
                return (found <= to).then_some(found);
            }
            offset = (offset / 64 + 1).checked_mul(64)?;
        }
        None
    }

    fn offset(&self, ip: Ipv4Addr) -> Option<u32> {
        self.subnet.contains(&ip).then(|| u32::from(ip) - u32::from(self.subnet.network()))
    }

    fn address(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.network()) + offset)
    }

    fn get(&self, offset: u32) -> bool {
        self.taken[offset as usize / 64] & (1 << (offset % 64)) != 0
    }

    fn set(&mut self, offset: u32) {
        if !self.get(offset) {
            self.taken[offset as usize / 64] |= 1 << (offset % 64);
            self.free_in_range -= u32::from((self.first..=self.last).contains(&offset));
        }
    }
}

#[cfg(test)]
mod tests;
