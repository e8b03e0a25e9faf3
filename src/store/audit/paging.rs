//! Reading the log page by page. A page reads a bounded number of rows. If those do not fill it, the page is
//! short or empty and says where the next one continues.

use super::filter::{AuditFilter, Home, Range, Way};
use super::row::{COLUMNS, Row, TABLE};
use super::sql::{Bound, Conditions, Value};
use super::times::{self, Bounds};
use crate::audit::Record;
use crate::store::readers::{LOG_DEADLINE, LogConnection};
use crate::store::{Store, StoreError, parse};

/// The maximum number of records of a page.
pub const MAX_PAGE: u32 = 1000;

/// The approximate maximum number of rows read for a page, whatever the filter.
const MAX_READ: i64 = 4096;

/// The order of a page and the row that it continues from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Newest first, below this row if one is given.
    NewestFirst(Option<i64>),
    /// Oldest first, above this row.
    OldestFirst(i64),
}

/// A page of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The records. There may be none even if others follow.
    pub records: Vec<Record>,
    /// The row that the next page continues from; `None` on the last page.
    pub next: Option<i64>,
    /// The last row of the log when the page was read.
    pub end: i64,
}

impl Store {
    /// Returns up to `limit` records, and never more than [`MAX_PAGE`]. Needs no key, and does not verify the
    /// chain.
    ///
    /// # Errors
    ///
    /// [`StoreError::LogBusy`] or [`StoreError::LogTooSlow`] under load.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        direction: Direction,
        limit: u32,
    ) -> Result<Page, StoreError> {
        let limit = i64::from(limit.clamp(1, MAX_PAGE));
        let mut connection = self.readers.log().await?;
        // At the deadline, the page and the connection are dropped, which interrupts the statement.
        let page = page(&mut connection, filter, direction, limit);
        tokio::time::timeout(LOG_DEADLINE, page).await.map_err(|_| StoreError::LogTooSlow)?
    }
}

async fn page(
    connection: &mut LogConnection,
    filter: &AuditFilter,
    direction: Direction,
    limit: i64,
) -> Result<Page, StoreError> {
    let Some((mut bounds, end)) = bounds(connection, filter, direction).await? else {
        return Ok(Page { records: Vec::new(), next: None, end: 0 });
    };
    let last = Page { records: Vec::new(), next: None, end };
    if bounds.lowest > bounds.highest {
        return Ok(last);
    }
    let home = home(connection, filter).await?;
    let way = filter.way(home.as_ref());
    let conditions = filter.conditions(&way);
    let step = match &way {
        Way::Nowhere => return Ok(last),
        Way::Log if conditions.is_empty() => None,
        Way::Log => Some(direction.step(bounds)),
        Way::Ranges(ranges) if conditions.is_empty() && ranges.len() == 1 => None,
        Way::Ranges(ranges) => reach(connection, ranges, bounds, direction, limit).await?,
    };
    // Rows beyond the step belong to the next page.
    let step = step.filter(|step| bounds.contains_more_than(*step, direction));
    match (step, direction) {
        (None, _) => {}
        (Some(step), Direction::NewestFirst(_)) => bounds.lowest = step,
        (Some(step), Direction::OldestFirst(_)) => bounds.highest = step,
    }
    let records = records(connection, &way, &conditions, bounds, direction, limit).await?;
    let is_full = i64::try_from(records.len()).is_ok_and(|read| read >= limit);
    let next = match step {
        // A full page may be the last one. The next page is then empty.
        _ if is_full => records.last().map(|record| record.seq),
        Some(step) => beyond_gap(connection, step, direction).await?,
        None => None,
    };
    Ok(Page { records, next, end })
}

/// Returns the row that the next page continues from, which is `step` unless rows are missing there. A forged
/// row with a far number could otherwise have a reader follow empty pages for ever.
async fn beyond_gap(
    connection: &mut LogConnection,
    step: i64,
    direction: Direction,
) -> Result<Option<i64>, StoreError> {
    let sql = match direction {
        Direction::NewestFirst(_) => "SELECT seq FROM audit WHERE seq < $1 ORDER BY seq DESC LIMIT 1",
        Direction::OldestFirst(_) => "SELECT seq FROM audit WHERE seq > $1 ORDER BY seq LIMIT 1",
    };
    let row: Option<i64> = sqlx::query_scalar(sql).bind(step).fetch_optional(&mut **connection).await?;
    Ok(row.map(|row| match direction {
        Direction::NewestFirst(_) => step.min((row.div_euclid(MAX_READ) + 1).saturating_mul(MAX_READ)),
        Direction::OldestFirst(_) => step.max(row.div_euclid(MAX_READ).saturating_mul(MAX_READ) - 1),
    }))
}

/// Returns the rows within the times of the filter and after the previous page, and the last row of the log;
/// `None` if the log has no rows.
async fn bounds(
    connection: &mut LogConnection,
    filter: &AuditFilter,
    direction: Direction,
) -> Result<Option<(Bounds, i64)>, StoreError> {
    let (first, end): (Option<i64>, Option<i64>) = sqlx::query_as(
        "SELECT (SELECT seq FROM audit ORDER BY seq LIMIT 1), (SELECT seq FROM audit ORDER BY seq DESC LIMIT 1)",
    )
    .fetch_one(&mut **connection)
    .await?;
    let (Some(first), Some(end)) = (first, end) else { return Ok(None) };
    let whole = Bounds { lowest: first, highest: end };
    let mut bounds = times::within(connection, whole, filter.since, filter.until).await?;
    match direction {
        Direction::NewestFirst(None) => {}
        Direction::NewestFirst(Some(below)) => bounds.highest = bounds.highest.min(below.saturating_sub(1)),
        Direction::OldestFirst(above) => bounds.lowest = bounds.lowest.max(above.saturating_add(1)),
    }
    Ok(Some((bounds, end)))
}

impl Bounds {
    fn contains_more_than(self, step: i64, direction: Direction) -> bool {
        match direction {
            Direction::NewestFirst(_) => self.lowest < step,
            Direction::OldestFirst(_) => step < self.highest,
        }
    }
}

impl Direction {
    /// Returns the row at which a page along the log ends: a multiple of [`MAX_READ`], which reveals nothing
    /// about the log.
    fn step(self, bounds: Bounds) -> i64 {
        match self {
            Self::NewestFirst(_) => (bounds.highest.saturating_add(1) / MAX_READ - 1) * MAX_READ,
            Self::OldestFirst(_) => (bounds.lowest / MAX_READ + 1).saturating_mul(MAX_READ),
        }
    }

    fn order(self) -> &'static str {
        match self {
            Self::NewestFirst(_) => "DESC",
            Self::OldestFirst(_) => "ASC",
        }
    }
}

/// Returns the space and feed of the first row with the filter's token.
async fn home(connection: &mut LogConnection, filter: &AuditFilter) -> Result<Option<Home>, StoreError> {
    let Some(jti) = filter.jti else { return Ok(None) };
    let home: Option<(Option<String>, Option<String>)> =
        sqlx::query_as("SELECT space, feed FROM audit WHERE jti = $1 ORDER BY seq LIMIT 1")
            .bind(jti.to_string())
            .fetch_optional(&mut **connection)
            .await?;
    let slug = |text: Option<String>| text.map(|text| parse(TABLE, "jti", &text)).transpose();
    home.map(|(space, feed)| Ok(Home { space: slug(space)?, feed: slug(feed)? })).transpose()
}

/// Returns the row at which a page along ranges ends, so that it reads a bounded number of rows of each
/// range. `None` if it can read all of them to their ends.
async fn reach(
    connection: &mut LogConnection,
    ranges: &[Range],
    bounds: Bounds,
    direction: Direction,
    limit: i64,
) -> Result<Option<i64>, StoreError> {
    let each = limit.max(MAX_READ / i64::try_from(ranges.len()).unwrap_or(i64::MAX).max(1));
    let (mut bound, order) = (Bound::default(), direction.order());
    let (lowest, highest) = (bound.number(bounds.lowest), bound.number(bounds.highest));
    let offset = bound.number(each - 1);
    let reached = ranges.iter().map(|range| {
        let range = equal(range, &mut bound);
        format!(
            "SELECT (SELECT seq FROM audit WHERE {range} AND seq >= {lowest} AND seq <= {highest} \
             ORDER BY seq {order} LIMIT 1 OFFSET {offset}) AS seq"
        )
    });
    let reached = reached.collect::<Vec<_>>().join(" UNION ALL ");
    let nearest = if matches!(direction, Direction::NewestFirst(_)) { "MAX" } else { "MIN" };
    let sql = format!("SELECT {nearest}(seq) FROM ({reached}) AS reached");
    let (reached,): (Option<i64>,) =
        bound.to(sqlx::query_as(sqlx::AssertSqlSafe(sql))).fetch_one(&mut **connection).await?;
    Ok(reached)
}

/// Returns the records on the access path within the bounds.
async fn records(
    connection: &mut LogConnection,
    way: &Way,
    conditions: &Conditions,
    bounds: Bounds,
    direction: Direction,
    limit: i64,
) -> Result<Vec<Record>, StoreError> {
    let (sql, bound) = statement(way, conditions, bounds, direction, limit);
    let rows: Vec<Row> =
        bound.to(sqlx::query_as(sqlx::AssertSqlSafe(sql))).fetch_all(&mut **connection).await?;
    rows.into_iter().map(Row::record).collect()
}

/// Returns the statement that reads a page. Its text comes only from this function and [`super::sql`]; every
/// value from outside is bound.
pub(super) fn statement(
    way: &Way,
    conditions: &Conditions,
    bounds: Bounds,
    direction: Direction,
    limit: i64,
) -> (String, Bound) {
    let (mut bound, order) = (Bound::default(), direction.order());
    let (lowest, highest) = (bound.number(bounds.lowest), bound.number(bounds.highest));
    let limit = bound.number(limit);
    let within = format!("seq >= {lowest} AND seq <= {highest}{}", conditions.text(&mut bound));
    let sorted = format!("ORDER BY seq {order} LIMIT {limit}");
    let sql = match way {
        Way::Nowhere | Way::Log => format!("SELECT {COLUMNS} FROM audit WHERE {within} {sorted}"),
        Way::Ranges(ranges) => {
            let ranges: Vec<_> = ranges
                .iter()
                .map(|range| {
                    let range = equal(range, &mut bound);
                    format!(
                        "SELECT seq FROM (SELECT seq FROM audit WHERE {range} AND {within} {sorted}) AS range"
                    )
                })
                .collect();
            // UNION drops duplicates: a row may be in two ranges.
            let found = ranges.join(" UNION ");
            format!(
                "SELECT {COLUMNS} FROM audit WHERE seq IN (SELECT seq FROM ({found}) AS found {sorted}) ORDER BY seq {order}"
            )
        }
    };
    (sql, bound)
}

fn equal(range: &Range, bound: &mut Bound) -> String {
    let equal = |(column, value): &(&str, Value)| format!("{column} = {}", bound.place(value.clone()));
    range.iter().map(equal).collect::<Vec<_>>().join(" AND ")
}
