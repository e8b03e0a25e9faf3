//! The detection of a log whose end was removed while a process runs.
//!
//! The chain does not show that rows are missing at its end, and it continues from the rows that are left. So
//! each process remembers the last row that it wrote, and looks for it before it writes the next one. Someone
//! who can write the database can then remove no record of a running process unnoticed, even at once.

use arc_swap::ArcSwapOption;

use crate::audit::{Anchor, Event, EventKind, Outcome};
use crate::store::{StoreError, Transaction};
use crate::values::actor::Actor;

/// The last row of the log that this process wrote, shared by a store and its clones.
#[derive(Debug, Default)]
pub(in crate::store) struct WrittenEnd(ArcSwapOption<Anchor>);

impl WrittenEnd {
    /// Remembers a row that is durable.
    pub(in crate::store) fn committed(&self, end: Anchor) {
        self.0.store(Some(end.into()));
    }
}

impl Transaction {
    /// Returns the event to record if the last row that this process wrote is gone from the log, whose end is
    /// `end` now.
    pub(super) async fn cut_since_written(&mut self, end: &Anchor) -> Result<Option<Event>, StoreError> {
        let Some(written) = self.log_end.0.load_full().filter(|written| **written != *end) else {
            return Ok(None);
        };
        let found: Option<String> = sqlx::query_scalar("SELECT mac FROM audit WHERE seq = $1")
            .bind(written.seq)
            .fetch_optional(self.connection())
            .await?;
        if found == Some(written.mac.to_string()) {
            return Ok(None);
        }
        // Pruning removes rows, too, from the other end.
        let pruned: Option<i64> = sqlx::query_scalar("SELECT seq FROM audit_base WHERE id = 1")
            .fetch_optional(self.connection())
            .await?;
        if pruned >= Some(written.seq) {
            return Ok(None);
        }
        let (written, left) = (written.seq, end.seq);
        tracing::error!(
            written,
            left,
            "the end of the audit log is gone or was changed: something other than carnet wrote to it"
        );
        let what = format!(
            "row {written}, which this process had written, was gone or changed, and the log ended with row {left}: something \
             other than carnet wrote to it"
        );
        Ok(Some(Event::new(EventKind::AuditCut, Outcome::Failed, &Actor::server()).detail(&what)))
    }
}
