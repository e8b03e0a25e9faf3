//! An operator's corrections of the time: accepting a clock that is far ahead, and setting the database's
//! time back after a wrong clock was trusted.
//!
//! Both are local and audited. [`DatabaseClock::set_back`] must correct every stored time that carnet acts
//! on. Anything that may be used only once must be refused after the correction if it was issued before.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::audit::KeyEventKind;
use crate::clock_watch::{ClockReading, ClockWatch};
use crate::issuer::Issuer;
use crate::signing_keys::clock_guard::{ClockDoubt, ClockTrust, DatabaseTime, high_water_of_a_command};
use crate::signing_keys::set_back::set_back;
use crate::store::grants::{GrantRow, StoredGrant};
use crate::store::issuer::KeySettings;
use crate::store::signing_keys::StoredKeys;
use crate::store::{ReadTransaction, StoreError, Trusted, Unlocked};
use crate::values::actor::Actor;
use crate::values::clock::Clock;

/// The minimum tolerance between the operator's time and the machine's clock: operators read their watch to
/// the minute.
const MIN_TOLERANCE: Duration = Duration::from_secs(2 * 60);

/// The times of one database.
#[derive(Debug)]
pub struct DatabaseClock {
    store: Trusted,
    clock: Arc<dyn Clock>,
}

/// This machine's clock, compared with the times that the database remembers.
#[derive(Debug, Clone)]
pub struct ClockView {
    /// This machine's clock, as a process that starts now trusts it.
    pub reading: ClockReading,
    /// The database's times, and the policy for the comparison.
    pub settings: KeySettings,
    /// The number of key rows with times later than this machine's clock.
    pub later_keys: usize,
    /// The number of grants made at times later than this machine's clock.
    pub later_grants: usize,
}

/// The result of a correction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Correction {
    /// The high-water time before the correction.
    pub before: Timestamp,
    /// The present time, which the correction is based on.
    pub now: Timestamp,
    /// The number of signing keys whose times changed.
    pub keys: usize,
    /// The number of grants whose times changed.
    pub grants: usize,
}

/// The database's time was not changed.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseClockError {
    /// The operator's time differs from the machine's clock.
    #[error("this machine's clock says {now}, not {given}")]
    Differs {
        /// This machine's clock.
        now: Timestamp,
        /// The operator's time.
        given: Timestamp,
    },
    /// A clock that is behind cannot be accepted.
    #[error("{0}: a clock that is behind cannot be accepted")]
    Behind(ClockDoubt),
    /// The database cannot be read or changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ClockView {
    /// Compares `clock` with the times that `store` remembers.
    pub async fn of(store: &Unlocked, clock: &Arc<dyn Clock>) -> Result<Self, StoreError> {
        let (stored, grants) = (store.signing_keys().await?, store.grants().await?);
        Ok(Self::compare(clock, &stored, grants))
    }

    /// Returns whether a wrong clock has left times in the future.
    #[must_use]
    pub fn has_later_times(&self) -> bool {
        let leeway = self.settings.policy.leeway();
        let latest = self.reading.now.saturating_add(leeway).unwrap_or(Timestamp::MAX);
        self.settings.high_water > latest || self.later_keys + self.later_grants > 0
    }

    fn compare(clock: &Arc<dyn Clock>, stored: &StoredKeys, grants: Vec<GrantRow>) -> Self {
        let settings = stored.settings;
        let reading = ClockWatch::new(Arc::clone(clock)).assess(settings.time(), &settings.policy);
        let leeway = settings.policy.leeway();
        // Clocks may differ by this much. Only a larger difference shows that one is wrong.
        let latest = reading.now.saturating_add(leeway).unwrap_or(Timestamp::MAX);
        let keys = set_back(&stored.public(), &settings.policy, settings.high_water, latest);
        let grants = later_grants(grants, latest, Duration::ZERO);
        Self { reading, settings, later_keys: keys.len(), later_grants: grants.len() }
    }
}

impl DatabaseClock {
    /// Returns the clock of `store`.
    #[must_use]
    pub fn new(store: Trusted, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Compares this machine's clock with the times that the database remembers.
    pub async fn view(&self) -> Result<ClockView, StoreError> {
        ClockView::of(&self.store, &self.clock).await
    }

    /// Accepts this machine's clock: it becomes the high-water time. That prunes nothing, because the pruning
    /// time follows by a day an hour. Returns `None` if the clock is already trusted.
    ///
    /// # Errors
    ///
    /// [`DatabaseClockError::Behind`]; nothing has changed then.
    pub async fn accept(&self, actor: &Actor) -> Result<Option<Correction>, DatabaseClockError> {
        let mut write = self.store.write().await?;
        let view = self.view_in(&mut write).await?;
        let (now, before) = (view.reading.now, view.settings.high_water);
        match view.reading.check() {
            Err(doubt @ ClockDoubt::Behind { .. }) => return Err(DatabaseClockError::Behind(doubt)),
            // A running server may doubt a jump that a new process cannot notice.
            _ if now <= before.saturating_add(view.settings.policy.leeway()).unwrap_or(Timestamp::MAX) => {
                return Ok(None);
            }
            _ => {}
        }
        write.accept_time(now).await?;
        let reason = format!("accepted {now}, beyond the high-water time {before}");
        write.record_key_event(KeyEventKind::Clock, None, &reason, actor, now).await?;
        write.commit().await?;
        Ok(Some(Correction { before, now, keys: 0, grants: 0 }))
    }

    /// Sets the database's time back to this machine's clock, which must match `given`, the operator's time.
    /// Later times of keys and grants become those that the policy or the maker intended, counted from the
    /// present. Returns `None` if no time is later.
    ///
    /// # Errors
    ///
    /// [`DatabaseClockError::Differs`]; nothing has changed then.
    pub async fn set_back(
        &self,
        given: Timestamp,
        actor: &Actor,
    ) -> Result<Option<Correction>, DatabaseClockError> {
        let mut write = self.store.write().await?;
        let view = self.view_in(&mut write).await?;
        let ClockView { reading: ClockReading { now, .. }, settings, .. } = view;
        if now.duration_since(given).unsigned_abs() > settings.policy.leeway().max(MIN_TOLERANCE) {
            return Err(DatabaseClockError::Differs { now, given });
        }
        if !view.has_later_times() {
            return Ok(None);
        }
        let before = settings.high_water;
        let by = Duration::try_from(before.duration_since(now)).unwrap_or_default();
        let keys = set_back(&write.signing_keys().await?.public(), &settings.policy, before, now);
        for key in &keys {
            write.update_signing_key(key).await?;
        }
        let grants = later_grants(write.grants().await?, now, by);
        for grant in &grants {
            write.update_grant_times(grant).await?;
        }
        write.set_time_back(now).await?;
        let correction = Correction { before, now, keys: keys.len(), grants: grants.len() };
        let reason = format!(
            "set back from {before} to {now}; the times of {} keys and {} grants were changed",
            correction.keys, correction.grants
        );
        write.record_key_event(KeyEventKind::Clock, None, &reason, actor, now).await?;
        write.bump_key_generation(false).await?;
        write.bump_publications().await?;
        write.commit().await?;
        Ok(Some(correction))
    }

    async fn view_in(&self, read: &mut ReadTransaction) -> Result<ClockView, StoreError> {
        let stored = read.signing_keys().await?;
        let grants = read.grants().await?;
        Ok(ClockView::compare(&self.clock, &stored, grants))
    }
}

/// Returns the grants whose times change if the time is `now`. Rows that carnet did not write stay unchanged.
fn later_grants(rows: Vec<GrantRow>, now: Timestamp, by: Duration) -> Vec<StoredGrant> {
    let changed = rows.into_iter().filter_map(|row| match row {
        GrantRow::Authentic(stored) => {
            Some(StoredGrant { grant: stored.grant.set_back(now, by)?, token_hash: stored.token_hash })
        }
        GrantRow::Forged { .. } => None,
    });
    changed.collect()
}

/// Raises the high-water time if no server does. A server raises it further within seconds.
pub(crate) async fn vouch_for_the_past(store: &Trusted, issuer: &Issuer) -> Result<(), StoreError> {
    let (reading, known) = (issuer.clock_reading(), issuer.pulse().time);
    let policy = issuer.key_set().settings.policy;
    let vouched = high_water_of_a_command(reading.now, known.high_water, &policy);
    match vouched.filter(|_| reading.trust == ClockTrust::Steady) {
        Some(high_water) => {
            let pruning_time = reading.pruning_time.min(high_water);
            store.raise_times(DatabaseTime { high_water, pruning_time, ..known }).await
        }
        None => Ok(()),
    }
}
