//! The rule about the addresses to which a token may be sent.
//!
//! Admins name endpoints and registries, and DNS decides where a name leads. Whatever they say, requests that
//! carry tokens never go to a link-local address or to a cloud's metadata service, which hands out the
//! machine's own credentials. The connector gets only addresses that [`vet`] permits, and does not resolve
//! the name again.
//!
//! Implemented here because `IpAddr::is_global` is unstable, and knows neither the clouds' metadata addresses
//! nor IPv4 addresses embedded in IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;
use url::{Host, Url};

/// The permission to connect to this machine itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Loopback {
    /// Not allowed.
    #[default]
    Refuse,
    /// Allowed: the issuer is on loopback too, or an admin has permitted it.
    Allow,
}

/// A host to which connections are not allowed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{host} is {rule}, to which carnet never connects")]
pub struct AddressError {
    /// The address, as resolved or written, or the name of a metadata service.
    pub host: String,
    /// The rule that forbids it.
    pub rule: AddressRule,
}

/// The kinds of addresses to which connections are not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AddressRule {
    /// `0.0.0.0/8`, `::`.
    #[error("no host's address")]
    Unspecified,
    /// `127.0.0.0/8`, `::1`, unless loopback is allowed.
    #[error("this machine")]
    Loopback,
    /// `169.254.0.0/16`, `fe80::/10`. Most clouds' metadata services are there.
    #[error("link-local")]
    LinkLocal,
    /// `224.0.0.0/4`, `255.255.255.255`, `ff00::/8`.
    #[error("multicast or broadcast")]
    Multicast,
    /// A metadata service outside the link-local networks.
    #[error("a cloud's metadata service")]
    Metadata,
}

/// Checks that connecting to `address` is allowed.
///
/// An IPv6 address that embeds IPv4 addresses (mapped, compatible, 6to4, NAT64, Teredo, ISATAP) is also
/// checked by each of them. Private networks are allowed, because private endpoints are there.
///
/// # Errors
///
/// Returns the first rule that forbids the address.
pub fn vet(address: IpAddr, loopback: Loopback) -> Result<(), AddressError> {
    let rule = match address {
        IpAddr::V4(v4) => vet_v4(v4, loopback),
        IpAddr::V6(v6) => {
            vet_v6(v6, loopback).or_else(|| embedded(v6).into_iter().find_map(|v4| vet_v4(v4, loopback)))
        }
    };
    rule.map_or(Ok(()), |rule| Err(AddressError { host: address.to_string(), rule }))
}

fn vet_v4(address: Ipv4Addr, loopback: Loopback) -> Option<AddressRule> {
    match address.octets() {
        [0, ..] => Some(AddressRule::Unspecified),
        [127, ..] => (loopback == Loopback::Refuse).then_some(AddressRule::Loopback),
        [169, 254, ..] => Some(AddressRule::LinkLocal),
        [224..=239, ..] | [255, 255, 255, 255] => Some(AddressRule::Multicast),
        // Alibaba Cloud; Oracle Cloud's classic instances; Azure's host agent.
        [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16] => Some(AddressRule::Metadata),
        _ => None,
    }
}

fn vet_v6(address: Ipv6Addr, loopback: Loopback) -> Option<AddressRule> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(AddressRule::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => (loopback == Loopback::Refuse).then_some(AddressRule::Loopback),
        [0xfe80..=0xfebf, ..] => Some(AddressRule::LinkLocal),
        [0xff00..=0xffff, ..] => Some(AddressRule::Multicast),
        // AWS reserves this network for services of its hosts: metadata, pod credentials, time, DNS.
        [0xfd00, 0x0ec2, ..]
        // Google Cloud, Oracle Cloud, Scaleway.
        | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]
        | [0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]
        | [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42] => Some(AddressRule::Metadata),
        _ => None,
    }
}

/// Returns the IPv4 addresses to which a network may translate `address`.
fn embedded(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let at = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        // `::1` and `::` are plain IPv6.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => vec![],
        // Compatible, mapped, and translated (RFC 2765).
        [0, 0, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        // NAT64's well-known prefix.
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        // 6to4.
        | [0x2002, high, low, ..] => vec![at(high, low)],
        // Teredo: the server, and the client with every bit inverted.
        [0x2001, 0, high, low, .., client_high, client_low] => {
            vec![at(high, low), at(!client_high, !client_low)]
        }
        // NAT64's prefix for local use (RFC 8215). A network may use /96, /64, /56 or /48 of it, each with
        // the IPv4 address at another position (RFC 6052). A candidate that begins with zero is not one.
        [0x64, 0xff9b, 1, a, b, c, d, e] => [
            at(d, e),
            at((b << 8) | (c >> 8), (c << 8) | (d >> 8)),
            at((a << 8) | (b & 0xff), c),
            at(a, (b << 8) | (c >> 8)),
        ]
        .into_iter()
        .filter(|v4| v4.octets()[0] != 0)
        .collect(),
        // ISATAP: behind any prefix, with the bits for universal and group set or not.
        [_, _, _, _, interface, 0x5efe, high, low] if interface & !0x0300 == 0 => vec![at(high, low)],
        _ => vec![],
    }
}

/// The names of metadata services, of Google, AWS and Tencent.
const METADATA_NAMES: [&str; 4] =
    ["metadata.google.internal", "metadata.goog", "instance-data.ec2.internal", "metadata.tencentyun.com"];

/// Checks the host of a URL as it is written: an address, which is never resolved, or the name of a metadata
/// service, which a proxy would resolve.
pub(crate) fn vet_host(url: &Url, loopback: Loopback) -> Result<(), AddressError> {
    match url.host() {
        Some(Host::Ipv4(address)) => vet(address.into(), loopback),
        Some(Host::Ipv6(address)) => vet(address.into(), loopback),
        // The parser has made the name lower case.
        Some(Host::Domain(name)) if METADATA_NAMES.contains(&name.trim_end_matches('.')) => {
            Err(AddressError { host: name.to_owned(), rule: AddressRule::Metadata })
        }
        Some(Host::Domain(_)) | None => Ok(()),
    }
}

/// The operating system's resolver, filtered: the connector gets only addresses that [`vet`] permits.
#[derive(Debug, Clone, Copy)]
pub(super) struct VettingResolver(pub(super) Loopback);

impl Resolve for VettingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let loopback = self.0;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::task::spawn_blocking(move || (host.as_str(), 0).to_socket_addrs()).await??;
            let (mut vetted, mut refused) = (Vec::new(), None);
            for address in found {
                match vet(address.ip(), loopback) {
                    Ok(()) => vetted.push(address),
                    Err(error) => refused = refused.or(Some(error)),
                }
            }
            match refused {
                Some(error) if vetted.is_empty() => Err(error.into()),
                _ => Ok(Box::new(vetted.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(address: &str, loopback: Loopback) -> Option<AddressRule> {
        vet(address.parse().unwrap(), loopback).err().map(|error| error.rule)
    }

    #[test]
    fn link_local_unspecified_multicast_and_metadata_addresses_are_refused_in_every_notation() {
        use AddressRule::{LinkLocal, Metadata, Multicast, Unspecified};
        for (address, expected) in [
            ("0.0.0.0", Unspecified),
            ("0.1.2.3", Unspecified),
            ("::", Unspecified),
            ("::ffff:0.0.0.0", Unspecified),
            ("169.254.169.254", LinkLocal),
            ("169.254.170.2", LinkLocal),
            ("169.254.0.1", LinkLocal),
            ("::ffff:169.254.169.254", LinkLocal),
            ("::ffff:a9fe:a9fe", LinkLocal),
            ("::169.254.169.254", LinkLocal),
            ("::ffff:0:169.254.169.254", LinkLocal),
            ("64:ff9b::169.254.169.254", LinkLocal),
            ("64:ff9b::a9fe:a9fe", LinkLocal),
            ("64:ff9b:1::169.254.169.254", LinkLocal),
            ("64:ff9b:1:ffff:ffff:ffff:a9fe:a9fe", LinkLocal),
            ("64:ff9b:1:0:a9:fea9:fe00:0", LinkLocal),
            ("64:ff9b:1:a9:fe:a9fe::", LinkLocal),
            ("64:ff9b:1:a9fe:a9:fe00::", LinkLocal),
            ("2002:a9fe:a9fe::1", LinkLocal),
            ("2001:0:a9fe:a9fe::", LinkLocal),
            ("2001:0:102:304:0:ffff:5601:5601", LinkLocal),
            ("2600:1f18::5efe:169.254.169.254", LinkLocal),
            ("2600:1f18::200:5efe:169.254.169.254", LinkLocal),
            ("2600:1f18::300:5efe:a9fe:a9fe", LinkLocal),
            ("fd12:3456::5efe:100.100.100.200", Metadata),
            ("fe80::1", LinkLocal),
            ("febf:ffff::1", LinkLocal),
            ("224.0.0.1", Multicast),
            ("239.255.255.255", Multicast),
            ("255.255.255.255", Multicast),
            ("ff02::1", Multicast),
            ("64:ff9b::224.0.0.1", Multicast),
            ("100.100.100.200", Metadata),
            ("::ffff:100.100.100.200", Metadata),
            ("64:ff9b::100.100.100.200", Metadata),
            ("168.63.129.16", Metadata),
            ("192.0.0.192", Metadata),
            ("fd00:ec2::254", Metadata),
            ("fd00:ec2::23", Metadata),
            ("fd20:ce::254", Metadata),
            ("fd00:c1::a9fe:a9fe", Metadata),
            ("fd00:42::42", Metadata),
        ] {
            for loopback in [Loopback::Refuse, Loopback::Allow] {
                assert_eq!(rule(address, loopback), Some(expected), "{address}");
            }
        }
    }

    #[test]
    fn loopback_is_refused_in_every_notation_unless_it_is_allowed() {
        for address in [
            "127.0.0.1",
            "127.255.255.254",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::127.0.0.1",
            "2002:7f00:1::",
            "2001:0:102:304::80ff:fffe",
            "2600:1f18::5efe:127.0.0.1",
        ] {
            assert_eq!(rule(address, Loopback::Refuse), Some(AddressRule::Loopback), "{address}");
            assert_eq!(rule(address, Loopback::Allow), None, "{address}");
        }
    }

    #[test]
    fn public_and_private_hosts_are_allowed() {
        for address in [
            "52.94.133.131",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "169.253.255.255",
            "169.255.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "223.255.255.255",
            "2600:1f18::1",
            "fd12:3456::1",
            "fec0::1",
            "::ffff:10.0.0.1",
            "64:ff9b::52.94.133.131",
            "64:ff9b:1::10.0.0.1",
            "2001:0:102:304::f5ff:fffe",
            "2001:1::a9fe:a9fe",
            "2600:1f18::5efe:10.0.0.1",
            "2600:1f18::400:5efe:a9fe:a9fe",
        ] {
            assert_eq!(rule(address, Loopback::Refuse), None, "{address}");
        }
    }

    #[test]
    fn addresses_in_urls_are_vetted_as_the_connector_reads_them() {
        for (url, refused) in [
            ("http://169.254.169.254/latest", true),
            ("http://0xa9fea9fe/", true),
            ("http://2852039166/", true),
            ("http://[::ffff:169.254.169.254]/", true),
            ("http://127.1/", true),
            ("https://10.0.0.1/", false),
            ("https://sts.amazonaws.com/", false),
            ("http://metadata.google.internal/", true),
            ("http://METADATA.google.internal./", true),
            ("https://instance-data.ec2.internal/", true),
            ("https://metadata.example/", false),
            ("https://metadata.google.internal.example/", false),
        ] {
            assert_eq!(vet_host(&url.parse().unwrap(), Loopback::Refuse).is_err(), refused, "{url}");
        }
    }

    #[tokio::test]
    async fn names_of_loopback_addresses_resolve_only_if_that_is_allowed() {
        let resolve = |loopback| VettingResolver(loopback).resolve("localhost".parse().unwrap());
        assert!(resolve(Loopback::Allow).await.unwrap().all(|address| address.ip().is_loopback()));
        let Err(error) = resolve(Loopback::Refuse).await else { panic!("localhost was let through") };
        assert_eq!(error.downcast_ref::<AddressError>().unwrap().rule, AddressRule::Loopback);
    }

    proptest! {
        #[test]
        fn no_notation_allows_an_ipv4_address_that_is_refused_by_itself(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let [high, low] = [(bits >> 16) as u16, bits as u16];
            for v6 in [
                v4.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, 0x102, 0x304, 0, 0, !high, !low),
                Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !0x102, !0x304),
                Ipv6Addr::new(0x2600, 0x1f18, 0, 0, 0, 0x5efe, high, low),
                Ipv6Addr::new(0x2600, 0x1f18, 0, 0, 0x200, 0x5efe, high, low),
            ] {
                let judged = vet(v6.into(), Loopback::Refuse).map_err(|error| error.rule);
                prop_assert_eq!(judged, vet(v4.into(), Loopback::Refuse).map_err(|error| error.rule));
            }
        }
    }
}
