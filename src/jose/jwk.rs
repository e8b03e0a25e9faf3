//! Public keys as JWKs (RFC 7517, RFC 7518 section 6) and their thumbprints (RFC 7638).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use josekit::jwk::Jwk;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::Algorithm;

/// A key's identifier: the base64url SHA-256 thumbprint of its JWK (RFC 7638).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Kid(String);

impl Kid {
    /// The text of the `kid` header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The error for a text that is not a SHA-256 thumbprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a kid: a kid is an RFC 7638 thumbprint, 43 characters of base64url")]
pub struct KidError;

impl FromStr for Kid {
    type Err = KidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match URL_SAFE_NO_PAD.decode(text) {
            Ok(hash) if hash.len() == SHA256.output_len() => Ok(Self(text.to_owned())),
            _ => Err(KidError),
        }
    }
}

impl TryFrom<String> for Kid {
    type Error = KidError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Kid> for String {
    fn from(kid: Kid) -> Self {
        kid.0
    }
}

/// The public half of a signing key. Byte strings are big-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// An RS256 key.
    Rsa {
        /// The modulus, without leading zeros.
        n: Vec<u8>,
        /// The public exponent, without leading zeros.
        e: Vec<u8>,
    },
    /// An ES256 key.
    P256 {
        /// The x coordinate, 32 bytes.
        x: [u8; 32],
        /// The y coordinate, 32 bytes.
        y: [u8; 32],
    },
}

/// The error for a stored JWK that carnet did not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// The text is not a JWK.
    #[error("not a JWK")]
    NotAJwk,
    /// A member is missing or not as the key type requires.
    #[error("JWK member `{0}` is missing or malformed")]
    Member(&'static str),
}

impl PublicKey {
    /// The one algorithm that this key verifies.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::Rs256,
            Self::P256 { .. } => Algorithm::Es256,
        }
    }

    /// The key's `kid`.
    #[must_use]
    pub fn thumbprint(&self) -> Kid {
        // RFC 7638 section 3: only the required members, in lexicographic order, without white space. Built
        // as text because the order of a JSON map cannot be relied on.
        let canonical = match self {
            Self::Rsa { n, e } => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, encode(e), encode(n)),
            Self::P256 { x, y } => {
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, encode(x), encode(y))
            }
        };
        Kid(encode(digest(&SHA256, canonical.as_bytes()).as_ref()))
    }

    /// The published form: `kty`, `use`, `alg`, `kid` and the key's own members, nothing else.
    #[must_use]
    pub fn to_jwk(&self) -> String {
        let (key_type, members) = match self {
            Self::Rsa { n, e } => ("RSA", vec![("n", encode(n)), ("e", encode(e))]),
            Self::P256 { x, y } => {
                ("EC", vec![("crv", "P-256".to_owned()), ("x", encode(x)), ("y", encode(y))])
            }
        };
        let mut jwk = Jwk::new(key_type);
        jwk.set_key_use("sig");
        jwk.set_algorithm(self.algorithm().as_str());
        jwk.set_key_id(self.thumbprint().as_str());
        let mut members_of_jwk: serde_json::Map<String, Value> = jwk.into();
        members_of_jwk
            .extend(members.into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))));
        Value::Object(members_of_jwk).to_string()
    }

    /// Parses the output of [`PublicKey::to_jwk`]. Ignores every member except those of the key itself.
    pub fn from_jwk(text: &str) -> Result<Self, JwkError> {
        let jwk = Jwk::from_bytes(text).map_err(|_| JwkError::NotAJwk)?;
        let member = |name: &'static str| -> Result<Vec<u8>, JwkError> {
            let text = jwk.parameter(name).and_then(Value::as_str).ok_or(JwkError::Member(name))?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| JwkError::Member(name))
        };
        let coordinate = |name| member(name)?.try_into().map_err(|_| JwkError::Member(name));
        match (jwk.key_type(), jwk.curve()) {
            ("RSA", None) => Ok(Self::Rsa { n: member("n")?, e: member("e")? }),
            ("EC", Some("P-256")) => Ok(Self::P256 { x: coordinate("x")?, y: coordinate("y")? }),
            _ => Err(JwkError::Member("kty")),
        }
    }

    /// The point of a P-256 key in the encoding of RFC 5480: `0x04 || x || y`.
    pub(super) fn sec1_point(x: &[u8; 32], y: &[u8; 32]) -> [u8; 65] {
        let mut point = [4; 65];
        point[1..33].copy_from_slice(x);
        point[33..].copy_from_slice(y);
        point
    }
}

/// A JWK Set (RFC 7517 section 5) of `keys`, in the order given.
#[must_use]
pub fn jwk_set<'a>(keys: impl IntoIterator<Item = &'a PublicKey>) -> String {
    let keys: Vec<String> = keys.into_iter().map(PublicKey::to_jwk).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// The maximum size of a JWK Set that is read, in bytes.
pub const MAX_JWK_SET: usize = 1 << 20;

/// A JWK Set that anybody may have written.
///
/// This is the only parser of such a document. Its elements may be anything (RFC 7517 section 5: a reader
/// ignores keys that it does not understand); the functions say how strict they are.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchedJwkSet {
    keys: Vec<Value>,
}

/// A document is no JWK Set.
#[derive(Debug, thiserror::Error)]
pub enum JwkSetError {
    /// The document is too long to be read.
    #[error("it is longer than {MAX_JWK_SET} bytes")]
    TooLong,
    /// The document is no JSON object with a list of `keys`, or it gives the list twice.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The element at this position, from 1, is no JWK.
    #[error("key {0} is no JSON object, or its kid is no string")]
    Key(usize),
}

impl FetchedJwkSet {
    /// Parses a JWK Set.
    pub fn parse(document: &[u8]) -> Result<Self, JwkSetError> {
        if document.len() > MAX_JWK_SET {
            return Err(JwkSetError::TooLong);
        }
        Ok(serde_json::from_slice(document)?)
    }

    /// Returns the elements.
    #[must_use]
    pub fn keys(&self) -> &[Value] {
        &self.keys
    }

    /// Returns the `kid` that each key claims, if it has one.
    ///
    /// # Errors
    ///
    /// [`JwkSetError::Key`] if an element is no JSON object, or has a `kid` that is no string.
    pub fn claimed_kids(&self) -> Result<Vec<Option<&str>>, JwkSetError> {
        let mut claimed = Vec::with_capacity(self.keys.len());
        for (index, jwk) in self.keys.iter().enumerate() {
            let no_jwk = JwkSetError::Key(index + 1);
            claimed.push(match jwk.as_object().ok_or(no_jwk)?.get("kid") {
                None | Some(Value::Null) => None,
                Some(Value::String(kid)) => Some(kid.as_str()),
                Some(_) => return Err(JwkSetError::Key(index + 1)),
            });
        }
        Ok(claimed)
    }

    /// Returns the thumbprints of the keys that carnet could have written. No claimed `kid` is believed, and
    /// other elements are ignored.
    #[must_use]
    pub fn thumbprints(&self) -> BTreeSet<Kid> {
        let keys = self.keys.iter().filter_map(|jwk| PublicKey::from_jwk(&jwk.to_string()).ok());
        keys.map(|key| key.thumbprint()).collect()
    }
}

impl<'de> Deserialize<'de> for FetchedJwkSet {
    /// Written by hand because a derived implementation would take an array for the object.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Set;

        impl<'de> Visitor<'de> for Set {
            type Value = FetchedJwkSet;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JWK Set")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut keys = None;
                while let Some(name) = map.next_key::<String>()? {
                    if name != "keys" {
                        map.next_value::<IgnoredAny>()?;
                    } else if keys.replace(map.next_value()?).is_some() {
                        return Err(A::Error::duplicate_field("keys"));
                    }
                }
                keys.map(|keys| FetchedJwkSet { keys }).ok_or_else(|| A::Error::missing_field("keys"))
            }
        }

        deserializer.deserialize_map(Set)
    }
}

/// Returns the thumbprints of the keys in a JWK Set that anybody may have written; none if it is no JWK Set.
#[must_use]
pub fn kids_in(jwk_set: &[u8]) -> BTreeSet<Kid> {
    FetchedJwkSet::parse(jwk_set).map(|set| set.thumbprints()).unwrap_or_default()
}

fn encode(octets: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7638 section 3.1.
    const RFC_7638_N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

    fn rfc_7638_key() -> PublicKey {
        PublicKey::Rsa { n: URL_SAFE_NO_PAD.decode(RFC_7638_N).unwrap(), e: vec![1, 0, 1] }
    }

    #[test]
    fn thumbprint_is_the_one_that_rfc_7638_prints() {
        assert_eq!(rfc_7638_key().thumbprint().as_str(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn jwk_has_the_published_members_and_nothing_else() {
        let ec = PublicKey::P256 { x: [1; 32], y: [2; 32] };
        for (key, expected) in [
            (rfc_7638_key(), vec!["alg", "e", "kid", "kty", "n", "use"]),
            (ec, vec!["alg", "crv", "kid", "kty", "use", "x", "y"]),
        ] {
            let jwk: serde_json::Map<String, Value> = serde_json::from_str(&key.to_jwk()).unwrap();
            let mut names: Vec<_> = jwk.keys().map(String::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn jwk_reads_back_as_the_same_key() {
        for key in [rfc_7638_key(), PublicKey::P256 { x: [1; 32], y: [2; 32] }] {
            assert_eq!(PublicKey::from_jwk(&key.to_jwk()), Ok(key));
        }
    }

    #[test]
    fn a_key_in_a_set_is_recognized_by_its_members_and_not_by_its_kid() {
        let key = PublicKey::P256 { x: [1; 32], y: [2; 32] };
        let other = PublicKey::P256 { x: [3; 32], y: [4; 32] };
        let forged = other.to_jwk().replace(other.thumbprint().as_str(), key.thumbprint().as_str());
        let kids = |set: &str| kids_in(set.as_bytes());
        assert_eq!(kids(&jwk_set([&key, &other])), [key.thumbprint(), other.thumbprint()].into());
        assert_eq!(
            kids(&format!(r#"{{"keys":[{forged}, 7, {{"kty":"oct"}}]}}"#)),
            [other.thumbprint()].into()
        );
        let (in_an_array, twice) =
            (format!("[[{}]]", key.to_jwk()), format!(r#"{{"keys":[],"keys":[{}]}}"#, key.to_jwk()));
        let long = jwk_set([&key]) + &" ".repeat(MAX_JWK_SET);
        for set in ["", "{}", "[]", r#"{"keys":{}}"#, &in_an_array, &twice, &long] {
            assert_eq!(kids(set), BTreeSet::new(), "{set}");
        }
    }

    #[test]
    fn claimed_kids_are_strings_or_missing() {
        let set = |text: &str| FetchedJwkSet::parse(text.as_bytes()).unwrap();
        let claimed = set(r#"{"more":1,"keys":[{"kid":"a"},{},{"kid":null},{"kid":"a","kty":7}]}"#);
        assert_eq!(claimed.claimed_kids().unwrap(), [Some("a"), None, None, Some("a")]);
        assert_eq!(claimed.keys().len(), 4);
        for keys in [r#"{"kid":"a"},7"#, r#"{"kid":"a"},{"kid":7}"#, r#"{"kid":"a"},[]"#] {
            let error = set(&format!(r#"{{"keys":[{keys}]}}"#)).claimed_kids().unwrap_err();
            assert_eq!(error.to_string(), "key 2 is no JSON object, or its kid is no string", "{keys}");
        }
        for (text, error) in [
            ("<html>", "expected value at line 1 column 1"),
            ("{}", "missing field `keys` at line 1 column 2"),
        ] {
            assert_eq!(FetchedJwkSet::parse(text.as_bytes()).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn foreign_jwks_are_refused_by_member() {
        for (text, error) in [
            ("[]", JwkError::NotAJwk),
            (r#"{"kty":"oct","k":"AA"}"#, JwkError::Member("kty")),
            (r#"{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}"#, JwkError::Member("kty")),
            (r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#, JwkError::Member("x")),
            (r#"{"kty":"RSA","n":"AA"}"#, JwkError::Member("e")),
        ] {
            assert_eq!(PublicKey::from_jwk(text), Err(error), "{text}");
        }
    }

    #[test]
    fn only_thumbprints_are_kids() {
        assert!("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs".parse::<Kid>().is_ok());
        for text in [
            "",
            "abc",
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9X",
            "NzbLsXh8uDCcd+6MNwXF4W/7noWXFZAfHkxZsRGC9Xs",
        ] {
            assert_eq!(text.parse::<Kid>(), Err(KidError), "{text}");
        }
    }
}
