//! Metrics of the audit log.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::buckets::SECONDS;

/// Metrics of the audit log. While a row waits, so does the credential that it records.
#[derive(Debug)]
pub struct Audit {
    queue_depth: Gauge,
    write_failures: Counter,
    group_rows: Histogram,
    write_duration: Histogram,
    database_size: Gauge,
}

impl Audit {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let queue_depth = Gauge::default();
        registry.register("audit_queue_depth", "Rows waiting to be written", queue_depth.clone());
        let write_failures = Counter::default();
        registry.register(
            "audit_write_failures",
            "Transactions that failed to write their rows",
            write_failures.clone(),
        );
        let group_rows = Histogram::new(exponential_buckets(1.0, 2.0, 11));
        registry.register(
            "audit_group_rows",
            "Rows that were written in one transaction",
            group_rows.clone(),
        );
        let write_duration = Histogram::new(SECONDS);
        registry.register_with_unit(
            "audit_write_duration",
            "Duration of the transactions that wrote rows",
            Unit::Seconds,
            write_duration.clone(),
        );
        let database_size = Gauge::default();
        registry.register_with_unit(
            "database_size",
            "The size of the database's files",
            Unit::Bytes,
            database_size.clone(),
        );
        Self { queue_depth, write_failures, group_rows, write_duration, database_size }
    }

    /// Sets the size of the database's files.
    pub fn database_size(&self, bytes: u64) {
        self.database_size.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Counts a row that begins to wait.
    pub fn queued(&self) {
        self.queue_depth.inc();
    }

    /// Counts rows that no longer wait, written or not.
    pub fn left_queue(&self, rows: usize) {
        self.queue_depth.dec_by(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    /// Records the rows and the duration of a transaction that is durable.
    pub fn written(&self, rows: usize, took: Duration) {
        self.group_rows.observe(u32::try_from(rows).unwrap_or(u32::MAX).into());
        self.write_duration.observe(took.as_secs_f64());
    }

    /// Counts a failed transaction. Every request that waited for it fails, too.
    pub fn failed(&self) {
        self.write_failures.inc();
    }
}
