//! Verifies an issuer's token as a cloud does: from the issuer URL alone.
//!
//! Discovery and the JWKS are fetched again for every token; an uploaded JWKS is read again from its file.
//! Real clouds cache both for an undocumented time, so the sandbox cannot show how soon a cloud sees a new
//! key.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use jiff::Timestamp;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::exchange::transport::HttpTransport;
use crate::jose::jwk::FetchedJwkSet;
use crate::oidc::metadata::{FetchedMetadata, Member};
use crate::values::clock::Clock;
use crate::values::issuer_url::IssuerUrl;
use crate::values::regular_file;

/// The maximum length of an uploaded JWKS.
const LONGEST_FILE: usize = 1 << 20;
/// The maximum number of keys of one type in a JWKS. This is AWS's limit.
const MAX_KEYS: usize = 100;

/// The algorithms of the issuer's tokens, for clouds that accept both.
pub(super) const BOTH: &[Algorithm] = &[Algorithm::RS256, Algorithm::ES256];

/// The only algorithm that Entra accepts.
pub(super) const RS256_ONLY: &[Algorithm] = &[Algorithm::RS256];

/// Verifies the tokens of one issuer.
#[derive(Debug, Clone)]
pub(super) struct Verifier {
    issuer: IssuerUrl,
    transport: Arc<dyn HttpTransport>,
    clock: Arc<dyn Clock>,
}

/// The identity in a verified token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) sub: String,
    pub(super) aud: String,
    pub(super) kid: String,
    /// The time of issue, which is in the past.
    pub(super) iat: Timestamp,
    /// The expiry, which is in the future.
    pub(super) exp: Timestamp,
}

/// The reason why a token is rejected. Its text goes to the sandbox's log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Rejection {
    #[error("the token is not a JWS that a cloud accepts: {0}")]
    Malformed(&'static str),
    #[error("the token's algorithm {0} is not accepted here")]
    Algorithm(&'static str),
    #[error("the token's issuer {0:?} is not trusted")]
    Issuer(String),
    #[error("{url} could not be fetched: {why}")]
    Fetch { url: String, why: String },
    #[error("discovery is unusable: {0}")]
    Discovery(&'static str),
    #[error("the JWKS is unusable: {0}")]
    Jwks(&'static str),
    #[error("the JWKS has no key {0:?} for this algorithm")]
    Key(String),
    #[error("the signature does not verify")]
    Signature,
    #[error("the claim {0} is missing")]
    MissingClaim(&'static str),
    #[error("the claim {0} has the wrong type")]
    ClaimType(&'static str),
    #[error("the token expired at {0}")]
    Expired(Timestamp),
    #[error("the token is not valid before {0}")]
    NotYetValid(Timestamp),
}

impl Verifier {
    pub(super) fn new(issuer: IssuerUrl, transport: Arc<dyn HttpTransport>, clock: Arc<dyn Clock>) -> Self {
        Self { issuer, transport, clock }
    }

    /// Verifies the form, algorithm, issuer, signature and times of `token` with the keys that the issuer
    /// serves. The caller checks audience, subject and lifetime.
    pub(super) async fn verify(&self, token: &str, accepted: &[Algorithm]) -> Result<Identity, Rejection> {
        self.verify_with(token, accepted, None).await
    }

    /// Verifies as [`Verifier::verify`] does. With a file of uploaded keys, fetches nothing.
    pub(super) async fn verify_with(
        &self,
        token: &str,
        accepted: &[Algorithm],
        uploaded: Option<&Path>,
    ) -> Result<Identity, Rejection> {
        let (header, kid) = header(token)?;
        if !accepted.contains(&header.alg) {
            return Err(Rejection::Algorithm(if header.alg == Algorithm::RS256 { "RS256" } else { "ES256" }));
        }
        // Unverified, only to find the issuer, as a cloud must. The claims are trusted after the signature
        // has verified.
        let claims: Map<String, Value> = jsonwebtoken::dangerous::insecure_decode_claims(token)
            .map_err(|_| Rejection::Malformed("its claims are not a JSON object"))?;
        match text(&claims, "iss")? {
            iss if iss == self.issuer.as_str() => {}
            other => return Err(Rejection::Issuer(other.chars().take(255).collect())),
        }
        let key = match uploaded {
            None => self.key(&kid, header.alg).await?,
            Some(file) => uploaded_key(file, &kid, header.alg).await?,
        };
        let claims = verified(token, header.alg, &key)?;
        let (iat, exp) = check_times(&claims, self.clock.now())?;
        Ok(Identity { sub: text(&claims, "sub")?, aud: text(&claims, "aud")?, kid, iat, exp })
    }

    /// Finds the key with this `kid` through discovery.
    async fn key(&self, kid: &str, alg: Algorithm) -> Result<DecodingKey, Rejection> {
        let malformed = Rejection::Discovery("it is not JSON with the members that AWS requires");
        let document = self.fetch(&self.issuer.discovery_url()).await?;
        let discovery = FetchedMetadata::parse_complete(&document).map_err(|_| malformed.clone())?;
        let texts = |member| {
            let list = discovery.list(member).filter(|list| list.iter().all(Value::is_string));
            list.ok_or_else(|| malformed.clone())
        };
        let response_types = texts(Member::ResponseTypes)?;
        let subject_types = texts(Member::SubjectTypes)?;
        let algorithms = texts(Member::SigningAlgorithms)?;
        if discovery.issuer() != Some(self.issuer.as_str()) {
            return Err(Rejection::Discovery("its issuer is not the URL from which it was fetched"));
        }
        if response_types.is_empty() || subject_types.is_empty() {
            return Err(Rejection::Discovery("response or subject types are empty"));
        }
        if !algorithms.iter().any(|name| *name == format!("{alg:?}")) {
            return Err(Rejection::Discovery("the token's algorithm is not among the ones that it names"));
        }
        let jwks_uri = discovery.jwks_uri().unwrap_or_default();
        find_key(&keys_in(&self.fetch(jwks_uri).await?)?, kid, alg)
    }

    async fn fetch(&self, url: &str) -> Result<Bytes, Rejection> {
        let failed = |why: String| Rejection::Fetch { url: url.to_owned(), why };
        let request = Request::get(url)
            .header(http::header::ACCEPT, "application/json")
            .body(Bytes::new())
            .map_err(|error| failed(error.to_string()))?;
        let response = self.transport.send(request).await.map_err(|error| failed(error.to_string()))?;
        if response.status() != http::StatusCode::OK {
            return Err(failed(format!("HTTP {}", response.status().as_u16())));
        }
        Ok(response.into_body())
    }
}

fn header(token: &str) -> Result<(Header, String), Rejection> {
    if token.contains(char::is_whitespace) {
        return Err(Rejection::Malformed("it holds white space, such as the end of a file's line"));
    }
    if token.split('.').count() != 3 {
        return Err(Rejection::Malformed("it does not have three parts"));
    }
    let header = jsonwebtoken::decode_header(token)
        .map_err(|_| Rejection::Malformed("its header is not a JWS header"))?;
    if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
        return Err(Rejection::Malformed("its algorithm is neither RS256 nor ES256"));
    }
    if header.crit.is_some() {
        return Err(Rejection::Malformed("it has critical header parameters"));
    }
    let kid = header.kid.clone().ok_or(Rejection::Malformed("its header has no kid"))?;
    Ok((header, kid))
}

/// Finds the key with this `kid` in the file, which is read each time because an upload rewrites it.
async fn uploaded_key(file: &Path, kid: &str, alg: Algorithm) -> Result<DecodingKey, Rejection> {
    let file = file.to_owned();
    let read = tokio::task::spawn_blocking(move || regular_file::read(&file, LONGEST_FILE)).await;
    let text = read.ok().and_then(Result::ok).ok_or(Rejection::Jwks("its file cannot be read"))?;
    find_key(&keys_in(&text)?, kid, alg)
}

/// Returns the keys of a JWK Set as keys of the verifying library. One that it cannot read makes the set
/// unusable.
fn keys_in(document: &[u8]) -> Result<Vec<Jwk>, Rejection> {
    let unusable = Rejection::Jwks("it is not a JWK set");
    let set = FetchedJwkSet::parse(document).map_err(|_| unusable.clone())?;
    set.keys().iter().map(|jwk| Jwk::deserialize(jwk).map_err(|_| unusable.clone())).collect()
}

fn find_key(keys: &[Jwk], kid: &str, alg: Algorithm) -> Result<DecodingKey, Rejection> {
    if keys.is_empty() {
        return Err(Rejection::Jwks("it is empty"));
    }
    let count =
        |wanted: fn(&AlgorithmParameters) -> bool| keys.iter().filter(|key| wanted(&key.algorithm)).count();
    if count(|key| matches!(key, AlgorithmParameters::RSA(_))) > MAX_KEYS
        || count(|key| matches!(key, AlgorithmParameters::EllipticCurve(_))) > MAX_KEYS
    {
        return Err(Rejection::Jwks("it has more than 100 keys of a type"));
    }
    let mut named = keys.iter().filter(|key| key.common.key_id.as_deref() == Some(kid));
    let key = named.next().ok_or_else(|| Rejection::Key(kid.to_owned()))?;
    if named.next().is_some() {
        return Err(Rejection::Jwks("two keys have the same kid"));
    }
    let usable = key.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature)
        && key.common.key_algorithm.is_none_or(|named| named == alg.into());
    if !usable {
        return Err(Rejection::Key(kid.to_owned()));
    }
    DecodingKey::from_jwk(key).map_err(|_| Rejection::Jwks("the key cannot be read"))
}

/// Verifies the signature and returns the claims.
fn verified(token: &str, alg: Algorithm, key: &DecodingKey) -> Result<Map<String, Value>, Rejection> {
    let mut validation = Validation::new(alg);
    // Times are checked against the sandbox's own clock, and the audience against the trust settings.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let token = jsonwebtoken::decode(token, key, &validation).map_err(|error| match error.kind() {
        ErrorKind::Base64(_) | ErrorKind::Utf8(_) | ErrorKind::Json(_) | ErrorKind::InvalidToken => {
            Rejection::Malformed("one of its parts is not base64url, or not JSON")
        }
        _ => Rejection::Signature,
    })?;
    Ok(token.claims)
}

/// Checks the times and returns `iat` and `exp`. There is no leeway, because the stand-in and the issuer
/// share a clock.
fn check_times(claims: &Map<String, Value>, now: Timestamp) -> Result<(Timestamp, Timestamp), Rejection> {
    let (iat, exp) = (time(claims, "iat")?, time(claims, "exp")?);
    let nbf = if claims.contains_key("nbf") { time(claims, "nbf")? } else { iat };
    if exp <= now {
        return Err(Rejection::Expired(exp));
    }
    match iat.max(nbf) {
        begin if begin > now => Err(Rejection::NotYetValid(begin)),
        _ => Ok((iat, exp)),
    }
}

/// Returns a time, which must be an integer, as AWS requires; a number with a fraction is refused.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Timestamp, Rejection> {
    let value = claims.get(name).ok_or(Rejection::MissingClaim(name))?;
    let seconds = value.as_i64().ok_or(Rejection::ClaimType(name))?;
    Timestamp::from_second(seconds).map_err(|_| Rejection::ClaimType(name))
}

fn text(claims: &Map<String, Value>, name: &'static str) -> Result<String, Rejection> {
    let value = claims.get(name).ok_or(Rejection::MissingClaim(name))?;
    value.as_str().map(str::to_owned).ok_or(Rejection::ClaimType(name))
}
