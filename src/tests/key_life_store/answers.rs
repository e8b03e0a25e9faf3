//! Requests to the rotator and its results.

use std::sync::Arc;

use crate::clock_watch::database_clock::DatabaseClock;
use crate::issuer::rotator::RotationError;
use crate::jose::key_pair::RsaBits;
use crate::signing_keys::policy::{PolicyDurations, RotationPolicy};
use crate::signing_keys::rotation::{Change, RotationRefusal};
use crate::signing_keys::{SigningKey, State, published};

use super::world::{DAY, HOUR, Machine, SECOND, somebody};

#[tokio::test]
async fn three_hundred_days_of_downtime_once_accepted_are_caught_up_with_one_rotation_per_algorithm() {
    let machine = Machine::new();
    let mut process = machine.open().await;
    process.maintenance.tick().await;
    process.cut_off().await;
    drop(process);
    machine.clock.advance(300 * DAY);
    let mut process = machine.open().await;
    let before = process.active_kids();
    assert_eq!(process.keys().await.len(), 4, "nobody has said that the clock is right");
    let database_clock = DatabaseClock::new(process.carnet.store().clone(), Arc::new(machine.clock.clone()));
    assert!(database_clock.accept(&somebody()).await.unwrap().is_some());
    process.maintenance.tick().await;
    let after = process.keys().await;
    assert_eq!(after.len(), 6);
    assert!(process.active_kids().iter().all(|kid| !before.contains(kid)));
    for _ in 0..5 {
        machine.clock.advance(HOUR);
        assert_eq!(process.keys().await.len(), 6, "rotated again");
    }
}

#[tokio::test]
async fn a_young_key_is_refused_with_the_time_when_it_is_safe() {
    let machine = Machine::new();
    let process = machine.open().await;
    machine.clock.advance(HOUR);
    let Err(RotationError::Refused(RotationRefusal::TooYoung { safe_at, .. })) = process.rotate(false).await
    else {
        panic!("not refused");
    };
    assert_eq!(safe_at, machine.now().saturating_add(23 * HOUR).unwrap());
    machine.clock.advance(23 * HOUR);
    assert_eq!(process.rotate(false).await.unwrap().changes.len(), 2);
}

#[tokio::test]
async fn keys_rotated_by_another_caller_are_not_rotated_again_even_with_force() {
    let machine = Machine::new();
    let (process, other) = (machine.open().await, machine.open().await);
    let seen = process.active_kids();
    machine.clock.advance(DAY);
    assert_eq!(other.rotate(false).await.unwrap().changes.len(), 2);
    for force in [false, true] {
        assert!(process.rotate_what_was_seen(seen.clone(), force).await.unwrap().changes.is_empty());
    }
}

#[tokio::test]
async fn a_storm_of_rotations_by_two_processes_rotates_once() {
    for force in [false, true] {
        let machine = Machine::new();
        let processes = Arc::new([machine.open().await, machine.open().await]);
        machine.clock.advance(DAY);
        let seen = processes[0].active_kids();
        let mut storm = tokio::task::JoinSet::new();
        for number in 0..20 {
            let (processes, seen) = (Arc::clone(&processes), seen.clone());
            storm.spawn(async move { processes[number % 2].rotate_what_was_seen(seen, force).await });
        }
        let outcomes = storm.join_all().await;
        let rotated: usize = outcomes.into_iter().map(|outcome| outcome.unwrap().changes.len()).sum();
        assert_eq!(rotated, 2, "one rotation of each algorithm, force: {force}");
        processes[1].carnet.issuer().refresh().await.unwrap();
        assert_eq!(processes[1].carnet.issuer().key_set().keys.len(), 6);
    }
}

#[tokio::test]
async fn a_ninth_key_is_refused_until_a_slot_frees_but_a_revocation_never() {
    let machine = Machine::new();
    let mut process = machine.open().await;
    for _ in 0..2 {
        process.rotate(true).await.unwrap();
        process.maintenance.tick().await;
    }
    let Err(RotationError::Refused(RotationRefusal::KeySetFull { published: 8, frees_at })) =
        process.rotate(true).await
    else {
        panic!("not refused");
    };
    let seen = process.active_kids();
    for kid in &seen {
        assert_eq!(process.carnet.rotator().revoke(kid, &somebody()).await.unwrap().changes.len(), 1);
    }
    process.maintenance.tick().await;
    let all = process.active_kids();
    assert_eq!(process.carnet.rotator().revoke_all(&all, &somebody()).await.unwrap().changes.len(), 2);
    let keys = process.keys().await;
    assert_eq!(published(&keys, machine.now()).len(), 4, "everything was replaced");
    assert_eq!(frees_at, machine.now().saturating_add(HOUR + 300 * SECOND).unwrap());
}

#[tokio::test]
async fn every_kid_has_its_response_to_a_revocation() {
    let machine = Machine::new();
    let mut process = machine.open().await;
    process.rotate(true).await.unwrap();
    process.maintenance.tick().await;
    let rotator = Arc::clone(process.carnet.rotator());
    let kid_in = |state| process.in_state(state)[0].kid();
    let (retired, active, prepared) =
        (kid_in(State::Retired), kid_in(State::Active), kid_in(State::Prepared));

    for (kid, is_right) in [
        (&retired, (|change| matches!(change, Change::RevokeRetired { .. })) as fn(&Change) -> bool),
        (&prepared, |change| matches!(change, Change::RevokePrepared { .. })),
        (&active, |change| matches!(change, Change::RevokeActive { .. })),
    ] {
        let done = rotator.revoke(kid, &somebody()).await.unwrap();
        assert!(matches!(done.changes.as_slice(), [change] if is_right(change)), "{done:?}");
        process.maintenance.tick().await;
        assert!(!process.serves(kid));
        let again = rotator.revoke(kid, &somebody()).await.unwrap();
        assert!(again.changes.is_empty(), "there was something left to do: {again:?}");
    }
    let unknown = "A".repeat(43).parse().unwrap();
    let response = rotator.revoke(&unknown, &somebody()).await;
    assert!(matches!(response, Err(RotationError::Unknown(_))), "{response:?}");
}

#[tokio::test]
async fn another_processs_change_is_seen_after_one_poll() {
    let machine = Machine::new();
    let (process, mut other) = (machine.open().await, machine.open().await);
    let before = other.active_kids();
    process.rotate(true).await.unwrap();
    process.carnet.issuer().refresh().await.unwrap();
    other.maintenance.tick().await;
    assert_eq!(other.jwks(), process.jwks());
    for alg in crate::jose::Algorithm::ALL {
        let token = other.mint(alg).unwrap();
        assert!(before.iter().all(|kid| kid.as_str() != token.presented.kid));
    }
}

#[tokio::test]
async fn a_changed_policy_prunes_nothing_early() {
    let machine = Machine::new();
    let mut process = machine.open().await;
    process.rotate(true).await.unwrap();
    process.maintenance.tick().await;
    let retired = process.in_state(State::Retired);
    let hasty = RotationPolicy::new(PolicyDurations {
        max_token_lifetime: 60 * SECOND,
        leeway: 5 * SECOND,
        ..RotationPolicy::default().durations()
    })
    .unwrap();
    process.carnet.rotator().set_policy(&hasty, RsaBits::Rsa2048, &somebody()).await.unwrap();
    process.maintenance.tick().await;
    // Only the check of the row became wider: the lifetime compensates for the leeway.
    let stages = |keys: &[SigningKey]| keys.iter().map(|key| (key.kid(), key.stage)).collect::<Vec<_>>();
    assert_eq!(stages(&process.in_state(State::Retired)), stages(&retired));

    machine.clock.advance(HOUR + 299 * SECOND);
    process.maintenance.tick().await;
    assert!(retired.iter().all(|key| process.serves(&key.kid())));
    machine.clock.advance(SECOND);
    process.maintenance.tick().await;
    assert!(retired.iter().all(|key| !process.serves(&key.kid())));

    // Nor does a key leave earlier because it retires later, if it signed when tokens lived for an hour and
    // `leeway` was five minutes.
    process.rotate(true).await.unwrap();
    process.maintenance.tick().await;
    let expected = machine.now().saturating_add(HOUR + 300 * SECOND).unwrap();
    let until = |key: &SigningKey| key.published_until();
    assert!(process.in_state(State::Retired).iter().all(|key| until(key) == Some(expected)));
}
