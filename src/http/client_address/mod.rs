//! Client addresses: the socket's peer, or the address that a trusted proxy names.
//!
//! Owns the decision which part of a request's header is trusted. No header that a client writes can give it
//! another client's address or make it local.
//!
//! This is written by hand, because the usual extractors trust a header by its name. Here a header counts
//! only behind a peer in a trusted network.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::{HeaderMap, HeaderName};
use ipnet::{IpNet, Ipv4Net};

use crate::values::excerpt::excerpt;

/// The only header that is read. `Forwarded` (RFC 7239) is not: few proxies write it, and a proxy that writes
/// one of the two headers passes the client's own version of the other.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// The headers that proxies add. A request with one of them did not start at the other end of the socket, or
/// claims so.
const MARKS_OF_PROXIES: [HeaderName; 4] =
    [X_FORWARDED_FOR, FORWARDED, HeaderName::from_static("via"), HeaderName::from_static("x-real-ip")];

/// The name of the Unix socket among the trusted proxies.
const UNIX: &str = "unix";

/// The sender of a request, as far as it is known. The server adds it to the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientAddress {
    /// A process on this machine, over the Unix socket, without a sign of a proxy.
    Local,
    /// The socket's peer, without a sign of a proxy.
    Direct(IpAddr),
    /// A client behind a proxy: the address that trusted proxies vouch for, or otherwise the socket's peer;
    /// `None` if that is the Unix socket.
    Proxied(Option<IpAddr>),
}

impl ClientAddress {
    /// Returns the IP address; `None` over the Unix socket.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Local => None,
            Self::Direct(address) => Some(*address),
            Self::Proxied(address) => *address,
        }
    }

    /// Returns whether the request comes from a process on this machine itself: over the Unix socket or the
    /// loopback interface, without a sign of a proxy.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Local => true,
            Self::Direct(address) => address.is_loopback(),
            Self::Proxied(_) => false,
        }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip() {
            Some(address) => address.fmt(f),
            None => f.write_str(UNIX),
        }
    }
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A peer on the Unix socket.
    Unix,
    /// A peer on TCP. Never an IPv4-mapped IPv6 address.
    Ip(IpAddr),
}

impl Peer {
    /// Returns the IP address; `None` over the Unix socket.
    #[must_use]
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Unix => None,
            Self::Ip(address) => Some(address),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix => f.write_str(UNIX),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address.ip().to_canonical())
    }
}

/// The proxies that are trusted to name their clients. By default there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    unix: bool,
}

/// The text does not name a set of proxies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustedProxiesError {
    /// The item is neither an address nor a network.
    #[error("{0} is not an address, a network such as 10.0.0.0/8, or {UNIX:?}")]
    NotANetwork(String),
    /// The address has bits outside its prefix, which is usually a mistake.
    #[error("{given} has bits beyond its prefix; the network is {network}")]
    BitsBeyondPrefix {
        /// The network as given.
        given: IpNet,
        /// The network that the prefix defines.
        network: IpNet,
    },
    /// Trusting every address would let every client choose its own.
    #[error("{0} includes every address, so every client could claim any address")]
    Everybody(IpNet),
}

impl FromStr for TrustedProxies {
    type Err = TrustedProxiesError;

    /// Parses addresses and networks, separated by commas, and `unix` for peers on the Unix socket.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut trusted = Self::default();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            if item == UNIX {
                trusted.unix = true;
                continue;
            }
            let given = item.parse::<IpNet>().or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
            let given = canonical(given.map_err(|_| TrustedProxiesError::NotANetwork(excerpt(item)))?);
            let network = given.trunc();
            if given != network {
                return Err(TrustedProxiesError::BitsBeyondPrefix { given, network });
            }
            if network.prefix_len() == 0 {
                return Err(TrustedProxiesError::Everybody(network));
            }
            trusted.networks.push(network);
        }
        Ok(trusted)
    }
}

/// Converts a network of IPv4-mapped IPv6 addresses to its IPv4 form, because the address of a peer has that
/// form.
fn canonical(network: IpNet) -> IpNet {
    let v4 = match network.addr().to_canonical() {
        IpAddr::V4(address) if network.addr().is_ipv6() => {
            network.prefix_len().checked_sub(96).and_then(|prefix| Ipv4Net::new(address, prefix).ok())
        }
        _ => None,
    };
    v4.map_or(network, IpNet::V4)
}

impl TrustedProxies {
    /// Returns whether `peer` is a trusted proxy.
    #[must_use]
    pub fn trust(&self, peer: Peer) -> bool {
        match peer {
            Peer::Unix => self.unix,
            Peer::Ip(address) => self.trust_address(address),
        }
    }

    /// Returns the sender of a request with `headers` on a connection from `peer`.
    ///
    /// The header of an untrusted peer is not read. Its mere presence shows that a proxy is involved, and the
    /// request loses the status of a local caller. For a trusted peer, the right-most address that is not a
    /// trusted proxy's own counts, because an untrusted party wrote everything to the left of it. If all
    /// addresses are trusted, the left-most counts. If a required part cannot be parsed, the peer's own
    /// address counts.
    #[must_use]
    pub fn client(&self, peer: Peer, headers: &HeaderMap) -> ClientAddress {
        if self.trust(peer) {
            return ClientAddress::Proxied(self.vouched_for(headers).or(peer.ip()));
        }
        if MARKS_OF_PROXIES.iter().any(|name| headers.contains_key(name)) {
            return ClientAddress::Proxied(peer.ip());
        }
        match peer {
            Peer::Unix => ClientAddress::Local,
            Peer::Ip(address) => ClientAddress::Direct(address),
        }
    }

    /// Returns the header with which `peer` claims to forward for others without being trusted to.
    #[must_use]
    pub fn undeclared(&self, peer: Peer, headers: &HeaderMap) -> Option<&'static str> {
        let named = [(&X_FORWARDED_FOR, "X-Forwarded-For"), (&FORWARDED, "Forwarded")];
        let (_, name) = named.into_iter().find(|(header, _)| headers.contains_key(*header))?;
        (!self.trust(peer)).then_some(name)
    }

    fn vouched_for(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let mut farthest = None;
        // Several fields form one list (RFC 9110 section 5.3). The list is read as bytes, because the
        // client's own part may contain anything.
        for field in headers.get_all(X_FORWARDED_FOR).iter().rev() {
            for element in field.as_bytes().rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                if element.is_empty() {
                    continue;
                }
                let address = forwarded_address(element)?;
                if !self.trust_address(address) {
                    return Some(address);
                }
                farthest = Some(address);
            }
        }
        farthest
    }

    fn trust_address(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}

/// Parses an address in the forms that proxies write: alone, in brackets, or with a port.
fn forwarded_address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(address) => address.parse().ok().filter(IpAddr::is_ipv6),
        None => text.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip())).ok(),
    };
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests;
