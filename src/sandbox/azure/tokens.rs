//! Tokens that a stand-in issues and later accepts: JWTs signed with the stand-in's own random key.

use std::fmt;
use std::sync::OnceLock;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::values::random::{Random, RandomnessUnavailable};

/// Issues and verifies HS256 tokens. The key is created with the first token and never leaves the process.
#[derive(Default)]
pub(super) struct Tokens(OnceLock<(EncodingKey, DecodingKey)>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(…)")
    }
}

impl Tokens {
    /// Issues a token with these claims and adds `iat`, `nbf` and `exp`.
    pub(super) fn issue(
        &self,
        random: &dyn Random,
        mut claims: Value,
        now: Timestamp,
        lifetime: u32,
    ) -> Result<String, RandomnessUnavailable> {
        let now = now.as_second();
        claims["iat"] = json!(now);
        claims["nbf"] = json!(now);
        claims["exp"] = json!(now + i64::from(lifetime));
        let (key, _) = self.keys(random)?;
        // Encoding fails here only if the library has no randomness.
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, key).map_err(|_| RandomnessUnavailable)
    }

    /// Returns the claims of a token that was issued here and has not expired.
    pub(super) fn verify(&self, token: &str, now: Timestamp) -> Option<Value> {
        let (_, key) = self.0.get()?;
        let mut validation = Validation::new(Algorithm::HS256);
        // The expiry is checked below, against the sandbox's own clock.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims = jsonwebtoken::decode::<Value>(token, key, &validation).ok()?.claims;
        (claims["exp"].as_i64()? > now.as_second()).then_some(claims)
    }

    fn keys(&self, random: &dyn Random) -> Result<&(EncodingKey, DecodingKey), RandomnessUnavailable> {
        if let Some(keys) = self.0.get() {
            return Ok(keys);
        }
        let mut secret = Zeroizing::new([0; 32]);
        random.fill(secret.as_mut_slice())?;
        let keys = (EncodingKey::from_secret(secret.as_slice()), DecodingKey::from_secret(secret.as_slice()));
        Ok(self.0.get_or_init(|| keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::random::SecureRandom;

    #[test]
    fn tokens_are_recognized_by_their_issuer_until_they_expire() {
        let (tokens, others, random) = (Tokens::default(), Tokens::default(), SecureRandom::default());
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(tokens.verify("e30.e30.e30", at(0)).is_none());
        let token = tokens.issue(&random, json!({ "sub": "a" }), at(100), 10).unwrap();
        others.issue(&random, json!({}), at(100), 10).unwrap();
        assert_eq!(tokens.verify(&token, at(109)).unwrap()["sub"], "a");
        assert!(tokens.verify(&token, at(110)).is_none());
        assert!(others.verify(&token, at(109)).is_none());
        assert!(!format!("{tokens:?}").contains("key"));
    }
}
