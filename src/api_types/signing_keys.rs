//! Signing keys in the API and on the command line.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::texts::KidText;
use crate::grant::Permissions;
use crate::issuer::jwks_clients::is_regular;
use crate::issuer::rotator::Rotation;
use crate::issuer::{KeySet, STALE_AFTER};
use crate::jose::Algorithm;
use crate::jose::jwk::Kid;
use crate::signing_keys::publication::{KeyLocation, missing_at, still_at};
use crate::signing_keys::rotation::{Change, safe_at};
use crate::signing_keys::{SigningKey, Stage, State, prepared};
use crate::store::jwks_clients::JwksClient;

/// A signing key: its id and its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SigningKeyResponse {
    /// The RFC 7638 thumbprint.
    #[schema(value_type = KidText)]
    pub kid: Kid,
    /// The signature algorithm.
    #[schema(value_type = super::feeds::AlgorithmName)]
    pub alg: Algorithm,
    /// The current state.
    #[schema(value_type = StateName)]
    pub state: State,
    /// The time at which the key was created and servers began to publish it.
    #[schema(value_type = String, format = DateTime)]
    pub prepared_at: Timestamp,
    /// The time at which the key began to sign.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub activated_at: Option<Timestamp>,
    /// The time at which the key stopped signing.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub retired_at: Option<Timestamp>,
    /// The time of its revocation.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
    /// The time at which it leaves the JWKS.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub published_until: Option<Timestamp>,
    /// The time since which every publication that verifiers read shows the key; absent while one does not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub published_at: Option<Timestamp>,
    /// The publications, other than the servers, that do not show a prepared or active key yet. All feeds
    /// outside the grant appear together as `another feed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
    /// The copies of the documents that still show a revoked key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub still_published_at: Vec<String>,
    /// The time at which a prepared key will have been published for long enough to sign.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub safe_at: Option<Timestamp>,
    /// The number of regular clients that have fetched the JWKS since it contains the key.
    pub seen_by: Option<SeenBy>,
}

/// The state of a key.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code, reason = "the schema of a type that is no schema itself")]
pub enum StateName {
    /// Published, but not signing yet.
    Prepared,
    /// Signing.
    Active,
    /// Published for verification only.
    Retired,
    /// No longer published.
    Pruned,
    /// Revoked in an emergency.
    Revoked,
}

/// The regular clients of the JWKS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SeenBy {
    /// The number of those that have the key.
    pub clients: usize,
    /// The number of all.
    pub of: usize,
}

/// A request for a rotation.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotationRequest {
    /// The algorithm whose key to rotate; absent for both.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<super::feeds::AlgorithmName>)]
    pub alg: Option<Algorithm>,
    /// The `kid`s of the active keys as the caller knows them; by default the current ones. If they have
    /// changed, nothing is done and the response has `already_done`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<KidText>>)]
    pub seen: Option<Vec<Kid>>,
    /// Promotes a key even if it has not been published for long enough.
    pub force: bool,
}

/// A request for a revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RevocationRequest {
    /// True, the default, to present verifiers a token of a key that they do not know, so that they fetch the
    /// JWKS and learn of the revocation.
    pub nudge: bool,
}

impl Default for RevocationRequest {
    fn default() -> Self {
        Self { nudge: true }
    }
}

/// The result of a rotation or revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RotationResponse {
    /// True if nothing was left to do, because another request has just done it.
    pub already_done: bool,
    /// The keys that sign from now on.
    pub activated: Vec<String>,
    /// The keys that only verify from now on.
    pub retired: Vec<String>,
    /// The keys that were removed from the JWKS.
    pub revoked: Vec<String>,
    /// True if destroyed private halves are gone from every database file. Otherwise, a server keeps trying.
    pub erased: bool,
}

/// Returns the keys to show to `reader`: published and recently revoked ones, or all.
#[must_use]
pub fn list(
    key_set: &KeySet,
    clients: &[JwksClient],
    all: bool,
    now: Timestamp,
    reader: &Permissions,
) -> Vec<SigningKeyResponse> {
    let shown = |key: &&SigningKey| {
        let is_shown = key.is_published(now) || was_revoked_lately(key, now);
        all || is_shown || !still_at(key, &key_set.locations).is_empty()
    };
    key_set
        .keys
        .iter()
        .filter(shown)
        .map(|key| SigningKeyResponse::of(key, key_set, clients, now, reader))
        .collect()
}

/// Returns whether the key was revoked within a month. A revocation is shown while it has consequences, and
/// none last longer.
fn was_revoked_lately(key: &SigningKey, now: Timestamp) -> bool {
    const MONTH: SignedDuration = SignedDuration::from_hours(30 * 24);
    matches!(key.stage, Stage::Revoked { revoked_at, .. } if now.duration_since(revoked_at) < MONTH)
}

impl SigningKeyResponse {
    fn of(
        key: &SigningKey,
        key_set: &KeySet,
        clients: &[JwksClient],
        now: Timestamp,
        reader: &Permissions,
    ) -> Self {
        let (activated_at, retired_at, revoked_at) = match key.stage {
            Stage::Prepared => (None, None, None),
            Stage::Active { activated_at } => (Some(activated_at), None, None),
            Stage::Retired { activated_at, retired_at, .. } => (Some(activated_at), Some(retired_at), None),
            Stage::Revoked { activated_at, revoked_at } => (activated_at, None, Some(revoked_at)),
        };
        let is_prepared = key.stage == Stage::Prepared;
        let signs_or_will = key.has_private_half();
        let names = |locations: Vec<&KeyLocation>| names_for(reader, locations);
        let waits_for = if signs_or_will { waits_for(key, key_set) } else { Vec::new() };
        Self {
            kid: key.kid(),
            alg: key.algorithm(),
            state: key.state(now),
            prepared_at: key.prepared_at,
            activated_at,
            retired_at,
            revoked_at,
            published_until: key.published_until(),
            published_at: key.published_at,
            waits_for: names(waits_for),
            still_published_at: names(still_at(key, &key_set.locations)),
            safe_at: if is_prepared { safe_at(key, &key_set.settings.policy) } else { None },
            seen_by: signs_or_will.then(|| SeenBy::of(key, key_set, clients, now)),
        }
    }

    /// Returns the time at which the key entered its state.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.revoked_at.or(self.retired_at).or(self.activated_at).unwrap_or(self.prepared_at)
    }
}

/// The name that stands for all feeds outside the reader's grant.
const ANOTHER_FEED: &str = "another feed";

/// Returns the names of the publications for `reader`, without the names of feeds outside its grant.
fn names_for(reader: &Permissions, locations: Vec<&KeyLocation>) -> Vec<String> {
    let mut names = Vec::new();
    for location in locations {
        let name = match &location.feed {
            Some(feed) if !reader.may_see(feed) => ANOTHER_FEED,
            _ => &location.name,
        };
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Returns the publications that do not show a prepared or active key.
fn waits_for<'a>(key: &SigningKey, key_set: &'a KeySet) -> Vec<&'a KeyLocation> {
    // An uploaded JWKS is uploaded as a whole. If it contains the next key, it contains the active one.
    let next = match key.stage {
        Stage::Active { .. } => prepared(&key_set.keys, key.algorithm()).map(SigningKey::kid),
        _ => None,
    };
    let is_held = |location: &&KeyLocation| {
        !location.is_copy() && next.as_ref().is_some_and(|next| location.shows.contains_key(next))
    };
    missing_at(key, &key_set.locations).into_iter().filter(|location| !is_held(location)).collect()
}

impl SeenBy {
    /// Counts the clients that have the key: those that fetched after every server had begun to publish it.
    fn of(key: &SigningKey, key_set: &KeySet, clients: &[JwksClient], now: Timestamp) -> Self {
        let published = key.prepared_at.saturating_add(STALE_AFTER).unwrap_or(Timestamp::MAX);
        let max_age = key_set.settings.policy.jwks_max_age();
        let regular: Vec<_> = clients.iter().filter(|client| is_regular(client, max_age, now)).collect();
        let having = regular.iter().filter(|client| client.last_fetched_at >= published).count();
        Self { clients: having, of: regular.len() }
    }
}

impl From<&Rotation> for RotationResponse {
    fn from(rotation: &Rotation) -> Self {
        let mut response = Self {
            already_done: rotation.changes.is_empty(),
            activated: Vec::new(),
            retired: Vec::new(),
            revoked: Vec::new(),
            erased: rotation.erased,
        };
        for change in &rotation.changes {
            match change {
                Change::Found { .. } => {}
                Change::Rotate { retire, promote, .. } => {
                    response.retired.push(retire.to_string());
                    response.activated.push(promote.to_string());
                }
                Change::RevokeActive { revoke, promote, .. } => {
                    response.revoked.push(revoke.to_string());
                    response.activated.push(promote.to_string());
                }
                Change::RevokePrepared { revoke, .. } | Change::RevokeRetired { revoke, .. } => {
                    response.revoked.push(revoke.to_string());
                }
                Change::ReplaceAll { revoke, .. } => {
                    response.revoked.extend(revoke.iter().map(ToString::to_string));
                }
            }
        }
        response
    }
}
