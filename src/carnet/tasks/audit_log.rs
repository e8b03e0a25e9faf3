//! The maintenance of the audit log between requests.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crate::audit_log::AuditLog;
use crate::issuer::Issuer;
use crate::signing_keys::clock_guard::ClockTrust;
use crate::store::Trusted;
use crate::store::audit::MAX_PAGE;
use crate::values::actor::Actor;
use crate::values::clock::Clock;

/// The minimum retention, so that a clock that jumps by hours does not empty the log.
pub const MIN_RETENTION: Duration = Duration::from_secs(24 * 3600);

/// The interval of the task.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The interval at which counted refusals are recorded.
const REFUSALS_EVERY: Duration = Duration::from_secs(60);
/// The interval at which the size of the database's files is measured.
const SIZE_EVERY: Duration = Duration::from_secs(15);
/// The interval at which the anchor of the log's end is written to this server's own log, and old records are
/// pruned.
const HOURLY: Duration = Duration::from_secs(3600);

/// Records counted refusals, prunes old records and logs the anchor of the log's end. A failure is logged and
/// tried again; it never ends the task.
#[derive(Debug)]
pub struct AuditMaintenance {
    log: AuditLog,
    store: Trusted,
    issuer: Arc<Issuer>,
    clock: Arc<dyn Clock>,
    retention: Option<Duration>,
    refusals_at: Duration,
    size_at: Duration,
    anchor_at: Duration,
    prune_at: Duration,
}

impl AuditMaintenance {
    /// Makes the maintenance task of `log`, which must be the log of `store`. Records are kept for
    /// `retention` and at least for [`MIN_RETENTION`]; without a retention, forever.
    #[must_use]
    pub fn new(
        log: AuditLog,
        store: Trusted,
        issuer: Arc<Issuer>,
        clock: Arc<dyn Clock>,
        retention: Option<Duration>,
    ) -> Self {
        let now = clock.monotonic();
        let retention = retention.map(|retention| retention.max(MIN_RETENTION));
        let refusals_at = now + REFUSALS_EVERY;
        Self {
            log,
            store,
            issuer,
            clock,
            retention,
            refusals_at,
            size_at: now,
            anchor_at: now,
            prune_at: now,
        }
    }

    /// Runs the task forever. It may be dropped at any time; call [`AuditLog::flush`] afterwards to write the
    /// rest.
    pub async fn run(&mut self) {
        loop {
            self.tick().await;
            self.clock.sleep_until(self.clock.monotonic() + LOOK_EVERY).await;
        }
    }

    /// Runs the work that is due.
    pub async fn tick(&mut self) {
        let now = self.clock.monotonic();
        if now >= self.size_at {
            self.size_at = now + SIZE_EVERY;
            if let Some(bytes) = self.store.url().size() {
                self.issuer.metrics().audit.database_size(bytes);
            }
        }
        if now >= self.refusals_at {
            self.refusals_at = now + REFUSALS_EVERY;
            if let Err(error) = self.log.write_refusals().await {
                tracing::warn!(error = &error as &dyn Error, "refusals could not be recorded");
            }
        }
        if now >= self.prune_at {
            self.prune_at = now + HOURLY;
            self.prune(now).await;
        }
        if now >= self.anchor_at {
            self.anchor_at = now + HOURLY;
            match self.store.watch_audit_end().await {
                Ok(anchor) => tracing::info!(%anchor, "the audit log's end"),
                Err(error) => tracing::warn!(error = &error as &dyn Error, "the audit log cannot be read"),
            }
        }
    }

    async fn prune(&mut self, now: Duration) {
        let Some(retention) = self.retention else { return };
        // The age of records is only determined while the clock is trusted.
        let reading = self.issuer.clock_reading();
        if reading.trust != ClockTrust::Steady {
            return;
        }
        let wall = reading.now;
        let Ok(before) = reading.pruning_time.checked_sub(retention) else { return };
        match self.store.prune_audit(before, &Actor::server(), wall).await {
            Ok(0) => {}
            Ok(pruned) => {
                tracing::info!(pruned, %before, "old audit records were pruned");
                if pruned >= MAX_PAGE as usize {
                    // There may be more records to prune; other writers get their turn first.
                    self.prune_at = now;
                }
            }
            Err(error) => tracing::error!(error = &error as &dyn Error, "audit records could not be pruned"),
        }
    }
}
