//! Failures around keys, and the operations that continue.

use std::sync::atomic::Ordering;

use crate::issuer::MintError;
use crate::jose::Algorithm;

use super::world::{DAY, Machine, Process, SECOND};

/// Returns a process with a rotation that is due and a key source that fails.
async fn failing(machine: &Machine) -> Process {
    let process = machine.open().await;
    machine.source.fails.store(true, Ordering::Relaxed);
    machine.clock.advance(30 * DAY);
    process
}

async fn failures(process: &Process) -> i64 {
    process.carnet.store().rotation_failures().await.unwrap().map_or(0, |failures| failures.count)
}

#[tokio::test]
async fn a_failing_rotation_is_shown_and_retried_with_growing_pauses_and_stops_nothing() {
    let machine = Machine::new();
    let mut process = failing(&machine).await;
    let (kids, served) = (process.active_kids(), process.jwks());
    let mut failed_after = Vec::new();
    for second in 0..40 {
        let before = failures(&process).await;
        process.maintenance.tick().await;
        if failures(&process).await > before {
            failed_after.push(second);
        }
        assert_eq!((process.active_kids(), process.jwks()), (kids.clone(), served.clone()));
        assert!(process.mint(Algorithm::Rs256).is_ok());
        machine.clock.advance(SECOND);
    }
    assert_eq!(failed_after, [0, 1, 3, 7, 15, 31]);
    let shown = process.carnet.store().rotation_failures().await.unwrap().unwrap();
    assert!(shown.error.contains("could not be generated"), "{shown:?}");
    assert_eq!(process.carnet.issuer().health().rotation_error, Some(shown.error));

    machine.source.fails.store(false, Ordering::Relaxed);
    machine.clock.advance(30 * SECOND);
    process.maintenance.tick().await;
    assert!(process.active_kids().iter().all(|kid| !kids.contains(kid)));
    assert_eq!(process.carnet.store().rotation_failures().await.unwrap(), None);
    assert_eq!(process.carnet.issuer().health().rotation_error, None);
}

#[tokio::test]
async fn a_failure_ends_when_another_process_has_rotated() {
    let machine = Machine::new();
    let mut process = failing(&machine).await;
    process.maintenance.tick().await;
    assert!(process.carnet.issuer().health().rotation_error.is_some());
    machine.source.fails.store(false, Ordering::Relaxed);
    process.rotate(false).await.unwrap();
    process.maintenance.tick().await;
    process.maintenance.tick().await;
    assert_eq!(process.carnet.issuer().health().rotation_error, None);
    assert_eq!(process.carnet.store().rotation_failures().await.unwrap(), None);
}

#[tokio::test]
async fn a_process_without_its_database_stops_minting_after_five_seconds_and_continues_serving() {
    let machine = Machine::new();
    let (mut process, other) = (machine.open().await, machine.open().await);
    process.maintenance.tick().await;
    let served = process.jwks();
    process.cut_off().await;
    other.rotate(true).await.unwrap();
    for _ in 0..5 {
        machine.clock.advance(SECOND);
        process.maintenance.tick().await;
        let token = process.mint(Algorithm::Es256).unwrap();
        other.carnet.issuer().refresh().await.unwrap();
        assert!(super::world::verifies(&token, &other.jwks()), "signed by a key that has just retired");
    }
    machine.clock.advance(SECOND / 1000);
    process.maintenance.tick().await;
    let refused = process.mint(Algorithm::Es256).map(drop);
    assert!(matches!(refused, Err(MintError::Unconfirmed(_))), "{refused:?}");
    machine.clock.advance(DAY);
    process.maintenance.tick().await;
    assert_eq!(process.jwks(), served);
    assert!(process.mint(Algorithm::Rs256).is_err());
}

#[tokio::test]
async fn evidence_of_fetches_is_kept_until_it_can_be_written() {
    let machine = Machine::new();
    let mut process = machine.open().await;
    process.maintenance.tick().await;
    for (number, fails) in ["UPDATE OF high_water ON key_state", "INSERT ON jwks_clients"].iter().enumerate()
    {
        let trigger =
            format!("CREATE TRIGGER fails BEFORE {fails} BEGIN SELECT RAISE(ABORT, 'the test'); END");
        sqlx::query(sqlx::AssertSqlSafe(trigger)).execute(&mut machine.sql().await).await.unwrap();
        let _ = process.carnet.issuer().fetch_jwks(Some(&"verifier".parse().unwrap()));
        machine.clock.advance(10 * SECOND);
        process.maintenance.tick().await;
        let fetches = async |process: &Process| {
            let clients = process.carnet.store().jwks_clients().await.unwrap();
            clients.iter().map(|client| client.fetches).sum::<i64>()
        };
        assert_eq!(fetches(&process).await, i64::try_from(number).unwrap(), "{fails}");
        sqlx::query("DROP TRIGGER fails").execute(&mut machine.sql().await).await.unwrap();
        machine.clock.advance(10 * SECOND);
        process.maintenance.tick().await;
        assert_eq!(fetches(&process).await, i64::try_from(number).unwrap() + 1, "{fails}");
    }
}
