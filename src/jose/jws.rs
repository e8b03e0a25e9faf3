//! Compact JWS (RFC 7515): signing with a parsed key, and verification against public keys.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, EcdsaKeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey,
};
use josekit::JoseError;
use josekit::jws::alg::ecdsa::EcdsaJwsAlgorithm;
use josekit::jws::alg::rsassa::RsassaJwsAlgorithm;
use josekit::jws::{JwsAlgorithm, JwsContext, JwsHeader, JwsSigner, JwsVerifier};
use p256::ecdsa::Signature;

use super::Algorithm;
use super::jwk::{Kid, PublicKey};

/// A private key parsed for signing.
///
/// Clones share the parsed key. aws-lc wipes it when the last clone is dropped.
#[derive(Clone)]
pub struct Signer {
    kid: Kid,
    key: ParsedKey,
    context: JwsContext,
    header: JwsHeader,
}

#[derive(Clone)]
enum ParsedKey {
    Rs256(Arc<RsaKeyPair>),
    Es256(Arc<EcdsaKeyPair>),
}

/// The error for a signature that the library refused to make.
#[derive(Debug, thiserror::Error)]
#[error("the {algorithm} signature could not be made")]
pub struct SigningError {
    algorithm: Algorithm,
    #[source]
    source: JoseError,
}

impl Signer {
    pub(super) fn rs256(kid: Kid, key: RsaKeyPair) -> Self {
        Self::new(kid, ParsedKey::Rs256(Arc::new(key)))
    }

    pub(super) fn es256(kid: Kid, key: EcdsaKeyPair) -> Self {
        Self::new(kid, ParsedKey::Es256(Arc::new(key)))
    }

    fn new(kid: Kid, key: ParsedKey) -> Self {
        let mut header = JwsHeader::new();
        header.set_token_type("JWT");
        Self { kid, key, context: JwsContext::new(), header }
    }

    /// The key's identifier.
    #[must_use]
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    /// The algorithm that this key signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.key {
            ParsedKey::Rs256(_) => Algorithm::Rs256,
            ParsedKey::Es256(_) => Algorithm::Es256,
        }
    }

    /// Signs `payload` as a compact JWS with the header members `alg`, `kid` and `typ: JWT`.
    pub fn sign_compact(&self, payload: &[u8]) -> Result<String, SigningError> {
        self.context
            .serialize_compact(payload, &self.header, self)
            .map_err(|source| SigningError { algorithm: self.algorithm(), source })
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm())
            .finish_non_exhaustive()
    }
}

impl JwsSigner for Signer {
    fn algorithm(&self) -> &dyn JwsAlgorithm {
        jose_algorithm(Signer::algorithm(self))
    }

    fn key_id(&self) -> Option<&str> {
        Some(self.kid.as_str())
    }

    fn signature_len(&self) -> usize {
        match &self.key {
            ParsedKey::Rs256(key) => key.public_modulus_len(),
            ParsedKey::Es256(_) => 64,
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, JoseError> {
        // Hashed here, because that is faster than the library's context for hashing and signing in one.
        let digest = digest(&SHA256, message);
        match &self.key {
            ParsedKey::Rs256(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign_digest(&RSA_PKCS1_SHA256, &digest, &mut signature).map_err(refused)?;
                Ok(signature)
            }
            ParsedKey::Es256(key) => {
                let der = key.sign_digest(&digest).map_err(refused)?;
                // JWS requires r and s at fixed length (RFC 7518 section 3.4). p256 converts them, because
                // aws-lc's conversion goes through big numbers and takes longer than everything else here.
                let signature = Signature::from_der(der.as_ref());
                let signature = signature.map_err(|error| JoseError::InvalidSignature(error.into()))?;
                Ok(signature.to_bytes().to_vec())
            }
        }
    }

    fn box_clone(&self) -> Box<dyn JwsSigner> {
        Box::new(self.clone())
    }
}

/// The reason why a compact JWS was refused.
#[derive(Debug, thiserror::Error)]
pub enum VerificationError {
    /// The text is not three base64url parts with a JSON header.
    #[error("not a compact JWS: three base64url parts joined by dots, the first a JSON header")]
    NotACompactJws,
    /// No key has the `kid` of the header.
    #[error("no key has the kid {0:?}")]
    UnknownKid(String),
    /// The header has no `kid`.
    #[error("the header has no kid")]
    NoKid,
    /// The `alg` of the header is not the key's, or the key did not make the signature over these bytes.
    #[error("the signature does not verify with the key {0}")]
    Signature(Kid),
}

/// Verifies a compact JWS with the one of `keys` that its header names, and returns its payload.
///
/// If any check fails, it returns the error of the first one and nothing of the payload.
pub fn verify_compact(compact: &str, keys: &[PublicKey]) -> Result<Vec<u8>, VerificationError> {
    let header = header(compact)?;
    let kid = header.key_id().ok_or(VerificationError::NoKid)?;
    let verifier = keys
        .iter()
        .find(|key| key.thumbprint().as_str() == kid)
        .map(|key| Verifier { kid: key.thumbprint(), key: key.clone() })
        .ok_or_else(|| VerificationError::UnknownKid(kid.chars().take(64).collect()))?;
    JwsContext::new()
        .deserialize_compact(compact, &verifier)
        .map(|(payload, _)| payload)
        .map_err(|_| VerificationError::Signature(verifier.kid))
}

/// Decodes the header and the payload of a compact JWS as JSON, **unverified**. Never make a decision on
/// them.
pub fn decode_unverified(compact: &str) -> Result<(serde_json::Value, serde_json::Value), VerificationError> {
    use base64::Engine as _;
    let mut parts = compact.split('.');
    let mut json = || {
        let part = parts.next()?;
        let octets = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice::<serde_json::Value>(&octets).ok().filter(serde_json::Value::is_object)
    };
    let (header, payload) = (json(), json());
    match (header, payload, parts.next(), parts.next()) {
        (Some(header), Some(payload), Some(_), None) => Ok((header, payload)),
        _ => Err(VerificationError::NotACompactJws),
    }
}

fn header(compact: &str) -> Result<JwsHeader, VerificationError> {
    let (header, _) = decode_unverified(compact)?;
    let serde_json::Value::Object(members) = header else { return Err(VerificationError::NotACompactJws) };
    JwsHeader::from_map(members).map_err(|_| VerificationError::NotACompactJws)
}

#[derive(Debug, Clone)]
struct Verifier {
    kid: Kid,
    key: PublicKey,
}

impl JwsVerifier for Verifier {
    fn algorithm(&self) -> &dyn JwsAlgorithm {
        jose_algorithm(self.key.algorithm())
    }

    fn key_id(&self) -> Option<&str> {
        Some(self.kid.as_str())
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), JoseError> {
        match &self.key {
            PublicKey::Rsa { n, e } => PublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .map_err(refused),
            PublicKey::P256 { x, y } => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, PublicKey::sec1_point(x, y))
                    .verify(message, signature)
                    .map_err(refused)
            }
        }
    }

    fn box_clone(&self) -> Box<dyn JwsVerifier> {
        Box::new(self.clone())
    }
}

fn jose_algorithm(algorithm: Algorithm) -> &'static dyn JwsAlgorithm {
    match algorithm {
        Algorithm::Rs256 => &RsassaJwsAlgorithm::Rs256,
        Algorithm::Es256 => &EcdsaJwsAlgorithm::Es256,
    }
}

fn refused(_: aws_lc_rs::error::Unspecified) -> JoseError {
    JoseError::InvalidSignature(std::io::Error::other("aws-lc refused").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::key_pair::{KeyPair, RsaBits};
    use crate::values::random::SecureRandom;

    fn pair(algorithm: Algorithm) -> KeyPair {
        KeyPair::generate(algorithm, RsaBits::Rsa2048, &SecureRandom::default()).unwrap()
    }

    #[test]
    fn a_signed_token_verifies_and_has_alg_kid_and_typ() {
        for algorithm in Algorithm::ALL {
            let pair = pair(algorithm);
            let compact = pair.signer().unwrap().sign_compact(br#"{"sub":"x"}"#).unwrap();
            assert_eq!(verify_compact(&compact, &[pair.public().clone()]).unwrap(), br#"{"sub":"x"}"#);
            let (header, _) = decode_unverified(&compact).unwrap();
            assert_eq!(
                header,
                serde_json::json!({"alg": algorithm.as_str(), "kid": pair.public().thumbprint().as_str(), "typ": "JWT"})
            );
        }
    }

    #[test]
    fn p256_verifies_signatures_of_aws_lc() {
        use p256::ecdsa::signature::Verifier as _;
        let pair = pair(Algorithm::Es256);
        let compact = pair.signer().unwrap().sign_compact(b"{}").unwrap();
        let (message, signature) = compact.rsplit_once('.').unwrap();
        let PublicKey::P256 { x, y } = pair.public() else { unreachable!() };
        let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&PublicKey::sec1_point(x, y)).unwrap();
        let signature =
            base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, signature).unwrap();
        key.verify(message.as_bytes(), &p256::ecdsa::Signature::from_slice(&signature).unwrap()).unwrap();
    }

    #[test]
    fn a_changed_byte_anywhere_is_refused() {
        for algorithm in Algorithm::ALL {
            let pair = pair(algorithm);
            let compact = pair.signer().unwrap().sign_compact(br#"{"sub":"space:a:feed:b"}"#).unwrap();
            for position in (0..compact.len()).step_by(7) {
                let mut changed = compact.clone().into_bytes();
                changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
                let changed = String::from_utf8(changed).unwrap();
                assert!(verify_compact(&changed, &[pair.public().clone()]).is_err(), "position {position}");
            }
        }
    }

    #[test]
    fn another_key_and_another_algorithm_are_refused() {
        let (ours, theirs) = (pair(Algorithm::Es256), pair(Algorithm::Es256));
        let compact = ours.signer().unwrap().sign_compact(b"{}").unwrap();
        assert!(matches!(
            verify_compact(&compact, &[theirs.public().clone()]),
            Err(VerificationError::UnknownKid(_))
        ));
        let none = "eyJhbGciOiJub25lIn0.e30.";
        assert!(matches!(verify_compact(none, &[ours.public().clone()]), Err(VerificationError::NoKid)));
        assert!(matches!(verify_compact("a.b", &[]), Err(VerificationError::NotACompactJws)));
    }
}
