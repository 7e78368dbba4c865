//! Ethernet addresses: parsed, printed, and derived from an IPv4 address as Docker does.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A unicast Ethernet address; text form `02:42:ac:1e:00:02`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `02:42` and the last four bytes of the address: unique in the network as long as the address is.
    pub fn from_ip(ip: IpAddr) -> MacAddr {
        let [a, b, c, d] = match ip {
            IpAddr::V4(ip) => ip.octets(),
            IpAddr::V6(ip) => (u128::from(ip) as u32).to_be_bytes(),
        };
        MacAddr([0x02, 0x42, a, b, c, d])
    }

    /// For a bridge without an address: from the first digits of a hexadecimal id.
    pub fn from_id(id: &str) -> MacAddr {
        let number = u32::from_str_radix(id.get(..8).unwrap_or_default(), 16).unwrap_or(1);
        let [a, b, c, d] = number.to_be_bytes();
        MacAddr([0x02, 0x42, a, b, c, d])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid MAC address: {0}")]
pub struct InvalidMac(String);

impl FromStr for MacAddr {
    type Err = InvalidMac;

    /// Six bytes in hexadecimal, separated by `:` or `-`; no group address and not all zero.
    fn from_str(text: &str) -> Result<MacAddr, InvalidMac> {
        let invalid = || InvalidMac(text.to_owned());
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut parts = text.split(separator);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(part.ok_or_else(invalid)?, 16).map_err(|_| invalid())?;
        }
        let group = bytes[0] & 1 != 0;
        if parts.next().is_some() || group || bytes == [0; 6] { Err(invalid()) } else { Ok(MacAddr(bytes)) }
    }
}

impl TryFrom<String> for MacAddr {
    type Error = InvalidMac;

    fn try_from(text: String) -> Result<MacAddr, InvalidMac> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let mac = MacAddr::from_ip([172, 30, 0, 2].into());
        assert_eq!(mac.to_string(), "02:42:ac:1e:00:02");
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!("02-42-AC-1E-00-02".parse(), Ok(mac));
    }

    #[test]
    fn what_is_no_unicast_address_is_refused() {
        for text in [
            "",
            "02:42:ac:1e:00",
            "02:42:ac:1e:00:02:03",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "2:42:ac:1e:0:2",
            "+2:42:ac:1e:00:02",
        ] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }
}
