//! Listen addresses, in the form that users write.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::values::excerpt::excerpt;

const UNIX: &str = "unix:";

/// `ADDRESS:PORT`, or `unix:` and a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a port. Port 0 selects a free one.
    Tcp(SocketAddr),
    /// A socket file, by its absolute path.
    Unix(PathBuf),
}

/// The text is not a listen address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenAddressError {
    /// The text is neither an address with a port nor a socket.
    #[error("{0} is neither an IP address and a port, such as 127.0.0.1:8080, nor unix:/path/to/socket")]
    Unknown(String),
    /// There is no path after `unix:`.
    #[error("unix: is followed by the path of a socket, such as unix:/run/carnet/carnet.sock")]
    NoPath,
}

impl ListenAddress {
    /// Returns whether other machines may reach the address.
    #[must_use]
    pub fn is_beyond_loopback(&self) -> bool {
        match self {
            Self::Tcp(address) => !address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => false,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix(UNIX) {
            let path = std::path::absolute(Path::new(path)).map_err(|_| ListenAddressError::NoPath)?;
            return Ok(Self::Unix(path));
        }
        text.parse().map(Self::Tcp).map_err(|_| ListenAddressError::Unknown(excerpt(text)))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// The permissions of a socket file in octal, which determine the users that may connect: `600`, `0660`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketMode(u32);

/// The text is not a file mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a socket's mode is three octal digits, such as 600 or 660")]
pub struct SocketModeError;

impl SocketMode {
    /// Returns the permission bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl Default for SocketMode {
    /// Only the user that the server runs as.
    fn default() -> Self {
        Self(0o600)
    }
}

impl FromStr for SocketMode {
    type Err = SocketModeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix('0').filter(|rest| rest.len() == 3).unwrap_or(text);
        if digits.len() != 3 || !digits.bytes().all(|digit| matches!(digit, b'0'..=b'7')) {
            return Err(SocketModeError);
        }
        u32::from_str_radix(digits, 8).map(Self).map_err(|_| SocketModeError)
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_an_ip_address_with_port_or_a_socket() {
        for (text, beyond_loopback) in [
            ("127.0.0.1:8080", false),
            ("127.9.9.9:0", false),
            ("[::1]:8080", false),
            ("[::ffff:127.0.0.1]:80", false),
            ("0.0.0.0:80", true),
            ("[::]:80", true),
            ("10.0.0.1:80", true),
            ("unix:/run/carnet.sock", false),
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(
                (address.to_string(), address.is_beyond_loopback()),
                (text.to_owned(), beyond_loopback)
            );
        }
        let relative: ListenAddress = "unix:carnet.sock".parse().unwrap();
        assert!(matches!(relative, ListenAddress::Unix(path) if path.is_absolute()));
        for text in
            ["", "127.0.0.1", ":8080", "localhost:8080", "8080", "/run/carnet.sock", "unix:", "UNIX:/a"]
        {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn modes_are_octal_permissions() {
        for (text, bits) in [("600", 0o600), ("0660", 0o660), ("777", 0o777), ("000", 0)] {
            assert_eq!(text.parse::<SocketMode>().unwrap().bits(), bits, "{text}");
        }
        for text in ["", "6", "60", "888", "4755", "00600", "+60", "0o600", "rw-"] {
            assert!(text.parse::<SocketMode>().is_err(), "{text}");
        }
        assert_eq!(SocketMode::default().to_string(), "0600");
    }
}
