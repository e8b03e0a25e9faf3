//! Provider metadata (OpenID Connect Discovery 1.0 section 3) and the documents that clouds fetch.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderValue;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserializer, Serialize};
use serde_json::Value;

use super::claims::CLAIM_NAMES;
use crate::jose::Algorithm;
use crate::jose::jwk::{PublicKey, jwk_set};
use crate::values::issuer_url::IssuerUrl;

/// The path of the provider metadata below the issuer URL.
pub const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";
/// The path of the JWKS below the issuer URL.
pub const JWKS_PATH: &str = "/.well-known/jwks";

/// The metadata that is true of carnet: it has no authorization endpoint, so there is no member for one. AWS
/// requires the three `…_supported` members that discovery requires, whatever their values.
#[derive(Debug, Serialize)]
struct ProviderMetadata<'a> {
    issuer: &'a IssuerUrl,
    jwks_uri: String,
    response_types_supported: [&'static str; 1],
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: &'a [Algorithm],
    claims_supported: [&'static str; CLAIM_NAMES.len()],
    scopes_supported: [&'static str; 1],
}

/// A document as served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The JSON text.
    pub body: Bytes,
    /// The strong entity tag (RFC 9110 section 8.8.3).
    pub etag: HeaderValue,
    /// `public, max-age=N`.
    pub cache_control: HeaderValue,
}

/// The public documents of an issuer, serialised once for each change of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    /// The provider metadata.
    pub discovery: Document,
    /// The JWKS.
    pub jwks: Document,
}

impl Documents {
    /// The documents of `issuer` while it publishes `keys` and signs with `signing`.
    pub fn new<'a>(
        issuer: &IssuerUrl,
        keys: impl IntoIterator<Item = &'a PublicKey>,
        signing: &[Algorithm],
        max_age: Duration,
    ) -> Result<Self, serde_json::Error> {
        let metadata = ProviderMetadata {
            issuer,
            jwks_uri: issuer.jwks_uri(),
            response_types_supported: ["id_token"],
            subject_types_supported: ["public"],
            id_token_signing_alg_values_supported: signing,
            claims_supported: CLAIM_NAMES,
            scopes_supported: ["openid"],
        };
        let document = |body: String| Document::new(body, max_age);
        Ok(Self { discovery: document(serde_json::to_string(&metadata)?), jwks: document(jwk_set(keys)) })
    }
}

impl Document {
    fn new(body: String, max_age: Duration) -> Self {
        let hash = digest(&SHA256, body.as_bytes());
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]));
        let cache_control = format!("public, max-age={}", max_age.as_secs());
        Self { body: body.into(), etag: ascii(&etag), cache_control: ascii(&cache_control) }
    }
}

/// The maximum size of provider metadata that are read, in bytes.
pub const MAX_METADATA: usize = 1 << 20;

/// A member of the provider metadata that clouds read. AWS requires each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// The issuer, which must be the URL that the document was fetched from.
    Issuer,
    /// The URL of the JWKS.
    JwksUri,
    /// The response types.
    ResponseTypes,
    /// The subject types.
    SubjectTypes,
    /// The algorithms of tokens.
    SigningAlgorithms,
}

impl Member {
    /// Every member.
    pub const ALL: [Self; 5] =
        [Self::Issuer, Self::JwksUri, Self::ResponseTypes, Self::SubjectTypes, Self::SigningAlgorithms];

    /// Returns the name in the document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::JwksUri => "jwks_uri",
            Self::ResponseTypes => "response_types_supported",
            Self::SubjectTypes => "subject_types_supported",
            Self::SigningAlgorithms => "id_token_signing_alg_values_supported",
        }
    }
}

/// Provider metadata that any server may have written.
///
/// This is the only parser of such a document. A member that is given twice makes it unreadable, because
/// parsers differ on which of the two counts.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchedMetadata {
    /// The values of [`Member::ALL`], in that order.
    members: [Option<Value>; Member::ALL.len()],
}

/// A document is no provider metadata.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The document is too long to be read.
    #[error("it is longer than {MAX_METADATA} bytes")]
    TooLong,
    /// The document is no JSON object, or a member is missing, given twice or of the wrong type.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl FetchedMetadata {
    /// Parses any JSON object: members may be missing or of the wrong type, so that each can be reported.
    pub fn parse(document: &[u8]) -> Result<Self, MetadataError> {
        Reader { complete: false }.read(document)
    }

    /// Parses a document with every member that AWS requires, and with an issuer and a `jwks_uri` that are
    /// strings.
    pub fn parse_complete(document: &[u8]) -> Result<Self, MetadataError> {
        Reader { complete: true }.read(document)
    }

    /// Returns whether the document has this member, with any value.
    #[must_use]
    pub fn has(&self, member: Member) -> bool {
        self.value(member).is_some()
    }

    /// Returns the issuer; nothing if it is missing or no string.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.value(Member::Issuer)?.as_str()
    }

    /// Returns the URL of the JWKS, which may be any text; nothing if it is missing or no string.
    #[must_use]
    pub fn jwks_uri(&self) -> Option<&str> {
        self.value(Member::JwksUri)?.as_str()
    }

    /// Returns the elements of a member that is a list; nothing if it is missing or no list.
    #[must_use]
    pub fn list(&self, member: Member) -> Option<&[Value]> {
        self.value(member)?.as_array().map(Vec::as_slice)
    }

    fn value(&self, member: Member) -> Option<&Value> {
        self.members[member as usize].as_ref()
    }
}

struct Reader {
    complete: bool,
}

impl Reader {
    fn read(self, document: &[u8]) -> Result<FetchedMetadata, MetadataError> {
        if document.len() > MAX_METADATA {
            return Err(MetadataError::TooLong);
        }
        let mut json = serde_json::Deserializer::from_slice(document);
        let read = self.deserialize(&mut json)?;
        json.end()?;
        Ok(read)
    }
}

impl<'de> DeserializeSeed<'de> for Reader {
    type Value = FetchedMetadata;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = FetchedMetadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = [const { None }; Member::ALL.len()];
        while let Some(name) = map.next_key::<String>()? {
            let Some(member) = Member::ALL.into_iter().find(|member| member.as_str() == name) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = match member {
                Member::Issuer | Member::JwksUri if self.complete => Value::String(map.next_value()?),
                _ => map.next_value()?,
            };
            if members[member as usize].replace(value).is_some() {
                return Err(A::Error::duplicate_field(member.as_str()));
            }
        }
        let missing = Member::ALL.into_iter().find(|member| members[*member as usize].is_none());
        match missing.filter(|_| self.complete) {
            Some(missing) => Err(A::Error::missing_field(missing.as_str())),
            None => Ok(FetchedMetadata { members }),
        }
    }
}

/// `text` is base64url, digits and punctuation, which every header value may hold.
fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_has_only_true_statements() {
        let issuer = "https://issuer.example/carnet".parse().unwrap();
        let documents = Documents::new(&issuer, [], &Algorithm::ALL, Duration::from_secs(300)).unwrap();
        assert_eq!(
            std::str::from_utf8(&documents.discovery.body).unwrap(),
            r#"{"issuer":"https://issuer.example/carnet","jwks_uri":"https://issuer.example/carnet/.well-known/jwks","response_types_supported":["id_token"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["RS256","ES256"],"claims_supported":["iss","sub","aud","iat","nbf","exp","jti","space","feed","feed_id","project","runbook","tenant","environment","type"],"scopes_supported":["openid"]}"#
        );
        assert_eq!(documents.jwks.body, r#"{"keys":[]}"#);
        assert_eq!(documents.jwks.cache_control, "public, max-age=300");
    }

    #[test]
    fn another_key_set_has_another_etag() {
        let issuer = "https://issuer.example".parse().unwrap();
        let key = PublicKey::P256 { x: [1; 32], y: [2; 32] };
        let of = |keys: &[PublicKey]| {
            Documents::new(&issuer, keys, &Algorithm::ALL, Duration::from_secs(300)).unwrap()
        };
        assert_ne!(of(&[]).jwks.etag, of(&[key]).jwks.etag);
        assert_eq!(of(&[]).discovery.etag, of(&[]).discovery.etag);
    }

    const FETCHED: &str = r#"{"issuer":"https://a.example","jwks_uri":"https://a.example/k","response_types_supported":[],"subject_types_supported":7,"id_token_signing_alg_values_supported":["RS256",7],"more":[1]}"#;

    #[test]
    fn our_own_metadata_read_back_complete() {
        let issuer = "https://issuer.example".parse().unwrap();
        let documents = Documents::new(&issuer, [], &Algorithm::ALL, Duration::from_secs(300)).unwrap();
        let read = FetchedMetadata::parse_complete(&documents.discovery.body).unwrap();
        assert_eq!(read.issuer(), Some("https://issuer.example"));
        assert_eq!(read.jwks_uri(), Some(&*issuer.jwks_uri()));
        assert_eq!(read.list(Member::SigningAlgorithms).unwrap(), ["RS256", "ES256"]);
    }

    #[test]
    fn members_are_read_by_their_type() {
        for read in [FetchedMetadata::parse, FetchedMetadata::parse_complete] {
            let read = read(FETCHED.as_bytes()).unwrap();
            assert_eq!(
                (read.issuer(), read.jwks_uri()),
                (Some("https://a.example"), Some("https://a.example/k"))
            );
            assert_eq!(read.list(Member::ResponseTypes), Some(&[][..]));
            assert_eq!((read.has(Member::SubjectTypes), read.list(Member::SubjectTypes)), (true, None));
            assert_eq!(read.list(Member::SigningAlgorithms).unwrap().len(), 2);
        }
        let poor = FetchedMetadata::parse(br#"{"issuer":7,"jwks_uri":null}"#).unwrap();
        assert_eq!((poor.issuer(), poor.jwks_uri()), (None, None));
        assert!(poor.has(Member::JwksUri) && !poor.has(Member::ResponseTypes));
    }

    #[test]
    fn documents_that_are_no_metadata_are_refused_with_the_position() {
        let complete =
            |text: &str| FetchedMetadata::parse_complete(text.as_bytes()).map_err(|e| e.to_string());
        let lenient = |text: &str| FetchedMetadata::parse(text.as_bytes()).map_err(|e| e.to_string());
        for (text, error) in [
            ("<html>", "expected value at line 1 column 1"),
            ("[]", "invalid type: sequence, expected a map at line 1 column 0"),
            ("{} {}", "trailing characters at line 1 column 4"),
            (r#"{"issuer":"a","issuer":"b"}"#, "duplicate field `issuer` at line 1 column 27"),
            (&format!("{FETCHED}{}", " ".repeat(MAX_METADATA)), "it is longer than 1048576 bytes"),
        ] {
            assert_eq!(lenient(text).unwrap_err(), error);
            assert!(complete(text).is_err(), "{text}");
        }
        for (text, error) in [
            (r#"{"issuer":"https://a.example/x/y"}"#, "missing field `jwks_uri` at line 1 column 34"),
            (r#"{"issuer":7}"#, "invalid type: integer `7`, expected a string at line 1 column 11"),
        ] {
            assert_eq!(complete(text).unwrap_err(), error);
            assert!(lenient(text).is_ok(), "{text}");
        }
    }
}
