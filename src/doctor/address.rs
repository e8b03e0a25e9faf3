//! The addresses that a cloud can fetch from: public ones.
//!
//! This rule is stricter than the one for requests with tokens ([`vet`]), which permits private networks.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::exchange::address::{Loopback, vet};

/// The addresses that may be fetched from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Only addresses that a cloud can reach.
    PublicOnly,
    /// Private networks and this machine too. Link-local, multicast and metadata addresses stay refused.
    AllowPrivate,
}

/// An address that must not be fetched from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfReach {
    /// The address.
    pub address: IpAddr,
    /// A description of its range, for messages.
    pub what: &'static str,
}

impl fmt::Display for OutOfReach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.address, self.what)
    }
}

/// Checks that `address` may be fetched from.
pub fn within(address: IpAddr, reach: Reach) -> Result<(), OutOfReach> {
    let refused = |what| Err(OutOfReach { address, what });
    if vet(address, Loopback::Allow).is_err() {
        return refused("link-local, multicast, unspecified or a metadata service's");
    }
    let what = match (reach, address) {
        (Reach::AllowPrivate, _) => None,
        (Reach::PublicOnly, IpAddr::V4(v4)) => not_public_v4(v4),
        (Reach::PublicOnly, IpAddr::V6(v6)) => not_public_v6(v6),
    };
    what.map_or(Ok(()), refused)
}

/// Returns the special-purpose range (RFC 6890) that an address is in, if any.
fn not_public_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [127, ..] => Some("this machine (127.0.0.0/8)"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("private (RFC 1918)"),
        [100, 64..=127, ..] => Some("a carrier's own (100.64.0.0/10)"),
        [192, 0, 0, _] => Some("reserved (192.0.0.0/24)"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some("for documentation (RFC 5737)"),
        [192, 88, 99, _] => Some("reserved, once for 6to4 relays (192.88.99.0/24)"),
        [198, 18..=19, ..] => Some("for benchmarks (198.18.0.0/15)"),
        [0 | 224..=255, ..] | [169, 254, ..] => Some("reserved"),
        _ => None,
    }
}

fn not_public_v6(address: Ipv6Addr) -> Option<&'static str> {
    let at = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        // NAT64 (64:ff9b::/96), IPv4-mapped and 6to4 addresses embed an IPv4 address, which decides.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x2002, high, low, ..] => not_public_v4(at(high, low)),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("this machine (::1)"),
        [0xfc00..=0xfdff, ..] => Some("private (fc00::/7)"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("for documentation (2001:db8::/32, 3fff::/20)"),
        // Teredo, benchmarking, ORCHID and other protocol assignments (RFC 2928).
        [0x2001, 0..=0x1ff, ..] => Some("reserved (2001::/23)"),
        // ISATAP embeds an IPv4 address too.
        [0x2000..=0x3fff, _, _, _, interface, 0x5efe, high, low] if interface & !0x0300 == 0 => {
            not_public_v4(at(high, low))
        }
        [0x2000..=0x3fff, ..] => None,
        _ => Some("not global unicast (2000::/3)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_reaches_only_public_addresses() {
        for (address, public, private_allowed) in [
            ("52.94.133.131", true, true),
            ("9.255.255.255", true, true),
            ("11.0.0.1", true, true),
            ("172.15.0.1", true, true),
            ("172.32.0.1", true, true),
            ("100.63.255.255", true, true),
            ("100.128.0.0", true, true),
            ("192.0.1.1", true, true),
            ("198.17.0.1", true, true),
            ("2600:1f18::1", true, true),
            ("2001:4860:4860::8888", true, true),
            ("64:ff9b::52.94.133.131", true, true),
            ("127.0.0.1", false, true),
            ("::1", false, true),
            ("10.0.0.1", false, true),
            ("172.16.0.1", false, true),
            ("172.31.255.255", false, true),
            ("192.168.1.1", false, true),
            ("100.64.0.1", false, true),
            ("100.127.255.255", false, true),
            ("192.0.2.1", false, true),
            ("198.51.100.1", false, true),
            ("203.0.113.1", false, true),
            ("198.18.0.1", false, true),
            ("192.88.98.255", true, true),
            ("192.88.99.1", false, true),
            ("192.88.100.0", true, true),
            ("::ffff:192.88.99.1", false, true),
            ("240.0.0.1", false, true),
            ("fd12:3456::1", false, true),
            ("2001:db8::1", false, true),
            ("2001:0:102:304::fefd:fcfb", false, true),
            ("2600:1f18::5efe:52.94.133.131", true, true),
            ("2600:1f18::5efe:10.0.0.1", false, true),
            ("fec0::1", false, true),
            ("::ffff:10.0.0.1", false, true),
            ("64:ff9b::10.0.0.1", false, true),
            ("2002:a00:1::", false, true),
            ("169.254.169.254", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("100.100.100.200", false, false),
            ("fe80::1", false, false),
            ("fd00:ec2::254", false, false),
            ("224.0.0.1", false, false),
            ("0.0.0.0", false, false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(within(address, Reach::PublicOnly).is_ok(), public, "{address}");
            assert_eq!(within(address, Reach::AllowPrivate).is_ok(), private_allowed, "{address}");
        }
    }
}
