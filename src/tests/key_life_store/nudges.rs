//! The nudges that a revocation stores in its transaction, and the processes that send them.

use std::time::Duration;

use crate::signing_keys::State;
use crate::store::nudges::Nudge;
use jiff::SignedDuration;

use crate::tests::key_life_store::world::{Machine, Process, SECOND, somebody};

impl Process {
    async fn nudges(&self) -> Vec<Nudge> {
        self.carnet.store().nudges().await.unwrap()
    }

    async fn revoke_the_active_key(&mut self) {
        let kid = self.in_state(State::Active)[0].kid();
        self.carnet.rotator().revoke(&kid, &somebody()).await.unwrap();
        self.maintenance.tick().await;
    }
}

#[tokio::test]
async fn a_revocation_plans_two_rounds_and_one_of_several_processes_takes_each() {
    let machine = Machine::new();
    let mut process = machine.open().await;
    process.maintenance.tick().await;
    let revoked = process.in_state(State::Active)[0].clone();
    process.revoke_the_active_key().await;

    let nudges = process.nudges().await;
    let now = machine.now();
    let due: Vec<_> = nudges.iter().map(|nudge| (nudge.round, nudge.due_at.duration_since(now))).collect();
    assert_eq!(due, [(1, SignedDuration::ZERO), (2, SignedDuration::from_secs(360))]);
    let prepared = process.in_state(State::Prepared);
    for nudge in &nudges {
        assert_eq!(nudge.algorithm, revoked.algorithm());
        assert!(prepared.iter().any(|key| Some(key.kid()) == nudge.kid && key.prepared_at == now));
    }

    // Both have read the same row.
    let other = machine.open().await;
    let (mut mine, mut theirs) = (nudges[0].clone(), other.nudges().await[0].clone());
    assert!(process.carnet.store().claim_nudge(&mut mine, now).await.unwrap());
    assert!(!other.carnet.store().claim_nudge(&mut theirs, now).await.unwrap());
    // The first keeps its claim, which expires five minutes after its last sign of life.
    assert!(process.carnet.store().claim_nudge(&mut mine, now + SECOND).await.unwrap());
    let free_at = other.nudges().await[0].free_at();
    assert_eq!(free_at.duration_since(now), SignedDuration::from_secs(301));
}

#[tokio::test]
async fn a_server_carries_out_anothers_nudges_and_the_second_round_when_it_is_due() {
    let machine = Machine::new();
    let mut process = machine.open().await;
    process.maintenance.tick().await;
    process.revoke_the_active_key().await;
    let mut left = process.nudges().await[0].clone();
    assert!(process.carnet.store().claim_nudge(&mut left, machine.now()).await.unwrap());
    drop(process);

    let later = machine.open().await;
    let rounds = async |wanted: &[i64]| {
        let serving = later.carnet.run(std::future::pending());
        let seen = async {
            loop {
                let rounds: Vec<_> = later.nudges().await.iter().map(|nudge| nudge.round).collect();
                if rounds == wanted {
                    break;
                }
                machine.clock.advance(Duration::from_millis(250));
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = serving => {}
            () = seen => {}
        }
    };
    let started = machine.now();
    rounds(&[2]).await;
    assert!(machine.now().duration_since(started) >= SignedDuration::from_mins(5), "the claim had to end");
    rounds(&[]).await;
    assert!(machine.now().duration_since(started) >= SignedDuration::from_mins(6));
}

#[tokio::test]
async fn no_nudge_is_planned_if_it_is_declined_or_no_key_is_revoked() {
    let machine = Machine::new();
    let mut process = machine.open().await;
    process.rotate(true).await.unwrap();
    process.maintenance.tick().await;
    let rotator = process.carnet.rotator().without_nudges();
    let kid = process.in_state(State::Active)[0].kid();
    assert_eq!(rotator.revoke(&kid, &somebody()).await.unwrap().changes.len(), 1);
    assert_eq!(process.nudges().await, []);
}
