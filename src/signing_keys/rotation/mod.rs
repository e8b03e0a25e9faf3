//! The decisions about making, promoting, retiring and revoking keys, and the resulting rows.
//!
//! [`plan`] and [`plan_requested`] decide, and [`apply`] computes the resulting rows. Callers must read the
//! keys again inside the writing transaction and decide again there, because the keys may have changed before
//! it began.

use jiff::Timestamp;

use super::policy::RotationPolicy;
use super::{SigningKey, Stage, State, active, prepared};
use crate::jose::Algorithm;
use crate::jose::jwk::{Kid, PublicKey};

/// The maximum number of published keys. Google refuses a larger uploaded set.
pub const MAX_PUBLISHED: usize = 8;

/// One step in the life of the keys of one algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The algorithm has no keys. One that signs immediately and one prepared key are made.
    Found {
        /// The algorithm without keys.
        algorithm: Algorithm,
    },
    /// The prepared key takes over, the active one retires, and a new one is prepared.
    Rotate {
        /// The algorithm of both keys.
        algorithm: Algorithm,
        /// The active key.
        retire: Kid,
        /// The prepared key.
        promote: Kid,
    },
    /// The active key is revoked, the prepared one takes over even if it is too young, and a new one is
    /// prepared.
    RevokeActive {
        /// The algorithm of both keys.
        algorithm: Algorithm,
        /// The active key.
        revoke: Kid,
        /// The prepared key.
        promote: Kid,
    },
    /// The prepared key is revoked and replaced. The new one waits for its full `propagation`.
    RevokePrepared {
        /// The algorithm of the key.
        algorithm: Algorithm,
        /// The prepared key.
        revoke: Kid,
    },
    /// A retired key is revoked before it leaves the JWKS.
    RevokeRetired {
        /// The algorithm of the key.
        algorithm: Algorithm,
        /// The retired key.
        revoke: Kid,
    },
    /// Keys are revoked so that neither an active nor a prepared one is left, and replaced by keys that have
    /// never been published.
    ReplaceAll {
        /// The algorithm of the keys.
        algorithm: Algorithm,
        /// The keys to revoke.
        revoke: Vec<Kid>,
    },
}

impl Change {
    /// The algorithm concerned.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Found { algorithm }
            | Self::Rotate { algorithm, .. }
            | Self::RevokeActive { algorithm, .. }
            | Self::RevokePrepared { algorithm, .. }
            | Self::RevokeRetired { algorithm, .. }
            | Self::ReplaceAll { algorithm, .. } => *algorithm,
        }
    }

    /// The number of new keys that [`apply`] needs for the change.
    #[must_use]
    pub fn fresh_keys(&self) -> usize {
        match self {
            Self::RevokeRetired { .. } => 0,
            Self::Rotate { .. } | Self::RevokeActive { .. } | Self::RevokePrepared { .. } => 1,
            Self::Found { .. } | Self::ReplaceAll { .. } => 2,
        }
    }
}

/// A rotation requested by a caller.
#[derive(Debug, Clone)]
pub struct RotationRequest {
    /// The algorithms to rotate.
    pub algorithms: Vec<Algorithm>,
    /// The active keys that the caller saw before sending the request. An algorithm with another active key
    /// has been rotated in the meantime and is left alone, so that a storm of requests rotates once.
    pub seen: Vec<Kid>,
    /// `true` to promote a key even if it has not been published for long enough.
    pub force: bool,
}

/// The reason why a requested rotation would do harm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RotationRefusal {
    /// The prepared key has not been published for `propagation`.
    #[error(
        "the prepared {algorithm} key {kid} has been published only since {published_at}; verifiers may not know it \
         before {safe_at}"
    )]
    TooYoung {
        /// The algorithm that cannot be rotated yet.
        algorithm: Algorithm,
        /// The prepared key.
        kid: Kid,
        /// The time since which every location shows the key.
        published_at: Timestamp,
        /// The time from which the key may be promoted.
        safe_at: Timestamp,
    },
    /// A location where verifiers find keys does not show the prepared key yet.
    #[error("the prepared {algorithm} key {kid} is not yet published everywhere")]
    Unpublished {
        /// The algorithm that cannot be rotated yet.
        algorithm: Algorithm,
        /// The prepared key.
        kid: Kid,
    },
    /// A ninth key would be published.
    #[error(
        "the key set already has {published} keys, and a rotation must not publish more than \
         {MAX_PUBLISHED}; the next slot becomes free at {frees_at}"
    )]
    KeySetFull {
        /// The number of published keys.
        published: usize,
        /// The time when the next retired key leaves the JWKS.
        frees_at: Timestamp,
    },
}

/// The changes due at `now`: keys for each algorithm that has none, and at most one rotation for each
/// algorithm whose active key has signed for `rotate-every`.
///
/// A rotation is not due while it would publish a ninth key or promote a key that has not been published for
/// `propagation`.
#[must_use]
pub fn plan(keys: &[SigningKey], policy: &RotationPolicy, now: Timestamp) -> Vec<Change> {
    let mut published = keys.iter().filter(|key| key.is_published(now)).count();
    let mut changes = Vec::new();
    for algorithm in Algorithm::ALL {
        match (active(keys, algorithm), prepared(keys, algorithm)) {
            (None, None) => {
                changes.push(Change::Found { algorithm });
                published += 2;
            }
            (Some(current), Some(next))
                if age(current, now) >= Some(policy.rotate_every())
                    && is_safe(next, policy, now)
                    && published < MAX_PUBLISHED =>
            {
                changes.push(Change::Rotate { algorithm, retire: current.kid(), promote: next.kid() });
                published += 1;
            }
            _ => {}
        }
    }
    changes
}

/// The changes that a requested rotation makes at `now`. Empty if others have rotated all of the algorithms
/// in the meantime. If one of the algorithms cannot be rotated, none is.
pub fn plan_requested(
    keys: &[SigningKey],
    policy: &RotationPolicy,
    now: Timestamp,
    request: &RotationRequest,
) -> Result<Vec<Change>, RotationRefusal> {
    let mut published = keys.iter().filter(|key| key.is_published(now)).count();
    let mut changes = Vec::new();
    for &algorithm in &request.algorithms {
        let (Some(current), Some(next)) = (active(keys, algorithm), prepared(keys, algorithm)) else {
            continue;
        };
        let is_planned = changes.iter().any(|change: &Change| change.algorithm() == algorithm);
        if is_planned || !request.seen.contains(&current.kid()) {
            continue;
        }
        if !is_safe(next, policy, now) && !request.force {
            return Err(too_young(next, policy));
        }
        if published >= MAX_PUBLISHED {
            // Only retired keys can fill the set: every other state has one key for each algorithm.
            let frees_at = super::next_pruning(keys, now).unwrap_or(now);
            return Err(RotationRefusal::KeySetFull { published, frees_at });
        }
        changes.push(Change::Rotate { algorithm, retire: current.kid(), promote: next.kid() });
        published += 1;
    }
    Ok(changes)
}

/// The error for a `kid` that the issuer does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this issuer has no signing key {0}")]
pub struct UnknownKey(pub Kid);

/// The changes that revoke one key. Empty if the key has already left the JWKS.
///
/// A full key set never prevents a revocation: each key added takes the slot of a revoked one.
pub fn plan_revocation(keys: &[SigningKey], now: Timestamp, kid: &Kid) -> Result<Vec<Change>, UnknownKey> {
    let key = keys.iter().find(|key| key.kid() == *kid).ok_or_else(|| UnknownKey(kid.clone()))?;
    let (algorithm, revoke) = (key.algorithm(), kid.clone());
    let change = match (key.state(now), prepared(keys, algorithm)) {
        (State::Active, Some(next)) => Change::RevokeActive { algorithm, revoke, promote: next.kid() },
        // No key can take over. carnet keeps one prepared, but a revocation must not depend on that.
        (State::Active, None) => Change::ReplaceAll { algorithm, revoke: vec![revoke] },
        (State::Prepared, _) => Change::RevokePrepared { algorithm, revoke },
        (State::Retired, _) => Change::RevokeRetired { algorithm, revoke },
        (State::Pruned | State::Revoked, _) => return Ok(Vec::new()),
    };
    Ok(vec![change])
}

/// The changes that revoke every published key and replace them. An algorithm is left alone if its active key
/// is not among `seen`, the ones that the caller saw: others have just replaced it.
#[must_use]
pub fn plan_revocation_of_all(keys: &[SigningKey], now: Timestamp, seen: &[Kid]) -> Vec<Change> {
    let is_seen = |algorithm| active(keys, algorithm).is_some_and(|key| seen.contains(&key.kid()));
    Algorithm::ALL
        .into_iter()
        .filter(|algorithm| is_seen(*algorithm))
        .map(|algorithm| {
            let published = keys.iter().filter(|key| key.algorithm() == algorithm && key.is_published(now));
            Change::ReplaceAll { algorithm, revoke: published.map(SigningKey::kid).collect() }
        })
        .collect()
}

/// The changes after a leak of everything: the keys of each algorithm are replaced, whatever their state.
/// Retired keys that have left the JWKS are revoked as well, so that no clock brings them back. An algorithm
/// without keys gets new ones.
#[must_use]
pub fn plan_replacement(keys: &[SigningKey]) -> Vec<Change> {
    let is_revoked = |key: &SigningKey| matches!(key.stage, Stage::Revoked { .. });
    Algorithm::ALL
        .into_iter()
        .map(|algorithm| {
            let all = keys.iter().filter(|key| key.algorithm() == algorithm && !is_revoked(key));
            Change::ReplaceAll { algorithm, revoke: all.map(SigningKey::kid).collect() }
        })
        .collect()
}

/// The keys that `change` makes or alters, in their resulting state. Writing them in this order never
/// produces two active or two prepared keys in between.
///
/// `fresh` holds the public halves of [`Change::fresh_keys`] new keys of the change's algorithm; surplus ones
/// are ignored.
#[must_use]
pub fn apply(
    keys: &[SigningKey],
    change: &Change,
    policy: &RotationPolicy,
    now: Timestamp,
    fresh: &[PublicKey],
) -> Vec<SigningKey> {
    let mut fresh = fresh.iter().cloned().map(|public| SigningKey::prepared(public, now));
    let key = |kid: &Kid| keys.iter().find(|key| key.kid() == *kid).cloned();
    match change {
        Change::Found { .. } => {
            let active = fresh.next().map(|key| activated(key, policy, now));
            active.into_iter().chain(fresh.next()).collect()
        }
        Change::Rotate { retire, promote, .. } => {
            let retired = key(retire).map(|key| retired(key, policy, now));
            let promoted = key(promote).map(|key| activated(key, policy, now));
            retired.into_iter().chain(promoted).chain(fresh.next()).collect()
        }
        Change::RevokeActive { revoke, promote, .. } => {
            let revoked = key(revoke).map(|key| revoked(key, now));
            let promoted = key(promote).map(|key| activated(key, policy, now));
            revoked.into_iter().chain(promoted).chain(fresh.next()).collect()
        }
        Change::RevokePrepared { revoke, .. } => {
            key(revoke).map(|key| revoked(key, now)).into_iter().chain(fresh.next()).collect()
        }
        Change::RevokeRetired { revoke, .. } => {
            key(revoke).map(|key| revoked(key, now)).into_iter().collect()
        }
        Change::ReplaceAll { revoke, .. } => {
            let revoked = revoke.iter().filter_map(key).map(|key| revoked(key, now));
            let active = fresh.next().map(|key| activated(key, policy, now));
            revoked.chain(active).chain(fresh.next()).collect()
        }
    }
}

/// The keys that a change of policy alters. An active key may now sign for longer. The longest lifetime that
/// it may have used before is never forgotten, so no key leaves the JWKS earlier because of the change.
#[must_use]
pub fn under_policy(keys: &[SigningKey], from: &RotationPolicy, to: &RotationPolicy) -> Vec<SigningKey> {
    // Tokens were signed on the assumption that the key stays published for the previous `leeway`; a process
    // that has not read the change yet still signs such tokens. The lifetime grows by the time that the
    // leeway loses.
    let less_leeway = from.leeway().saturating_sub(to.leeway());
    // A retired key's lifetime grows as well, so that it still covers `published_until` together with the
    // leeway of any later policy.
    let longest = |key: &SigningKey| match key.stage {
        Stage::Active { .. } => (key.longest_lifetime + less_leeway).max(to.max_token_lifetime()),
        Stage::Retired { .. } => key.longest_lifetime + less_leeway,
        Stage::Prepared | Stage::Revoked { .. } => key.longest_lifetime,
    };
    keys.iter()
        .filter(|key| longest(key) > key.longest_lifetime)
        .map(|key| SigningKey { longest_lifetime: longest(key), ..key.clone() })
        .collect()
}

/// The time from which a prepared key has been published for long enough to sign; `None` while a location
/// where verifiers find keys does not show it.
#[must_use]
pub fn safe_at(prepared: &SigningKey, policy: &RotationPolicy) -> Option<Timestamp> {
    Some(later(prepared.published_at?, policy.propagation()))
}

/// Returns whether a prepared key has been published for long enough to sign at `now`.
#[must_use]
pub fn is_safe(prepared: &SigningKey, policy: &RotationPolicy, now: Timestamp) -> bool {
    safe_at(prepared, policy).is_some_and(|at| at <= now)
}

fn too_young(prepared: &SigningKey, policy: &RotationPolicy) -> RotationRefusal {
    let (algorithm, kid) = (prepared.algorithm(), prepared.kid());
    match (prepared.published_at, safe_at(prepared, policy)) {
        (Some(published_at), Some(safe_at)) => {
            RotationRefusal::TooYoung { algorithm, kid, published_at, safe_at }
        }
        _ => RotationRefusal::Unpublished { algorithm, kid },
    }
}

/// The time when the active key of `algorithm` is due to be replaced, provided that a slot is free then.
/// While it is unknown when the prepared key will be published everywhere, only the age of the active key
/// counts.
#[must_use]
pub fn due_at(keys: &[SigningKey], policy: &RotationPolicy, algorithm: Algorithm) -> Option<Timestamp> {
    let (current, next) = (active(keys, algorithm)?, prepared(keys, algorithm)?);
    let Stage::Active { activated_at } = current.stage else { return None };
    let old_enough = later(activated_at, policy.rotate_every());
    Some(safe_at(next, policy).map_or(old_enough, |safe_at| safe_at.max(old_enough)))
}

fn activated(key: SigningKey, policy: &RotationPolicy, now: Timestamp) -> SigningKey {
    SigningKey {
        longest_lifetime: policy.max_token_lifetime(),
        stage: Stage::Active { activated_at: now },
        ..key
    }
}

fn retired(key: SigningKey, policy: &RotationPolicy, now: Timestamp) -> SigningKey {
    let Stage::Active { activated_at } = key.stage else { return key };
    let published_until = later(now, key.longest_lifetime + policy.leeway());
    SigningKey { stage: Stage::Retired { activated_at, retired_at: now, published_until }, ..key }
}

fn revoked(key: SigningKey, now: Timestamp) -> SigningKey {
    let activated_at = match key.stage {
        Stage::Prepared => None,
        Stage::Active { activated_at } | Stage::Retired { activated_at, .. } => Some(activated_at),
        Stage::Revoked { .. } => return key,
    };
    SigningKey { stage: Stage::Revoked { activated_at, revoked_at: now }, ..key }
}

fn age(active: &SigningKey, now: Timestamp) -> Option<std::time::Duration> {
    let Stage::Active { activated_at } = active.stage else { return None };
    std::time::Duration::try_from(now.duration_since(activated_at)).ok()
}

fn later(time: Timestamp, by: std::time::Duration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
