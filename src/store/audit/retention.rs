//! Pruning by age, from the head of the log.

use jiff::Timestamp;
use sqlx::FromRow as _;

use super::base::{BASE_TABLE, Base, mac};
use super::paging::MAX_PAGE;
use super::row::{COLUMNS, Row, TABLE};
use crate::audit::verify::{Row as Link, Verifier};
use crate::audit::{Event, EventKind, Outcome};
use crate::store::states::Effects as _;
use crate::store::{ReadTransaction, StoreError, Trusted, corrupt, to_millis};
use crate::values::actor::Actor;

/// The number of rows after a page that are searched for a plausible time.
const LOOK_AHEAD: i64 = 100_000;

impl Trusted {
    /// Removes up to [`MAX_PAGE`] records written before `before` from the head of the log, and returns their
    /// number. The log then begins after them, and a new record says so.
    ///
    /// Never removes rows that were tampered with, because that would destroy the evidence.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the rows fail their verification. On any error, nothing is removed.
    pub async fn prune_audit(
        &self,
        before: Timestamp,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let mut write = self.write().await?;
        let keyring = write.keyring();
        let gone = || corrupt(BASE_TABLE, "1", "is gone");
        let base = Base::read(write.connection()).await?.ok_or_else(gone)?;
        let start = base.anchor()?;
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM audit ORDER BY seq LIMIT {MAX_PAGE}"
        )))
        .fetch_all(write.connection())
        .await?;
        let rows = rows.iter().map(Row::from_row).collect::<Result<Vec<_>, _>>()?;
        let pruned = write.aged(&rows, before, now).await?;
        let mut verifier = Verifier::new(keyring.audit(), Some((start, mac(&base.tag))), &[]);
        for row in rows.iter().take(pruned) {
            row.with_columns(|columns| {
                verifier.row(Link { seq: row.seq, columns: Some(columns), mac: mac(&row.mac) });
            });
        }
        if pruned == 0 {
            return Ok(0);
        }
        let report = verifier.finish_part();
        if let Some(finding) = report.findings.first() {
            let problem = format!("{finding}; nothing is pruned until an operator has dealt with that");
            return Err(corrupt(TABLE, &finding.seq.to_string(), problem));
        }
        let end = report.end;
        let what = format!("rows {} to {}, written before {before}", start.seq + 1, end.seq);
        // Appended before the rows are removed, so that the chain always has a row to continue from.
        write
            .append_audit(now, &[Event::new(EventKind::AuditPrune, Outcome::Done, actor).detail(&what)])
            .await?;
        sqlx::query("DELETE FROM audit WHERE seq <= $1")
            .bind(end.seq)
            .affects(write.connection(), TABLE, pruned as u64)
            .await?;
        sqlx::query("UPDATE audit_base SET seq = $1, mac = $2, tag = $3 WHERE id = 1")
            .bind(end.seq)
            .bind(end.mac.to_string())
            .bind(keyring.audit().current().base_tag(&end).to_string())
            .affects_one(write.connection(), BASE_TABLE)
            .await?;
        sqlx::query("DELETE FROM audit_epochs WHERE end_seq <= $1")
            .bind(end.seq)
            .count_affected(write.connection())
            .await?;
        write.commit().await?;
        Ok(pruned)
    }
}

impl ReadTransaction {
    /// Counts the rows older than `before` at the head of the log, which begins with `rows`.
    ///
    /// A row dated after `now` was written by a wrong clock. Rows are in the order of writing, so such a row
    /// is older than the next row with a plausible time.
    async fn aged(&mut self, rows: &[Row], before: Timestamp, now: Timestamp) -> Result<usize, StoreError> {
        let (before, now) = (to_millis(before), to_millis(now));
        let young = rows.iter().position(|row| (before..=now).contains(&row.at)).unwrap_or(rows.len());
        let (aged, page_end) = (&rows[..young], rows.last().map(|row| row.seq));
        let is_dated = |row: &Row| row.at < before;
        // If the page ends with rows of a wrong clock, the rows after the page decide about them.
        if let Some(end) = page_end
            && young == rows.len()
            && !aged.last().is_some_and(is_dated)
        {
            let next: Option<(i64,)> = sqlx::query_as(
                "SELECT at FROM (SELECT seq, at FROM audit WHERE seq > $1 ORDER BY seq LIMIT $3) AS next \
                 WHERE at <= $2 ORDER BY seq LIMIT 1",
            )
            .bind(end)
            .bind(now)
            .bind(LOOK_AHEAD)
            .fetch_optional(self.connection())
            .await?;
            if next.is_some_and(|(at,)| at < before) {
                return Ok(rows.len());
            }
        }
        Ok(aged.iter().rposition(is_dated).map_or(0, |last| last + 1))
    }
}
