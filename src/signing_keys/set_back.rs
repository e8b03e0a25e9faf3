//! The signing keys after the database's time is set back because a wrong clock was trusted.
//!
//! Events stay as they are: a retired key stays retired, a revoked one revoked. Only times in the future
//! change: to the present, or to what the policy allows from there. No time becomes later than it was.

use jiff::Timestamp;

use super::policy::RotationPolicy;
use super::rotation::MAX_PUBLISHED;
use super::{SigningKey, Stage, State};

/// The keys that change when the time turns out to be `now` and not `before`.
///
/// A key that had left the JWKS by the wrong time is published again until its correct time, if there is a
/// slot. Keys that never left have priority.
#[must_use]
pub fn set_back(
    keys: &[SigningKey],
    policy: &RotationPolicy,
    before: Timestamp,
    now: Timestamp,
) -> Vec<SigningKey> {
    let mut after: Vec<SigningKey> = keys.iter().map(|key| at_most(key, policy, now)).collect();
    let published = after.iter().filter(|key| key.is_published(now)).count();
    let mut returned: Vec<usize> = (0..keys.len())
        .filter(|&index| keys[index].state(before) == State::Pruned && after[index].is_published(now))
        .collect();
    returned.sort_by_key(|&index| keys[index].published_until());
    for index in returned.into_iter().take(published.saturating_sub(MAX_PUBLISHED)) {
        if let Stage::Retired { published_until, .. } = &mut after[index].stage {
            *published_until = now;
        }
    }
    after.into_iter().zip(keys).filter(|(after, key)| after != *key).map(|(after, _)| after).collect()
}

fn at_most(key: &SigningKey, policy: &RotationPolicy, now: Timestamp) -> SigningKey {
    let stage = match key.stage {
        Stage::Prepared => Stage::Prepared,
        Stage::Active { activated_at } => Stage::Active { activated_at: activated_at.min(now) },
        Stage::Retired { activated_at, retired_at, published_until } => {
            // The key signed until now at the latest, and no token that it signed under a correct clock lives
            // longer than this.
            let verifiable = key.longest_lifetime + policy.leeway();
            let latest = now.saturating_add(verifiable).unwrap_or(Timestamp::MAX);
            Stage::Retired {
                activated_at: activated_at.min(now),
                retired_at: retired_at.min(now),
                published_until: published_until.min(latest),
            }
        }
        Stage::Revoked { activated_at, revoked_at } => Stage::Revoked {
            activated_at: activated_at.map(|at| at.min(now)),
            revoked_at: revoked_at.min(now),
        },
    };
    // The times since which copies show the key are not in its row; the store sets them back as well.
    let published_at = key.published_at.map(|at| at.min(now));
    SigningKey { prepared_at: key.prepared_at.min(now), published_at, stage, ..key.clone() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::jose::Algorithm;
    use crate::jose::jwk::PublicKey;
    use crate::signing_keys::rotation::{due_at, safe_at};
    use crate::signing_keys::{active, prepared};

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn key(number: u8, prepared_at: i64, stage: Stage) -> SigningKey {
        let public = PublicKey::P256 { x: [number; 32], y: [2; 32] };
        let key = SigningKey::prepared(public, at(prepared_at));
        SigningKey { longest_lifetime: Duration::from_secs(3600), stage, ..key }
    }

    #[test]
    fn times_planned_with_a_wrong_clock_are_planned_again_from_the_present() {
        let policy = RotationPolicy::default();
        let year = 365 * DAY;
        let keys = [
            key(1, 10 * year, Stage::Prepared),
            key(2, -DAY, Stage::Active { activated_at: at(10 * year) }),
            key(
                3,
                -31 * DAY,
                Stage::Retired {
                    activated_at: at(-30 * DAY),
                    retired_at: at(10 * year),
                    published_until: at(10 * year + HOUR + 300),
                },
            ),
            key(4, 10 * year, Stage::Revoked { activated_at: None, revoked_at: at(10 * year) }),
        ];
        let after = set_back(&keys, &policy, at(10 * year), at(0));
        assert_eq!(after.len(), 4);
        let next = prepared(&after, Algorithm::Es256).unwrap();
        assert_eq!(
            (next.prepared_at, active(&after, Algorithm::Es256).unwrap().kid()),
            (at(0), keys[1].kid())
        );
        assert_eq!(due_at(&after, &policy, Algorithm::Es256), Some(at(30 * DAY)));
        assert_eq!(after[2].published_until(), Some(at(HOUR + 300)));
        assert_eq!(after[3].published_until(), Some(at(0)));
        assert!(set_back(&after, &policy, at(0), at(0)).is_empty(), "again changes nothing");
    }

    #[test]
    fn times_before_the_present_are_not_changed() {
        let published_until = at(HOUR);
        let retired = Stage::Retired { activated_at: at(-30 * DAY), retired_at: at(-300), published_until };
        let active = Stage::Active { activated_at: at(-300) };
        let keys = [key(1, -300, Stage::Prepared), key(2, -DAY, active), key(3, -31 * DAY, retired)];
        assert!(set_back(&keys, &RotationPolicy::default(), at(0), at(0)).is_empty());
    }

    #[test]
    fn a_key_that_had_left_by_the_wrong_time_returns_if_there_is_a_slot() {
        let retired = |number, since, until| {
            let stage =
                Stage::Retired { activated_at: at(-DAY), retired_at: at(since), published_until: at(until) };
            key(number, -2 * DAY, stage)
        };
        let mut keys: Vec<_> = (1..=6).map(|number| retired(number, -60, DAY + i64::from(number))).collect();
        keys.extend([key(10, -DAY, Stage::Prepared), retired(7, -60, HOUR), retired(8, -60, 2 * HOUR)]);
        let (policy, now) = (RotationPolicy::default(), at(0));
        let stay = set_back(&keys, &policy, at(DAY), now);
        let cut = stay.iter().find(|key| key.kid() == keys[7].kid()).unwrap();
        assert_eq!(cut.published_until(), Some(now), "the ninth");
        assert!(!stay.iter().any(|key| key.kid() == keys[8].kid() && !key.is_published(now)));
        keys.remove(0);
        let stay = set_back(&keys, &policy, at(DAY), now);
        assert!(!stay.iter().any(|key| !key.is_published(now)), "there is a slot");
    }

    fn stages() -> impl Strategy<Value = SigningKey> {
        let time = || prop_oneof![-40 * DAY..2 * DAY, 300 * DAY..4000 * DAY];
        (0..4_u8, time(), 0..DAY, 0..40 * DAY, 0..3 * HOUR).prop_map(
            |(stage, prepared_at, waits, signs, stays)| {
                let activated_at = at(prepared_at + waits);
                let retired_at = at(prepared_at + waits + signs);
                let published_until = at(prepared_at + waits + signs + stays);
                let stage = match stage {
                    0 => Stage::Prepared,
                    1 => Stage::Active { activated_at },
                    2 => Stage::Retired { activated_at, retired_at, published_until },
                    _ => Stage::Revoked { activated_at: Some(activated_at), revoked_at: retired_at },
                };
                key(1, prepared_at, stage)
            },
        )
    }

    proptest! {
        #[test]
        fn no_key_is_revived_or_planned_later_and_every_planned_event_happens(key in stages()) {
            let (policy, now) = (RotationPolicy::default(), at(0));
            let changed = set_back(std::slice::from_ref(&key), &policy, at(4000 * DAY), now);
            let after = changed.first().unwrap_or(&key);
            let kind = |key: &SigningKey| std::mem::discriminant(&key.stage);
            prop_assert_eq!(kind(after), kind(&key));
            prop_assert_eq!(after.has_private_half(), key.has_private_half());
            prop_assert!(after.prepared_at <= now && after.published_until() <= key.published_until());
            prop_assert!(key.state(now) != State::Pruned || after.state(now) == State::Pruned);
            prop_assert!(after.published_until().is_none_or(|until| until <= at(HOUR + 300)));
            let is_prepared = after.stage == Stage::Prepared;
            prop_assert!(!is_prepared || safe_at(after, &policy) <= Some(at(DAY + 1)));
        }
    }
}
