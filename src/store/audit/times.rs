//! Bounds on `seq` that follow from times.
//!
//! The order of the log is that of `seq`. `at` follows it, unless a clock was set back or the clocks of two
//! servers differ. The table `audit_times` holds the largest amount by which a row was ever written with an
//! earlier `at` than a row before it. With that amount, a binary search finds the bounds, and no row between
//! the times is outside them.
//!
//! The amount carries no MAC: a smaller one hides rows from searches by time. [`Searchable`] shows that when
//! the log is verified.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use crate::store::states::Effects as _;
use crate::store::{StoreError, to_millis};

/// The first and the last row to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) lowest: i64,
    pub(super) highest: i64,
}

/// Returns the part of `whole` that holds every row written at `since` or later and before `until`, and few
/// others.
pub(super) async fn within(
    connection: &mut SqliteConnection,
    whole: Bounds,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<Bounds, StoreError> {
    if since.is_none() && until.is_none() {
        return Ok(whole);
    }
    let behind: Option<i64> = sqlx::query_scalar("SELECT behind FROM audit_times WHERE id = 1")
        .fetch_optional(&mut *connection)
        .await?;
    let Some(behind) = behind.map(|behind| behind.max(0)) else { return Ok(whole) };
    let mut bounds = whole;
    if let Some(since) = since {
        // If a row is earlier than `since` by more than `behind`, all rows before it are also earlier than
        // `since`.
        let (before, _) = halve(connection, whole, to_millis(since).saturating_sub(behind)).await?;
        bounds.lowest = before.saturating_add(1);
    }
    if let Some(until) = until {
        let (_, after) = halve(connection, whole, to_millis(until).saturating_add(behind)).await?;
        bounds.highest = after.saturating_sub(1);
    }
    Ok(bounds)
}

/// Records that rows were written at `now`, in the transaction that writes them.
pub(super) async fn note(connection: &mut SqliteConnection, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE audit_times SET behind = CASE WHEN latest - $1 > behind THEN latest - $1 ELSE behind END, \
         latest = CASE WHEN latest < $1 THEN $1 ELSE latest END WHERE id = 1",
    )
    .bind(to_millis(now))
    .affects_one(connection, "audit_times")
    .await?;
    Ok(())
}

/// The check that searches by time reach every row. Takes the rows in order.
#[derive(Debug)]
pub(super) struct Searchable {
    latest: i64,
    /// The largest amount by which a row is earlier than a row before it, and that row.
    behind: i64,
    row: i64,
}

impl Searchable {
    pub(super) fn new() -> Self {
        Self { latest: i64::MIN, behind: 0, row: 0 }
    }

    pub(super) fn row(&mut self, seq: i64, at: i64) {
        let behind = self.latest.saturating_sub(at);
        if behind > self.behind {
            (self.behind, self.row) = (behind, seq);
        }
        self.latest = self.latest.max(at);
    }

    /// Returns a row that searches by time can miss, because the stored amount is too small.
    pub(super) async fn missed(self, connection: &mut SqliteConnection) -> Result<Option<i64>, StoreError> {
        let stored: Option<i64> = sqlx::query_scalar("SELECT behind FROM audit_times WHERE id = 1")
            .fetch_optional(connection)
            .await?;
        Ok(stored.filter(|stored| (*stored).max(0) < self.behind).map(|_| self.row))
    }
}

/// Returns a row written before `time`, or the number below all rows, and a row written at `time` or later,
/// or the number above all rows. The two are adjacent unless a row between them is missing.
async fn halve(
    connection: &mut SqliteConnection,
    whole: Bounds,
    time: i64,
) -> Result<(i64, i64), StoreError> {
    let found = sqlx::query_as(
        "WITH RECURSIVE halves (low, high, step) AS ( \
           SELECT $1, $2, 0 \
           UNION ALL \
           SELECT CASE WHEN audit.at < $3 THEN audit.seq ELSE low END, \
                  CASE WHEN audit.at < $3 THEN high ELSE audit.seq END, step + 1 \
           FROM halves JOIN audit ON audit.seq = (low + high) / 2 WHERE high - low > 1 \
         ) SELECT low, high FROM halves ORDER BY step DESC LIMIT 1",
    )
    .bind(whole.lowest.saturating_sub(1))
    .bind(whole.highest.saturating_add(1))
    .bind(time)
    .fetch_one(connection)
    .await?;
    Ok(found)
}
