//! The whole life of a key: random histories of an issuer, its processes and its clock, checked against the
//! invariants, and the same with each rule broken on purpose.
//!
//! The histories are the same in every run. `CARNET_TEST_SEED=N` uses others, `CARNET_TEST_LONG=1` runs
//! thirty times as many.

pub(crate) mod crowd;
pub(crate) mod history;
mod model;
mod mutation;
pub(crate) mod rules;

use std::cell::RefCell;
use std::time::Duration;

use crate::signing_keys::policy::{PolicyDurations, RotationPolicy};
use history::{Event, History, Op, Span, histories};
use model::{Model, Tally};
use mutation::{MUTATIONS, Mutation};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};
use rules::Rule;

const FOUND: &str = "found";

fn runner(cases: u32, shrink: u32) -> TestRunner {
    let seed = std::env::var("CARNET_TEST_SEED").map_or(4, |seed| seed.parse().unwrap());
    let times = if std::env::var_os("CARNET_TEST_LONG").is_some() { 30 } else { 1 };
    TestRunner::new(Config {
        cases: cases * times,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: shrink,
        ..Config::default()
    })
}

#[test]
fn no_history_breaks_a_rule() {
    let total = RefCell::new(Tally::default());
    let outcome = runner(3000, 3000).run(&histories(), |history| {
        let model = Model::run(&history, None);
        for (what, times) in &model.tally {
            *total.borrow_mut().entry(*what).or_default() += times;
        }
        match model.ledger.violations.as_slice() {
            [] => Ok(()),
            violations => Err(TestCaseError::fail(format!("{violations:#?}"))),
        }
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    // The histories must cover these events.
    let total = total.into_inner();
    for what in [
        "rotations in time",
        "forced rotations",
        "revocations",
        "already rotated",
        "refused: too young",
        "refused: full",
        "jumps believed",
        "minted with what has changed since",
        "not minted: unconfirmed",
        "not minted: clock behind",
        "not minted: clock ahead",
        "accepted",
        "set back",
        "verified",
        "excused",
    ] {
        assert!(total.get(what).is_some_and(|times| *times > 100), "{what}: {total:#?}");
    }
}

#[test]
fn every_rule_that_is_broken_on_purpose_is_found_broken() {
    let mut missed = Vec::new();
    for (mutation, rules) in MUTATIONS {
        for rule in *rules {
            let outcome = runner(3000, 0).run(&histories(), |history| {
                let model = Model::run(&history, Some(*mutation));
                let found = model.ledger.violations.iter().any(|violation| violation.rule == *rule);
                if found { Err(TestCaseError::fail(FOUND)) } else { Ok(()) }
            });
            // A panic is a failure too, but does not show that the rule was checked.
            let found = matches!(outcome, Err(TestError::Fail(reason, _)) if reason.message() == FOUND);
            if !found {
                missed.push((mutation, rule));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

/// A history that random generation seldom produces: all of it happens within five seconds.
#[test]
fn a_lowered_leeway_fails_no_token_of_a_process_that_does_not_know_it_yet() {
    let default = RotationPolicy::default();
    let short = PolicyDurations { leeway: Duration::from_secs(1), ..default.durations() };
    let history = History {
        policies: vec![default, RotationPolicy::new(short).unwrap()],
        events: vec![
            Event::CutOff(0),
            Event::Do(1, Op::Policy(1)),
            Event::Do(1, Op::Rotate { force: true, both: true }),
            Event::Pass(Span::Millis(4900)),
            Event::Pass(Span::OfRetirement(1000)),
        ],
    };
    assert_eq!(Model::run(&history, None).ledger.violations, []);
    let broken = Model::run(&history, Some(Mutation::ForgetLeewayOnPolicyCut)).ledger.violations;
    assert!(broken.iter().any(|violation| violation.rule == Rule::VerifiesEverywhere), "{broken:#?}");
}
