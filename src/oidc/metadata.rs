//! Provider metadata (OpenID Connect Discovery 1.0 section 3) and the documents that clouds fetch.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderValue;
use serde::Serialize;

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

/// Makes a header value of `text`, which consists of base64url, digits and punctuation and is therefore
/// always valid.
fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_says_what_is_true_and_nothing_else() {
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
}
