//! Nudges that are due after a revocation. A nudge shows a verifier a token of a new key, so that the
//! verifier fetches the JWKS again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::states::Effects as _;
use super::{Store, StoreError, Transaction, Trusted, from_millis, parse, to_millis};
use crate::jose::Algorithm;
use crate::jose::jwk::Kid;

const TABLE: &str = "nudges";

/// The maximum time that the first round waits for published copies. The second round follows this long after
/// the last cache has dropped the JWKS from before the revocation.
pub const NUDGE_WAITS: SignedDuration = SignedDuration::from_secs(60);

/// The age at which a claim expires, because the process that made it has ended.
const CLAIM_ENDS: SignedDuration = SignedDuration::from_mins(5);

/// One round of nudges after a revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nudge {
    /// The algorithm of the revoked keys.
    pub algorithm: Algorithm,
    /// The time of the revocation.
    pub requested_at: Timestamp,
    /// The round: 1 or 2.
    pub round: i64,
    /// The prepared key that signs; `None` if the revocation prepared no key.
    pub kid: Option<Kid>,
    /// The time at which the round is due.
    pub due_at: Timestamp,
    /// The time until which the round waits for published copies that do not show the revocation yet.
    pub wait_until: Timestamp,
    /// The time at which a process last claimed the round.
    pub claimed_at: Option<Timestamp>,
}

impl Nudge {
    /// Returns the time from which a process may claim the round: once it is due and no live process has
    /// claimed it.
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
    /// Returns the first 100 nudges that are not done yet, in the order in which they are due.
    pub async fn nudges(&self) -> Result<Vec<Nudge>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT alg, requested_at, round, kid, due_at, wait_until, claimed_at FROM nudges \
             ORDER BY due_at, requested_at, alg, round LIMIT 100",
        )
        .fetch_all(&self.readers.lookups)
        .await?;
        rows.into_iter().map(Row::nudge).collect()
    }
}

impl Trusted {
    /// Claims a nudge for this process, or renews this process's claim. Returns whether no other process has
    /// claimed it since `nudge` was read.
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
        .count_affected(write.connection())
        .await?;
        write.commit().await?;
        let is_ours = claimed == 1;
        if is_ours {
            nudge.claimed_at = Some(now);
        }
        Ok(is_ours)
    }

    /// Gives up this process's claim on a nudge. Without effect if another process has claimed it since.
    pub async fn release_nudge(&self, nudge: &Nudge) -> Result<(), StoreError> {
        self.with_claim("UPDATE nudges SET claimed_at = NULL", nudge).await
    }

    /// Removes a nudge that is done. Without effect if another process has claimed it since, or if it was
    /// requested anew.
    pub async fn end_nudge(&self, nudge: &Nudge) -> Result<(), StoreError> {
        self.with_claim("DELETE FROM nudges", nudge).await
    }

    /// Does `act` to the row of a nudge whose claim is still this process's.
    async fn with_claim(&self, act: &'static str, nudge: &Nudge) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        let claimed = "WHERE alg = $1 AND requested_at = $2 AND round = $3 AND COALESCE(claimed_at, -1) = $4";
        sqlx::query(sqlx::AssertSqlSafe(format!("{act} {claimed}")))
            .bind(nudge.algorithm.as_str())
            .bind(to_millis(nudge.requested_at))
            .bind(nudge.round)
            .bind(nudge.claimed_at.map_or(-1, to_millis))
            .count_affected(write.connection())
            .await?;
        write.commit().await
    }
}

impl Transaction {
    /// Requests both rounds of nudges, after keys of `algorithm` were revoked and `kid` was prepared.
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
            .affects_one(self.connection(), TABLE)
            .await?;
        }
        Ok(())
    }
}
