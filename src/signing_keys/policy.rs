//! The rotation policy: five durations that are only valid together.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The maximum of every duration, ten years. It keeps arithmetic on times from overflowing.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// The interval of rotations, and the times that verifiers get to notice them.
///
/// A value of this type satisfies every rule of [`RotationPolicy::new`]. No other code checks the rules
/// again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "PolicySeconds")]
pub struct RotationPolicy {
    rotate_every: Duration,
    propagation: Duration,
    max_token_lifetime: Duration,
    leeway: Duration,
    jwks_max_age: Duration,
}

/// The durations of a [`RotationPolicy`], not checked yet.
#[derive(Debug, Clone, Copy)]
pub struct PolicyDurations {
    /// The time for which a key signs.
    pub rotate_every: Duration,
    /// The time for which a key is published before it signs.
    pub propagation: Duration,
    /// The maximum lifetime of a token.
    pub max_token_lifetime: Duration,
    /// The maximum difference between the clocks of issuer and verifier.
    pub leeway: Duration,
    /// The `max-age` of the public documents.
    pub jwks_max_age: Duration,
}

/// The reason why a combination of durations would break verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A duration is not a whole number of seconds from 1 second to ten years.
    #[error("`{0}` must be a whole number of seconds, at least 1 and at most ten years")]
    OutOfRange(&'static str),
    /// Caches may hold a key set for longer than a key is published before it signs.
    #[error(
        "`jwks-max-age` ({jwks_max_age:?}) must not exceed `propagation` ({propagation:?}): a verifier could \
         have a key set without the key that already signs; set `propagation` to {jwks_max_age:?} or more"
    )]
    MaxAgeExceedsPropagation {
        /// The given value.
        jwks_max_age: Duration,
        /// The given value.
        propagation: Duration,
    },
    /// The next rotation would come before the prepared key may sign.
    #[error(
        "`rotate-every` ({rotate_every:?}) must not be shorter than `propagation` ({propagation:?}): the \
         next key would not be safe to use when it is due; set `rotate-every` to {propagation:?} or more"
    )]
    RotatesBeforePropagation {
        /// The given value.
        rotate_every: Duration,
        /// The given value.
        propagation: Duration,
    },
    /// Retired keys would accumulate until no slot is free.
    #[error(
        "twice `rotate-every` ({rotate_every:?}) must cover `max-token-lifetime` plus `leeway` ({verifiable:?}): \
         retired keys would fill the key set; set `rotate-every` to {suggestion:?} or more"
    )]
    RetiredKeysPileUp {
        /// The given value.
        rotate_every: Duration,
        /// `max-token-lifetime` plus `leeway`.
        verifiable: Duration,
        /// The minimum `rotate-every` that works.
        suggestion: Duration,
    },
}

impl RotationPolicy {
    /// Checks `durations` together. The error names the rule that they break, and a value that works.
    pub fn new(durations: PolicyDurations) -> Result<Self, PolicyError> {
        let PolicyDurations { rotate_every, propagation, max_token_lifetime, leeway, jwks_max_age } =
            durations;
        for (name, duration) in [
            ("rotate-every", rotate_every),
            ("propagation", propagation),
            ("max-token-lifetime", max_token_lifetime),
            ("leeway", leeway),
            ("jwks-max-age", jwks_max_age),
        ] {
            if duration < Duration::from_secs(1) || duration > LONGEST || duration.subsec_nanos() != 0 {
                return Err(PolicyError::OutOfRange(name));
            }
        }
        if jwks_max_age > propagation {
            return Err(PolicyError::MaxAgeExceedsPropagation { jwks_max_age, propagation });
        }
        if rotate_every < propagation {
            return Err(PolicyError::RotatesBeforePropagation { rotate_every, propagation });
        }
        let verifiable = max_token_lifetime + leeway;
        if 2 * rotate_every < verifiable {
            let suggestion = Duration::from_secs(verifiable.as_secs().div_ceil(2));
            return Err(PolicyError::RetiredKeysPileUp { rotate_every, verifiable, suggestion });
        }
        Ok(Self { rotate_every, propagation, max_token_lifetime, leeway, jwks_max_age })
    }

    /// The durations of the policy, to change some of them.
    #[must_use]
    pub fn durations(&self) -> PolicyDurations {
        let Self { rotate_every, propagation, max_token_lifetime, leeway, jwks_max_age } = *self;
        PolicyDurations { rotate_every, propagation, max_token_lifetime, leeway, jwks_max_age }
    }

    /// The time for which a key signs before the next one takes over.
    #[must_use]
    pub fn rotate_every(&self) -> Duration {
        self.rotate_every
    }

    /// The time for which a key is published before it signs. It is the maximum age of a key set that a
    /// verifier holds.
    #[must_use]
    pub fn propagation(&self) -> Duration {
        self.propagation
    }

    /// The maximum lifetime of a token.
    #[must_use]
    pub fn max_token_lifetime(&self) -> Duration {
        self.max_token_lifetime
    }

    /// The maximum difference between the clocks of issuer and verifier.
    #[must_use]
    pub fn leeway(&self) -> Duration {
        self.leeway
    }

    /// The maximum by which a clock may be beyond the database's high-water time and still be trusted without
    /// being accepted: `rotate-every`, and at least a day, because a server may be off for a night.
    #[must_use]
    pub fn largest_step(&self) -> Duration {
        self.rotate_every.max(DAY)
    }

    /// The `max-age` of the public documents.
    #[must_use]
    pub fn jwks_max_age(&self) -> Duration {
        self.jwks_max_age
    }
}

impl fmt::Display for RotationPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "rotate-every {} s, propagation {} s, max-token-lifetime {} s, leeway {} s, jwks-max-age {} s",
            self.rotate_every.as_secs(),
            self.propagation.as_secs(),
            self.max_token_lifetime.as_secs(),
            self.leeway.as_secs(),
            self.jwks_max_age.as_secs()
        )
    }
}

impl Default for RotationPolicy {
    fn default() -> Self {
        Self {
            rotate_every: 30 * DAY,
            propagation: DAY,
            max_token_lifetime: HOUR,
            leeway: 5 * MINUTE,
            jwks_max_age: 5 * MINUTE,
        }
    }
}

/// The policy as JSON, in whole seconds.
#[derive(Serialize)]
struct PolicySeconds {
    rotate_every: u64,
    propagation: u64,
    max_token_lifetime: u64,
    leeway: u64,
    jwks_max_age: u64,
}

impl From<RotationPolicy> for PolicySeconds {
    fn from(policy: RotationPolicy) -> Self {
        Self {
            rotate_every: policy.rotate_every.as_secs(),
            propagation: policy.propagation.as_secs(),
            max_token_lifetime: policy.max_token_lifetime.as_secs(),
            leeway: policy.leeway.as_secs(),
            jwks_max_age: policy.jwks_max_age.as_secs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durations(change: impl FnOnce(&mut PolicyDurations)) -> PolicyDurations {
        let default = RotationPolicy::default();
        let mut durations = PolicyDurations {
            rotate_every: default.rotate_every,
            propagation: default.propagation,
            max_token_lifetime: default.max_token_lifetime,
            leeway: default.leeway,
            jwks_max_age: default.jwks_max_age,
        };
        change(&mut durations);
        durations
    }

    #[test]
    fn the_default_policy_satisfies_its_own_rules() {
        assert_eq!(RotationPolicy::new(durations(|_| ())), Ok(RotationPolicy::default()));
    }

    #[test]
    fn each_rule_refuses_its_violation_and_its_suggestion_works() {
        let too_old_caches = durations(|d| d.jwks_max_age = 2 * DAY);
        assert!(matches!(
            RotationPolicy::new(too_old_caches),
            Err(PolicyError::MaxAgeExceedsPropagation { .. })
        ));

        let too_quick = durations(|d| d.rotate_every = HOUR);
        assert!(matches!(RotationPolicy::new(too_quick), Err(PolicyError::RotatesBeforePropagation { .. })));

        let piling_up = durations(|d| {
            (d.rotate_every, d.propagation, d.max_token_lifetime) = (2 * DAY, DAY, 7 * DAY);
        });
        let Err(PolicyError::RetiredKeysPileUp { suggestion, .. }) = RotationPolicy::new(piling_up) else {
            panic!("accepted");
        };
        assert!(RotationPolicy::new(PolicyDurations { rotate_every: suggestion, ..piling_up }).is_ok());

        for zeroed in [
            durations(|d| d.rotate_every = Duration::ZERO),
            durations(|d| d.leeway = Duration::from_millis(1500)),
            durations(|d| d.rotate_every = 2 * LONGEST),
        ] {
            assert!(matches!(RotationPolicy::new(zeroed), Err(PolicyError::OutOfRange(_))));
        }
    }
}
