//! Rules broken on purpose, to prove that the checks detect it.

use std::time::Duration;

use crate::jose::jwk::Kid;
use crate::signing_keys::policy::{PolicyDurations, RotationPolicy};
use crate::signing_keys::rotation::{self, Change, RotationRefusal, RotationRequest};
use crate::signing_keys::{SigningKey, Stage, active};
use jiff::Timestamp;

use super::history::Op;
use super::rules::Rule;

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    TwoActive,
    NoPreparedAfterRevocation,
    DecideOnRowsOfBefore,
    PromoteWithoutWaiting,
    RequestIsForce,
    SignWithTheNewKeyAtOnce,
    MintWithThePreparedKey,
    RotateByAJumpedClock,
    RotateBehindHighWater,
    RecordEmergencyByAClockBehind,
    RetireWithoutPublishing,
    PublishedUntilWithoutLifetime,
    PublishedUntilWithoutLeeway,
    PublishedUntilByThePolicyOfTheDay,
    ForgetLongestLifetimeOnPolicyRaise,
    ForgetLongestLifetimeOnPolicyCut,
    ForgetLeewayOnPolicyCut,
    ShortenPublishedUntilOnPolicyChange,
    MintHoweverStale,
    PruneByAJumpedClock,
    KeepPrivateHalfOfRetired,
    KeepPrivateHalfOfRevoked,
    LosePrivateHalfOfActive,
    NinthKeyOnSchedule,
    NinthKeyOnRequest,
    PruneByAClockSetBack,
    RefuseRevocationWhenFull,
    RotateTwiceInAStorm,
    PublishRevoked,
}

/// Every mutation, with the rules that some history then violates.
pub(crate) const MUTATIONS: &[(Mutation, &[Rule])] = {
    use Mutation as M;
    use Rule as R;
    &[
        (M::TwoActive, &[R::OneActiveOnePrepared]),
        (M::NoPreparedAfterRevocation, &[R::OneActiveOnePrepared]),
        (M::DecideOnRowsOfBefore, &[R::OneActiveOnePrepared]),
        (M::PromoteWithoutWaiting, &[R::PublishedBeforeItSigns, R::VerifiesEverywhere]),
        (M::RequestIsForce, &[R::PublishedBeforeItSigns, R::VerifiesEverywhere]),
        (M::SignWithTheNewKeyAtOnce, &[R::PublishedBeforeItSigns, R::VerifiesEverywhere]),
        (M::MintWithThePreparedKey, &[R::PublishedBeforeItSigns, R::VerifiesEverywhere]),
        (M::RotateByAJumpedClock, &[R::PublishedBeforeItSigns, R::VerifiesEverywhere]),
        (M::RotateBehindHighWater, &[R::PublishedBeforeItSigns]),
        (M::RecordEmergencyByAClockBehind, &[R::PublishedBeforeItSigns]),
        (M::RetireWithoutPublishing, &[R::VerifiesEverywhere, R::PublishedUntilIsFixed]),
        (M::PublishedUntilWithoutLifetime, &[R::VerifiesEverywhere, R::PublishedUntilIsFixed]),
        (M::PublishedUntilWithoutLeeway, &[R::VerifiesEverywhere, R::PublishedUntilIsFixed]),
        (M::PublishedUntilByThePolicyOfTheDay, &[R::VerifiesEverywhere, R::PublishedUntilIsFixed]),
        (M::ForgetLongestLifetimeOnPolicyRaise, &[R::VerifiesEverywhere, R::PublishedUntilIsFixed]),
        (M::ForgetLongestLifetimeOnPolicyCut, &[R::VerifiesEverywhere, R::PublishedUntilIsFixed]),
        (M::ForgetLeewayOnPolicyCut, &[R::PublishedUntilIsFixed]),
        (M::ShortenPublishedUntilOnPolicyChange, &[R::VerifiesEverywhere, R::PublishedUntilIsFixed]),
        (M::MintHoweverStale, &[R::VerifiesEverywhere]),
        (M::PruneByAJumpedClock, &[R::VerifiesEverywhere]),
        (M::KeepPrivateHalfOfRetired, &[R::PrivateHalfWhileNeeded]),
        (M::KeepPrivateHalfOfRevoked, &[R::PrivateHalfWhileNeeded]),
        (M::LosePrivateHalfOfActive, &[R::PrivateHalfWhileNeeded]),
        (M::NinthKeyOnSchedule, &[R::AtMostEight]),
        (M::NinthKeyOnRequest, &[R::AtMostEight]),
        (M::PruneByAClockSetBack, &[R::AtMostEight]),
        (M::RefuseRevocationWhenFull, &[R::AtMostEight]),
        (M::RotateTwiceInAStorm, &[R::RotatesOnlyWhatWasSeen]),
        (M::PublishRevoked, &[R::RevokedLeavesAtOnce]),
    ]
};

/// Returns the changes for `op`, decided by the code under test unless a mutation replaces it.
pub(crate) fn decide(
    mutation: Option<Mutation>,
    op: Op,
    seen: &[Kid],
    keys: &[SigningKey],
    policy: &RotationPolicy,
    now: Timestamp,
) -> Result<Vec<Change>, RotationRefusal> {
    use Mutation as M;
    let impatient = impatient(policy);
    let policy = if mutation == Some(M::PromoteWithoutWaiting) { &impatient } else { policy };
    let few: Vec<_> = keys.iter().filter(|key| key.has_private_half()).cloned().collect();
    match op {
        Op::Tick if mutation == Some(M::NinthKeyOnSchedule) => Ok(rotation::plan(&few, policy, now)),
        Op::Tick => Ok(rotation::plan(keys, policy, now)),
        Op::Rotate { force, both } => {
            let algorithms = crate::jose::Algorithm::ALL;
            let active_now = || algorithms.iter().filter_map(|alg| active(keys, *alg)).map(SigningKey::kid);
            let request = RotationRequest {
                algorithms: algorithms.into_iter().take(if both { 2 } else { 1 }).collect(),
                seen: if mutation == Some(M::RotateTwiceInAStorm) {
                    active_now().collect()
                } else {
                    seen.to_vec()
                },
                force: force || mutation == Some(M::RequestIsForce),
            };
            let keys = if mutation == Some(M::NinthKeyOnRequest) { &few } else { keys };
            rotation::plan_requested(keys, policy, now, &request)
        }
        Op::Revoke(nth) => {
            let full = keys.iter().filter(|key| key.is_published(now)).count() >= rotation::MAX_PUBLISHED;
            if full && mutation == Some(M::RefuseRevocationWhenFull) {
                return Ok(Vec::new());
            }
            let key = &keys[revocation_target(keys, nth)];
            Ok(rotation::plan_revocation(keys, now, &key.kid()).unwrap())
        }
        Op::RevokeAll => Ok(rotation::plan_revocation_of_all(keys, now, seen)),
        Op::Policy(_) => Ok(Vec::new()),
    }
}

/// Returns the position of the key that a history identifies by number.
pub(crate) fn revocation_target(keys: &[SigningKey], nth: usize) -> usize {
    keys.len() - 1 - nth % keys.len()
}

fn impatient(policy: &RotationPolicy) -> RotationPolicy {
    let second = Duration::from_secs(1);
    RotationPolicy::new(PolicyDurations { propagation: second, jwks_max_age: second, ..policy.durations() })
        .unwrap()
}

/// Returns the rows that a change writes, computed by the code under test unless a mutation replaces it.
pub(crate) fn rows(
    mutation: Option<Mutation>,
    change: &Change,
    rows: Vec<SigningKey>,
    policy: &RotationPolicy,
) -> Vec<SigningKey> {
    use Mutation as M;
    let is_rotation = matches!(change, Change::Rotate { .. });
    let mut rows = rows;
    match mutation {
        Some(M::TwoActive) if is_rotation => rows.retain(|row| !matches!(row.stage, Stage::Retired { .. })),
        Some(M::NoPreparedAfterRevocation) if !is_rotation && !matches!(change, Change::Found { .. }) => {
            rows.retain(|row| row.stage != Stage::Prepared);
        }
        Some(M::SignWithTheNewKeyAtOnce) if is_rotation => {
            let (promoted, new) = (rows[1].stage, rows[2].stage);
            (rows[1].stage, rows[2].stage) = (new, promoted);
        }
        Some(M::RetireWithoutPublishing) => retire(&mut rows, |_| Duration::ZERO),
        Some(M::PublishedUntilWithoutLifetime) => retire(&mut rows, |_| policy.leeway()),
        Some(M::PublishedUntilWithoutLeeway) => retire(&mut rows, |row| row.longest_lifetime),
        Some(M::PublishedUntilByThePolicyOfTheDay) => {
            retire(&mut rows, |_| policy.max_token_lifetime() + policy.leeway());
        }
        _ => {}
    }
    rows
}

fn retire(rows: &mut [SigningKey], stays: impl Fn(&SigningKey) -> Duration) {
    for row in rows {
        let stays = stays(row);
        if let Stage::Retired { retired_at, published_until, .. } = &mut row.stage {
            *published_until = retired_at.saturating_add(stays).unwrap();
        }
    }
}

/// Returns the rows that a change of policy writes.
pub(crate) fn under_policy(
    mutation: Option<Mutation>,
    keys: &[SigningKey],
    from: &RotationPolicy,
    policy: &RotationPolicy,
) -> Vec<SigningKey> {
    use Mutation as M;
    let from = if mutation == Some(M::ForgetLeewayOnPolicyCut) { policy } else { from };
    let mut rows = rotation::under_policy(keys, from, policy);
    match mutation {
        Some(M::ForgetLongestLifetimeOnPolicyRaise) => rows.clear(),
        Some(M::ForgetLongestLifetimeOnPolicyCut) => {
            rows = keys.iter().filter(|key| matches!(key.stage, Stage::Active { .. })).cloned().collect();
            rows.iter_mut().for_each(|row| row.longest_lifetime = policy.max_token_lifetime());
        }
        Some(M::ShortenPublishedUntilOnPolicyChange) => {
            rows.extend(keys.iter().filter(|key| matches!(key.stage, Stage::Retired { .. })).cloned());
            for row in &mut rows {
                if let Stage::Retired { retired_at, published_until, .. } = &mut row.stage {
                    let stays = policy.max_token_lifetime() + policy.leeway();
                    *published_until = (*published_until).min(retired_at.saturating_add(stays).unwrap());
                }
            }
        }
        _ => {}
    }
    rows
}
