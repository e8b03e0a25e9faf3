//! One row of the log as it is stored.

use jiff::Timestamp;
use sqlx::SqliteConnection;
use uuid::Uuid;

use crate::audit::{Event, Record};
use crate::store::states::Effects as _;
use crate::store::{StoreError, corrupt, from_millis, parse, to_millis};
use crate::values::actor::Actor;

/// The table of the log.
pub(super) const TABLE: &str = "audit";

/// Every column, in the order of the table.
pub(in crate::store) const COLUMNS: &str = "seq, at, kind, outcome, actor, space, feed, feed_id, grant_id, jti, sub, aud, kid, \
                                  request_id, upstream_request_id, client, is_check, detail, count, mac";

const COLUMN_COUNT: usize = 20;

/// The maximum number of rows that one statement inserts. A statement of this size stays prepared, as do
/// those for [`USUAL_ROWS`] or fewer.
pub(super) const MAX_ROWS: usize = 64;

/// The maximum number of rows for which a smaller statement stays prepared.
const USUAL_ROWS: usize = 8;

/// Returns the statement that inserts this many rows.
///
/// Its placeholders have no numbers: SQLite treats `$1` as a name, and compares each name with all others
/// while the database is locked. With the 10,000 values of a full batch, that takes seconds.
pub(super) fn insertion(rows: usize) -> String {
    let row = format!("({})", vec!["?"; COLUMN_COUNT].join(", "));
    format!("INSERT INTO audit ({COLUMNS}) VALUES {}", vec![row; rows].join(", "))
}

#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Row {
    pub(super) seq: i64,
    pub(super) at: i64,
    kind: String,
    outcome: String,
    actor: String,
    space: Option<String>,
    feed: Option<String>,
    feed_id: Option<String>,
    grant_id: Option<String>,
    jti: Option<String>,
    sub: Option<String>,
    aud: Option<String>,
    kid: Option<String>,
    request_id: Option<String>,
    upstream_request_id: Option<String>,
    client: Option<String>,
    is_check: bool,
    detail: Option<String>,
    count: i64,
    pub(super) mac: String,
}

impl Row {
    /// Returns the row of `event` with the number `seq`, and no MAC yet.
    pub(super) fn new(seq: i64, now: Timestamp, event: &Event) -> Self {
        let uuid = |uuid: &Option<Uuid>| uuid.as_ref().map(Uuid::to_string);
        Self {
            seq,
            at: to_millis(now),
            kind: event.kind.as_str().to_owned(),
            outcome: event.outcome.as_str().to_owned(),
            actor: event.actor.as_str().to_owned(),
            space: event.space.as_ref().map(ToString::to_string),
            feed: event.feed.as_ref().map(ToString::to_string),
            feed_id: uuid(&event.feed_id),
            grant_id: uuid(&event.grant_id),
            jti: uuid(&event.jti),
            sub: event.sub.clone(),
            aud: event.aud.clone(),
            kid: event.kid.clone(),
            request_id: event.request_id.clone(),
            upstream_request_id: event.upstream_request_id.clone(),
            client: event.client.map(|client| client.to_string()),
            is_check: event.is_check,
            detail: event.detail.clone(),
            count: i64::try_from(event.count).unwrap_or(i64::MAX),
            mac: String::new(),
        }
    }

    /// Passes every column except the MAC to `take`, as text and in the order in which the chain covers them.
    /// The order and the texts must never change, or existing records would no longer verify.
    pub(super) fn with_columns<T>(&self, take: impl FnOnce(&[Option<&str>]) -> T) -> T {
        let (seq, at, count) = (self.seq.to_string(), self.at.to_string(), self.count.to_string());
        take(&[
            Some(&seq),
            Some(&at),
            Some(&self.kind),
            Some(&self.outcome),
            Some(&self.actor),
            self.space.as_deref(),
            self.feed.as_deref(),
            self.feed_id.as_deref(),
            self.grant_id.as_deref(),
            self.jti.as_deref(),
            self.sub.as_deref(),
            self.aud.as_deref(),
            self.kid.as_deref(),
            self.request_id.as_deref(),
            self.upstream_request_id.as_deref(),
            self.client.as_deref(),
            Some(if self.is_check { "1" } else { "0" }),
            self.detail.as_deref(),
            Some(&count),
        ])
    }

    /// Writes rows, with as few statements as the limit on their size allows.
    pub(super) async fn insert(rows: Vec<Self>, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let some: Vec<_> = rows.by_ref().take(MAX_ROWS).collect();
            let count = some.len();
            let is_usual = count <= USUAL_ROWS || count == MAX_ROWS;
            let mut query = sqlx::query(sqlx::AssertSqlSafe(insertion(count))).persistent(is_usual);
            for row in some {
                query = query
                    .bind(row.seq)
                    .bind(row.at)
                    .bind(row.kind)
                    .bind(row.outcome)
                    .bind(row.actor)
                    .bind(row.space)
                    .bind(row.feed)
                    .bind(row.feed_id)
                    .bind(row.grant_id)
                    .bind(row.jti)
                    .bind(row.sub)
                    .bind(row.aud)
                    .bind(row.kid)
                    .bind(row.request_id)
                    .bind(row.upstream_request_id)
                    .bind(row.client)
                    .bind(row.is_check)
                    .bind(row.detail)
                    .bind(row.count)
                    .bind(row.mac);
            }
            query.affects(&mut *connection, TABLE, count as u64).await?;
        }
        Ok(())
    }

    /// Converts the row to a record. Does not verify its MAC.
    pub(super) fn record(self) -> Result<Record, StoreError> {
        let row = self.seq.to_string();
        let uuid = |text: Option<String>| text.map(|text| parse::<Uuid>(TABLE, &row, &text)).transpose();
        let slug = |text: Option<String>| text.map(|text| parse(TABLE, &row, &text)).transpose();
        Ok(Record {
            seq: self.seq,
            at: from_millis(TABLE, &row, self.at)?,
            event: Event {
                kind: parse(TABLE, &row, &self.kind)?,
                outcome: parse(TABLE, &row, &self.outcome)?,
                actor: Actor::recorded(self.actor),
                space: slug(self.space)?,
                feed: slug(self.feed)?,
                feed_id: uuid(self.feed_id)?,
                grant_id: uuid(self.grant_id)?,
                jti: uuid(self.jti)?,
                sub: self.sub,
                aud: self.aud,
                kid: self.kid,
                request_id: self.request_id,
                upstream_request_id: self.upstream_request_id,
                client: self.client.map(|text| parse(TABLE, &row, &text)).transpose()?,
                is_check: self.is_check,
                detail: self.detail,
                count: u64::try_from(self.count)
                    .map_err(|_| corrupt(TABLE, &row, format!("count {}", self.count)))?,
            },
            mac: parse(TABLE, &row, &self.mac)?,
        })
    }
}
