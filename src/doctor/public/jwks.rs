//! The JWKS (RFC 7517 section 5), compared with the keys in the database.

use std::collections::BTreeSet;

use http::header;
use jiff::Timestamp;

use super::served;
use crate::doctor::fetch::{Fetched, FetchedResponse};
use crate::doctor::{Finding, count, listed};
use crate::jose::Algorithm;
use crate::jose::jwk::{FetchedJwkSet, JwkSetError};
use crate::signing_keys::policy::RotationPolicy;
use crate::signing_keys::{SigningKey, Stage, active, prepared};

const JWKS: &str = "jwks";
const ACTIVE: &str = "active-keys";
const OTHERS: &str = "other-keys";
const CACHE: &str = "cache";

/// The keys that should be published at `now`.
#[derive(Debug, Clone, Copy)]
pub struct Published<'a> {
    /// All keys in the database.
    pub keys: &'a [SigningKey],
    /// Their policy.
    pub policy: &'a RotationPolicy,
    /// The time.
    pub now: Timestamp,
}

/// Checks that the JWKS is served, holds the right keys, and is cached as the policy says. Without
/// `published`, when the keys in the database could not be read, checks only that it is served.
#[must_use]
pub fn check_jwks(published: Option<Published<'_>>, fetched: &Fetched) -> Vec<Finding> {
    let (response, kids) = match read(fetched) {
        Ok(read) => read,
        Err(finding) => return vec![finding],
    };
    let mut findings =
        vec![Finding::ok(JWKS, format!("{} is served with {}", fetched.url, count(kids.len(), "key")))];
    if let Some(published) = published {
        findings.push(check_active(&published, &kids));
        findings.push(check_others(&published, &kids));
        findings.push(check_cache(published.policy, response));
    }
    findings
}

fn read(fetched: &Fetched) -> Result<(&FetchedResponse, BTreeSet<String>), Finding> {
    let response = served(JWKS, "the JWKS", fetched)?;
    let unreadable = |error: JwkSetError| {
        Finding::failed(JWKS, format!("the JWKS cannot be parsed: {error}"))
            .detail(format!("GET {}", fetched.url))
            .hint("something between this machine and carnet responds instead")
    };
    let set = FetchedJwkSet::parse(&response.body).map_err(unreadable)?;
    let kids = set.claimed_kids().map_err(unreadable)?;
    // A key without a `kid` is shown as one with an empty one.
    Ok((response, kids.into_iter().map(|kid| kid.unwrap_or_default().to_owned()).collect()))
}

fn check_active(published: &Published<'_>, kids: &BTreeSet<String>) -> Finding {
    let missing: Vec<String> = Algorithm::ALL
        .into_iter()
        .filter_map(|algorithm| active(published.keys, algorithm))
        .filter(|key| !kids.contains(key.kid().as_str()))
        .map(|key| format!("{} ({})", key.kid(), key.algorithm()))
        .collect();
    if missing.is_empty() {
        return Finding::ok(ACTIVE, "the signing keys are in the JWKS");
    }
    Finding::failed(ACTIVE, format!("signing keys are not in the JWKS: {}", listed(&missing)))
        .detail(
            "No cloud can verify their tokens: AWS responds with InvalidIdentityToken, Entra with \
             AADSTS50013.",
        )
        .hint(
            "check that the URL leads to the server of this database, and that no cache or copy in between \
             is old",
        )
}

/// Checks the other keys: those that sign next must be published; revoked and unknown ones must not.
fn check_others(published: &Published<'_>, kids: &BTreeSet<String>) -> Finding {
    // A difference that a cache may still serve within the policy's max-age is not a problem.
    let settled = |since: Timestamp| {
        since.saturating_add(published.policy.jwks_max_age()).is_ok_and(|settled| settled < published.now)
    };
    let mut problems = Vec::new();
    for key in Algorithm::ALL.into_iter().filter_map(|algorithm| prepared(published.keys, algorithm)) {
        if settled(key.prepared_at) && !kids.contains(key.kid().as_str()) {
            problems.push(format!("{} will sign next and is not published", key.kid()));
        }
    }
    for key in published.keys {
        if let Stage::Revoked { revoked_at, .. } = key.stage
            && settled(revoked_at)
            && kids.contains(key.kid().as_str())
        {
            problems.push(format!("{} was revoked at {revoked_at} and is still published", key.kid()));
        }
    }
    let known: BTreeSet<String> = published.keys.iter().map(|key| key.kid().as_str().to_owned()).collect();
    for kid in kids.difference(&known) {
        let shown: String = kid.chars().take(80).flat_map(char::escape_debug).collect();
        problems.push(format!("\"{shown}\" is published, but is not a key of this database"));
    }
    if problems.is_empty() {
        return Finding::ok(OTHERS, "the next keys are published, revoked and foreign ones are not");
    }
    Finding::failed(OTHERS, listed(&problems))
        .detail("Verifiers trust every published key; a key must be published long before it signs.")
        .hint(
            "an old copy is served, or the JWKS of another database: make the URL lead to the server of this \
             database",
        )
}

fn check_cache(policy: &RotationPolicy, response: &FetchedResponse) -> Finding {
    // Several fields form one list (RFC 9110 section 5.3).
    let fields =
        response.headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let said = fields.collect::<Vec<_>>().join(", ");
    let wanted = policy.jwks_max_age().as_secs();
    let hint = "let proxies and CDNs pass carnet's Cache-Control on unchanged; `carnet key policy \
                --jwks-max-age` changes it";
    if said.is_empty() {
        return Finding::warning(CACHE, "the JWKS has no Cache-Control")
            .detail("Verifiers then choose for how long they use an old key set.")
            .hint(hint);
    }
    let shown = said.escape_debug();
    match max_age(&said) {
        Some(age) if age > policy.propagation().as_secs() => Finding::failed(
            CACHE,
            format!("the JWKS may be cached for {age} s, longer than keys are published before they sign"),
        )
        .detail(format!(
            "Cache-Control: {shown}. After a rotation, verifiers refuse tokens until their copy expires."
        ))
        .hint(hint),
        Some(age) if age == wanted => Finding::ok(CACHE, format!("Cache-Control: {shown}")),
        _ => Finding::warning(
            CACHE,
            format!("Cache-Control: {shown}; the policy's jwks-max-age is {wanted} s"),
        )
        .detail("Something in between rewrites it, or an old copy is served.")
        .hint(hint),
    }
}

/// Returns the longest time that a cache may use the response without asking again: the larger of `max-age`
/// and `s-maxage` (for shared caches). With `no-store` or `no-cache` that is 0, whatever the others say.
fn max_age(cache_control: &str) -> Option<u64> {
    let directives = cache_control.split(',').map(|directive| directive.trim().to_ascii_lowercase());
    let mut longest = None;
    for directive in directives {
        let seconds = match directive.split_once('=') {
            Some(("max-age" | "s-maxage", seconds)) => read_seconds(seconds.trim_matches('"')),
            _ if matches!(directive.as_str(), "no-store" | "no-cache") => return Some(0),
            _ => None,
        };
        longest = longest.max(seconds);
    }
    longest
}

/// Parses a number of seconds. One that is too large counts as the largest (RFC 9111 section 1.2.2).
fn read_seconds(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}
