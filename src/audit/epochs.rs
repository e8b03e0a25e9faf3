//! The keys of a chain: each rewrap begins an epoch with a new key.
//!
//! The first row of an epoch follows the last row of the previous epoch, so its MAC commits to that end. An
//! attacker with only an older epoch's key cannot write a row of a later epoch, nor change a row of the older
//! epoch unnoticed.

use super::chain::{Anchor, AuditKey};

/// An epoch that has ended.
#[derive(Debug)]
pub struct ClosedEpoch {
    /// The epoch's number, counted from 1.
    pub epoch: i64,
    /// The epoch's last row, or the last row before it if the epoch has none.
    pub end: Anchor,
    /// The key of the epoch's rows, only used to verify them.
    pub key: AuditKey,
}

/// The key of the current epoch, and the keys of the earlier epochs that still have rows.
#[derive(Debug)]
pub struct AuditKeys {
    current: AuditKey,
    /// The earlier epochs, oldest first.
    closed: Vec<ClosedEpoch>,
    /// The epochs whose record fails its MAC, or cannot be decrypted.
    broken: Vec<i64>,
}

impl AuditKeys {
    /// The keys of a log with a single epoch.
    #[must_use]
    pub fn new(current: AuditKey) -> Self {
        Self { current, closed: Vec::new(), broken: Vec::new() }
    }

    /// The keys of a log with earlier epochs, in any order, and the numbers of those whose record is not
    /// trusted.
    #[must_use]
    pub fn with_closed(current: AuditKey, mut closed: Vec<ClosedEpoch>, broken: Vec<i64>) -> Self {
        closed.sort_by_key(|closed| (closed.end.seq, closed.epoch));
        Self { current, closed, broken }
    }

    /// The key of the current epoch.
    #[must_use]
    pub fn current(&self) -> &AuditKey {
        &self.current
    }

    /// The epochs that have ended, oldest first.
    #[must_use]
    pub fn closed(&self) -> &[ClosedEpoch] {
        &self.closed
    }

    /// The epochs whose record is not trusted.
    #[must_use]
    pub fn broken(&self) -> &[i64] {
        &self.broken
    }

    /// The key of the row with sequence number `seq`.
    #[must_use]
    pub fn of_row(&self, seq: i64) -> &AuditKey {
        let closed = self.closed.iter().find(|closed| seq <= closed.end.seq);
        closed.map_or(&self.current, |closed| &closed.key)
    }
}
