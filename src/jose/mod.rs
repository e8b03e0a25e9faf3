//! The only module that uses josekit, p256 and the signatures of aws-lc-rs.
//!
//! Defines keys, JWKs and compact JWSs. Independent of key states, issuers and storage. No type of josekit,
//! p256 or aws-lc-rs appears in its public interface.

pub mod jwk;
pub mod jws;
pub mod key_pair;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A signature algorithm, by its name in RFC 7518 section 3.1.
///
/// Two are enough: every cloud that carnet supports verifies at least one of them, and Entra verifies only
/// RS256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
}

impl Algorithm {
    /// All algorithms. An issuer always holds keys for each of them.
    pub const ALL: [Self; 2] = [Self::Rs256, Self::Es256];

    /// The name in `alg`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The error for a text that is not an algorithm carnet signs with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use RS256 or ES256")]
pub struct UnknownAlgorithm;

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name).ok_or(UnknownAlgorithm)
    }
}
