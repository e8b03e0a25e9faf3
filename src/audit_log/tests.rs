use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::audit::verify::Report;
use crate::store::audit::{AuditFilter, Direction};
use crate::store::master_key::MasterKey;
use crate::store::{IfMissing, Store, Unlocked};
use crate::values::clock::{SimulatedClock, SystemClock};
use crate::values::random::SecureRandom;

/// A database that has been set up.
struct Database {
    folder: TempDir,
    master_key: MasterKey,
}

impl Database {
    fn new() -> Self {
        let master_key = MasterKey::generate(&SecureRandom::default()).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), master_key }
    }

    /// Opens a separate store, as another process would.
    async fn store(&self) -> Trusted {
        let url = self.folder.path().join("carnet.db").into();
        Store::open(&url, IfMissing::Create).await.unwrap().set_up_new(&self.master_key).await
    }
}

fn event(detail: &str) -> Event {
    Event::new(EventKind::Credential, Outcome::Done, &Actor::local("test")).detail(detail)
}

fn system() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

async fn details(store: &Store) -> Vec<String> {
    let records =
        store.audit(&AuditFilter::default(), Direction::OldestFirst(0), 1000).await.unwrap().records;
    records.into_iter().filter_map(|record| record.event.detail).collect()
}

async fn verified(store: &Unlocked) -> Report {
    let report = store.verify_audit(&[]).await.unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_record_at_once_into_one_contiguous_chain() {
    const EACH: usize = 100;
    let database = Database::new();
    let mut recorded = Vec::new();
    for process in 0..3 {
        let log = AuditLog::new(database.store().await, system(), Arc::default());
        for number in 0..EACH {
            let log = log.clone();
            recorded.push(tokio::spawn(async move {
                let seq = log.record(event(&format!("{process} {number}"))).await.unwrap();
                (seq, format!("{process} {number}"))
            }));
        }
    }
    let store = database.store().await;
    let mut places = Vec::new();
    for recorded in recorded {
        places.push(recorded.await.unwrap());
    }
    places.sort();
    let expected: Vec<i64> = (1..=3 * EACH as i64).collect();
    assert_eq!(places.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), expected);
    // Each caller got its row's sequence number.
    assert_eq!(details(&store).await, places.into_iter().map(|(_, detail)| detail).collect::<Vec<_>>());
    assert_eq!(verified(&store).await.rows, 3 * EACH as u64);
}

#[tokio::test]
async fn events_that_wait_together_are_written_in_few_transactions() {
    let database = Database::new();
    let store = database.store().await;
    let log = AuditLog::new(store.clone(), system(), Arc::default());
    // While another transaction writes, all events wait.
    let other = store.write().await.unwrap();
    let begun: Vec<_> = (0..100).map(|number| log.begin(event(&number.to_string())).unwrap()).collect();
    tokio::task::yield_now().await;
    assert_eq!(log.depth(), 100);
    drop(other);
    for recorded in begun {
        log.wait(recorded).await.unwrap();
    }
    assert_eq!(log.depth(), 0);
    let records =
        store.audit(&AuditFilter::default(), Direction::OldestFirst(0), 1000).await.unwrap().records;
    let mut times: Vec<_> = records.iter().map(|record| record.at).collect();
    times.dedup();
    assert_eq!(records.len(), 100);
    assert!(times.len() <= 2, "{} transactions", times.len());
}

#[tokio::test]
async fn a_cancelled_caller_loses_no_event_and_disturbs_no_other() {
    let database = Database::new();
    let store = database.store().await;
    let log = AuditLog::new(store.clone(), system(), Arc::default());
    let other = store.write().await.unwrap();
    let impatient = tokio::spawn({
        let log = log.clone();
        async move { log.record(event("impatient")).await }
    });
    while log.depth() == 0 {
        tokio::task::yield_now().await;
    }
    let patient = log.begin(event("patient")).unwrap();
    impatient.abort();
    assert!(impatient.await.unwrap_err().is_cancelled());
    drop(other);
    log.wait(patient).await.unwrap();
    assert_eq!(details(&store).await, ["impatient", "patient"]);
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_an_error_in_time_and_a_full_queue_at_once() {
    let database = Database::new();
    let store = database.store().await;
    let clock = SimulatedClock::at(Timestamp::UNIX_EPOCH);
    let log = AuditLog::new(store.clone(), Arc::new(clock.clone()), Arc::default());
    let other = store.write().await.unwrap();
    let waiting = tokio::spawn({
        let log = log.clone();
        async move { log.record(event("waits")).await }
    });
    while log.depth() == 0 {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    clock.advance(RECORDED_WITHIN);
    assert!(matches!(waiting.await.unwrap(), Err(AuditError::TooSlow)));
    while log.depth() < MAX_WAITING {
        log.note(event("waits, too"));
    }
    assert!(matches!(log.record(event("one too many")).await, Err(AuditError::Full)));
    drop(other);
    log.flush().await;
    assert_eq!((log.depth(), verified(&store).await.rows), (0, MAX_WAITING as u64));
}

#[tokio::test]
async fn a_failed_write_is_an_error_for_every_waiting_caller_and_for_no_later_one() {
    let database = Database::new();
    let store = database.store().await;
    let log = AuditLog::new(store.clone(), system(), Arc::default());
    let mut write = store.write().await.unwrap();
    write.hide_audit().await;
    write.commit().await.unwrap();
    let begun: Vec<_> = (0..3).map(|_| log.begin(event("refused")).unwrap()).collect();
    for recorded in begun {
        assert!(matches!(log.wait(recorded).await, Err(AuditError::Store(_))));
    }
    store.show_audit().await;
    assert_eq!(log.record(event("recorded")).await.unwrap(), 1);
    assert_eq!(details(&store).await, ["recorded"]);
}

#[tokio::test]
async fn waiting_rows_are_written_and_failures_are_counted() {
    let database = Database::new();
    let store = database.store().await;
    let metrics = Arc::new(Metrics::new());
    let log = AuditLog::new(store.clone(), system(), Arc::clone(&metrics));
    let shows = |series: &str| {
        let text = metrics.encode();
        assert!(text.lines().any(|line| line == series), "no {series} in\n{text}");
    };
    let other = store.write().await.unwrap();
    let begun: Vec<_> = (0..3).map(|_| log.begin(event("written")).unwrap()).collect();
    shows("carnet_audit_queue_depth 3");
    drop(other);
    for recorded in begun {
        log.wait(recorded).await.unwrap();
    }
    shows("carnet_audit_queue_depth 0");
    shows("carnet_audit_group_rows_sum 3.0");
    shows("carnet_audit_write_failures_total 0");
    let mut write = store.write().await.unwrap();
    write.hide_audit().await;
    write.commit().await.unwrap();
    log.record(event("refused")).await.unwrap_err();
    for series in ["queue_depth 0", "group_rows_sum 3.0", "write_failures_total 1"] {
        shows(&format!("carnet_audit_{series}"));
    }
}

#[test]
fn a_writer_that_ends_with_its_runtime_leaves_no_caller_waiting() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (database, first) = (Database::new(), runtime());
    let store = first.block_on(database.store());
    let log = AuditLog::new(store, system(), Arc::default());
    let recorded = {
        let _inside = first.enter();
        log.begin(event("lost")).unwrap()
    };
    drop(first);
    let second = runtime();
    assert!(matches!(second.block_on(log.wait(recorded)), Err(AuditError::Interrupted)));
    assert_eq!(log.depth(), 0);
}

#[tokio::test]
async fn refusals_are_recorded_with_their_number() {
    let database = Database::new();
    let store = database.store().await;
    let log = AuditLog::new(store.clone(), system(), Arc::default());
    let clients = [1, 2].map(|last| Ipv4Addr::new(192, 0, 2, last).into());
    for _ in 0..5 {
        log.note_refusal(clients[0], "no such token");
    }
    log.note_refusal(clients[1], "no token");
    log.write_refusals().await.unwrap();
    log.write_refusals().await.unwrap();
    let records =
        store.audit(&AuditFilter::default(), Direction::OldestFirst(0), 1000).await.unwrap().records;
    let seen: Vec<_> = records
        .iter()
        .map(|record| &record.event)
        .map(|event| {
            (event.client.unwrap(), event.detail.as_deref().unwrap(), event.count, event.actor.as_str())
        })
        .collect();
    let expected = [(clients[0], "no such token", 5, "anonymous"), (clients[1], "no token", 1, "anonymous")];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn refusals_that_cannot_be_recorded_stay_counted() {
    let database = Database::new();
    let store = database.store().await;
    let log = AuditLog::new(store.clone(), system(), Arc::default());
    log.note_refusal(Ipv4Addr::LOCALHOST.into(), "no token");
    let mut write = store.write().await.unwrap();
    write.hide_audit().await;
    write.commit().await.unwrap();
    log.write_refusals().await.unwrap_err();
    log.note_refusal(Ipv4Addr::LOCALHOST.into(), "no token");
    store.show_audit().await;
    log.flush().await;
    let records =
        store.audit(&AuditFilter::default(), Direction::OldestFirst(0), 1000).await.unwrap().records;
    assert_eq!(records.iter().map(|record| record.event.count).collect::<Vec<_>>(), [2]);
}

/// One process always has events to write; another one needs the database occasionally.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_records_all_the_time_leaves_the_database_to_others() {
    let database = Database::new();
    let busy = AuditLog::new(database.store().await, system(), Arc::default());
    let stop = Arc::new(AtomicBool::new(false));
    let recording: Vec<_> = (0..64)
        .map(|_| {
            let (log, stop) = (busy.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    log.record(event("busy")).await.unwrap();
                }
            })
        })
        .collect();
    let other = database.store().await;
    for turn in 0..20 {
        let begun = other.write().await;
        begun.unwrap_or_else(|error| panic!("turn {turn}: {error:?}")).commit().await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for recording in recording {
        recording.await.unwrap();
    }
    verified(&other).await;
}
