//! Verification of the whole log.

use sqlx::{FromRow as _, Row as _};

use super::base::{Base, mac};
use super::paging::MAX_PAGE;
use super::row::{COLUMNS, Row};
use super::times::Searchable;
use crate::audit::verify::{Report, Row as Link, Verifier};
use crate::audit::{Anchor, EventKind};
use crate::store::{StoreError, Unlocked};

impl Unlocked {
    /// Verifies the whole log as it is at this moment, and reports every change since it was written.
    /// `anchors` are ends of the log that were kept elsewhere.
    ///
    /// Reads one snapshot: the write-ahead log cannot be emptied before it ends.
    /// Tampering is not an error: the report contains it as a finding.
    pub async fn verify_audit(&self, anchors: &[Anchor]) -> Result<Report, StoreError> {
        let mut snapshot = self.read().await?;
        let keyring = snapshot.keyring();
        // A base that cannot be read counts as missing.
        let base = Base::read(snapshot.connection()).await.ok().flatten();
        let base = base.and_then(|base| Some((base.anchor().ok()?, mac(&base.tag))));
        let mut verifier = Verifier::new(keyring.audit(), base, anchors);
        let page = format!("SELECT {COLUMNS} FROM audit WHERE seq > $1 ORDER BY seq LIMIT {MAX_PAGE}");
        let first = format!("SELECT {COLUMNS} FROM audit ORDER BY seq LIMIT {MAX_PAGE}");
        let (mut after, mut searchable) = (None, Searchable::new());
        loop {
            let query = match after {
                None => sqlx::query(sqlx::AssertSqlSafe(first.clone())),
                Some(seq) => sqlx::query(sqlx::AssertSqlSafe(page.clone())).bind::<i64>(seq),
            };
            let rows = query.fetch_all(snapshot.connection()).await?;
            for row in &rows {
                give(&mut verifier, &mut searchable, row);
            }
            // A sequence number that is not a number sorts after all others, so no row follows it.
            after = rows.last().and_then(|last| last.try_get("seq").ok());
            if after.is_none() {
                break;
            }
        }
        if let Some(row) = searchable.missed(snapshot.connection()).await? {
            verifier.hidden(row);
        }
        Ok(verifier.finish())
    }
}

impl Unlocked {
    /// Returns whether the present epoch of the log has an authentic record of a change of the master key whose
    /// detail starts with `beginning`.
    pub async fn was_rewrapped(&self, beginning: &str) -> Result<bool, StoreError> {
        let mut snapshot = self.read().await?;
        let found = sqlx::query_as::<_, Row>(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM audit WHERE kind = $1 AND substr(detail, 1, length($2)) = $2 \
             ORDER BY seq DESC LIMIT 1"
        )));
        let found = found
            .bind(EventKind::KeyRewrap.as_str())
            .bind(beginning)
            .fetch_optional(snapshot.connection())
            .await?;
        let Some(row) = found else { return Ok(false) };
        let before: Option<String> = sqlx::query_scalar(
            "SELECT mac FROM audit WHERE seq = $1 - 1 UNION ALL SELECT mac FROM audit_base WHERE seq = $1 - 1",
        )
        .bind(row.seq)
        .fetch_optional(snapshot.connection())
        .await?;
        let (before, own) = (before.as_deref().and_then(mac), mac(&row.mac));
        let keyring = snapshot.keyring();
        let key = keyring.audit().current();
        Ok(before
            .zip(own)
            .is_some_and(|(before, own)| row.with_columns(|columns| key.follows(&before, columns, &own))))
    }
}

/// Passes a row to the verifier, also one that cannot be read.
fn give(verifier: &mut Verifier<'_>, searchable: &mut Searchable, stored: &sqlx::sqlite::SqliteRow) {
    match Row::from_row(stored) {
        Ok(row) => {
            searchable.row(row.seq, row.at);
            row.with_columns(|columns| {
                verifier.row(Link { seq: row.seq, columns: Some(columns), mac: mac(&row.mac) });
            });
        }
        Err(_) => {
            let stored_mac = stored.try_get::<String, _>("mac").ok();
            // A row without a readable sequence number comes after all others.
            let seq = stored.try_get("seq").unwrap_or(i64::MAX);
            verifier.row(Link { seq, columns: None, mac: stored_mac.as_deref().and_then(mac) });
        }
    }
}
