//! Random histories of an unreliable copy.

use crate::publish::{DocumentName, Target as _};
use crate::signing_keys::{SigningKey, State};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

use super::{Published, STEP};
use crate::tests::key_life_store::world::{HOUR, somebody};

/// An event for a server or its copy.
#[derive(Debug, Clone, Copy)]
enum Happening {
    Pass(u32),
    Down,
    Up,
    Rotate,
    RevokePrepared,
    Lose,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        6 => (1..120_u32).prop_map(Happening::Pass),
        2 => Just(Happening::Down),
        2 => Just(Happening::Up),
        2 => Just(Happening::Rotate),
        1 => Just(Happening::RevokePrepared),
        1 => Just(Happening::Lose),
    ];
    proptest::collection::vec(one, 1..25)
}

/// Returns the tokens that verifiers refused, and the number of rotations.
async fn live(happenings: &[Happening], waits: bool) -> (Vec<String>, usize) {
    let mut published = Published::begin(HOUR).await;
    if !waits {
        let url = published.copy.url().clone();
        assert!(published.process.carnet.publications().forget(&url).await.unwrap());
    }
    for happening in happenings {
        match happening {
            Happening::Pass(steps) => published.pass(STEP * *steps).await,
            Happening::Down => published.copy.set_down(true),
            Happening::Up => published.copy.set_down(false),
            Happening::Rotate => drop(published.process.rotate(false).await),
            Happening::RevokePrepared => {
                let kid = published.prepared().remove(0).kid();
                published.process.carnet.rotator().revoke(&kid, &somebody()).await.unwrap();
            }
            Happening::Lose => published.copy.remove(DocumentName::Jwks),
        }
        published.check_target().await;
        published.mint();
    }
    let now = published.machine.now();
    let keys = &published.process.carnet.issuer().key_set().keys;
    let retired = |key: &&SigningKey| matches!(key.state(now), State::Retired | State::Pruned);
    (published.refused, keys.iter().filter(retired).count())
}

/// Runs the histories, which are the same in every run; `CARNET_TEST_LONG=1` runs ten times as many.
fn refusals(waits: bool) -> Result<usize, String> {
    let times = if std::env::var_os("CARNET_TEST_LONG").is_some() { 10 } else { 1 };
    let mut runner = TestRunner::new(Config {
        cases: 10 * times,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::default()
    });
    let rotated = std::cell::Cell::new(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runner.run(&happenings(), |happenings| {
        let (refused, rotations) = runtime.block_on(live(&happenings, waits));
        rotated.set(rotated.get() + rotations);
        if refused.is_empty() { Ok(()) } else { Err(TestCaseError::fail(format!("{refused:?}"))) }
    });
    outcome.map(|()| rotated.get()).map_err(|error| error.to_string())
}

#[test]
fn no_history_of_outages_makes_a_verifier_of_the_copy_refuse_a_token() {
    let rotations = refusals(true).unwrap();
    assert!(rotations > 20, "{rotations}");
}

#[test]
fn keys_that_do_not_wait_for_the_copy_cause_refused_tokens_in_the_same_histories() {
    let refused = refusals(false).unwrap_err();
    assert!(refused.contains("by a JWKS of") || refused.contains("by who fetches now"), "{refused}");
}
