//! Who asks: the socket's peer, or whom a trusted proxy names.
//!
//! Owns which part of a request's header is believed about that. What a client writes can never make
//! it somebody else, and never makes it local.
//!
//! By hand: the usual extractors believe a header by its name; here it counts only behind a peer in a trusted network.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::values::excerpt::excerpt;

/// The one header that is read. `Forwarded` (RFC 7239) is not: few proxies write it, and a proxy that
/// writes one of the two lets the client write the other.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// What proxies add to a request. Whoever sends one of these is not at the other end of the socket, or
/// says so.
const MARKS_OF_PROXIES: [HeaderName; 4] =
    [X_FORWARDED_FOR, FORWARDED, HeaderName::from_static("via"), HeaderName::from_static("x-real-ip")];

/// The word for the Unix socket among the trusted proxies.
const UNIX: &str = "unix";

/// Who sent a request, as far as it is known. The server puts it into the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientAddress {
    /// A process on this machine, over the Unix socket, and nothing says that it is a proxy.
    Local,
    /// The socket's peer, and nothing says that it is a proxy.
    Direct(IpAddr),
    /// Somebody behind a proxy: the address that trusted proxies vouch for, else the socket's peer;
    /// `None` if that is the Unix socket.
    Proxied(Option<IpAddr>),
}

impl ClientAddress {
    /// The IP address; `None` over the Unix socket.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Local => None,
            Self::Direct(address) => Some(*address),
            Self::Proxied(address) => *address,
        }
    }

    /// Whether a process on this machine asks for itself: over the Unix socket or the loopback
    /// interface, with no trace of a proxy.
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
    /// Over the Unix socket.
    Unix,
    /// Over TCP. Never an IPv4 address written as an IPv6 one.
    Ip(IpAddr),
}

impl Peer {
    /// The IP address; `None` over the Unix socket.
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

/// The proxies that are believed about whom they speak for. By default, none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    unix: bool,
}

/// The text names no set of proxies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustedProxiesError {
    /// Neither an address nor a network.
    #[error("{0} is no address, no network such as 10.0.0.0/8, and not {UNIX:?}")]
    NotANetwork(String),
    /// An address with a prefix that does not cover it, which is more often a slip than meant.
    #[error("{given} has bits beyond its prefix; the network is {network}")]
    BitsBeyondPrefix {
        /// As it was written.
        given: IpNet,
        /// What it would have meant.
        network: IpNet,
    },
    /// Whoever trusts every address lets every client choose its own.
    #[error("{0} trusts everybody, so that every client could claim any address")]
    Everybody(IpNet),
}

impl FromStr for TrustedProxies {
    type Err = TrustedProxiesError;

    /// Addresses and networks separated by commas, and `unix` for who connects to the Unix socket.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut trusted = Self::default();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            if item == UNIX {
                trusted.unix = true;
                continue;
            }
            let given = item.parse::<IpNet>().or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
            let given = given.map_err(|_| TrustedProxiesError::NotANetwork(excerpt(item)))?;
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

impl TrustedProxies {
    /// Whether `peer` is one of them.
    #[must_use]
    pub fn trust(&self, peer: Peer) -> bool {
        match peer {
            Peer::Unix => self.unix,
            Peer::Ip(address) => self.trust_address(address),
        }
    }

    /// Who sent a request with `headers` over a connection to `peer`.
    ///
    /// The header of a peer that is not trusted is not read; that it is there at all says that a proxy
    /// stands between, and takes the standing of a local caller away. Of a trusted peer's, the
    /// right-most address that is not itself a trusted proxy's counts: what stands left of it was
    /// written by somebody who is not trusted. If all are trusted, it is the left-most. If what has to be
    /// read cannot be, it is the peer's own address.
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

    /// Returns the header by which `peer` says that it speaks for somebody else, if it is not trusted to.
    #[must_use]
    pub fn undeclared(&self, peer: Peer, headers: &HeaderMap) -> Option<&'static str> {
        let named = [(&X_FORWARDED_FOR, "X-Forwarded-For"), (&FORWARDED, "Forwarded")];
        let (_, name) = named.into_iter().find(|(header, _)| headers.contains_key(*header))?;
        (!self.trust(peer)).then_some(name)
    }

    fn vouched_for(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let mut farthest = None;
        // Several fields are one list (RFC 9110 section 5.3), and bytes, because a client's own part of it
        // may hold anything.
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

/// An address as proxies write it: alone, in brackets, or with a port.
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
