//! The audit log: extending the chain, reading it, pruning it.
//!
//! A change and its record are one transaction, and that transaction also reads the end of the chain. All
//! processes on one database therefore extend one chain without gaps.

mod base;
mod cut;
mod epochs;
mod filter;
mod paging;
mod reading;
mod retention;
mod row;
mod sql;
mod times;

use jiff::Timestamp;
use sqlx::SqliteConnection;

use self::base::{BASE_TABLE, Base};
pub(super) use self::cut::WrittenEnd;
pub(super) use self::epochs::{Ended, ended_audit_epochs};
pub use self::filter::{AuditFilter, Sight};
pub use self::paging::{Direction, MAX_PAGE};
#[cfg(test)]
pub(super) use self::row::COLUMNS;
use self::row::{Row, TABLE};
use super::keyring::Purpose;
use super::states::Effects as _;
use super::{Store, StoreError, Transaction, corrupt, parse};
use crate::audit::{Anchor, AuditKey, Event};

impl Store {
    /// Returns the current end of the log. An operator who keeps it elsewhere can show later whether the log
    /// up to here still exists.
    pub async fn audit_end(&self) -> Result<Anchor, StoreError> {
        end(&mut *self.readers.lists.begin().await?).await
    }
}

/// Returns the last row, or the base if there is no row.
async fn end(connection: &mut SqliteConnection) -> Result<Anchor, StoreError> {
    let last: Option<(i64, String)> = sqlx::query_as("SELECT seq, mac FROM audit ORDER BY seq DESC LIMIT 1")
        .fetch_optional(&mut *connection)
        .await?;
    match last {
        Some((seq, mac)) => Ok(Anchor { seq, mac: parse(TABLE, &seq.to_string(), &mac)? }),
        None => match Base::read(connection).await? {
            Some(base) => base.anchor(),
            None => Err(corrupt(BASE_TABLE, "1", "is missing: the beginning of the audit log is unknown")),
        },
    }
}

impl Transaction {
    /// Appends events to the log, in their order, and returns its new end. The events are in the log if and
    /// only if this transaction commits.
    pub async fn append_audit(&mut self, now: Timestamp, events: &[Event]) -> Result<Anchor, StoreError> {
        let keyring = self.keyring();
        let key = keyring.audit().current();
        let mut end = end(self.connection()).await?;
        let cut = self.cut_since_written(&end).await?;
        let mut rows = Vec::with_capacity(events.len() + 1);
        for event in cut.iter().chain(events) {
            let full = || corrupt(TABLE, &end.seq.to_string(), "has the highest possible number");
            let seq = end.seq.checked_add(1).ok_or_else(full)?;
            let mut row = Row::new(seq, now, event);
            let mac = row.with_columns(|columns| key.extend(&end.mac, columns));
            row.mac = mac.to_string();
            rows.push(row);
            end = Anchor { seq, mac };
        }
        if !rows.is_empty() {
            Row::insert(rows, self.connection()).await?;
            times::note(self.connection(), now).await?;
            self.written_end = Some(end);
        }
        Ok(end)
    }
}

/// Begins the log of a database that has none, under a new key.
pub(super) async fn begin_audit(connection: &mut SqliteConnection, key: &AuditKey) -> Result<(), StoreError> {
    let first: Option<i64> = sqlx::query_scalar("SELECT seq FROM audit ORDER BY seq LIMIT 1")
        .fetch_optional(&mut *connection)
        .await?;
    if first.is_some() || Base::read(connection).await?.is_some() {
        // A new key would make every row look forged, and so hide one that really is.
        return Err(corrupt(
            "sealed_keys",
            Purpose::AuditChain.name(),
            "is missing, but its audit log exists",
        ));
    }
    let base = key.beginning();
    sqlx::query("INSERT INTO audit_base (id, seq, mac, tag) VALUES (1, $1, $2, $3)")
        .bind(base.seq)
        .bind(base.mac.to_string())
        .bind(key.base_tag(&base).to_string())
        .affects_one(connection, BASE_TABLE)
        .await?;
    Ok(())
}

#[cfg(test)]
impl Transaction {
    /// Renames the table, as if the database were damaged.
    pub(crate) async fn hide_audit(&mut self) {
        sqlx::query("ALTER TABLE audit RENAME TO hidden").execute(self.connection()).await.unwrap();
    }
}

#[cfg(test)]
impl Store {
    /// Undoes [`Transaction::hide_audit`], without a transaction, which would refuse the schema.
    pub(crate) async fn show_audit(&self) {
        sqlx::query("ALTER TABLE hidden RENAME TO audit").execute(&*self.writer).await.unwrap();
    }
}

#[cfg(test)]
mod page_tests;
#[cfg(test)]
mod tests;
