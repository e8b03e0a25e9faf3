//! The maintenance of the audit log, on a simulated clock: refusal counts are written, old rows are pruned
//! while the clock is trusted, and the remaining rows still verify.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use crate::audit::{Event, EventKind, Outcome, Record};
use crate::carnet::tasks::audit_log::AuditMaintenance;
use crate::carnet::tasks::maintenance::Maintenance;
use crate::carnet::{Carnet, Config, MasterKeySource};
use crate::store::IfMissing;
use crate::store::audit::{AuditFilter, Direction};
use crate::values::clock::{Clock as _, SimulatedClock};
use jiff::Timestamp;
use tempfile::TempDir;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

struct Server {
    _folder: TempDir,
    clock: SimulatedClock,
    carnet: Carnet,
    maintenance: Maintenance,
    audit_maintenance: AuditMaintenance,
}

impl Server {
    async fn keeping_for(audit_retention: Option<Duration>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = SimulatedClock::at(Timestamp::from_second(1_800_000_000).unwrap());
        let master_key = MasterKeySource::Folder(folder.path().join("keys"));
        let config = Config {
            if_missing: IfMissing::Create,
            issuer: Some("https://issuer.example".parse().unwrap()),
            clock: Arc::new(clock.clone()),
            audit_retention,
            ..Config::new(folder.path().join("carnet.db").into(), master_key)
        };
        let carnet = Carnet::open(config).await.unwrap();
        let (maintenance, audit_maintenance) = (carnet.maintenance(), carnet.audit_maintenance());
        Self { _folder: folder, clock, carnet, maintenance, audit_maintenance }
    }

    /// Lets `time` pass, with the maintenance tasks running as often as they would.
    async fn pass(&mut self, time: Duration) {
        let end = self.clock.monotonic() + time;
        while self.clock.monotonic() < end {
            self.clock.advance(HOUR.min(end - self.clock.monotonic()));
            self.maintenance.tick().await;
            self.audit_maintenance.tick().await;
        }
    }

    async fn record(&self) -> i64 {
        let event = Event::new(EventKind::Credential, Outcome::Done, self.carnet.actor());
        self.carnet.audit_log().record(event).await.unwrap()
    }

    async fn records(&self) -> Vec<Record> {
        let store = self.carnet.store();
        assert!(store.verify_audit(&[]).await.unwrap().is_clean());
        store.audit(&AuditFilter::default(), Direction::OldestFirst(0), 1000).await.unwrap().records
    }
}

#[tokio::test]
async fn records_are_kept_for_the_retention_and_the_rest_stays_verifiable() {
    let mut server = Server::keeping_for(Some(2 * DAY)).await;
    let founded = server.records().await.len();
    assert!(founded > 4);
    server.pass(DAY).await;
    let young = server.record().await;
    server.pass(DAY - HOUR).await;
    assert_eq!(server.records().await.len(), founded + 1);
    server.pass(2 * HOUR).await;
    let records = server.records().await;
    assert_eq!(records[0].seq, young);
    assert_eq!(records[1].event.kind, EventKind::AuditPrune);
    assert_eq!(records[1].event.actor.as_str(), "serve");
    assert_eq!(records.len(), 2);
}

#[tokio::test]
async fn without_a_retention_nothing_is_ever_pruned() {
    let mut server = Server::keeping_for(None).await;
    let first = server.records().await[0].seq;
    server.pass(5 * DAY).await;
    assert_eq!(server.records().await[0].seq, first);
}

#[tokio::test]
async fn a_clock_that_jumps_prunes_nothing() {
    let mut server = Server::keeping_for(Some(DAY)).await;
    server.pass(HOUR).await;
    let before = server.records().await;
    server.clock.step_wall_to(server.clock.now() + 100 * DAY);
    // The maintenance task detects the jump and trusts the clock after it has been stable; until then, nothing is
    // pruned.
    server.maintenance.tick().await;
    server.clock.advance(Duration::from_secs(1));
    server.audit_maintenance.tick().await;
    assert_eq!(server.records().await, before);
}

#[tokio::test]
async fn pruning_continues_beyond_one_transaction() {
    let mut server = Server::keeping_for(Some(DAY)).await;
    let event = Event::new(EventKind::Credential, Outcome::Done, server.carnet.actor());
    for _ in 0..2500 {
        server.carnet.audit_log().note(event.clone());
    }
    server.carnet.audit_log().flush().await;
    server.pass(DAY + HOUR).await;
    let left = server.carnet.store().verify_audit(&[]).await.unwrap().rows;
    assert!(left > 1000, "{left} left after one transaction");
    // Does not wait for the next hour.
    for _ in 0..3 {
        server.pass(Duration::from_secs(1)).await;
    }
    let kinds: Vec<_> = server.records().await.iter().map(|record| record.event.kind).collect();
    assert_eq!(kinds, [EventKind::AuditPrune; 3]);
}

#[tokio::test]
async fn counted_refusals_are_written_once_a_minute_and_at_the_end() {
    let mut server = Server::keeping_for(None).await;
    let before = server.records().await.len();
    let client = Ipv4Addr::new(192, 0, 2, 1).into();
    for _ in 0..1000 {
        server.carnet.audit_log().note_refusal(client, "no such grant");
    }
    server.pass(Duration::from_secs(59)).await;
    assert_eq!(server.records().await.len(), before);
    server.pass(Duration::from_secs(1)).await;
    server.carnet.audit_log().note_refusal(client, "no such grant");
    server.carnet.run(async {}).await;
    let counts: Vec<_> = server.records().await[before..].iter().map(|record| record.event.count).collect();
    assert_eq!(counts, [1000, 1]);
}
