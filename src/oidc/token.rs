//! A signed token together with what a verifier will see of it.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::jose::Algorithm;
use crate::values::secret::SecretString;

/// The parts of a token that a verifier decides on. Not secret: shown in every refusal, because
/// trust fails on exactly these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Presented {
    /// Issuer.
    pub iss: String,
    /// Subject.
    pub sub: String,
    /// Audience.
    pub aud: String,
    /// The signing key's identifier.
    pub kid: String,
    /// The signature algorithm.
    pub alg: Algorithm,
}

/// A minted token. Whoever holds `compact` can use it until it expires.
#[derive(Debug, Clone)]
pub struct SignedToken {
    /// The compact JWS.
    pub compact: SecretString,
    /// The token's own identifier; names it in logs, where `compact` must not stand.
    pub jti: Uuid,
    /// When it was minted. Its `iat` lies a little earlier.
    pub issued_at: Timestamp,
    /// Its `exp`.
    pub expires_at: Timestamp,
    /// What a verifier sees.
    pub presented: Presented,
}
