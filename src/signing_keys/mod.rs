//! Signing keys and the events that change their state.
//!
//! Pure: `now` is an argument and nothing is async. States follow from recorded events. Time alone decides
//! only one thing: whether a retired key is still published. Private halves are not here: the store seals
//! them while a key is prepared or active, and they do not exist afterwards.

pub mod clock_guard;
pub mod policy;
pub mod pruning_clock;
pub mod publication;
pub mod rotation;
pub mod set_back;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::policy::RotationPolicy;
use crate::jose::Algorithm;
use crate::jose::jwk::{Kid, PublicKey};

/// A signing key: its public half and its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// The public half.
    pub public: PublicKey,
    /// The time when the key was made and servers began to publish it.
    pub prepared_at: Timestamp,
    /// The time since which every location where verifiers find keys shows this one: `prepared_at`, or later if
    /// copies of the documents are kept elsewhere; `None` while one of them does not show it. Not a column of
    /// the key's row: see [`publication`].
    pub published_at: Option<Timestamp>,
    /// The longest token lifetime that the key may have been used with, and more if the policy's `leeway` has
    /// been lowered since. It only ever grows.
    pub longest_lifetime: Duration,
    /// The stage, with its events.
    pub stage: Stage,
}

/// The stages of a key. Each stage holds exactly the events that led to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The key is published and does not sign yet.
    Prepared,
    /// The key signs.
    Active {
        /// The time when the key began to sign.
        activated_at: Timestamp,
    },
    /// The key only verifies; its private half is destroyed.
    Retired {
        /// The time when the key began to sign.
        activated_at: Timestamp,
        /// The time when the key stopped signing.
        retired_at: Timestamp,
        /// The time when the key leaves the JWKS, fixed at retirement and never shortened.
        published_until: Timestamp,
    },
    /// The key has left the JWKS immediately; its private half is destroyed.
    Revoked {
        /// The time when the key began to sign, if it ever did.
        activated_at: Option<Timestamp>,
        /// The time of the revocation.
        revoked_at: Timestamp,
    },
}

/// A key's state as shown to users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The key is published and does not sign yet.
    Prepared,
    /// The key signs.
    Active,
    /// The key is published and only verifies.
    Retired,
    /// The key has left the JWKS after its retirement.
    Pruned,
    /// The key was revoked in an emergency.
    Revoked,
}

impl State {
    /// The name in tables and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Pruned => "pruned",
            Self::Revoked => "revoked",
        }
    }
}

impl SigningKey {
    /// A new key whose publication begins at `now`.
    #[must_use]
    pub fn prepared(public: PublicKey, now: Timestamp) -> Self {
        Self {
            public,
            prepared_at: now,
            published_at: Some(now),
            longest_lifetime: Duration::ZERO,
            stage: Stage::Prepared,
        }
    }

    /// The key's identifier.
    #[must_use]
    pub fn kid(&self) -> Kid {
        self.public.thumbprint()
    }

    /// The algorithm that the key signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.public.algorithm()
    }

    /// The key's state at `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> State {
        match self.stage {
            Stage::Prepared => State::Prepared,
            Stage::Active { .. } => State::Active,
            Stage::Retired { published_until, .. } if published_until > now => State::Retired,
            Stage::Retired { .. } => State::Pruned,
            Stage::Revoked { .. } => State::Revoked,
        }
    }

    /// Returns whether the JWKS contains the key at `now`.
    #[must_use]
    pub fn is_published(&self, now: Timestamp) -> bool {
        matches!(self.state(now), State::Prepared | State::Active | State::Retired)
    }

    /// Returns whether the key's private half exists.
    #[must_use]
    pub fn has_private_half(&self) -> bool {
        matches!(self.stage, Stage::Prepared | Stage::Active { .. })
    }

    /// Returns whether the row of a retired key would keep it published for longer than its retirement and
    /// its longest token allow. `latest` is the latest time known to have passed; the clock may have been
    /// ahead of it by up to `rotate_every` when the key retired. Returns `false` for keys that have left the
    /// JWKS at `now`.
    #[must_use]
    pub fn overstays(&self, policy: &RotationPolicy, now: Timestamp, latest: Timestamp) -> bool {
        let Stage::Retired { retired_at, published_until, .. } = self.stage else { return false };
        let later = |time: Timestamp, by| time.saturating_add(by).unwrap_or(Timestamp::MAX);
        let retired_at = retired_at.min(later(latest, policy.rotate_every()));
        let allowed = later(later(retired_at, self.longest_lifetime), policy.leeway());
        published_until > now && published_until > allowed
    }

    /// The time when the key leaves or left the JWKS, if known.
    #[must_use]
    pub fn published_until(&self) -> Option<Timestamp> {
        match self.stage {
            Stage::Prepared | Stage::Active { .. } => None,
            Stage::Retired { published_until, .. } => Some(published_until),
            Stage::Revoked { revoked_at, .. } => Some(revoked_at),
        }
    }
}

/// The key of `algorithm` that signs.
#[must_use]
pub fn active(keys: &[SigningKey], algorithm: Algorithm) -> Option<&SigningKey> {
    keys.iter().find(|key| key.algorithm() == algorithm && matches!(key.stage, Stage::Active { .. }))
}

/// The key of `algorithm` that signs next.
#[must_use]
pub fn prepared(keys: &[SigningKey], algorithm: Algorithm) -> Option<&SigningKey> {
    keys.iter().find(|key| key.algorithm() == algorithm && matches!(key.stage, Stage::Prepared))
}

/// The keys in the JWKS at `now`, never more than [`rotation::MAX_PUBLISHED`].
///
/// RS256 keys come first, because every verifier can read them. Within an algorithm the order is: the active
/// key, the prepared one, and the retired ones, latest first. So a verifier that tries keys in order, or
/// reads only the first one, finds the key that signs now.
///
/// A clock that is set back brings pruned keys back. If their slots are in use by then, the keys that were to
/// leave first stay pruned.
#[must_use]
pub fn published(keys: &[SigningKey], now: Timestamp) -> Vec<&SigningKey> {
    let mut published: Vec<&SigningKey> = keys.iter().filter(|key| key.is_published(now)).collect();
    while published.len() > rotation::MAX_PUBLISHED {
        let retired = published.iter().enumerate().filter(|(_, key)| key.published_until().is_some());
        let Some((first, _)) = retired.min_by_key(|(_, key)| key.published_until()) else { break };
        published.remove(first);
    }
    published.sort_by_key(|key| {
        let (rank, retired_at) = match key.stage {
            Stage::Active { .. } => (0, None),
            Stage::Prepared => (1, None),
            Stage::Retired { retired_at, .. } => (2, Some(retired_at)),
            Stage::Revoked { .. } => (3, None),
        };
        let algorithm = Algorithm::ALL.iter().position(|algorithm| *algorithm == key.algorithm());
        (algorithm, rank, std::cmp::Reverse(retired_at))
    });
    published
}

/// The first time after `now` at which a key leaves the JWKS without any event.
#[must_use]
pub fn next_pruning(keys: &[SigningKey], now: Timestamp) -> Option<Timestamp> {
    keys.iter().filter(|key| key.state(now) == State::Retired).filter_map(SigningKey::published_until).min()
}
