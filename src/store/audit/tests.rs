use std::net::Ipv4Addr;
use std::time::Duration;

use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::audit::verify::Problem;
use crate::audit::{EventKind, Outcome, Record};
use crate::oidc::token::Presented;
use crate::store::master_key::MasterKey;
use crate::store::{IfMissing, Trusted};
use crate::values::actor::Actor;
use crate::values::random::SecureRandom;

const HOUR: Duration = Duration::from_secs(3600);

pub(super) async fn store(folder: &TempDir) -> (Trusted, MasterKey) {
    let url = folder.path().join("carnet.db").into();
    let store = Store::open(&url, IfMissing::Create).await.unwrap();
    let master_key = MasterKey::generate(&SecureRandom::default()).unwrap();
    (store.set_up_new(&master_key).await, master_key)
}

pub(super) async fn append(store: &Trusted, now: Timestamp, events: &[Event]) -> Anchor {
    let mut write = store.write().await.unwrap();
    let end = write.append_audit(now, events).await.unwrap();
    write.commit().await.unwrap();
    end
}

async fn read(store: &Store, filter: &AuditFilter, direction: Direction, limit: u32) -> Vec<Record> {
    store.audit(filter, direction, limit).await.unwrap().records
}

fn seqs(records: &[Record]) -> Vec<i64> {
    records.iter().map(|record| record.seq).collect()
}

fn full_event() -> Event {
    let presented = Presented {
        iss: "https://issuer.example".to_owned(),
        sub: "space:default:feed:prod".to_owned(),
        aud: "sts.amazonaws.com".to_owned(),
        kid: "a-kid".to_owned(),
        alg: crate::jose::Algorithm::Es256,
    };
    let event = Event::new(EventKind::Exchange, Outcome::Refused, &Actor::grant(Uuid::from_u128(1)))
        .about_path(&"default/prod".parse().unwrap())
        .about_grant(Uuid::from_u128(2))
        .with_token(&presented, Uuid::from_u128(3))
        .with_client(Ipv4Addr::new(192, 0, 2, 1).into())
        .in_request("a request")
        .upstream_request("an upstream request")
        .detail("what\nhappened")
        .for_check()
        .counted(7);
    Event { feed_id: Some(Uuid::from_u128(4)), ..event }
}

#[tokio::test]
async fn a_recorded_event_reads_back_with_every_column() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(&folder).await;
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let sparse = Event::new(EventKind::KeyPolicy, Outcome::Done, &Actor::server());
    let end = append(&store, now, &[full_event(), sparse.clone()]).await;
    let records = read(&store, &AuditFilter::default(), Direction::OldestFirst(0), 10).await;
    assert_eq!(seqs(&records), [1, 2]);
    assert_eq!([&records[0].event, &records[1].event], [&full_event(), &sparse]);
    assert_eq!((records[1].at, records[1].anchor()), (now, end));
    assert_eq!(store.audit_end().await.unwrap(), end);
    let json = serde_json::to_value(&records[0]).unwrap();
    assert_eq!((&json["seq"], &json["kind"], &json["count"]), (&1.into(), &"exchange".into(), &7.into()));
    assert_eq!(json["detail"], "what\\nhappened");
    // A flat object with one member for each column of the table.
    assert_eq!(json.as_object().unwrap().len(), super::row::COLUMNS.split(',').count());
}

#[tokio::test]
async fn a_rolled_back_event_is_not_recorded_and_leaves_no_gap() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(&folder).await;
    let now = Timestamp::UNIX_EPOCH;
    let before = append(&store, now, &[full_event()]).await;
    let mut write = store.write().await.unwrap();
    write.append_audit(now, &[full_event()]).await.unwrap();
    drop(write);
    assert_eq!(store.audit_end().await.unwrap(), before);
    assert_eq!(append(&store, now, &[full_event()]).await.seq, 2);
    assert!(store.verify_audit(&[before]).await.unwrap().is_clean());
}

#[tokio::test]
async fn filters_and_pages_return_the_matching_rows() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(&folder).await;
    let (alice, bob) = (Actor::local("alice"), Actor::grant(Uuid::from_u128(9)));
    let at = |hour: u32| Timestamp::UNIX_EPOCH + HOUR * hour;
    let path = |path: &str| path.parse().unwrap();
    for (hour, event) in (1..).zip([
        Event::new(EventKind::Credential, Outcome::Done, &alice).about_path(&path("one/prod")),
        Event::new(EventKind::Credential, Outcome::Refused, &bob).about_path(&path("two/prod")),
        Event::new(EventKind::TokenMint, Outcome::Done, &bob)
            .about_path(&path("two/test"))
            .with_jti(Uuid::from_u128(5)),
        Event::new(EventKind::GrantRevoke, Outcome::Done, &alice).about_grant(Uuid::from_u128(9)),
        Event::new(EventKind::KeyPolicy, Outcome::Failed, &alice),
    ]) {
        append(&store, at(hour), &[event]).await;
    }
    let any = AuditFilter::default;
    let spaces = |spaces: &[&str]| Some(spaces.iter().map(|space| space.parse().unwrap()).collect());
    let table: [(&str, AuditFilter, &[i64]); 13] = [
        ("no filter", any(), &[5, 4, 3, 2, 1]),
        ("a kind", AuditFilter { kind: Some(EventKind::Credential), ..any() }, &[2, 1]),
        ("an outcome", AuditFilter { outcome: Some(Outcome::Failed), ..any() }, &[5]),
        ("an actor", AuditFilter { actor: Some("local:alice".to_owned()), ..any() }, &[5, 4, 1]),
        ("a space", AuditFilter { spaces: spaces(&["two"]), ..any() }, &[3, 2]),
        ("spaces", AuditFilter { spaces: spaces(&["one", "two"]), ..any() }, &[3, 2, 1]),
        ("no space at all", AuditFilter { spaces: spaces(&[]), ..any() }, &[]),
        (
            "a feed",
            AuditFilter { spaces: spaces(&["two"]), feed: Some("prod".parse().unwrap()), ..any() },
            &[2],
        ),
        ("a grant", AuditFilter { grant: Some(Uuid::from_u128(9)), ..any() }, &[4, 3, 2]),
        ("a token", AuditFilter { jti: Some(Uuid::from_u128(5)), ..any() }, &[3]),
        ("from a time", AuditFilter { since: Some(at(4)), ..any() }, &[5, 4]),
        ("before a time", AuditFilter { until: Some(at(2)), ..any() }, &[1]),
        (
            "all of it",
            AuditFilter {
                since: Some(at(1)),
                until: Some(at(9)),
                outcome: Some(Outcome::Done),
                spaces: spaces(&["one"]),
                ..any()
            },
            &[1],
        ),
    ];
    for (what, filter, expected) in table {
        let newest = seqs(&read(&store, &filter, Direction::NewestFirst(None), 10).await);
        assert_eq!(newest, expected, "{what}");
        let mut oldest = seqs(&read(&store, &filter, Direction::OldestFirst(0), 10).await);
        oldest.reverse();
        assert_eq!(oldest, expected, "{what}");
    }
    assert_eq!(seqs(&read(&store, &any(), Direction::NewestFirst(None), 2).await), [5, 4]);
    assert_eq!(seqs(&read(&store, &any(), Direction::NewestFirst(Some(4)), 2).await), [3, 2]);
    assert_eq!(seqs(&read(&store, &any(), Direction::OldestFirst(3), 9).await), [4, 5]);
}

#[tokio::test]
async fn rows_of_a_clock_that_was_ahead_are_as_old_as_the_rows_after_them() {
    let at = |hour: u32| Timestamp::UNIX_EPOCH + HOUR * hour;
    let (actor, ahead) = (Actor::server(), 90_000);
    for (hours, expected) in [
        (&[1, ahead, ahead + 1, 2, 9][..], 4),
        (&[1, ahead, 9, 2], 1),
        // No row with a plausible time follows yet, so their age is unknown.
        (&[ahead, ahead], 0),
        (&[ahead, 9], 0),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = store(&folder).await;
        for hour in hours {
            append(&store, at(*hour), &[full_event()]).await;
        }
        assert_eq!(store.prune_audit(at(4), &actor, at(10)).await.unwrap(), expected, "{hours:?}");
        assert!(store.verify_audit(&[]).await.unwrap().is_clean(), "{hours:?}");
    }
    // More such rows than one transaction removes.
    let page = usize::try_from(MAX_PAGE).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(&folder).await;
    append(&store, at(ahead), &vec![full_event(); page + 10]).await;
    append(&store, at(2), &[full_event()]).await;
    append(&store, at(9), &[full_event()]).await;
    assert_eq!(store.prune_audit(at(4), &actor, at(10)).await.unwrap(), page);
    assert_eq!(store.prune_audit(at(4), &actor, at(10)).await.unwrap(), 11);
    assert_eq!(store.prune_audit(at(4), &actor, at(10)).await.unwrap(), 0);
    assert!(store.verify_audit(&[]).await.unwrap().is_clean());
}

#[tokio::test]
async fn pruning_takes_old_rows_from_the_head_and_leaves_a_log_that_proves_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(&folder).await;
    let at = |hour: u32| Timestamp::UNIX_EPOCH + HOUR * hour;
    let mut ends = Vec::new();
    // The clock was set back once. Rows after one that is young enough stay.
    for hour in [1, 2, 3, 8, 2, 9] {
        ends.push(append(&store, at(hour), &[full_event()]).await);
    }
    let actor = Actor::server();
    assert_eq!(store.prune_audit(at(1), &actor, at(10)).await.unwrap(), 0);
    assert_eq!(store.prune_audit(at(4), &actor, at(10)).await.unwrap(), 3);
    assert_eq!(store.prune_audit(at(4), &actor, at(10)).await.unwrap(), 0);
    let records = read(&store, &AuditFilter::default(), Direction::OldestFirst(0), 10).await;
    assert_eq!(seqs(&records), [4, 5, 6, 7]);
    let pruned = &records[3].event;
    assert_eq!(
        (pruned.kind, pruned.detail.as_deref()),
        (EventKind::AuditPrune, Some("rows 1 to 3, written before 1970-01-01T04:00:00Z"))
    );
    let report = store.verify_audit(&ends).await.unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!((report.pruned_until, report.anchors_pruned), (3, 2));
    // Prunes all rows: only the record of that is left, and the chain continues from it.
    assert_eq!(store.prune_audit(at(20), &actor, at(21)).await.unwrap(), 4);
    append(&store, at(22), &[full_event()]).await;
    let records = read(&store, &AuditFilter::default(), Direction::OldestFirst(0), 10).await;
    assert_eq!(seqs(&records), [8, 9]);
    assert!(store.verify_audit(&[]).await.unwrap().is_clean());
}

#[tokio::test]
async fn a_log_with_changed_rows_is_not_pruned() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(&folder).await;
    for _ in 0..5 {
        append(&store, Timestamp::UNIX_EPOCH, &[full_event()]).await;
    }
    let mut write = store.write().await.unwrap();
    sqlx::query("UPDATE audit SET detail = NULL WHERE seq = 2").execute(write.connection()).await.unwrap();
    write.commit().await.unwrap();
    let now = Timestamp::UNIX_EPOCH + HOUR;
    let error = store.prune_audit(now, &Actor::server(), now).await.unwrap_err();
    assert!(error.to_string().contains("row 2"), "{error}");
    assert_eq!(store.verify_audit(&[]).await.unwrap().rows, 5);
}

#[tokio::test]
async fn rows_that_something_else_removed_behind_a_process_are_recorded_once() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(&folder).await;
    let now = Timestamp::UNIX_EPOCH;
    append(&store, now, &[full_event(), full_event(), full_event()]).await;
    as_a_thief(&store, &["DELETE FROM audit WHERE seq > 1"]).await;
    append(&store, now, &[full_event()]).await;
    append(&store, now, &[full_event()]).await;
    let records = read(&store, &AuditFilter::default(), Direction::OldestFirst(0), 100).await;
    let kinds: Vec<EventKind> = records.iter().map(|record| record.event.kind).collect();
    assert_eq!(kinds, [EventKind::Exchange, EventKind::AuditCut, EventKind::Exchange, EventKind::Exchange]);
    let detail = records[1].event.detail.as_deref().unwrap();
    assert!(detail.starts_with("row 3, which this process had written or seen, was gone"), "{detail}");
    // The chain alone shows nothing.
    assert!(store.verify_audit(&[]).await.unwrap().is_clean());
}

/// Executes statements on the database without anything that carnet does around them.
async fn as_a_thief(store: &Store, statements: &'static [&'static str]) {
    let mut connection = store.writer.acquire().await.unwrap();
    for statement in statements {
        sqlx::query(*statement).execute(&mut *connection).await.unwrap();
    }
}

/// Returns the number of recorded removals.
async fn cuts(store: &Store) -> usize {
    let cut = AuditFilter { kind: Some(EventKind::AuditCut), ..AuditFilter::default() };
    read(store, &cut, Direction::OldestFirst(0), 100).await.len()
}

#[tokio::test]
async fn a_base_that_carnet_did_not_write_hides_no_removal() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(&folder).await;
    let now = Timestamp::UNIX_EPOCH;
    append(&store, now, &[full_event(), full_event(), full_event()]).await;
    as_a_thief(&store, &["UPDATE audit_base SET seq = 1000000", "DELETE FROM audit WHERE seq > 1"]).await;
    append(&store, now, &[full_event()]).await;
    assert_eq!(cuts(&store).await, 1);
}

#[tokio::test]
async fn rows_that_a_process_saw_at_its_start_are_missed_before_it_writes() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(&folder).await;
    let now = Timestamp::UNIX_EPOCH;
    let first = append(&store, now, &[full_event()]).await;
    let last = append(&store, now, &[full_event()]).await;
    // As if other processes had written both rows.
    store.log_end.forget();
    assert_eq!(store.watch_audit_end().await.unwrap(), last);
    as_a_thief(&store, &["DELETE FROM audit WHERE seq > 1"]).await;
    assert_eq!(store.watch_audit_end().await.unwrap(), first);
    append(&store, now, &[full_event()]).await;
    assert_eq!(cuts(&store).await, 1);
}

#[tokio::test]
async fn an_altered_record_of_how_far_times_go_back_is_found_and_hides_no_row_of_an_ordered_log() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(&folder).await;
    let at = |hour: u32| Timestamp::UNIX_EPOCH + HOUR * hour;
    append(&store, at(9), &[full_event()]).await;
    let since = AuditFilter { since: Some(at(8)), ..AuditFilter::default() };
    as_a_thief(&store, &["UPDATE audit_times SET behind = -31536000000"]).await;
    assert_eq!(read(&store, &since, Direction::OldestFirst(0), 100).await.len(), 1);
    assert!(store.verify_audit(&[]).await.unwrap().is_clean());
    append(&store, at(5), &[full_event()]).await;
    append(&store, at(10), &[full_event()]).await;
    assert!(store.verify_audit(&[]).await.unwrap().is_clean());
    as_a_thief(&store, &["UPDATE audit_times SET behind = 0"]).await;
    let report = store.verify_audit(&[]).await.unwrap();
    let found: Vec<_> = report.findings.iter().map(|finding| (finding.seq, finding.problem)).collect();
    assert_eq!(found, [(2, Problem::Hidden)]);
    assert!(report.findings[0].to_string().contains("searches by time can miss row 2"));
}

#[tokio::test]
async fn rows_with_far_numbers_lead_no_reader_through_endless_pages() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(&folder).await;
    let now = Timestamp::UNIX_EPOCH + HOUR;
    append(&store, now, &[full_event(), full_event(), full_event()]).await;
    as_a_thief(
        &store,
        &[
            "UPDATE audit SET seq = 9223372036854775806 WHERE seq = 3",
            "UPDATE audit SET seq = -9223372036854775807 WHERE seq = 1",
        ],
    )
    .await;
    for filter in [
        AuditFilter { since: Some(Timestamp::UNIX_EPOCH), ..AuditFilter::default() },
        AuditFilter { until: Some(now + HOUR), ..AuditFilter::default() },
        AuditFilter { outcome: Some(Outcome::Refused), ..AuditFilter::default() },
    ] {
        let (mut pages, mut found) = (0, Vec::new());
        let mut direction = Direction::NewestFirst(None);
        loop {
            let page = store.audit(&filter, direction, 10).await.unwrap();
            found.extend(page.records.iter().map(|record| record.seq));
            pages += 1;
            assert!(pages < 10, "{filter:?} {direction:?}");
            let Some(next) = page.next else { break };
            direction = Direction::NewestFirst(Some(next));
        }
        assert_eq!(found, [i64::MAX - 1, 2, -i64::MAX], "{filter:?}");
    }
}

#[tokio::test]
async fn rows_of_other_processes_and_pruned_rows_do_not_count_as_removed() {
    let at = |hour: u32| Timestamp::UNIX_EPOCH + HOUR * hour;
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(&folder).await;
    let first = append(&store, at(1), &[full_event()]).await;
    append(&store, at(9), &[full_event()]).await;
    // As if another process had written the second row.
    store.log_end.committed(first);
    append(&store, at(9), &[full_event()]).await;
    assert_eq!(store.prune_audit(at(4), &Actor::server(), at(10)).await.unwrap(), 1);
    store.log_end.committed(first);
    append(&store, at(10), &[full_event()]).await;
    assert_eq!(cuts(&store).await, 0);
}
