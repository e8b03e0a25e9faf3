//! Clocks that are not trusted.

use std::sync::Arc;

use crate::clock_watch::database_clock::DatabaseClock;
use crate::issuer::MintError;
use crate::issuer::rotator::RotationError;
use crate::jose::Algorithm;
use crate::jose::key_pair::RsaBits;
use crate::signing_keys::State;
use crate::signing_keys::clock_guard::{ClockDoubt, ClockTrust};
use crate::signing_keys::policy::{PolicyDurations, RotationPolicy};

use super::world::{DAY, HOUR, Machine, Process, SECOND, somebody};

const LEEWAY: i64 = 300;

/// Returns a process whose high-water time is the present.
async fn process_at_high_water(machine: &Machine) -> Process {
    let mut process = machine.open().await;
    machine.clock.advance(10 * SECOND);
    process.maintenance.tick().await;
    process.maintenance.tick().await;
    assert_eq!(process.carnet.issuer().pulse().time.high_water, machine.now());
    process
}

#[tokio::test]
async fn a_clock_that_is_behind_stops_minting_and_rotation_but_no_revocation() {
    let machine = Machine::new();
    let mut process = process_at_high_water(&machine).await;
    let high_water = machine.now();

    machine.step_wall(-LEEWAY);
    process.maintenance.tick().await;
    assert!(process.mint(Algorithm::Es256).is_ok(), "clocks may disagree by as much as this");

    machine.step_wall(-1);
    process.maintenance.tick().await;
    let refused = process.mint(Algorithm::Es256).map(drop);
    assert!(matches!(refused, Err(MintError::Clock(ClockDoubt::Behind { .. }))), "{refused:?}");
    let refused = process.rotate(true).await;
    assert!(matches!(refused, Err(RotationError::Clock(ClockDoubt::Behind { .. }))), "{refused:?}");

    let revoked = process.active_kids();
    for kid in &revoked {
        process.carnet.rotator().revoke(kid, &somebody()).await.unwrap();
    }
    process.maintenance.tick().await;
    assert!(revoked.iter().all(|kid| !process.serves(kid)));
    let prepared = process.in_state(State::Prepared);
    assert!(prepared.iter().all(|key| key.prepared_at == high_water), "recorded by a clock that is behind");
}

#[tokio::test]
async fn a_process_that_starts_with_its_clock_behind_serves_and_does_not_mint() {
    let machine = Machine::new();
    let process = process_at_high_water(&machine).await;
    let served = process.jwks();
    machine.step_wall(-LEEWAY - 1);
    let mut late = machine.open().await;
    late.maintenance.tick().await;
    assert_eq!(late.jwks(), served);
    assert!(matches!(late.mint(Algorithm::Rs256), Err(MintError::Clock(ClockDoubt::Behind { .. }))));
}

#[tokio::test]
async fn a_jump_forward_rotates_nothing_before_it_has_held_for_ten_minutes() {
    let machine = Machine::new();
    let mut process = process_at_high_water(&machine).await;
    machine.clock.advance(2 * DAY);
    process.maintenance.tick().await;
    let (kids, served) = (process.active_kids(), process.jwks());
    machine.step_wall(29 * 24 * 3600);
    for _ in 0..600 {
        process.maintenance.tick().await;
        assert!(matches!(process.carnet.issuer().clock_reading().trust, ClockTrust::Jumped { .. }));
        assert_eq!((process.active_kids(), process.jwks()), (kids.clone(), served.clone()));
        machine.clock.advance(SECOND);
    }
    process.maintenance.tick().await;
    assert_eq!(process.carnet.issuer().clock_reading().trust, ClockTrust::Steady);
    assert!(process.active_kids().iter().all(|kid| !kids.contains(kid)));
}

#[tokio::test]
async fn a_jump_forward_prunes_nothing_and_once_taken_back_leaves_no_trace() {
    let machine = Machine::new();
    let mut process = process_at_high_water(&machine).await;
    let token = process.mint(Algorithm::Es256).unwrap();
    process.rotate(true).await.unwrap();
    process.maintenance.tick().await;
    let served = process.jwks();
    machine.step_wall(2 * 3600);
    for _ in 0..20 {
        process.maintenance.tick().await;
        assert_eq!(process.jwks(), served);
        machine.clock.advance(SECOND);
    }
    machine.step_wall(-2 * 3600);
    process.maintenance.tick().await;
    assert_eq!(process.jwks(), served);
    assert!(super::world::verifies(&token, &process.jwks()));
    assert!(process.mint(Algorithm::Es256).is_ok());

    machine.clock.advance(2 * HOUR);
    process.maintenance.tick().await;
    assert!(!super::world::verifies(&token, &process.jwks()), "pruned in its time");
}

#[tokio::test]
async fn a_clock_set_back_brings_no_ninth_key_back() {
    let machine = Machine::new();
    let mut process = machine.open().await;
    for _ in 0..2 {
        process.rotate(true).await.unwrap();
        process.maintenance.tick().await;
    }
    machine.clock.advance(HOUR + 300 * SECOND);
    process.maintenance.tick().await;
    for _ in 0..2 {
        process.rotate(true).await.unwrap();
        process.maintenance.tick().await;
    }
    machine.step_wall(-2);
    let mut late = machine.open().await;
    assert_eq!(late.keys().await.len(), 12);
    assert_eq!(late.carnet.issuer().key_set().published(machine.now()).len(), 8);
    assert!(late.active_kids().iter().all(|kid| late.serves(kid)));
}

#[tokio::test]
async fn a_jump_of_more_than_rotate_every_waits_to_be_accepted_and_stops_minting_meanwhile() {
    let machine = Machine::new();
    let mut process = process_at_high_water(&machine).await;
    let (kids, served, high_water) = (process.active_kids(), process.jwks(), machine.now());
    machine.step_wall(10 * 365 * 24 * 3600);
    for _ in 0..48 {
        process.maintenance.tick().await;
        let refused = process.mint(Algorithm::Es256).map(drop);
        assert!(matches!(refused, Err(MintError::Clock(ClockDoubt::Ahead { .. }))), "{refused:?}");
        assert_eq!((process.active_kids(), process.jwks()), (kids.clone(), served.clone()));
        machine.clock.advance(HOUR);
    }
    process.maintenance.tick().await;
    assert_eq!(process.carnet.issuer().pulse().time.high_water, high_water);

    let refused = process.rotate(true).await;
    assert!(matches!(refused, Err(RotationError::Clock(ClockDoubt::Ahead { .. }))), "{refused:?}");
    let kid = &kids[0];
    process.carnet.rotator().revoke(kid, &somebody()).await.unwrap();
    process.maintenance.tick().await;
    assert!(!process.serves(kid), "a revocation waits for no clock");
}

#[tokio::test]
async fn set_back_replans_the_times_of_a_wrong_clock_and_running_servers_mint_again() {
    let machine = Machine::new();
    let mut process = process_at_high_water(&machine).await;
    let database_clock = DatabaseClock::new(process.carnet.store().clone(), Arc::new(machine.clock.clone()));
    machine.step_wall(10 * 365 * 24 * 3600);
    database_clock.accept(&somebody()).await.unwrap().unwrap();
    process.maintenance.tick().await;
    process.rotate(true).await.unwrap();
    process.maintenance.tick().await;
    let retired = process.in_state(State::Retired).len();

    machine.step_wall(-10 * 365 * 24 * 3600);
    process.maintenance.tick().await;
    assert!(matches!(process.mint(Algorithm::Es256), Err(MintError::Clock(ClockDoubt::Behind { .. }))));
    let wrong = machine.now() + jiff::SignedDuration::from_hours(1);
    assert!(database_clock.set_back(wrong, &somebody()).await.is_err(), "the operator's clock is another");
    let set_back = database_clock.set_back(machine.now(), &somebody()).await.unwrap().unwrap();
    assert!(set_back.keys >= 6, "{set_back:?}");
    assert_eq!(database_clock.set_back(machine.now(), &somebody()).await.unwrap(), None);

    process.maintenance.tick().await;
    let token = process.mint(Algorithm::Es256).unwrap();
    assert!(super::world::verifies(&token, &process.jwks()));
    assert_eq!(process.in_state(State::Retired).len(), retired, "what has retired stays so");
    machine.clock.advance(HOUR + 300 * SECOND);
    process.maintenance.tick().await;
    assert_eq!(process.in_state(State::Pruned).len(), retired);
    let kids = process.active_kids();
    machine.clock.advance(30 * DAY);
    process.maintenance.tick().await;
    assert!(process.active_kids().iter().all(|kid| !kids.contains(kid)), "rotated in its time");
}

/// A clock that is trusted and wrong, such as one that is three weeks ahead when a process starts.
#[tokio::test]
async fn a_believed_clock_prunes_no_key_that_was_to_stay_for_longer_than_a_day() {
    let machine = Machine::new();
    let mut process = process_at_high_water(&machine).await;
    let policy = PolicyDurations { max_token_lifetime: 3 * DAY, ..RotationPolicy::default().durations() };
    let policy = RotationPolicy::new(policy).unwrap();
    process.carnet.rotator().set_policy(&policy, RsaBits::default(), &somebody()).await.unwrap();
    process.maintenance.tick().await;
    let retired = process.active_kids();
    process.rotate(true).await.unwrap();
    drop(process);
    machine.step_wall(21 * 24 * 3600);
    let mut wrong = machine.open().await;
    for _ in 0..2 {
        wrong.maintenance.tick().await;
        assert!(retired.iter().all(|kid| wrong.serves(kid)));
        machine.clock.advance(10 * SECOND);
    }
    for _ in 0..3 {
        machine.clock.advance(HOUR);
        wrong.maintenance.tick().await;
    }
    assert!(retired.iter().all(|kid| !wrong.serves(kid)), "after three hours it has caught up by three days");
}
