//! Histories: random sequences of events for an issuer.

use std::time::Duration;

use crate::signing_keys::policy::{PolicyDurations, RotationPolicy};
use proptest::collection::vec;
use proptest::prelude::*;

/// The number of processes that share the database.
pub(crate) const PROCESSES: usize = 3;

/// A sequence of events for an issuer that begins with the first of `policies`.
#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) policies: Vec<RotationPolicy>,
    pub(crate) events: Vec<Event>,
}

#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// Time passes; processes refresh, and keys are pruned and rotated meanwhile.
    Pass(Span),
    /// A process performs a change, from reading to commit, at once.
    Do(usize, Op),
    /// A process has read and decided and is generating keys.
    Begin(usize, Op),
    /// The process decides again and commits.
    Commit(usize),
    /// Several requests with the same view of the active keys.
    Storm { force: bool },
    /// The database stops responding to this process.
    CutOff(usize),
    /// The database responds again.
    Reconnect(usize),
    /// A process ends.
    Stop(usize),
    /// A process starts again.
    Start(usize),
    /// The machine's wall clock is set.
    SetClock(Step),
    /// The operator accepts this clock.
    Accept,
    /// The operator sets the database's time back to this clock.
    SetBack,
}

/// A duration, absolute or relative to the policy in force, in thousandths.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Span {
    Millis(u32),
    /// Of `max-token-lifetime` and `leeway`: the time for which a retired key stays published.
    OfRetirement(u32),
    OfPropagation(u32),
    OfRotation(u32),
    /// Until a jump of the clock is trusted.
    Hold,
}

/// A change of keys or policy; `seen` of a rotation are the active keys in the process's own view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Tick,
    Rotate {
        force: bool,
        both: bool,
    },
    /// Of the keys with rows, counted from the last.
    Revoke(usize),
    RevokeAll,
    /// To another policy of the history.
    Policy(usize),
}

/// A change of the clock.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// To the trusted time, plus this many thousandths of the maximum undetected deviation.
    Wander(i32),
    /// Forward by `leeway` and this many seconds.
    Ahead(u32),
    /// Back by `leeway` and this many seconds.
    Behind(u32),
}

pub(crate) fn histories() -> impl Strategy<Value = History> {
    // If `leeway` is shorter than the time for which a cut-off process still signs, there is no margin for a
    // wandering clock.
    (prop_oneof![2 => Just(6_u64), 1 => Just(1)], 1..4_usize)
        .prop_flat_map(|(least, count)| (vec(policies(least..=600), count), vec(events(), 1..70)))
        .prop_map(|(policies, events)| History { policies, events })
}

fn policies(leeway: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = RotationPolicy> {
    let propagation = prop_oneof![10..60_u64, 60..600_u64, 3600..100_000_u64];
    let leeway = prop_oneof![Just(*leeway.start()), leeway];
    (propagation, 0..40_u64, leeway, 1..=1000_u64, 1..=1000_u64).prop_map(
        |(propagation, quarters, leeway, lifetime, max_age)| {
            let rotate_every = (propagation + propagation * quarters / 4).max(leeway / 2 + 1);
            let longest = 2 * rotate_every - leeway;
            RotationPolicy::new(PolicyDurations {
                rotate_every: Duration::from_secs(rotate_every),
                propagation: Duration::from_secs(propagation),
                max_token_lifetime: Duration::from_secs((longest * lifetime / 1000).max(1)),
                leeway: Duration::from_secs(leeway),
                jwks_max_age: Duration::from_secs((propagation * max_age / 1000).max(1)),
            })
            .unwrap()
        },
    )
}

fn events() -> impl Strategy<Value = Event> {
    let process = || 0..PROCESSES;
    prop_oneof![
        8 => spans().prop_map(Event::Pass),
        4 => (process(), ops()).prop_map(|(process, op)| Event::Do(process, op)),
        2 => (process(), ops()).prop_map(|(process, op)| Event::Begin(process, op)),
        2 => process().prop_map(Event::Commit),
        1 => any::<bool>().prop_map(|force| Event::Storm { force }),
        1 => process().prop_map(Event::CutOff),
        1 => process().prop_map(Event::Reconnect),
        1 => process().prop_map(Event::Stop),
        1 => process().prop_map(Event::Start),
        2 => steps().prop_map(Event::SetClock),
        1 => Just(Event::Accept),
        1 => Just(Event::SetBack),
    ]
}

fn spans() -> impl Strategy<Value = Span> {
    prop_oneof![
        4 => (0..7000_u32).prop_map(Span::Millis),
        3 => (0..1200_u32).prop_map(Span::OfRetirement),
        3 => (0..1200_u32).prop_map(Span::OfPropagation),
        2 => (0..1500_u32).prop_map(Span::OfRotation),
        1 => Just(Span::Hold),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => Just(Op::Tick),
        3 => any::<bool>().prop_map(|both| Op::Rotate { force: false, both }),
        3 => any::<bool>().prop_map(|both| Op::Rotate { force: true, both }),
        2 => (0..8_usize).prop_map(Op::Revoke),
        1 => Just(Op::RevokeAll),
        2 => (0..3_usize).prop_map(Op::Policy),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (-1000..=1000_i32).prop_map(Step::Wander),
        2 => prop_oneof![1..7200_u32, 1..40_000_000_u32].prop_map(Step::Ahead),
        1 => prop_oneof![1..7200_u32, 1..40_000_000_u32].prop_map(Step::Behind),
    ]
}
