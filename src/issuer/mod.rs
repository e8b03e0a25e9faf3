//! The issuer: the keys and documents that this process publishes and signs with now.
//!
//! Owns the parsed keys and the serialised documents as one value that is swapped whole, so that no reader
//! sees the documents of one key set and the signers of another. The issuer never changes keys; the rotator
//! does. It never signs with a key state that was not confirmed recently.

pub mod audited;
pub mod jwks_clients;
mod key_set;
pub(crate) mod nudge;
pub mod rotator;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use jiff::Timestamp;
use tracing::field::{Empty, display};

pub use self::key_set::{KeySet, KeyStateError};
use crate::clock_watch::{ClockReading, ClockWatch};
use crate::feed::Feed;
use crate::issuer::jwks_clients::Evidence;
use crate::jose::Algorithm;
use crate::jose::jwk::Kid;
use crate::jose::jws::SigningError;
use crate::metrics::{ClockState, KeyReading, Metrics, MintOutcome, StateReading};
use crate::oidc::audience::Audience;
use crate::oidc::claims::{About, Claims};
use crate::oidc::metadata::Documents;
use crate::oidc::subject::{Context, SubjectError};
use crate::oidc::token::{Presented, SignedToken};
use crate::signing_keys::clock_guard::{ClockDoubt, ClockTrust};
use crate::store::issuer::KeyPulse;
use crate::store::states::{StateError, StateStatus};
use crate::store::vault::Vault;
use crate::values::clock::Clock;
use crate::values::issuer_url::IssuerUrl;
use crate::values::random::{Random, RandomnessUnavailable, Uuids};
use crate::values::secret::SecretString;

/// The time after which a process without a confirmed key state stops minting, because it may be signing with
/// a key that was revoked or retired in the meantime. If the policy's `leeway` is shorter, the leeway
/// applies: a retired key stays published only that much longer than its last token is valid.
pub const STALE_AFTER: Duration = Duration::from_secs(5);

/// The age of the key state at which a process without the maintenance task confirms it before a mint.
const CONFIRM_AFTER: Duration = Duration::from_secs(1);

/// The initial capacity of the buffer for claims. Few tokens have claims longer than this, so the buffer
/// rarely grows.
const USUAL_CLAIMS: usize = 512;

/// The issuer of one database in this process.
#[derive(Debug)]
pub struct Issuer {
    vault: Arc<Vault>,
    clock: Arc<dyn Clock>,
    watch: Arc<ClockWatch>,
    token_identifiers: Uuids,
    current: ArcSwap<KeySet>,
    /// The monotonic time in milliseconds at which `current` was last known to match the database.
    confirmed: AtomicU64,
    /// `true` once the maintenance task confirms the key state regularly.
    is_kept: AtomicBool,
    /// The last reading of the database's pulse.
    pulse: ArcSwap<KeyPulse>,
    health: ArcSwap<Health>,
    evidence: Evidence,
    metrics: Arc<Metrics>,
}

/// The condition of a server, besides its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The reason why the last scheduled rotation failed; `None` if it succeeded.
    pub rotation_error: Option<String>,
    /// The master key of the database's current keys, if this process lacks it.
    pub needs_master_key: Option<String>,
    /// The targets that this process publishes to and could not update at the last attempt, each with the
    /// reason.
    pub publication_errors: BTreeMap<String, String>,
}

/// The reason why a token was not minted.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The subject cannot be built, or is longer than the provider accepts.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// The database has not been reachable, so this process may not know of a revocation.
    #[error(
        "the key state was last confirmed {0:?} ago; nothing is minted until the database is available again"
    )]
    Unconfirmed(Duration),
    /// The database was restored to an older state, or altered.
    #[error("nothing is minted: {0}")]
    Disbelieved(#[from] StateError),
    /// This machine's clock is not trusted.
    #[error("{0}; nothing is minted while the clock is in doubt")]
    Clock(ClockDoubt),
    /// The active key is sealed with another master key.
    #[error("the active {0} key is sealed with a master key that this process does not have")]
    NoSigner(Algorithm),
    /// A copy of the documents, where verifiers find keys, does not show the active key.
    #[error(
        "the active {algorithm} key {kid} is not yet published at {location}: every verifier would refuse its tokens"
    )]
    Unpublished {
        /// The algorithm of the key.
        algorithm: Algorithm,
        /// The active key.
        kid: Kid,
        /// The copy.
        location: String,
    },
    /// The token would be addressed to carnet itself: see [`crate::feeds::FeedsError::OwnAudience`].
    #[error(
        "the feed's audience {0} lies at or below the issuer URL, where carnet's own tokens would be accepted"
    )]
    OwnAudience(Audience),
    /// The feed's lifetime exceeds the policy, which was tightened after the feed was created.
    #[error(
        "the feed's token_lifetime of {lifetime:?} exceeds the key policy's max-token-lifetime of {longest:?}"
    )]
    Lifetime {
        /// The feed's lifetime.
        lifetime: Duration,
        /// The policy's maximum.
        longest: Duration,
    },
    /// There is no randomness for the `jti`.
    #[error(transparent)]
    Randomness(#[from] RandomnessUnavailable),
    /// The claims cannot be serialised.
    #[error("the claims could not be serialised")]
    Claims(#[from] serde_json::Error),
    /// The signature could not be made.
    #[error(transparent)]
    Signing(#[from] SigningError),
}

impl MintError {
    /// Returns the outcome that a mint is counted as.
    fn outcome<T>(minted: &Result<T, Self>) -> MintOutcome {
        match minted {
            Ok(_) => MintOutcome::Minted,
            Err(Self::Subject(_)) => MintOutcome::Subject,
            // A database that is not trusted does not confirm the key state.
            Err(Self::Unconfirmed(_) | Self::Disbelieved(_)) => MintOutcome::Unconfirmed,
            Err(Self::Clock(ClockDoubt::Behind { .. })) => MintOutcome::ClockBehind,
            Err(Self::Clock(ClockDoubt::Ahead { .. } | ClockDoubt::Jumped { .. })) => MintOutcome::ClockAhead,
            Err(Self::NoSigner(_)) => MintOutcome::NoSigner,
            Err(Self::Unpublished { .. }) => MintOutcome::Unpublished,
            Err(Self::OwnAudience(_)) => MintOutcome::Audience,
            Err(Self::Lifetime { .. }) => MintOutcome::Lifetime,
            Err(Self::Randomness(_) | Self::Claims(_) | Self::Signing(_)) => MintOutcome::Internal,
        }
    }
}

impl Issuer {
    /// Loads the current keys. Fails if a row is forged or an algorithm has no active key.
    pub async fn load(
        vault: Arc<Vault>,
        watch: Arc<ClockWatch>,
        random: Arc<dyn Random>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, KeyStateError> {
        let clock = Arc::clone(watch.clock());
        let confirmed = AtomicU64::new(millis(clock.monotonic()));
        let is_kept = AtomicBool::new(false);
        let stored = vault.keys().await?;
        let pruning_time = watch.assess(stored.settings.time(), &stored.settings.policy).pruning_time;
        let pulse = ArcSwap::from_pointee(stored.settings.pulse());
        let health = ArcSwap::from_pointee(Health {
            rotation_error: None,
            needs_master_key: None,
            publication_errors: BTreeMap::new(),
        });
        let current = ArcSwap::from_pointee(KeySet::of(&vault, &stored, pruning_time, None)?);
        let (token_identifiers, evidence) = (Uuids::new(random), Evidence::default());
        Ok(Self {
            vault,
            clock,
            watch,
            token_identifiers,
            current,
            confirmed,
            is_kept,
            pulse,
            health,
            evidence,
            metrics,
        })
    }

    /// The issuer URL.
    #[must_use]
    pub fn url(&self) -> &IssuerUrl {
        self.vault.issuer()
    }

    /// The current keys, signers and documents.
    #[must_use]
    pub fn key_set(&self) -> Arc<KeySet> {
        self.current.load_full()
    }

    /// The current documents.
    #[must_use]
    pub fn documents(&self) -> Arc<Documents> {
        Arc::clone(&self.current.load().documents)
    }

    /// Reads the keys again if another process or the passing of time has changed them. Returns whether they
    /// had changed. After an error, the keys loaded before stay in use.
    pub async fn refresh(&self) -> Result<bool, KeyStateError> {
        self.reload().await
    }

    /// Confirms the key state before a mint if no maintenance task does so, as in a command. Otherwise, after
    /// one or more slow exchanges, the key state would be too old to mint again. A failure is only logged,
    /// because the mint reports it.
    pub(crate) async fn confirm(&self) {
        let is_fresh = self.unconfirmed_for() < CONFIRM_AFTER;
        if is_fresh || self.is_kept.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = self.refresh().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the key state could not be confirmed");
        }
    }

    /// Does the same as [`Issuer::refresh`], and records that the maintenance task confirms the key state
    /// from now on.
    pub(crate) async fn refresh_kept(&self) -> Result<bool, KeyStateError> {
        self.is_kept.store(true, Ordering::Release);
        self.reload().await
    }

    async fn reload(&self) -> Result<bool, KeyStateError> {
        // Read before the query, so that the state confirmed is at least this recent.
        let asked = millis(self.clock.monotonic());
        let pulse = self.vault.store().key_pulse().await?;
        self.pulse.store(Arc::new(pulse));
        self.vault.store().follow_state(pulse.state).await?;
        let current = self.current.load();
        let now = self.clock_reading().pruning_time;
        let pruning_due = current.stale_at.is_some_and(|at| at <= now);
        // A key that could not be decrypted may be readable by now, because its master key may have been
        // provided.
        let incomplete = current.signers.iter().any(Option::is_none);
        let settings = &current.settings;
        let changed = pulse.generation != settings.generation
            || pulse.publications != settings.publications
            || pruning_due;
        if changed || incomplete {
            let stored = self.vault.keys().await?;
            let key_set = KeySet::of(&self.vault, &stored, now, Some(&current))?;
            self.current.store(Arc::new(key_set));
        }
        self.confirmed.fetch_max(asked, Ordering::Release);
        Ok(changed)
    }

    /// The last reading of the database's pulse.
    #[must_use]
    pub fn pulse(&self) -> KeyPulse {
        **self.pulse.load()
    }

    /// The status of the database's state.
    #[must_use]
    pub fn state_status(&self) -> Option<StateStatus> {
        self.vault.store().state_status()
    }

    /// The condition of this server, besides its keys.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        self.health.load_full()
    }

    /// Changes the server's condition. Only the single task behind `Carnet::run` calls this, so no change is
    /// lost between load and store.
    pub(crate) fn note_health(&self, change: impl FnOnce(&mut Health)) {
        let mut health = Health::clone(&self.health.load());
        change(&mut health);
        self.health.store(Arc::new(health));
    }

    /// Returns the documents for a client that fetches the JWKS. The fetch is counted, as evidence of the
    /// client's key set.
    #[must_use]
    pub fn fetch_jwks(&self, user_agent: Option<&HeaderValue>) -> Arc<Documents> {
        // Loaded once, so that the generation counted is the one returned.
        let key_set = self.current.load();
        self.evidence.count(user_agent, key_set.settings.generation, self.clock.now());
        self.metrics.issuance.jwks_fetched();
        Arc::clone(&key_set.documents)
    }

    /// The evidence of the clients that have fetched the JWKS from this process.
    #[must_use]
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The metrics of this issuer.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Reads the state of keys and clock for metrics.
    #[must_use]
    pub fn reading(&self) -> KeyReading {
        let key_set = self.current.load();
        let clock = match self.clock_reading().trust {
            ClockTrust::Behind { .. } => ClockState::Behind,
            ClockTrust::Ahead { .. } => ClockState::Ahead,
            ClockTrust::Jumped { .. } => ClockState::Jumped,
            ClockTrust::Steady => ClockState::Steady,
        };
        KeyReading {
            now: self.clock.now(),
            keys: key_set.keys.clone(),
            policy: key_set.settings.policy,
            unconfirmed: self.unconfirmed_for(),
            clock,
            erasure_pending: self.pulse().erasure_pending,
            locations: key_set.locations.clone(),
            state: self.state_status().map(|status| StateReading {
                n: status.state.n,
                refused: status.refused.is_some(),
                unproved: status.unproved,
                file_failed: status.file_error.is_some(),
            }),
        }
    }

    /// The time since the database last confirmed the key state.
    #[must_use]
    pub fn unconfirmed_for(&self) -> Duration {
        let confirmed = Duration::from_millis(self.confirmed.load(Ordering::Acquire));
        self.clock.monotonic().saturating_sub(confirmed)
    }

    /// Reads the wall clock, with the verdict on it.
    #[must_use]
    pub fn clock_reading(&self) -> ClockReading {
        self.watch.assess(self.pulse.load().time, &self.current.load().settings.policy)
    }

    /// Mints a token for `feed` in `context`.
    ///
    /// # Errors
    ///
    /// Among others, [`MintError::Unconfirmed`] if the key state has not been confirmed for [`STALE_AFTER`]
    /// or the policy's `leeway`, whichever is shorter.
    pub(crate) fn mint(&self, feed: &Feed, context: &Context) -> Result<SignedToken, MintError> {
        let span =
            tracing::info_span!("mint", feed = %feed.path(), alg = %feed.alg, jti = Empty, kid = Empty);
        let minted = span.in_scope(|| self.sign(feed, context));
        if let Ok(token) = &minted {
            span.record("jti", display(token.jti)).record("kid", &token.presented.kid);
        }
        self.metrics.issuance.minted(feed.alg, MintError::outcome(&minted));
        minted
    }

    fn sign(&self, feed: &Feed, context: &Context) -> Result<SignedToken, MintError> {
        let key_set = self.current.load();
        let unconfirmed = self.unconfirmed_for();
        if unconfirmed > STALE_AFTER.min(key_set.settings.policy.leeway()) {
            return Err(MintError::Unconfirmed(unconfirmed));
        }
        self.vault.store().believed()?;
        let longest = key_set.settings.policy.max_token_lifetime();
        if feed.token_lifetime > longest {
            return Err(MintError::Lifetime { lifetime: feed.token_lifetime, longest });
        }
        if feed.audience.is_at_or_below(self.url()) {
            return Err(MintError::OwnAudience(feed.audience.clone()));
        }
        let identity = feed.identity();
        let subject = feed.subject_keys.subject(&identity, context)?;
        if let Some(limit) = feed.provider.subject_limit() {
            subject.check_limit(limit)?;
        }
        let reading = self.watch.assess(self.pulse.load().time, &key_set.settings.policy);
        reading.check_for_minting().map_err(MintError::Clock)?;
        let now = reading.now;
        let jti = self.token_identifiers.next_at(now)?;
        let about = About {
            issuer: self.url(),
            subject: &subject,
            audience: &feed.audience,
            feed: &identity,
            context,
        };
        let claims = Claims::new(about, jti, now, feed.token_lifetime);
        let signer = key_set.signer(feed.alg).ok_or(MintError::NoSigner(feed.alg))?;
        if let Some(location) = key_set.unshown(feed.alg) {
            let (algorithm, kid, location) = (feed.alg, signer.kid().clone(), location.to_owned());
            return Err(MintError::Unpublished { algorithm, kid, location });
        }
        let mut payload = Vec::with_capacity(USUAL_CLAIMS);
        serde_json::to_writer(&mut payload, &claims)?;
        let compact = signer.sign_compact(&payload)?;
        Ok(SignedToken {
            compact: SecretString::new(compact),
            jti,
            issued_at: now,
            expires_at: Timestamp::from_second(claims.expires_at()).unwrap_or(Timestamp::MAX),
            presented: Presented {
                iss: self.url().as_str().to_owned(),
                sub: subject.as_str().to_owned(),
                aud: feed.audience.as_str().to_owned(),
                kid: signer.kid().as_str().to_owned(),
                alg: feed.alg,
            },
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
