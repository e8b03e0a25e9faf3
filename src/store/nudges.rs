//! Nudges that are still to be done after a revocation, and the feeds whose verifiers they concern.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Store, StoreError, Transaction, from_millis, parse, to_millis};
use crate::jose::Algorithm;
use crate::jose::jwk::Kid;

const TABLE: &str = "nudges";

/// The first round does not wait longer than this for published copies, and the second one comes this long after the
/// JWKS that was sent before the revocation has left the last cache.
pub const NUDGE_WAITS: SignedDuration = SignedDuration::from_secs(60);

/// A claim of this age is nobody's any more: its process has ended.
const CLAIM_ENDS: SignedDuration = SignedDuration::from_mins(5);

/// One round of nudges after a revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nudge {
    /// The algorithm of the revoked keys.
    pub algorithm: Algorithm,
    /// When the keys were revoked.
    pub requested_at: Timestamp,
    /// 1 or 2.
    pub round: i64,
    /// The prepared key that signs; `None` if the revocation made no key.
    pub kid: Option<Kid>,
    /// When it is due.
    pub due_at: Timestamp,
    /// Until when copies of the documents that do not show the revocation are waited for.
    pub wait_until: Timestamp,
    /// When a process last said that it works on it.
    pub claimed_at: Option<Timestamp>,
}

impl Nudge {
    /// When a process may take it: once it is due and no living process has.
    #[must_use]
    pub fn free_at(&self) -> Timestamp {
        let ends = |at: Timestamp| at.saturating_add(CLAIM_ENDS).unwrap_or(Timestamp::MAX);
        self.claimed_at.map_or(self.due_at, |at| self.due_at.max(ends(at)))
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    alg: String,
    requested_at: i64,
    round: i64,
    kid: Option<String>,
    due_at: i64,
    wait_until: i64,
    claimed_at: Option<i64>,
}

impl Row {
    fn nudge(self) -> Result<Nudge, StoreError> {
        let time = |millis| from_millis(TABLE, &self.alg, millis);
        Ok(Nudge {
            requested_at: time(self.requested_at)?,
            round: self.round,
            due_at: time(self.due_at)?,
            wait_until: time(self.wait_until)?,
            claimed_at: self.claimed_at.map(time).transpose()?,
            kid: self.kid.as_ref().map(|kid| parse(TABLE, &self.alg, kid)).transpose()?,
            algorithm: parse(TABLE, &self.alg, &self.alg)?,
        })
    }
}

impl Store {
    /// The nudges that are still to be done, in the order in which they are due.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database cannot be read, or holds a row that is no nudge.
    pub async fn nudges(&self) -> Result<Vec<Nudge>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT alg, requested_at, round, kid, due_at, wait_until, claimed_at FROM nudges \
             ORDER BY due_at, requested_at, alg, round LIMIT 100",
        )
        .fetch_all(&self.readers.lookups)
        .await?;
        rows.into_iter().map(Row::nudge).collect()
    }

    /// Claims a nudge for this process, or keeps a claim of its own. Says whether no other process has claimed it
    /// since `nudge` was read.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the statement fails.
    pub async fn claim_nudge(&self, nudge: &mut Nudge, now: Timestamp) -> Result<bool, StoreError> {
        let mut write = self.write().await?;
        let claimed = sqlx::query(
            "UPDATE nudges SET claimed_at = $4 WHERE alg = $1 AND requested_at = $2 AND round = $3 \
             AND COALESCE(claimed_at, -1) = $5",
        )
        .bind(nudge.algorithm.as_str())
        .bind(to_millis(nudge.requested_at))
        .bind(nudge.round)
        .bind(to_millis(now))
        .bind(nudge.claimed_at.map_or(-1, to_millis))
        .execute(write.connection())
        .await?;
        write.commit().await?;
        nudge.claimed_at = Some(now);
        Ok(claimed.rows_affected() == 1)
    }

    /// Removes a nudge, which has been done.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the statement fails.
    pub async fn end_nudge(&self, nudge: &Nudge) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        sqlx::query("DELETE FROM nudges WHERE alg = $1 AND requested_at = $2 AND round = $3")
            .bind(nudge.algorithm.as_str())
            .bind(to_millis(nudge.requested_at))
            .bind(nudge.round)
            .execute(write.connection())
            .await?;
        write.commit().await
    }
}

impl Transaction {
    /// Asks for both rounds of nudges after keys of `algorithm` were revoked and `kid` was prepared.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when a statement fails.
    pub async fn request_nudges(
        &mut self,
        algorithm: Algorithm,
        kid: Option<&Kid>,
        max_age: Duration,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let after = |wait: SignedDuration| now.saturating_add(wait).unwrap_or(Timestamp::MAX);
        let expired = SignedDuration::try_from(max_age).unwrap_or(SignedDuration::MAX);
        let second = after(expired.saturating_add(NUDGE_WAITS));
        for (round, due_at, wait_until) in [(1, now, after(NUDGE_WAITS)), (2, second, second)] {
            sqlx::query(
                "INSERT INTO nudges (alg, requested_at, round, kid, due_at, wait_until) \
                 VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (alg, requested_at, round) DO UPDATE SET kid = $4, claimed_at = NULL",
            )
            .bind(algorithm.as_str())
            .bind(to_millis(now))
            .bind(round)
            .bind(kid.map(Kid::as_str))
            .bind(to_millis(due_at))
            .bind(to_millis(wait_until))
            .execute(self.connection())
            .await?;
        }
        Ok(())
    }
}
