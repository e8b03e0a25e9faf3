//! Clocks that cannot be believed.

use carnet::issuer::MintError;
use carnet::jose::Algorithm;
use carnet::rotator::RotationError;
use carnet::signing_keys::State;
use carnet::signing_keys::clock_guard::ClockTrust;

use super::world::{HOUR, Machine, Process, SECOND, somebody};

const LEEWAY: i64 = 300;

/// A process whose high-water time is the time of now.
async fn process_at_high_water(machine: &Machine) -> Process {
    let mut process = machine.open().await;
    machine.clock.advance(10 * SECOND);
    process.keeper.look().await;
    process.keeper.look().await;
    assert_eq!(process.carnet.issuer().pulse().high_water, machine.now());
    process
}

#[tokio::test]
async fn a_clock_that_is_behind_stops_minting_and_rotation_but_no_revocation() {
    let machine = Machine::new();
    let mut process = process_at_high_water(&machine).await;
    let high_water = machine.now();

    machine.step_wall(-LEEWAY);
    process.keeper.look().await;
    assert!(process.mint(Algorithm::Es256).is_ok(), "clocks may disagree by as much as this");

    machine.step_wall(-1);
    process.keeper.look().await;
    let refused = process.mint(Algorithm::Es256).map(drop);
    assert!(matches!(refused, Err(MintError::ClockBehind { .. })), "{refused:?}");
    let refused = process.rotate(true).await;
    assert!(matches!(refused, Err(RotationError::ClockBehind { .. })), "{refused:?}");

    let revoked = process.active_kids();
    for kid in &revoked {
        process.carnet.rotator().revoke(kid, &somebody()).await.unwrap();
    }
    process.keeper.look().await;
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
    late.keeper.look().await;
    assert_eq!(late.jwks(), served);
    assert!(matches!(late.mint(Algorithm::Rs256), Err(MintError::ClockBehind { .. })));
}

#[tokio::test]
async fn a_jump_forward_rotates_nothing_before_it_has_held_for_ten_minutes() {
    let machine = Machine::new();
    let mut process = process_at_high_water(&machine).await;
    let (kids, served) = (process.active_kids(), process.jwks());
    machine.step_wall(31 * 24 * 3600);
    for _ in 0..600 {
        process.keeper.look().await;
        assert!(matches!(process.carnet.issuer().health().clock, ClockTrust::Jumped { .. }));
        assert_eq!((process.active_kids(), process.jwks()), (kids.clone(), served.clone()));
        machine.clock.advance(SECOND);
    }
    process.keeper.look().await;
    assert_eq!(process.carnet.issuer().health().clock, ClockTrust::Steady);
    assert!(process.active_kids().iter().all(|kid| !kids.contains(kid)));
}

#[tokio::test]
async fn a_jump_forward_prunes_nothing_and_once_taken_back_leaves_no_trace() {
    let machine = Machine::new();
    let mut process = process_at_high_water(&machine).await;
    let token = process.mint(Algorithm::Es256).unwrap();
    process.rotate(true).await.unwrap();
    process.keeper.look().await;
    let served = process.jwks();
    machine.step_wall(2 * 3600);
    for _ in 0..20 {
        process.keeper.look().await;
        assert_eq!(process.jwks(), served);
        machine.clock.advance(SECOND);
    }
    machine.step_wall(-2 * 3600);
    process.keeper.look().await;
    assert_eq!(process.jwks(), served);
    assert!(super::world::verifies(&token, &process.jwks()));
    assert!(process.mint(Algorithm::Es256).is_ok());

    machine.clock.advance(2 * HOUR);
    process.keeper.look().await;
    assert!(!super::world::verifies(&token, &process.jwks()), "pruned in its time");
}

#[tokio::test]
async fn a_clock_set_back_brings_no_ninth_key_back() {
    let machine = Machine::new();
    let mut process = machine.open().await;
    for _ in 0..2 {
        process.rotate(true).await.unwrap();
        process.keeper.look().await;
    }
    machine.clock.advance(HOUR + 300 * SECOND);
    process.keeper.look().await;
    for _ in 0..2 {
        process.rotate(true).await.unwrap();
        process.keeper.look().await;
    }
    machine.step_wall(-2);
    let mut late = machine.open().await;
    assert_eq!(late.keys().await.len(), 12);
    assert_eq!(late.carnet.issuer().key_set().published(machine.now()).len(), 8);
    assert!(late.active_kids().iter().all(|kid| late.serves(kid)));
}
