//! Reading the log: by filter and page, and whole to verify it.

use jiff::Timestamp;
use sqlx::{FromRow as _, Row as _};
use uuid::Uuid;

use super::row::{COLUMNS, Row};
use super::{Base, mac};
use crate::actor::Actor;
use crate::audit::verify::{Report, Row as Link, Verifier};
use crate::audit::{Anchor, EventKind, Outcome, Record};
use crate::slug::Slug;
use crate::store::{Store, StoreError, to_millis};

/// No page has more records.
pub const MAX_PAGE: u32 = 1000;

/// Which records to read: those that all of it allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of this kind.
    pub kind: Option<EventKind>,
    /// With this outcome.
    pub outcome: Option<Outcome>,
    /// By this actor, named as in the log.
    pub actor: Option<String>,
    /// About one of these spaces; with an empty list there are none.
    pub spaces: Option<Vec<Slug>>,
    /// About a feed of this name.
    pub feed: Option<Slug>,
    /// About this grant, or by whoever used it.
    pub grant: Option<Uuid>,
    /// With this token.
    pub jti: Option<Uuid>,
    /// Written then or later.
    pub since: Option<Timestamp>,
    /// Written before.
    pub until: Option<Timestamp>,
}

/// From where to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The latest first, from below this place if one is given.
    NewestFirst(Option<i64>),
    /// The oldest first, from above this place.
    OldestFirst(i64),
}

enum Argument {
    Number(i64),
    Text(String),
}

/// The conditions of a query, each with its arguments.
#[derive(Default)]
struct Conditions {
    text: Vec<String>,
    arguments: Vec<Argument>,
}

impl Conditions {
    fn bind(&mut self, argument: Argument) -> String {
        self.arguments.push(argument);
        format!("${}", self.arguments.len())
    }

    fn number(&mut self, before: &str, number: Option<i64>) {
        if let Some(number) = number {
            let place = self.bind(Argument::Number(number));
            self.text.push(format!("{before} {place}"));
        }
    }

    fn text(&mut self, column: &str, text: Option<impl ToString>) {
        if let Some(text) = text {
            let place = self.bind(Argument::Text(text.to_string()));
            self.text.push(format!("{column} = {place}"));
        }
    }

    fn of(filter: &AuditFilter, direction: Direction) -> Self {
        let mut conditions = Self::default();
        match direction {
            Direction::NewestFirst(below) => conditions.number("seq <", below),
            Direction::OldestFirst(above) => conditions.number("seq >", Some(above)),
        }
        conditions.text("kind", filter.kind);
        conditions.text("outcome", filter.outcome);
        conditions.text("actor", filter.actor.as_ref());
        conditions.text("feed", filter.feed.as_ref());
        conditions.text("jti", filter.jti);
        conditions.number("at >=", filter.since.map(to_millis));
        conditions.number("at <", filter.until.map(to_millis));
        if let Some(spaces) = &filter.spaces {
            let places: Vec<_> =
                spaces.iter().map(|space| conditions.bind(Argument::Text(space.to_string()))).collect();
            // `IN ()` is not SQL everywhere.
            let places = if places.is_empty() { "NULL".to_owned() } else { places.join(", ") };
            conditions.text.push(format!("space IN ({places})"));
        }
        if let Some(grant) = filter.grant {
            let about = conditions.bind(Argument::Text(grant.to_string()));
            let by = conditions.bind(Argument::Text(Actor::grant(grant).as_str().to_owned()));
            conditions.text.push(format!("(grant_id = {about} OR actor = {by})"));
        }
        conditions
    }
}

impl Store {
    /// At most `limit` records, and never more than [`MAX_PAGE`]. The next page goes on from the `seq` of
    /// the last record. Needs no key, and says nothing about the chain.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database cannot be read, or a row holds what carnet never writes.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        direction: Direction,
        limit: u32,
    ) -> Result<Vec<Record>, StoreError> {
        let mut conditions = Conditions::of(filter, direction);
        let limit = conditions.bind(Argument::Number(i64::from(limit.min(MAX_PAGE))));
        let mut sql = format!("SELECT {COLUMNS} FROM audit");
        if !conditions.text.is_empty() {
            sql.push_str(" WHERE ");
            sql.push_str(&conditions.text.join(" AND "));
        }
        let order = if matches!(direction, Direction::OldestFirst(_)) { "ASC" } else { "DESC" };
        sql.push_str(&format!(" ORDER BY seq {order} LIMIT {limit}"));
        // Made of the texts above alone; what comes from outside is bound.
        let mut query = sqlx::query_as::<_, Row>(sqlx::AssertSqlSafe(sql));
        for argument in conditions.arguments {
            query = match argument {
                Argument::Number(number) => query.bind(number),
                Argument::Text(text) => query.bind(text),
            };
        }
        query.fetch_all(&self.readers).await?.into_iter().map(Row::record).collect()
    }

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
