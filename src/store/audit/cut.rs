//! The detection of a log whose end was removed while a process runs.
//!
//! The chain does not show that rows are missing at its end, and it continues from the rows that are left. So
//! each process remembers the last row that it wrote, or that a server saw when it started, and looks for it
//! before it writes the next one. Someone who can write the database can then remove no record of a running
//! process unnoticed, even at once.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::base::{Base, mac};
use crate::audit::{Anchor, Event, EventKind, Outcome};
use crate::store::{StoreError, Transaction, Trusted};
use crate::values::actor::Actor;

/// The last row of the log that this process wrote, shared by a store and its clones.
#[derive(Debug, Default)]
pub(in crate::store) struct WrittenEnd(ArcSwapOption<Anchor>);

impl WrittenEnd {
    /// Remembers a row that is durable.
    pub(in crate::store) fn committed(&self, end: Anchor) {
        self.0.store(Some(end.into()));
    }

    /// Forgets the row, as a process that has just started.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        self.0.store(None);
    }

    /// Remembers the end of the log as this process first saw it, unless it has written since.
    fn seen(&self, end: Anchor) {
        self.0.compare_and_swap(&None::<Arc<Anchor>>, Some(end.into()));
    }
}

impl Trusted {
    /// Returns the current end of the log, and from now on notices its removal, also before this process has
    /// written a row.
    pub async fn watch_audit_end(&self) -> Result<Anchor, StoreError> {
        let end = self.audit_end().await?;
        if end.seq > 0 {
            self.log_end.seen(end);
        }
        Ok(end)
    }
}

impl Transaction {
    /// Returns the event to record if the last row that this process wrote or saw is gone from the log, whose end is
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
        if self.authentic_base().await?.is_some_and(|base| base.seq >= written.seq) {
            return Ok(None);
        }
        Ok(Some(event(written.seq, end.seq)))
    }

    /// Returns the last row that was pruned, which removes rows from the other end; `None` if carnet did not
    /// record it.
    async fn authentic_base(&mut self) -> Result<Option<Anchor>, StoreError> {
        let keyring = self.keyring();
        let Some(base) = Base::read(self.connection()).await? else { return Ok(None) };
        let (Ok(anchor), Some(tag)) = (base.anchor(), mac(&base.tag)) else { return Ok(None) };
        Ok(keyring.audit().current().is_base(&anchor, &tag).then_some(anchor))
    }
}

/// Logs and returns the event of row `written` missing from a log that ends with row `left`.
fn event(written: i64, left: i64) -> Event {
    tracing::error!(
        written,
        left,
        "the end of the audit log is gone or was changed: something other than carnet wrote to it"
    );
    let what = format!(
        "row {written}, which this process had written or seen, was gone or changed, and the log ended with row {left}: something \
             other than carnet wrote to it"
    );
    Event::new(EventKind::AuditCut, Outcome::Failed, &Actor::server()).detail(&what)
}
