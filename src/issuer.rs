//! The issuer: what it publishes and what it signs, at this moment, in this process.
//!
//! Owns the parsed keys and the pre-serialised documents as one value that is swapped whole, so that
//! no reader ever sees documents of one key set and signers of another. It never changes keys: that
//! is the rotator's work. It never signs with a state that it has not confirmed lately.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use jiff::Timestamp;
use tracing::field::{Empty, display};

use crate::clock::Clock;
use crate::evidence::Evidence;
use crate::feed::Feed;
use crate::issuer_url::IssuerUrl;
use crate::jose::Algorithm;
use crate::jose::jwk::{Kid, PublicKey};
use crate::jose::jws::{Signer, SigningError};
use crate::metrics::{ClockState, KeyReading, Metrics, MintOutcome};
use crate::oidc::claims::{About, Claims};
use crate::oidc::metadata::Documents;
use crate::oidc::subject::{Context, SubjectError};
use crate::oidc::token::{Presented, SignedToken};
use crate::random::{Random, RandomnessUnavailable, Uuids};
use crate::secret::SecretString;
use crate::signing_keys::clock_guard::{ClockTrust, is_behind};
use crate::signing_keys::{self, SigningKey, State};
use crate::store::StoreError;
use crate::store::issuer::{KeyPulse, KeySettings};
use crate::store::sealed::SealError;
use crate::store::signing_keys::StoredKeys;
use crate::store::vault::Vault;

/// A process that has not seen the key state for this long may be signing with a key that was
/// revoked or retired meanwhile, and stops; sooner if the policy's `leeway` is shorter, because that is
/// how much longer than its last token a retired key stays published.
pub const STALE_AFTER: Duration = Duration::from_secs(5);

/// Few tokens' claims have more bytes than this; a buffer of this size does not have to grow for them.
const USUAL_CLAIMS: usize = 512;

/// The issuer of one database in this process.
#[derive(Debug)]
pub struct Issuer {
    vault: Arc<Vault>,
    clock: Arc<dyn Clock>,
    token_identifiers: Uuids,
    current: ArcSwap<KeySet>,
    /// Monotonic milliseconds at which `current` was last known to be what the database holds.
    confirmed: AtomicU64,
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
    /// Whether the wall clock is believed.
    pub clock: ClockTrust,
}

/// Keys, signers and documents that belong together.
#[derive(Debug)]
pub struct KeySet {
    /// Policy and generation that they were read with.
    pub settings: KeySettings,
    /// Every key, oldest first.
    pub keys: Vec<SigningKey>,
    /// What is published.
    pub documents: Arc<Documents>,
    /// The active key of each algorithm, in the order of [`Algorithm::ALL`]; `None` if it is sealed
    /// with a master key that this process does not have.
    signers: [Option<Signer>; Algorithm::ALL.len()],
    /// When time alone will change what is published.
    stale_at: Option<Timestamp>,
}

/// The key state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyStateError {
    /// It cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An algorithm has no key that signs.
    #[error("there is no active {0} key")]
    NoActiveKey(Algorithm),
    /// The documents cannot be serialised.
    #[error("the public documents could not be serialised")]
    Documents(#[from] serde_json::Error),
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
    /// This machine's clock is behind what the database has seen.
    #[error(
        "this machine's clock says {now}, but it has been {high_water} already; nothing is minted by a clock that is behind"
    )]
    ClockBehind {
        /// The wall clock.
        now: Timestamp,
        /// The database's high-water time.
        high_water: Timestamp,
    },
    /// The active key is sealed with another master key.
    #[error("the active {0} key is sealed with a master key that this process does not have")]
    NoSigner(Algorithm),
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
            Err(Self::Unconfirmed(_)) => MintOutcome::Unconfirmed,
            Err(Self::ClockBehind { .. }) => MintOutcome::ClockBehind,
            Err(Self::NoSigner(_)) => MintOutcome::NoSigner,
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
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, KeyStateError> {
        let confirmed = AtomicU64::new(millis(clock.monotonic()));
        let stored = vault.keys().await?;
        let pulse = ArcSwap::from_pointee(stored.settings.pulse());
        let health = ArcSwap::from_pointee(Health { rotation_error: None, clock: ClockTrust::Steady });
        let current = ArcSwap::from_pointee(KeySet::of(&vault, &stored, clock.now(), None)?);
        let (token_identifiers, evidence) = (Uuids::new(random), Evidence::default());
        Ok(Self { vault, clock, token_identifiers, current, confirmed, pulse, health, evidence, metrics })
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
        self.refresh_at(self.clock.now()).await
    }

    /// As [`Issuer::refresh`], with keys pruned by the time that the keeper believes.
    pub(crate) async fn refresh_at(&self, now: Timestamp) -> Result<bool, KeyStateError> {
        // Taken before reading: what the answer confirms is at least this recent.
        let asked = millis(self.clock.monotonic());
        let pulse = self.vault.store().key_pulse().await?;
        self.pulse.store(Arc::new(pulse));
        let current = self.current.load();
        let pruning_due = current.stale_at.is_some_and(|at| at <= now);
        // A key that could not be opened may be by now: its master key may have been put in place.
        let incomplete = current.signers.iter().any(Option::is_none);
        let changed = pulse.generation != current.settings.generation || pruning_due;
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

    /// What a server shows of itself beyond its keys.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        self.health.load_full()
    }

    /// Changes what is shown. Called by the keeper alone, so nothing is lost between load and store.
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
        let clock = match self.health.load().clock {
            _ if self.ahead_of_clock().is_some() => ClockState::Behind,
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
        }
    }

    /// How long ago the key state was last confirmed by the database.
    #[must_use]
    pub fn unconfirmed_for(&self) -> Duration {
        let confirmed = Duration::from_millis(self.confirmed.load(Ordering::Acquire));
        self.clock.monotonic().saturating_sub(confirmed)
    }

    /// The database's high-water time if this machine's clock is further behind it than clocks may
    /// disagree.
    #[must_use]
    pub fn ahead_of_clock(&self) -> Option<Timestamp> {
        self.ahead_of(self.clock.now(), &self.current.load())
    }

    fn ahead_of(&self, now: Timestamp, key_set: &KeySet) -> Option<Timestamp> {
        let high_water = self.pulse.load().high_water;
        is_behind(now, high_water, key_set.settings.policy.leeway()).then_some(high_water)
    }

    /// Mints a token for `feed` in `context`.
    ///
    /// # Errors
    ///
    /// [`MintError`] when the context lacks what the subject needs, the subject is too long for the
    /// provider, or the key state has not been confirmed for [`STALE_AFTER`].
    pub fn mint(&self, feed: &Feed, context: &Context) -> Result<SignedToken, MintError> {
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
        let longest = key_set.settings.policy.max_token_lifetime();
        if feed.token_lifetime > longest {
            return Err(MintError::Lifetime { lifetime: feed.token_lifetime, longest });
        }
        let identity = feed.identity();
        let subject = feed.subject_keys.subject(&identity, context)?;
        if let Some(limit) = feed.provider.subject_limit() {
            subject.check_limit(limit)?;
        }
        let now = self.clock.now();
        if let Some(high_water) = self.ahead_of(now, &key_set) {
            return Err(MintError::ClockBehind { now, high_water });
        }
        let jti = self.token_identifiers.next()?;
        let about = About {
            issuer: self.url(),
            subject: &subject,
            audience: &feed.audience,
            feed: &identity,
            context,
        };
        let claims = Claims::new(about, jti, now, feed.token_lifetime);
        let signer = key_set.signer(feed.alg).ok_or(MintError::NoSigner(feed.alg))?;
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

impl KeySet {
    /// The key set that `stored` describes. A signer of `before` is kept rather than parsed again.
    fn of(
        vault: &Vault,
        stored: &StoredKeys,
        now: Timestamp,
        before: Option<&Self>,
    ) -> Result<Self, KeyStateError> {
        let keys = stored.public();
        let signer = |algorithm: Algorithm| -> Result<Option<Signer>, KeyStateError> {
            let active = stored
                .keys
                .iter()
                .find(|stored| stored.key.algorithm() == algorithm && stored.key.state(now) == State::Active)
                .ok_or(KeyStateError::NoActiveKey(algorithm))?;
            let kept = before.and_then(|before| before.signer(algorithm));
            if let Some(kept) = kept.filter(|signer| *signer.kid() == active.key.kid()) {
                return Ok(Some(kept.clone()));
            }
            match vault.signer(active) {
                // Publishing must go on, above all after a revocation: only minting stops.
                Err(StoreError::Seal(error @ SealError::OtherMasterKey { .. })) if before.is_some() => {
                    tracing::error!(%error, %algorithm, "nothing is minted with this algorithm");
                    Ok(None)
                }
                opened => opened?.ok_or(KeyStateError::NoActiveKey(algorithm)).map(Some),
            }
        };
        let [rs256, es256] = Algorithm::ALL;
        let signers = [signer(rs256)?, signer(es256)?];
        let published = signing_keys::published(&keys, now).into_iter().map(|key| &key.public);
        let max_age = stored.settings.policy.jwks_max_age();
        let documents = Documents::new(vault.issuer(), published, &Algorithm::ALL, max_age)?;
        Ok(Self {
            settings: stored.settings,
            documents: Arc::new(documents),
            signers,
            stale_at: signing_keys::next_pruning(&keys, now),
            keys,
        })
    }

    /// The key that signs with `algorithm`, if this process can open it.
    #[must_use]
    pub fn signer(&self, algorithm: Algorithm) -> Option<&Signer> {
        match algorithm {
            Algorithm::Rs256 => self.signers[0].as_ref(),
            Algorithm::Es256 => self.signers[1].as_ref(),
        }
    }

    /// The keys that sign, one per algorithm.
    #[must_use]
    pub fn active_kids(&self) -> Vec<Kid> {
        Algorithm::ALL
            .into_iter()
            .filter_map(|algorithm| signing_keys::active(&self.keys, algorithm))
            .map(SigningKey::kid)
            .collect()
    }

    /// The public halves that are published at `now`.
    #[must_use]
    pub fn published(&self, now: Timestamp) -> Vec<PublicKey> {
        signing_keys::published(&self.keys, now).into_iter().map(|key| key.public.clone()).collect()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
