//! The URL of a server. It must protect the grant's token in transit.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::{Host, Url};

use crate::values::excerpt::excerpt;

/// The URL of a server: `https://…`, `http://` on loopback, or `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerUrl {
    /// A server reached over TCP. The text has no trailing slash.
    Http(Url),
    /// A server reached over a Unix socket.
    Unix(PathBuf),
}

/// A text is not a valid server URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerUrlError {
    /// The text is not a URL.
    #[error("{0} is not a URL: write https://HOST or unix:/PATH")]
    NotAUrl(String),
    /// A grant's token would be sent unencrypted.
    #[error("{0}: the grant's token would travel in clear; use https, or http to this machine alone")]
    Clear(String),
    /// The URL has user info, a query or a fragment.
    #[error("a server's URL has no user info, query or fragment")]
    Parts,
    /// The URL ends in the API's own path.
    #[error("a server's URL ends before /api/v1, which is added to it: leave that off")]
    Api,
}

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.starts_with('/') {
                true => Ok(Self::Unix(path.into())),
                false => Err(ServerUrlError::NotAUrl(excerpt(text))),
            };
        }
        let url: Url = text.parse().map_err(|_| ServerUrlError::NotAUrl(excerpt_of_url(text)))?;
        let has_parts = url.query().is_some() || url.fragment().is_some();
        if has_parts || !url.username().is_empty() || url.password().is_some() {
            return Err(ServerUrlError::Parts);
        }
        if url.path().trim_end_matches('/').ends_with("/api/v1") {
            return Err(ServerUrlError::Api);
        }
        let is_loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        match url.scheme() {
            "https" => Ok(Self::Http(url)),
            "http" if is_loopback => Ok(Self::Http(url)),
            "http" => Err(ServerUrlError::Clear(excerpt(url.as_str()))),
            _ => Err(ServerUrlError::NotAUrl(excerpt_of_url(text))),
        }
    }
}

/// Quotes a refused URL without anything before its last `@`, which may be a password.
fn excerpt_of_url(text: &str) -> String {
    excerpt(text.rsplit_once('@').map_or(text, |(_, rest)| rest))
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => f.write_str(url.as_str().trim_end_matches('/')),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_travels_by_tls_or_not_beyond_this_machine() {
        for (text, shown) in [
            ("https://carnet.example", "https://carnet.example"),
            ("https://carnet.example:8443/base/", "https://carnet.example:8443/base"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
            ("http://localhost:1", "http://localhost:1"),
            ("unix:/run/carnet.sock", "unix:/run/carnet.sock"),
        ] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().to_string(), shown);
        }
        for text in [
            "http://carnet.example",
            "http://localhost.evil.example",
            "ftp://a",
            "unix:run",
            "a",
            "https://a?b",
            "https://a#b",
        ] {
            assert!(text.parse::<ServerUrl>().is_err(), "{text}");
        }
        for text in ["https://user:hunter2@a", "htp://user:hunter2@a", "http://user:hunter2@a:x"] {
            let error = text.parse::<ServerUrl>().unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
