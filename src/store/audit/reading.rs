//! Reading the whole log, to verify it.

use sqlx::{FromRow as _, Row as _};

use super::paging::MAX_PAGE;
use super::row::{COLUMNS, Row};
use super::{Base, mac};
use crate::audit::Anchor;
use crate::audit::verify::{Report, Row as Link, Verifier};
use crate::store::{Store, StoreError};

impl Store {
    /// Goes through the whole log as it is at this moment, and finds what was changed since it was
    /// written; `anchors` are those that were kept elsewhere.
    ///
    /// Reads one snapshot: until it is done, nothing leaves the write-ahead log.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] when the store was opened without the master key, or another one when
    /// the database cannot be read. What is wrong with the log is not an error but a finding.
    pub async fn verify_audit(&self, anchors: &[Anchor]) -> Result<Report, StoreError> {
        let mut snapshot = self.read().await?;
        let keyring = snapshot.keyring()?;
        // A base that cannot be read is as good as none.
        let base = Base::read(snapshot.connection()).await.ok().flatten();
        let base = base.and_then(|base| Some((base.anchor().ok()?, mac(&base.tag))));
        let mut verifier = Verifier::new(keyring.audit(), base, anchors);
        let page = format!("SELECT {COLUMNS} FROM audit WHERE seq > $1 ORDER BY seq LIMIT {MAX_PAGE}");
        let first = format!("SELECT {COLUMNS} FROM audit ORDER BY seq LIMIT {MAX_PAGE}");
        let mut after = None;
        loop {
            let query = match after {
                None => sqlx::query(sqlx::AssertSqlSafe(first.clone())),
                Some(seq) => sqlx::query(sqlx::AssertSqlSafe(page.clone())).bind::<i64>(seq),
            };
            let rows = query.fetch_all(snapshot.connection()).await?;
            let Some(last) = rows.last() else { return Ok(verifier.finish()) };
            for row in &rows {
                give(&mut verifier, row);
            }
            let next = last.try_get("seq").ok();
            if next.is_none() {
                // A number that is none sorts after all others: there is nothing behind it to read.
                return Ok(verifier.finish());
            }
            after = next;
        }
    }
}

/// Gives a row to the verifier, whatever it holds.
fn give(verifier: &mut Verifier<'_>, stored: &sqlx::sqlite::SqliteRow) {
    match Row::from_row(stored) {
        Ok(row) => row.with_columns(|columns| {
            verifier.row(Link { seq: row.seq, columns: Some(columns), mac: mac(&row.mac) });
        }),
        Err(_) => {
            let stored_mac = stored.try_get::<String, _>("mac").ok();
            // Where the number itself cannot be read, the row stands behind all others.
            let seq = stored.try_get("seq").unwrap_or(i64::MAX);
            verifier.row(Link { seq, columns: None, mac: stored_mac.as_deref().and_then(mac) });
        }
    }
}
