//! The keys of a chain that has had several: each rewrap begins an epoch with a key of its own.
//!
//! The first row of an epoch follows the last row of the epoch before, so its MAC commits to that end. Whoever has
//! only an older epoch's key can neither write a row of a later epoch nor change one of their own epoch unseen.

use super::chain::{Anchor, AuditKey};

/// An epoch that has ended.
#[derive(Debug)]
pub struct ClosedEpoch {
    /// Counts from 1.
    pub epoch: i64,
    /// The epoch's last row, or the row that it began behind if nothing was written in it.
    pub end: Anchor,
    /// The key of its rows, for reading alone.
    pub key: AuditKey,
}

/// The key of the present epoch, and those of the epochs before that still have rows.
#[derive(Debug)]
pub struct AuditKeys {
    current: AuditKey,
    /// In the order of epochs.
    closed: Vec<ClosedEpoch>,
    /// The epochs whose record fails its tag, or does not open.
    broken: Vec<i64>,
}

impl AuditKeys {
    /// A log that has had one key only.
    #[must_use]
    pub fn new(current: AuditKey) -> Self {
        Self { current, closed: Vec::new(), broken: Vec::new() }
    }

    /// A log with earlier epochs, given in any order, and the numbers of those whose record is not to be believed.
    #[must_use]
    pub fn with_closed(current: AuditKey, mut closed: Vec<ClosedEpoch>, broken: Vec<i64>) -> Self {
        closed.sort_by_key(|closed| (closed.end.seq, closed.epoch));
        Self { current, closed, broken }
    }

    /// The key of the present epoch.
    #[must_use]
    pub fn current(&self) -> &AuditKey {
        &self.current
    }

    /// The epochs that have ended, oldest first.
    #[must_use]
    pub fn closed(&self) -> &[ClosedEpoch] {
        &self.closed
    }

    /// The epochs whose record is not to be believed.
    #[must_use]
    pub fn broken(&self) -> &[i64] {
        &self.broken
    }

    /// The key of the row `seq`.
    #[must_use]
    pub fn of_row(&self, seq: i64) -> &AuditKey {
        let closed = self.closed.iter().find(|closed| seq <= closed.end.seq);
        closed.map_or(&self.current, |closed| &closed.key)
    }
}
