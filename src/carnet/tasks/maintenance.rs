//! The maintenance task of a server between requests.
//!
//! Several times a second it makes this process publish and sign with the keys in the database. When it is
//! due, it rotates keys, finishes the erasure of destroyed keys, advances the high-water time, and writes
//! evidence and the uses of grants. A failure is logged, shown in the server's status and tried again; it
//! ends neither the task nor the service.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crate::access::grants::Grants;
use crate::issuer::rotator::Rotator;
use crate::issuer::{Issuer, KeyStateError};
use crate::signing_keys::clock_guard::{ClockTrust, DatabaseTime};
use crate::signing_keys::rotation::plan;
use crate::store::{StoreError, Trusted};
use crate::values::actor::Actor;
use crate::values::clock::Clock;

/// The maximum time until changes of keys by another process are noticed.
const REFRESH_EVERY: Duration = Duration::from_millis(250);
/// The interval at which an erasure that a reader delays is tried again.
const ERASE_EVERY: Duration = Duration::from_secs(1);
/// The interval at which the high-water time and evidence are written.
const WRITE_EVERY: Duration = Duration::from_secs(10);
/// The interval at which the times of the last use of grants are written.
const WRITE_USES_EVERY: Duration = Duration::from_secs(60);

/// The maintenance task of one process.
#[derive(Debug)]
pub struct Maintenance {
    issuer: Arc<Issuer>,
    rotator: Arc<Rotator>,
    grants: Arc<Grants>,
    store: Trusted,
    clock: Arc<dyn Clock>,
    actor: Actor,
    refreshing: bool,
    rotation: Backoff,
    erase_at: Duration,
    write_at: Duration,
    write_uses_at: Duration,
}

impl Maintenance {
    /// Makes the maintenance task of `issuer`.
    #[must_use]
    pub fn new(
        issuer: Arc<Issuer>,
        rotator: Arc<Rotator>,
        grants: Arc<Grants>,
        store: Trusted,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let monotonic = clock.monotonic();
        Self {
            issuer,
            rotator,
            grants,
            store,
            clock,
            actor: Actor::server(),
            refreshing: true,
            rotation: Backoff::default(),
            erase_at: monotonic,
            write_at: monotonic + WRITE_EVERY,
            write_uses_at: monotonic + WRITE_USES_EVERY,
        }
    }

    /// Runs the task forever. It may be dropped at any time; call [`Maintenance::finish`] afterwards to write
    /// the rest.
    pub async fn run(&mut self) {
        loop {
            self.tick().await;
            self.clock.sleep_until(self.clock.monotonic() + REFRESH_EVERY).await;
        }
    }

    /// Runs the work that is due.
    pub async fn tick(&mut self) {
        let now = self.clock.monotonic();
        self.refresh().await;
        if self.issuer.clock_reading().trust == ClockTrust::Steady {
            self.rotate(now).await;
            self.write_down(now).await;
        }
        self.erase(now).await;
    }

    /// Writes the evidence and the uses of grants since the last time. Call it before a process ends.
    pub async fn finish(&mut self) {
        if self.issuer.clock_reading().trust == ClockTrust::Steady {
            (self.write_at, self.write_uses_at) = (Duration::ZERO, Duration::ZERO);
            self.write_down(self.clock.monotonic()).await;
        }
    }

    async fn refresh(&mut self) {
        let refreshed = self.issuer.refresh_kept().await;
        let needed = match &refreshed {
            Err(KeyStateError::Store(StoreError::OtherEpoch { needed, .. })) => Some(needed.clone()),
            _ => None,
        };
        if self.issuer.health().needs_master_key != needed {
            self.issuer.note_health(|health| health.needs_master_key = needed);
        }
        match refreshed {
            Ok(_) => self.refreshing = true,
            Err(error) if self.refreshing => {
                // Logged once; /readyz and refused mints report it for as long as it lasts.
                tracing::error!(error = &error as &dyn Error, "the key state cannot be confirmed");
                self.refreshing = false;
            }
            Err(_) => {}
        }
    }

    async fn rotate(&mut self, now: Duration) {
        let key_set = self.issuer.key_set();
        let due = !plan(&key_set.keys, &key_set.settings.policy, self.clock.now()).is_empty();
        if !due && self.rotation.failures > 0 {
            // Another process has made the rotation.
            self.rotation_works().await;
        }
        if !due || now < self.rotation.not_before {
            return;
        }
        match self.rotator.tick(&self.actor).await {
            Ok(_) => {
                self.refresh().await;
                self.rotation_works().await;
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn Error,
                    failures = self.rotation.failures + 1,
                    "signing keys could not be rotated"
                );
                self.rotation.failed(now);
                self.issuer.metrics().keys.rotation_failed();
                let text = error.to_string();
                self.issuer.note_health(|health| health.rotation_error = Some(text.clone()));
                self.note_rotation(Err(&text)).await;
            }
        }
    }

    async fn rotation_works(&mut self) {
        self.rotation = Backoff::default();
        self.issuer.metrics().keys.rotation_works();
        self.issuer.note_health(|health| health.rotation_error = None);
        self.note_rotation(Ok(())).await;
    }

    async fn note_rotation(&self, outcome: Result<(), &str>) {
        if let Err(error) = self.store.note_rotation(outcome, self.clock.now()).await {
            tracing::warn!(error = &error as &dyn Error, "the rotation's outcome could not be recorded");
        }
    }

    async fn write_down(&mut self, now: Duration) {
        if now < self.write_at {
            return;
        }
        self.write_at = now + WRITE_EVERY;
        let written = async {
            let (reading, known) = (self.issuer.clock_reading(), self.issuer.pulse().time);
            if reading.trust == ClockTrust::Steady {
                let (high_water, pruning_time) = (reading.now, reading.pruning_time);
                self.store.raise_times(DatabaseTime { high_water, pruning_time, ..known }).await?;
            }
            self.write_evidence().await
        };
        if let Err(error) = written.await {
            tracing::warn!(error = &error as &dyn Error, "high-water time and evidence could not be written");
        }
        if now >= self.write_uses_at {
            self.write_uses_at = now + WRITE_USES_EVERY;
            self.grants.write_uses().await;
        }
    }

    async fn write_evidence(&self) -> Result<(), StoreError> {
        let fetches = self.issuer.evidence().take();
        if fetches.is_empty() {
            return Ok(());
        }
        let written = self.store.add_jwks_fetches(&fetches).await;
        if written.is_err() {
            self.issuer.evidence().put_back(fetches);
        }
        written
    }

    async fn erase(&mut self, now: Duration) {
        if !self.issuer.pulse().erasure_pending || now < self.erase_at {
            return;
        }
        self.erase_at = now + ERASE_EVERY;
        match self.store.finish_erasure().await {
            Ok(true) => tracing::info!("destroyed private keys are gone from the database files"),
            Ok(false) => tracing::debug!("a reader holds the write-ahead log; the erasure will be retried"),
            Err(error) => tracing::warn!(error = &error as &dyn Error, "the erasure will be retried"),
        }
    }
}

/// The backoff after failures.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
    not_before: Duration,
}

impl Backoff {
    /// Doubles the wait, from one second up to about four minutes.
    fn failed(&mut self, now: Duration) {
        self.not_before = now + Duration::from_secs(1 << self.failures.min(8));
        self.failures += 1;
    }
}
