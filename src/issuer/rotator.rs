//! The rotator, which carries out the decisions of `signing_keys::rotation`.
//!
//! New keys are generated outside the transaction, because that is slow. The decision is repeated inside it,
//! because another process may have acted in the meantime.

use std::fmt::Debug;
use std::sync::Arc;

use jiff::Timestamp;
use tracing::Instrument as _;

use crate::access::principal::{Principal, PrincipalError};
use crate::audit::KeyEventKind;
use crate::clock_watch::ClockWatch;
use crate::jose::Algorithm;
use crate::jose::jwk::Kid;
use crate::jose::key_pair::{KeyPair, KeyPairError, RsaBits};
use crate::signing_keys::clock_guard::{ClockDoubt, ClockTrust};
use crate::signing_keys::policy::RotationPolicy;
use crate::signing_keys::rotation::{self, Change, RotationRefusal, RotationRequest, UnknownKey};
use crate::signing_keys::{SigningKey, Stage};
use crate::store::issuer::KeySettings;
use crate::store::signing_keys::StoredKeys;
use crate::store::vault::Vault;
use crate::store::{StoreError, Transaction};
use crate::values::actor::Actor;
use crate::values::random::Random;

/// A source of new keys. Generating real keys is slow, so simulations provide their own source.
pub trait KeySource: Debug + Send + Sync {
    /// Returns a new key pair. Called on a blocking thread.
    fn generate(&self, algorithm: Algorithm, rsa_bits: RsaBits) -> Result<KeyPair, KeyPairError>;
}

/// Generates keys on this machine.
#[derive(Debug)]
pub struct GeneratedKeys(pub Arc<dyn Random>);

impl KeySource for GeneratedKeys {
    fn generate(&self, algorithm: Algorithm, rsa_bits: RsaBits) -> Result<KeyPair, KeyPairError> {
        KeyPair::generate(algorithm, rsa_bits, self.0.as_ref())
    }
}

/// Changes the keys of one vault.
#[derive(Debug)]
pub struct Rotator {
    vault: Arc<Vault>,
    watch: Arc<ClockWatch>,
    source: Arc<dyn KeySource>,
    /// `true` if revocations request nudges.
    nudges: bool,
}

/// The reason why keys were not changed.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The rotation would do harm.
    #[error(transparent)]
    Refused(#[from] RotationRefusal),
    /// The key does not exist.
    #[error(transparent)]
    Unknown(#[from] UnknownKey),
    /// The principal's grant has ended, or has limits.
    #[error(transparent)]
    Principal(#[from] PrincipalError),
    /// This machine's clock is not trusted.
    #[error("{0}; keys and their policy cannot be changed while the clock is in doubt")]
    Clock(ClockDoubt),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A new key could not be generated.
    #[error(transparent)]
    KeyPair(#[from] KeyPairError),
    /// The task that generates keys panicked or was cancelled.
    #[error("key generation did not finish")]
    Generation(#[from] tokio::task::JoinError),
}

/// The changes made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The changes; empty if nothing needed to change.
    pub changes: Vec<Change>,
    /// `true` if destroyed private halves are gone from every database file as well. Otherwise a reader held
    /// the write-ahead log; a running server tries again.
    pub erased: bool,
}

/// The reason for changing keys and the principal behind it, for the records and for the clock check.
#[derive(Debug, Clone, Copy)]
struct Cause<'a> {
    reason: &'static str,
    /// Confirmed, as a principal without limits, in the transaction that changes the keys.
    by: Principal<'a>,
    /// A wrong clock does not delay an emergency.
    is_emergency: bool,
    /// `true` if the tables are checked against their indexes first, because every key must be found.
    checks_indexes: bool,
}

impl Rotator {
    /// Makes a rotator for the keys in `vault`.
    #[must_use]
    pub fn new(vault: Arc<Vault>, watch: Arc<ClockWatch>, source: Arc<dyn KeySource>) -> Self {
        Self { vault, watch, source, nudges: true }
    }

    /// Returns a copy of this rotator whose revocations request no nudges.
    #[must_use]
    pub fn without_nudges(&self) -> Self {
        let (vault, watch, source) =
            (Arc::clone(&self.vault), Arc::clone(&self.watch), Arc::clone(&self.source));
        Self { vault, watch, source, nudges: false }
    }

    /// Makes the changes that are due: creates the keys of a new issuer, and rotates keys that have signed
    /// for long enough. Does not wait for an erasure, because a prepared key must be published first, which
    /// is the next step of the maintenance task.
    ///
    /// After an error, nothing has changed.
    pub async fn tick(&self, actor: &Actor) -> Result<Rotation, RotationError> {
        let cause =
            Cause { reason: "scheduled", by: actor.into(), is_emergency: false, checks_indexes: false };
        self.carry_out(cause, |keys, policy, now| Ok(rotation::plan(keys, policy, now))).await
    }

    /// Makes a requested rotation. No changes mean that another process has just made it.
    ///
    /// # Errors
    ///
    /// [`RotationError::Refused`] if the rotation would do harm. After any error, nothing has changed.
    pub async fn rotate(
        &self,
        request: &RotationRequest,
        by: impl Into<Principal<'_>>,
    ) -> Result<Rotation, RotationError> {
        let reason = if request.force { "forced" } else { "requested" };
        let cause = Cause { reason, by: by.into(), is_emergency: false, checks_indexes: false };
        let rotation = self
            .carry_out(cause, |keys, policy, now| Ok(rotation::plan_requested(keys, policy, now, request)?));
        Ok(self.erased(rotation.await?).await)
    }

    /// Revokes one key. No changes mean that the key has already left the JWKS.
    ///
    /// After an error, nothing has changed.
    pub async fn revoke(&self, kid: &Kid, by: impl Into<Principal<'_>>) -> Result<Rotation, RotationError> {
        let cause = Cause { reason: "revoked", by: by.into(), is_emergency: true, checks_indexes: false };
        let rotation = self.carry_out(cause, |keys, _, now| Ok(rotation::plan_revocation(keys, now, kid)?));
        Ok(self.erased(rotation.await?).await)
    }

    /// Revokes every published key. No changes mean that another process has just done it.
    ///
    /// After an error, nothing has changed.
    pub async fn revoke_all(&self, seen: &[Kid], actor: &Actor) -> Result<Rotation, RotationError> {
        let cause =
            Cause { reason: "all revoked", by: actor.into(), is_emergency: true, checks_indexes: true };
        let rotation =
            self.carry_out(cause, |keys, _, now| Ok(rotation::plan_revocation_of_all(keys, now, seen)));
        Ok(self.erased(rotation.await?).await)
    }

    /// Changes the policy and the size of new RSA keys. No key leaves the JWKS earlier than under the policy
    /// before.
    ///
    /// After an error, nothing has changed.
    pub async fn set_policy(
        &self,
        policy: &RotationPolicy,
        rsa_bits: RsaBits,
        actor: &Actor,
    ) -> Result<(), RotationError> {
        let mut write = self.vault.store().write_first().await?;
        let stored = self.vault.keys_in(&mut write).await?;
        let reading = self.watch.assess(stored.settings.time(), &stored.settings.policy);
        // A longer `rotate-every` could make a clock trusted that no operator has accepted.
        if let ClockTrust::Ahead { .. } = reading.trust {
            reading.check().map_err(RotationError::Clock)?;
        }
        let now = reading.now;
        for key in rotation::under_policy(&stored.public(), &stored.settings.policy, policy) {
            self.vault.update(&mut write, &key).await?;
        }
        write.set_key_settings(policy, rsa_bits).await?;
        let reason = format!("{}; rsa-bits {}", policy, rsa_bits.bits());
        write.record_key_event(KeyEventKind::Policy, None, &reason, actor, now).await?;
        write.bump_key_generation(false).await?;
        Ok(write.commit().await?)
    }

    async fn carry_out<D>(&self, cause: Cause<'_>, decide: D) -> Result<Rotation, RotationError>
    where
        D: Fn(&[SigningKey], &RotationPolicy, Timestamp) -> Result<Vec<Change>, RotationError>,
    {
        let span = tracing::info_span!("rotation", reason = cause.reason);
        self.change(cause, decide).instrument(span).await
    }

    async fn change<D>(&self, cause: Cause<'_>, decide: D) -> Result<Rotation, RotationError>
    where
        D: Fn(&[SigningKey], &RotationPolicy, Timestamp) -> Result<Vec<Change>, RotationError>,
    {
        let seen = self.vault.keys().await?;
        let now = self.believed_now(&seen.settings, cause)?;
        let expected = decide(&seen.public(), &seen.settings.policy, now)?;
        if expected.is_empty() {
            return Ok(Rotation { changes: expected, erased: !seen.settings.erasure_pending });
        }
        let mut fresh = self.generate(&expected, seen.settings.rsa_bits).await?;

        let mut write = self.vault.store().write_first().await?;
        if cause.checks_indexes {
            write.check_indexes().await?;
        }
        cause.by.confirm(&mut write, self.watch.clock().now()).await?.unlimited()?;
        let stored = self.vault.keys_in(&mut write).await?;
        let (keys, policy) = (stored.public(), stored.settings.policy);
        let now = self.believed_now(&stored.settings, cause)?;
        let mut changes = decide(&keys, &policy, now)?;
        // The keys were generated for the expected changes. A change that became due since then is left to
        // the next call.
        changes.retain(|change| expected.contains(change));
        if changes.is_empty() {
            return Ok(Rotation { changes, erased: !stored.settings.erasure_pending });
        }
        self.write_changes(&mut write, (&keys, &policy), &changes, &mut fresh, (cause, now)).await?;
        let is_destructive = changes.iter().any(destroys);
        write.bump_key_generation(is_destructive).await?;
        write.commit().await?;
        for change in &changes {
            tracing::info!(?change, reason = cause.reason, actor = %cause.by.actor(), "signing keys changed");
        }
        Ok(Rotation { changes, erased: !is_destructive && !stored.settings.erasure_pending })
    }

    /// Generates the keys that [`Rotator::replace_everything`] needs. This is too slow for a transaction.
    pub async fn make_replacement(&self, rsa_bits: RsaBits) -> Result<Replacement, RotationError> {
        Ok(Replacement(self.generate(&rotation::plan_replacement(&[]), rsa_bits).await?))
    }

    /// Revokes every key in `seen`, including retired ones, and replaces them with `replacement`, in the
    /// caller's transaction. A wrong clock does not delay it. The caller commits, and then finishes the
    /// erasure.
    pub async fn replace_everything(
        &self,
        write: &mut Transaction,
        seen: &StoredKeys,
        replacement: Replacement,
        reason: &'static str,
        actor: &Actor,
    ) -> Result<Vec<Change>, RotationError> {
        let cause = Cause { reason, by: actor.into(), is_emergency: true, checks_indexes: false };
        let now = self.believed_now(&seen.settings, cause)?;
        let (keys, mut fresh) = (seen.public(), replacement.0);
        let changes = rotation::plan_replacement(&keys);
        let known = (keys.as_slice(), &seen.settings.policy);
        self.write_changes(write, known, &changes, &mut fresh, (cause, now)).await?;
        write.bump_key_generation(true).await?;
        Ok(changes)
    }

    async fn write_changes(
        &self,
        write: &mut Transaction,
        (keys, policy): (&[SigningKey], &RotationPolicy),
        changes: &[Change],
        fresh: &mut Fresh,
        (cause, now): (Cause<'_>, Timestamp),
    ) -> Result<(), StoreError> {
        for change in changes {
            let pairs = fresh.take(change);
            let publics: Vec<_> = pairs.iter().map(|pair| pair.public().clone()).collect();
            let mut prepared = None;
            for row in rotation::apply(keys, change, policy, now, &publics) {
                if row.stage == Stage::Prepared {
                    prepared = Some(row.kid());
                }
                match pairs.iter().find(|pair| *pair.public() == row.public) {
                    Some(pair) => self.vault.insert(write, &row, pair).await?,
                    None => self.vault.update(write, &row).await?,
                }
                record(write, &row, cause, now).await?;
            }
            if cause.is_emergency && self.nudges {
                let max_age = policy.jwks_max_age();
                write.request_nudges(change.algorithm(), prepared.as_ref(), max_age, now).await?;
            }
        }
        Ok(())
    }

    /// Erases the destroyed private halves from the database's files, unless a reader delays that. The
    /// rotation is committed in any case; a running server tries again.
    async fn erased(&self, rotation: Rotation) -> Rotation {
        if rotation.changes.is_empty() {
            return rotation;
        }
        let erased = self.vault.store().finish_erasure().await.unwrap_or(false);
        Rotation { erased, ..rotation }
    }

    /// Returns the time if the clock is trusted.
    ///
    /// The time of an event is never earlier than the high-water time. Otherwise a key made in an emergency,
    /// while the clock was far behind, would count as published for a long time once the clock is corrected.
    fn believed_now(&self, settings: &KeySettings, cause: Cause<'_>) -> Result<Timestamp, RotationError> {
        let reading = self.watch.assess(settings.time(), &settings.policy);
        if !cause.is_emergency {
            reading.check().map_err(RotationError::Clock)?;
        }
        Ok(reading.now.max(settings.high_water))
    }

    /// Generates a key that is neither stored nor published.
    pub(crate) async fn unpublished_key(
        &self,
        algorithm: Algorithm,
        rsa_bits: RsaBits,
    ) -> Result<KeyPair, RotationError> {
        let source = Arc::clone(&self.source);
        Ok(tokio::task::spawn_blocking(move || source.generate(algorithm, rsa_bits)).await??)
    }

    /// Generates the keys that `changes` need.
    async fn generate(&self, changes: &[Change], rsa_bits: RsaBits) -> Result<Fresh, RotationError> {
        let wanted: Vec<Algorithm> = changes
            .iter()
            .flat_map(|change| std::iter::repeat_n(change.algorithm(), change.fresh_keys()))
            .collect();
        let source = Arc::clone(&self.source);
        let made = tokio::task::spawn_blocking(move || {
            wanted
                .into_iter()
                .map(|algorithm| source.generate(algorithm, rsa_bits))
                .collect::<Result<Vec<_>, _>>()
        });
        Ok(Fresh(made.await??))
    }
}

/// Returns whether the change deletes a private half.
fn destroys(change: &Change) -> bool {
    !matches!(change, Change::Found { .. } | Change::RevokeRetired { .. })
}

async fn record(
    write: &mut Transaction,
    key: &SigningKey,
    cause: Cause<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let event = match key.stage {
        Stage::Prepared => KeyEventKind::Prepared,
        Stage::Active { .. } => KeyEventKind::Activated,
        Stage::Retired { .. } => KeyEventKind::Retired,
        Stage::Revoked { .. } => KeyEventKind::Revoked,
    };
    write.record_key_event(event, Some(key.kid().as_str()), cause.reason, &cause.by.actor(), now).await
}

/// The new keys for every algorithm.
#[derive(Debug)]
pub struct Replacement(Fresh);

/// New keys that are not stored yet.
#[derive(Debug)]
struct Fresh(Vec<KeyPair>);

impl Fresh {
    /// Removes the keys that `change` needs, and returns them.
    fn take(&mut self, change: &Change) -> Vec<KeyPair> {
        let (mut taken, mut left) = (Vec::new(), Vec::new());
        for pair in self.0.drain(..) {
            let wanted = pair.public().algorithm() == change.algorithm() && taken.len() < change.fresh_keys();
            if wanted { taken.push(pair) } else { left.push(pair) }
        }
        self.0 = left;
        taken
    }
}
