//! The registry's host, in the form that users and Docker write.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use crate::values::authority::{Authority, AuthorityError};
use crate::values::excerpt::excerpt;

/// A registry: `host` or `host:port`, in lower case, without scheme or path.
///
/// A port is kept even if it is the default of `https`: to Docker, `host` and `host:443` are two registries.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct RegistryHost(Authority);

impl RegistryHost {
    /// Returns host and port, as in an image's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the host without the port. An IPv6 address keeps its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host()
    }

    /// Returns the port, if one was given.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.0.port()
    }

    /// Returns whether the host is this machine: `localhost`, 127.0.0.0/8 or `[::1]`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.0.is_loopback()
    }
}

/// A text is not a registry's host.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryHostError {
    /// The text is a URL.
    #[error("{value} is not a registry host: leave off “{scheme}://”")]
    Scheme {
        /// An excerpt of the text, quoted and escaped.
        value: String,
        /// The scheme before `://`, at most eight characters.
        scheme: String,
    },
    /// The text continues after the host.
    #[error("{value} is not a registry host: leave off “/” and what follows it")]
    Path {
        /// An excerpt of the text, quoted and escaped.
        value: String,
    },
    /// The host is invalid.
    #[error(transparent)]
    Host(#[from] AuthorityError),
}

impl FromStr for RegistryHost {
    type Err = RegistryHostError;

    fn from_str(value: &str) -> Result<Self, RegistryHostError> {
        if let Some((scheme, _)) = value.split_once("://")
            && scheme.len() <= 8
            && scheme.bytes().all(|b| b.is_ascii_alphabetic())
        {
            return Err(RegistryHostError::Scheme { value: excerpt(value), scheme: scheme.to_owned() });
        }
        if value.contains('/') {
            return Err(RegistryHostError::Path { value: excerpt(value) });
        }
        Ok(Self(value.parse()?))
    }
}

impl TryFrom<String> for RegistryHost {
    type Error = RegistryHostError;

    fn try_from(value: String) -> Result<Self, RegistryHostError> {
        value.parse()
    }
}

impl Serialize for RegistryHost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl AsRef<str> for RegistryHost {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_hosts_with_an_optional_port() {
        let table = [
            (
                "123456789012.DKR.ecr.us-east-1.amazonaws.com",
                "123456789012.dkr.ecr.us-east-1.amazonaws.com",
                None,
                false,
            ),
            ("localhost:5001", "localhost", Some(5001), true),
            ("registry.example:443", "registry.example", Some(443), false),
            ("[::1]:5000", "[::1]", Some(5000), true),
        ];
        for (text, host, port, loopback) in table {
            let registry: RegistryHost = text.parse().unwrap();
            assert_eq!(registry.as_str(), text.to_ascii_lowercase());
            assert_eq!((registry.host(), registry.port(), registry.is_loopback()), (host, port, loopback));
        }
    }

    #[test]
    fn anything_around_the_host_is_refused_with_the_part_to_leave_off() {
        let table = [
            ("https://r.example", r#""https://r.example" is not a registry host: leave off “https://”"#),
            ("HTTP://r.example/x", r#""HTTP://r.example/x" is not a registry host: leave off “HTTP://”"#),
            ("r.example/", r#""r.example/" is not a registry host: leave off “/” and what follows it"#),
            ("r.example/app", r#""r.example/app" is not a registry host: leave off “/” and what follows it"#),
            ("//r.example", r#""//r.example" is not a registry host: leave off “/” and what follows it"#),
            ("u:p@r.example", r#""…@r.example" is not a host: leave off user name and password"#),
            ("r.example.", r#""r.example." is not a host: leave off the “.” at the end"#),
            ("r.example\n", r#""r.example\n" is not a host: use letters, digits, “.” and “-”, not '\n'"#),
        ];
        for (text, message) in table {
            assert_eq!(text.parse::<RegistryHost>().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn json_holds_a_string_and_checks_it() {
        let registry: RegistryHost = serde_json::from_str(r#""R.example:5000""#).unwrap();
        assert_eq!(serde_json::to_string(&registry).unwrap(), r#""r.example:5000""#);
        assert!(serde_json::from_str::<RegistryHost>(r#""https://r.example""#).is_err());
    }
}
