//! The issuer: what it publishes and what it signs, at this moment, in this process.
//!
//! Owns the parsed keys and the pre-serialised documents as one value that is swapped whole, so that
//! no reader ever sees documents of one key set and signers of another. It never changes keys: that
//! is the rotator's work. It never signs with a state that it has not confirmed lately.

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

/// A process that has not seen the key state for this long may be signing with a key that was
/// revoked or retired meanwhile, and stops; sooner if the policy's `leeway` is shorter, because that is
/// how much longer than its last token a retired key stays published.
pub const STALE_AFTER: Duration = Duration::from_secs(5);

/// Where no maintenance task confirms the key state, a mint does so when it is older than this.
const CONFIRM_AFTER: Duration = Duration::from_secs(1);

/// Few tokens' claims have more bytes than this; a buffer of this size does not have to grow for them.
const USUAL_CLAIMS: usize = 512;

/// The issuer of one database in this process.
#[derive(Debug)]
pub struct Issuer {
    vault: Arc<Vault>,
    clock: Arc<dyn Clock>,
    watch: Arc<ClockWatch>,
    token_identifiers: Uuids,
    current: ArcSwap<KeySet>,
    /// Monotonic milliseconds at which `current` was last known to be what the database holds.
    confirmed: AtomicU64,
    /// Whether a maintenance task confirms the state, again and again.
    is_kept: AtomicBool,
    /// What the database said last.
    pulse: ArcSwap<KeyPulse>,
    health: ArcSwap<Health>,
    evidence: Evidence,
    metrics: Arc<Metrics>,
}

/// What a server shows of itself beyond its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Why the last scheduled rotation failed, if it did.
    pub rotation_error: Option<String>,
    /// The master key that this process lacks to open the database's present keys, if it does.
    pub needs_master_key: Option<String>,
    /// Why a place that this process publishes at was last not brought up to date, by its name.
    pub publication_errors: BTreeMap<String, String>,
}

/// A token was not minted.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The subject cannot be made, or is longer than the provider takes.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// The database has not been reachable: this process may not know of a revocation.
    #[error(
        "the key state was last confirmed {0:?} ago; nothing is minted before the database answers again"
    )]
    Unconfirmed(Duration),
    /// The database was put back to an older one, or altered.
    #[error("nothing is minted: {0}")]
    Disbelieved(#[from] StateError),
    /// This machine's clock is not believed.
    #[error("{0}; nothing is minted by a clock that is not believed")]
    Clock(ClockDoubt),
    /// The active key is sealed with another master key.
    #[error("the active {0} key is sealed with a master key that this process does not have")]
    NoSigner(Algorithm),
    /// A copy of the documents, where verifiers look, does not show the active key.
    #[error(
        "the active {algorithm} key {kid} is not yet published at {place}: every verifier would refuse its tokens"
    )]
    Unpublished {
        /// What it signs with.
        algorithm: Algorithm,
        /// The key.
        kid: Kid,
        /// The copy.
        place: String,
    },
    /// The token would be addressed to carnet itself: see [`crate::feeds::FeedsError::OwnAudience`].
    #[error(
        "the feed's audience {0} lies at or below the issuer URL, where carnet's own tokens would be accepted"
    )]
    OwnAudience(Audience),
    /// The feed's lifetime exceeds the policy, which was tightened after the feed was made.
    #[error(
        "the feed's token_lifetime of {lifetime:?} exceeds the key policy's max-token-lifetime of {longest:?}"
    )]
    Lifetime {
        /// The feed's.
        lifetime: Duration,
        /// The policy's.
        longest: Duration,
    },
    /// No `jti`.
    #[error(transparent)]
    Randomness(#[from] RandomnessUnavailable),
    /// The claims cannot be serialised.
    #[error("the claims could not be serialised")]
    Claims(#[from] serde_json::Error),
    /// No signature.
    #[error(transparent)]
    Signing(#[from] SigningError),
}

impl MintError {
    /// What a mint is counted as.
    fn outcome<T>(minted: &Result<T, Self>) -> MintOutcome {
        match minted {
            Ok(_) => MintOutcome::Minted,
            Err(Self::Subject(_)) => MintOutcome::Subject,
            // An earlier state of the keys is none that is confirmed.
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
    /// Loads the current keys.
    ///
    /// # Errors
    ///
    /// [`KeyStateError`] when they cannot be read, a row is forged, or an algorithm has none.
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
        let pruning_time = watch.look(stored.settings.time(), &stored.settings.policy).pruning_time;
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

    /// Who issues.
    #[must_use]
    pub fn url(&self) -> &IssuerUrl {
        self.vault.issuer()
    }

    /// Keys, signers and documents of this moment.
    #[must_use]
    pub fn key_set(&self) -> Arc<KeySet> {
        self.current.load_full()
    }

    /// The documents of this moment.
    #[must_use]
    pub fn documents(&self) -> Arc<Documents> {
        Arc::clone(&self.current.load().documents)
    }

    /// Reads the keys again if another process, or time, has changed what they are. Says whether
    /// anything was swapped.
    ///
    /// # Errors
    ///
    /// [`KeyStateError`]; what was loaded before stays in use.
    pub async fn refresh(&self) -> Result<bool, KeyStateError> {
        self.reload().await
    }

    /// Asks the database before a mint where no maintenance task does, as in a command: there an exchange that takes its time, or
    /// several, would leave a state behind that was confirmed too long ago to mint again. What comes of it, the mint says.
    pub(crate) async fn confirm(&self) {
        let is_fresh = self.unconfirmed_for() < CONFIRM_AFTER;
        if is_fresh || self.is_kept.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = self.refresh().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the key state could not be confirmed");
        }
    }

    /// As [`Issuer::refresh`], by a maintenance task, which goes on doing so.
    pub(crate) async fn refresh_kept(&self) -> Result<bool, KeyStateError> {
        self.is_kept.store(true, Ordering::Release);
        self.reload().await
    }

    async fn reload(&self) -> Result<bool, KeyStateError> {
        // Taken before reading: what the answer confirms is at least this recent.
        let asked = millis(self.clock.monotonic());
        let pulse = self.vault.store().key_pulse().await?;
        self.pulse.store(Arc::new(pulse));
        self.vault.store().follow_state(pulse.state).await?;
        let current = self.current.load();
        let now = self.clock_reading().pruning_time;
        let pruning_due = current.stale_at.is_some_and(|at| at <= now);
        // A key that could not be opened may be by now: its master key may have been put in place.
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

    /// What the database said when it was last asked.
    #[must_use]
    pub fn pulse(&self) -> KeyPulse {
        **self.pulse.load()
    }

    /// What there is to show of the database's state.
    #[must_use]
    pub fn state_status(&self) -> Option<StateStatus> {
        self.vault.store().state_status()
    }

    /// What a server shows of itself beyond its keys.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        self.health.load_full()
    }

    /// Changes what is shown. Only called by what `Carnet::run` runs, which is one task: nothing is lost between
    /// load and store.
    pub(crate) fn note_health(&self, change: impl FnOnce(&mut Health)) {
        let mut health = Health::clone(&self.health.load());
        change(&mut health);
        self.health.store(Arc::new(health));
    }

    /// The documents, for a client that fetches the JWKS. The fetch is counted, as evidence of who holds
    /// which key set.
    #[must_use]
    pub fn fetch_jwks(&self, user_agent: Option<&HeaderValue>) -> Arc<Documents> {
        // Loaded once: what is counted is the generation that is answered.
        let key_set = self.current.load();
        self.evidence.count(user_agent, key_set.settings.generation, self.clock.now());
        self.metrics.issuance.jwks_fetched();
        Arc::clone(&key_set.documents)
    }

    /// Who has fetched the JWKS from this process.
    #[must_use]
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// What is counted of this issuer.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// What there is to show of keys and clock now.
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
            places: key_set.places.clone(),
            state: self.state_status().map(|status| StateReading {
                n: status.state.n,
                refused: status.refused.is_some(),
                unproved: status.unproved,
                file_failed: status.file_error.is_some(),
            }),
        }
    }

    /// How long ago the key state was last confirmed by the database.
    #[must_use]
    pub fn unconfirmed_for(&self) -> Duration {
        let confirmed = Duration::from_millis(self.confirmed.load(Ordering::Acquire));
        self.clock.monotonic().saturating_sub(confirmed)
    }

    /// The wall clock, and how far it can be believed.
    #[must_use]
    pub fn clock_reading(&self) -> ClockReading {
        self.watch.look(self.pulse.load().time, &self.current.load().settings.policy)
    }

    /// Mints a token for `feed` in `context`.
    ///
    /// # Errors
    ///
    /// [`MintError`] when the context lacks what the subject needs, the subject is too long for the
    /// provider, or the key state has not been confirmed for [`STALE_AFTER`].
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
        let reading = self.watch.look(self.pulse.load().time, &key_set.settings.policy);
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
        if let Some(place) = key_set.unshown(feed.alg) {
            let (algorithm, kid, place) = (feed.alg, signer.kid().clone(), place.to_owned());
            return Err(MintError::Unpublished { algorithm, kid, place });
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
