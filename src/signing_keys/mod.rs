//! Signing keys and the events that move them from one state to the next.
//!
//! Pure: `now` is an argument and nothing is async. States follow from recorded events; the only
//! function of time is whether a retired key is still published. A key's private half is not here
//! at all: it is sealed in the store while the key is prepared or active, and nowhere afterwards.

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

/// A signing key: its public half and what has happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// The public half.
    pub public: PublicKey,
    /// When it was made, and servers began to publish it.
    pub prepared_at: Timestamp,
    /// Since when every place where verifiers look shows it: `prepared_at`, or later if copies of the
    /// documents are kept elsewhere; `None` while one of them does not show it. Not a column of the key's
    /// row: see [`publication`].
    pub published_at: Option<Timestamp>,
    /// The longest token lifetime that it may have been used with, and more if the policy's `leeway`
    /// has been lowered since; only ever grows.
    pub longest_lifetime: Duration,
    /// What has happened since.
    pub stage: Stage,
}

/// What has happened to a key since it was prepared. Each stage holds just the events that led there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Published, not yet signing.
    Prepared,
    /// Signing.
    Active {
        /// When it began to sign.
        activated_at: Timestamp,
    },
    /// Verifying only; the private half is destroyed.
    Retired {
        /// When it began to sign.
        activated_at: Timestamp,
        /// When it ceased to sign.
        retired_at: Timestamp,
        /// When it leaves the JWKS: fixed at retirement, never shortened.
        published_until: Timestamp,
    },
    /// Out of the JWKS at once; the private half is destroyed.
    Revoked {
        /// When it began to sign, if it ever did.
        activated_at: Option<Timestamp>,
        /// When it was revoked.
        revoked_at: Timestamp,
    },
}

/// A key's state, as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Published, not yet signing.
    Prepared,
    /// Signing.
    Active,
    /// Published, verifying only.
    Retired,
    /// No longer published.
    Pruned,
    /// Withdrawn in an emergency.
    Revoked,
}

impl State {
    /// The state's name in tables and JSON.
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
    /// A key whose publication begins at `now`.
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

    /// What the key signs with.
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

    /// Whether the JWKS holds the key at `now`.
    #[must_use]
    pub fn is_published(&self, now: Timestamp) -> bool {
        matches!(self.state(now), State::Prepared | State::Active | State::Retired)
    }

    /// Whether a private half exists.
    #[must_use]
    pub fn has_private_half(&self) -> bool {
        matches!(self.stage, Stage::Prepared | Stage::Active { .. })
    }

    /// Returns whether the row of a retired key would keep it published for longer than its retirement and its longest token
    /// allow. `latest` is the latest time that is known to have been; a clock may have been ahead of it by up to
    /// `rotate_every` when the key retired. What has left the JWKS at `now` is not looked at.
    #[must_use]
    pub fn overstays(&self, policy: &RotationPolicy, now: Timestamp, latest: Timestamp) -> bool {
        let Stage::Retired { retired_at, published_until, .. } = self.stage else { return false };
        let later = |time: Timestamp, by| time.saturating_add(by).unwrap_or(Timestamp::MAX);
        let retired_at = retired_at.min(later(latest, policy.rotate_every()));
        let allowed = later(later(retired_at, self.longest_lifetime), policy.leeway());
        published_until > now && published_until > allowed
    }

    /// When the key leaves the JWKS, once that is known.
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

/// The keys that the JWKS holds at `now`, never more than [`rotation::MAX_PUBLISHED`].
///
/// RS256 comes first, which every verifier can read; of an algorithm the active key leads, then the prepared one, then
/// those that retired, latest first. So verifiers that try keys in order, or look at the first one alone, find what
/// signs now.
///
/// A clock that is set back brings pruned keys back. Where their slots have been given away since, they
/// stay pruned: those that were to leave first.
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

/// The first moment after `now` at which time alone changes what is published.
#[must_use]
pub fn next_pruning(keys: &[SigningKey], now: Timestamp) -> Option<Timestamp> {
    keys.iter().filter(|key| key.state(now) == State::Retired).filter_map(SigningKey::published_until).min()
}
