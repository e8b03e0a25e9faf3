//! A signed token, with the parts of it that a verifier sees.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::jose::Algorithm;
use crate::values::secret::SecretString;

/// The parts of a token on which a verifier decides. They are not secret. Every refusal shows them, because
/// trust fails on exactly these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Presented {
    /// The issuer.
    pub iss: String,
    /// The subject.
    pub sub: String,
    /// The audience.
    pub aud: String,
    /// The signing key's identifier.
    pub kid: String,
    /// The signature algorithm.
    pub alg: Algorithm,
}

/// A minted token. Anyone who holds `compact` can use it until it expires.
#[derive(Debug, Clone)]
pub struct SignedToken {
    /// The compact JWS.
    pub compact: SecretString,
    /// The token's identifier, by which logs name it; they must not contain `compact`.
    pub jti: Uuid,
    /// The time of the minting. `iat` is a little earlier.
    pub issued_at: Timestamp,
    /// The time of the `exp` claim.
    pub expires_at: Timestamp,
    /// The parts that a verifier sees.
    pub presented: Presented,
}
