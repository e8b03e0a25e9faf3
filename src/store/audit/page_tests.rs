//! Pages of a log with many rows.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sqlx::Row as _;
use tempfile::TempDir;
use uuid::Uuid;

use super::filter::Way;
use super::paging::statement;
use super::tests::{append, store};
use super::times::Bounds;
use super::*;
use crate::audit::{EventKind, Outcome};
use crate::grant::{FeedLimit, SpaceLimit};
use crate::store::Trusted;
use crate::values::actor::Actor;

/// More rows than one page reads.
const MANY: i64 = 10_000;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
}

fn sight(spaces: &[&str], feeds: &[&str]) -> Sight {
    let spaces: BTreeSet<_> = spaces.iter().map(|space| space.parse().unwrap()).collect();
    let feeds: BTreeSet<_> = feeds.iter().map(|feed| feed.parse().unwrap()).collect();
    Sight {
        spaces: if spaces.is_empty() { SpaceLimit::All } else { SpaceLimit::Only(spaces) },
        feeds: if feeds.is_empty() { FeedLimit::All } else { FeedLimit::Matching(feeds) },
    }
}

fn event(kind: EventKind, outcome: Outcome, actor: &str, path: &str) -> Event {
    Event::new(kind, outcome, &Actor::recorded(actor.to_owned())).about_path(&path.parse().unwrap())
}

/// Returns a log with one row of the space `rare`, followed by [`MANY`] rows of other spaces.
async fn crowded(folder: &TempDir) -> Trusted {
    let (store, _) = store(folder).await;
    let rare = event(EventKind::FeedAdd, Outcome::Failed, "local:eve", "rare/one");
    append(&store, at(0), &[rare.with_jti(Uuid::from_u128(1))]).await;
    let usual: Vec<_> = (0..1000)
        .map(|n| {
            event(EventKind::Credential, Outcome::Done, "serve", &format!("s{}/f{}", n % 3, n % 7))
                .with_jti(Uuid::from_u128(100 + n))
        })
        .collect();
    for n in 1..=MANY / 1000 {
        append(&store, at(n * 1000), &usual).await;
    }
    store
}

/// Reads every record in pages. Returns their sequence numbers, and the cursors between the pages.
async fn pages(store: &Store, filter: &AuditFilter, limit: u32) -> (Vec<i64>, Vec<i64>) {
    let (mut seqs, mut cursors) = (Vec::new(), Vec::new());
    loop {
        let from = Direction::NewestFirst(cursors.last().copied());
        let page = store.audit(filter, from, limit).await.unwrap();
        assert!(page.records.len() <= limit as usize);
        seqs.extend(page.records.iter().map(|record| record.seq));
        let Some(next) = page.next else { return (seqs, cursors) };
        cursors.push(next);
    }
}

#[tokio::test]
async fn pages_in_either_direction_hold_every_row_of_a_filter_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = crowded(&folder).await;
    let any = AuditFilter::default;
    let everything = store.audit(&any(), Direction::OldestFirst(0), MAX_PAGE).await.unwrap();
    assert_eq!((everything.records.len(), everything.next, everything.end), (1000, Some(1000), MANY + 1));
    let slug = |text: &str| text.parse().unwrap();
    for (what, filter, expected) in [
        ("no filter", any(), MANY + 1),
        ("a space", AuditFilter { spaces: Some(vec![slug("s1")]), ..any() }, 3330),
        ("two spaces", AuditFilter { sight: sight(&["s1", "rare"], &[]), ..any() }, 3331),
        ("a feed", AuditFilter { feed: Some(slug("f3")), ..any() }, 1430),
        ("feeds", AuditFilter { sight: sight(&[], &["f3", "one"]), ..any() }, 1431),
        ("a pattern", AuditFilter { sight: sight(&["s1", "rare"], &["o*"]), ..any() }, 1),
        ("a kind", AuditFilter { kind: Some(EventKind::FeedAdd), ..any() }, 1),
        (
            "a rare outcome in a space",
            AuditFilter { outcome: Some(Outcome::Failed), sight: sight(&["s0", "s1", "rare"], &[]), ..any() },
            1,
        ),
        ("a grant", AuditFilter { grant: Some(Uuid::from_u128(1)), ..any() }, 0),
        ("a token", AuditFilter { jti: Some(Uuid::from_u128(101)), ..any() }, 10),
        ("a time", AuditFilter { since: Some(at(3000)), until: Some(at(5000)), ..any() }, 2000),
    ] {
        for limit in [100, 1000] {
            let (newest, _) = pages(&store, &filter, limit).await;
            assert_eq!(newest.len(), usize::try_from(expected).unwrap(), "{what}");
            assert!(newest.is_sorted_by(|one, next| one > next), "{what}");
            let (mut oldest, mut above) = (Vec::new(), 0);
            loop {
                let page = store.audit(&filter, Direction::OldestFirst(above), limit).await.unwrap();
                oldest.extend(page.records.iter().map(|record| record.seq));
                let Some(next) = page.next else { break };
                above = next;
            }
            oldest.reverse();
            assert_eq!(oldest, newest, "{what}");
        }
    }
}

#[tokio::test]
async fn a_cursor_is_a_row_that_the_reader_may_see_or_a_round_number() {
    let folder = tempfile::tempdir().unwrap();
    let store = crowded(&folder).await;
    let rare = |filter: AuditFilter| AuditFilter { sight: sight(&["rare"], &[]), ..filter };
    // Ten thousand newer rows of other spaces come before the only visible one.
    for filter in [
        AuditFilter::default(),
        AuditFilter { outcome: Some(Outcome::Failed), ..AuditFilter::default() },
        AuditFilter { actor: Some("local:eve".to_owned()), ..AuditFilter::default() },
        AuditFilter { jti: Some(Uuid::from_u128(1)), ..AuditFilter::default() },
        AuditFilter { until: Some(at(2000)), ..AuditFilter::default() },
    ] {
        assert_eq!(pages(&store, &rare(filter), 100).await, (vec![1], vec![]));
    }
    // Records outside the limits give the same result as an unknown name: nothing, and no cursor.
    let outside = [
        AuditFilter { actor: Some("serve".to_owned()), ..AuditFilter::default() },
        AuditFilter { jti: Some(Uuid::from_u128(101)), ..AuditFilter::default() },
        AuditFilter { spaces: Some(vec!["s1".parse().unwrap()]), ..AuditFilter::default() },
        AuditFilter { feed: Some("f1".parse().unwrap()), ..AuditFilter::default() },
        AuditFilter { kind: Some(EventKind::Credential), ..AuditFilter::default() },
        AuditFilter { outcome: Some(Outcome::Done), ..AuditFilter::default() },
    ];
    for filter in outside {
        assert_eq!(pages(&store, &rare(filter), 1).await, (vec![], vec![]));
    }
    // No index serves a pattern, so the log is read in steps that depend on nothing in it.
    let pattern = AuditFilter { sight: sight(&[], &["o*"]), ..AuditFilter::default() };
    assert_eq!(pages(&store, &pattern, 100).await, (vec![1], vec![4096]));
}

#[tokio::test]
async fn every_filter_is_read_by_its_index_and_sorted_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(&folder).await;
    let any = AuditFilter::default;
    let slug = |text: &str| text.parse().unwrap();
    let id = Uuid::from_u128(1);
    for (filter, indexes) in [
        (AuditFilter { kind: Some(EventKind::Exchange), ..any() }, &["audit_by_kind"][..]),
        (AuditFilter { outcome: Some(Outcome::Failed), ..any() }, &["audit_by_outcome"]),
        (AuditFilter { outcome: Some(Outcome::Done), ..any() }, &["audit_by_outcome"]),
        (
            AuditFilter { kind: Some(EventKind::Exchange), outcome: Some(Outcome::Failed), ..any() },
            &["audit_by_outcome"],
        ),
        (AuditFilter { actor: Some("serve".to_owned()), since: Some(at(0)), ..any() }, &["audit_by_actor"]),
        (AuditFilter { spaces: Some(vec![slug("s")]), ..any() }, &["audit_by_space"]),
        (AuditFilter { feed: Some(slug("f")), ..any() }, &["audit_by_feed"]),
        (
            AuditFilter { spaces: Some(vec![slug("s")]), feed: Some(slug("f")), ..any() },
            &["audit_by_space_and_feed"],
        ),
        (AuditFilter { grant: Some(id), ..any() }, &["audit_by_grant", "audit_by_actor"]),
        (AuditFilter { jti: Some(id), kind: Some(EventKind::Exchange), ..any() }, &["audit_by_jti"]),
        (AuditFilter { since: Some(at(0)), until: Some(at(1)), ..any() }, &[]),
        (
            AuditFilter { sight: sight(&["s"], &[]), actor: Some("serve".to_owned()), ..any() },
            &["audit_by_space"],
        ),
        (AuditFilter { sight: sight(&["s"], &["f"]), ..any() }, &["audit_by_space_and_feed"]),
        (AuditFilter { sight: sight(&[], &["f"]), ..any() }, &["audit_by_feed"]),
        (AuditFilter { sight: sight(&["s"], &["f*"]), ..any() }, &[]),
    ] {
        let home = filter::Home { space: Some(slug("s")), feed: Some(slug("f")) };
        let way = filter.way(Some(&home));
        assert_ne!(way, Way::Nowhere);
        for direction in [Direction::NewestFirst(None), Direction::OldestFirst(0)] {
            let bounds = Bounds { lowest: 1, highest: 9 };
            let (sql, bound) = statement(&way, &filter.conditions(&way), bounds, direction, 10);
            let mut query = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
            for value in bound.values() {
                query = match value {
                    sql::Value::Number(number) => query.bind(*number),
                    sql::Value::Text(text) => query.bind(text.clone()),
                };
            }
            let plan = query.fetch_all(&store.readers.lists).await.unwrap();
            let plan: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
            let used: Vec<_> = plan.iter().filter_map(|step| step.split(" INDEX ").nth(1)).collect();
            let used: Vec<_> = used.iter().filter_map(|rest| rest.split(' ').next()).collect();
            assert_eq!(used, indexes, "{filter:?}\n{sql}\n{plan:#?}");
            assert!(!plan.iter().any(|step| step.starts_with("SCAN audit")), "{filter:?}\n{plan:#?}");
            if indexes.len() < 2 {
                assert!(!plan.iter().any(|step| step.contains("ORDER BY")), "{filter:?}\n{sql}\n{plan:#?}");
            }
        }
    }
}

/// Covers a clock that advances, stands still, jumps ahead and is set back.
#[tokio::test]
async fn times_find_exactly_the_rows_between_them_also_after_a_clock_was_set_back() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(&folder).await;
    let usual = [event(EventKind::Credential, Outcome::Done, "serve", "s/f")];
    let written = [10, 20, 20, 30, 25, 29, 40, 1_000_000, 41, 42, 15, 50, 60, 60, 70];
    for millis in written {
        append(&store, at(millis), &usual).await;
    }
    for since in [None, Some(0), Some(15), Some(20), Some(41), Some(60), Some(71), Some(2_000_000)] {
        for until in [None, Some(0), Some(16), Some(29), Some(43), Some(70), Some(2_000_000)] {
            let filter = AuditFilter { since: since.map(at), until: until.map(at), ..AuditFilter::default() };
            let mut expected: Vec<i64> = (1..)
                .zip(written)
                .filter(|(_, at)| {
                    since.is_none_or(|since| *at >= since) && until.is_none_or(|until| *at < until)
                })
                .map(|(seq, _)| seq)
                .collect();
            expected.reverse();
            assert_eq!(pages(&store, &filter, 100).await.0, expected, "{since:?} {until:?}");
        }
    }
}

#[tokio::test]
async fn a_cancelled_reader_leaves_no_statement_running() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(&folder).await;
    const FOREVER: &str = "WITH RECURSIVE forever (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM forever) SELECT MAX(n) FROM forever";
    for _ in 0..8 {
        let mut connection = store.readers.log().await.unwrap();
        let mut statement = Box::pin(sqlx::query(FOREVER).execute(&mut *connection));
        let begun = std::future::poll_fn(|context| {
            std::task::Poll::Ready(statement.as_mut().poll(context).is_pending())
        });
        assert!(begun.await);
        // Repeated four times for each connection, so every connection must have returned to the pool.
    }
    let mut connection = store.readers.log().await.unwrap();
    let stopped = tokio::spawn(async move { sqlx::query(FOREVER).execute(&mut *connection).await.map(drop) });
    tokio::task::yield_now().await;
    store.stop_reading();
    assert!(stopped.await.unwrap().unwrap_err().to_string().contains("interrupted"));
    store.close().await;
}

/// SQLite compares each name in a statement with all names before it: with names, a batch of events would
/// hold the database's lock for seconds.
#[test]
fn the_statement_that_appends_rows_names_no_value_and_has_a_bounded_number_of_them() {
    for rows in [1, row::MAX_ROWS] {
        let statement = row::insertion(rows);
        assert_eq!(statement.matches('?').count(), rows * row::COLUMNS.split(',').count());
        assert!(!statement.contains(['$', ':', '@']), "{statement}");
    }
    const { assert!(row::MAX_ROWS <= 64) };
}

#[tokio::test]
async fn a_batch_of_any_size_is_appended_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(&folder).await;
    let mut expected = 0;
    for size in [1, row::MAX_ROWS - 1, row::MAX_ROWS, row::MAX_ROWS + 1, 512] {
        let events: Vec<_> = (0..size)
            .map(|n| {
                event(EventKind::Credential, Outcome::Done, "serve", "s/f")
                    .with_jti(Uuid::from_u128(n as u128))
            })
            .collect();
        expected += i64::try_from(size).unwrap();
        assert_eq!(append(&store, at(0), &events).await.seq, expected);
    }
    let report = store.verify_audit(&[]).await.unwrap();
    assert_eq!((report.rows, report.findings.len()), (u64::try_from(expected).unwrap(), 0));
}
