//! A served issuer's keys and tokens, as its users see them: the JWKS, `key list`, `token mint`.

use std::collections::BTreeSet;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::Value;

use super::carnet::{Announced, Carnet};
use super::http::Connection;

pub(crate) const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "sts.amazonaws.com";

/// A policy of seconds, so that a test waits only briefly. Tokens live for 4 s at most.
pub(crate) const QUICK_POLICY: [&str; 5] =
    ["--rotate-every=4s", "--propagation=1s", "--jwks-max-age=1s", "--max-token-lifetime=4s", "--leeway=3s"];

/// Starts a server on any free port.
pub(crate) fn serve(carnet: &Carnet) -> Announced {
    carnet.serve(ISSUER, "127.0.0.1:0", &[]).unwrap()
}

/// Adds the feeds `default/rs256` and `default/es256`, with `more` arguments.
pub(crate) fn add_feeds(carnet: &Carnet, more: &[&str]) {
    for alg in ["RS256", "ES256"] {
        let (slug, alg) = (format!("--slug={}", alg.to_lowercase()), format!("--alg={alg}"));
        let own = [
            "feed",
            "add",
            "aws-ecr",
            "--space=default",
            &slug,
            "--registry=123456789012.dkr.ecr.eu-central-1.amazonaws.com",
            "--role-arn=arn:aws:iam::123456789012:role/pull",
            &alg,
        ];
        carnet.ok(&[&own, more].concat());
    }
}

/// Sets [`QUICK_POLICY`] on an existing issuer.
pub(crate) fn set_quick_policy(carnet: &Carnet) {
    carnet.ok(&[&["key", "policy"], &QUICK_POLICY[..]].concat());
}

/// Mints a token of each algorithm.
pub(crate) fn mint(carnet: &Carnet) -> [String; 2] {
    ["default/rs256", "default/es256"].map(|feed| carnet.ok(&["token", "mint", feed]).trim().to_owned())
}

/// Returns the JWKS that a server publishes now.
pub(crate) fn jwks(server: &Announced) -> String {
    Connection::to(server.announced("/listening"), None).get("/.well-known/jwks").body
}

/// Returns the identifiers in a JWKS.
pub(crate) fn published(jwks: &str) -> BTreeSet<String> {
    let set: Value = serde_json::from_str(jwks).unwrap();
    kids(set["keys"].as_array().unwrap())
}

/// Returns the `kid` in a token's header.
pub(crate) fn kid(token: &str) -> String {
    decode_header(token).unwrap().kid.unwrap()
}

/// Verifies a token as a relying party with `jwks` does; `None` if it has no such key.
pub(crate) fn verify(jwks: &str, token: &str) -> Option<Value> {
    let set: JwkSet = serde_json::from_str(jwks).unwrap();
    let header = decode_header(token).unwrap();
    let key = DecodingKey::from_jwk(set.find(header.kid.as_deref().unwrap())?).unwrap();
    let mut validation = Validation::new(header.alg);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    Some(decode(token, &key, &validation).unwrap_or_else(|error| panic!("{token}: {error}")).claims)
}

/// Returns the JSON of `key list`.
pub(crate) fn list(carnet: &Carnet) -> Vec<Value> {
    serde_json::from_str(&carnet.ok(&["key", "list", "--output=json"])).unwrap()
}

/// The same, including keys that left the JWKS long ago.
pub(crate) fn list_all(carnet: &Carnet) -> Vec<Value> {
    serde_json::from_str(&carnet.ok(&["key", "list", "--all", "--output=json"])).unwrap()
}

/// Returns `ALG STATE` of each key, sorted.
pub(crate) fn states(keys: &[Value]) -> Vec<String> {
    let mut states: Vec<_> = keys
        .iter()
        .map(|key| format!("{} {}", key["alg"].as_str().unwrap(), key["state"].as_str().unwrap()))
        .collect();
    states.sort_unstable();
    states
}

/// Returns the keys' identifiers.
pub(crate) fn kids<'a>(keys: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    keys.into_iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// Returns the one key of `alg` in `state`.
pub(crate) fn the<'a>(keys: &'a [Value], alg: &str, state: &str) -> &'a str {
    let mut found = keys.iter().filter(|key| key["alg"] == alg && key["state"] == state);
    let key = found.next().unwrap_or_else(|| panic!("no {state} {alg} key: {keys:?}"));
    assert!(found.next().is_none(), "two {state} {alg} keys: {keys:?}");
    key["kid"].as_str().unwrap()
}

/// Asserts the permanent invariants: one active and one prepared key of each algorithm, at most eight
/// published.
pub(crate) fn assert_invariants(keys: &[Value]) {
    for alg in ["RS256", "ES256"] {
        the(keys, alg, "active");
        the(keys, alg, "prepared");
    }
    let published = |key: &&Value| matches!(key["state"].as_str(), Some("active" | "prepared" | "retired"));
    assert!(keys.iter().filter(published).count() <= 8, "{keys:?}");
}
