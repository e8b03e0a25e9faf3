//! Tests with callers that take as much as they can, next to callers that do not.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::support::*;
use crate::broker::*;

fn caller(number: u128) -> Account {
    Account::of(Uuid::from_u128(number))
}

/// Returns the account of one of many grants that one admin has created.
fn made(number: u128) -> Account {
    Account::made_by(Uuid::from_u128(9_000), Uuid::from_u128(9_001 + number))
}

/// Makes the exchanges of invented tenants hang.
fn hanging_for_floods(world: &World) {
    world.fake.decides(|request| {
        let tenant = request.context.get("tenant".parse().unwrap()).map(|tenant| tenant.as_str().to_owned());
        match tenant {
            Some(tenant) if tenant.starts_with("flood") => Outcome::Hang,
            _ => Outcome::Credential(HOUR),
        }
    });
}

/// Asserts that the counters agree with the entries, counted one by one.
fn check_counts(world: &World) {
    let mut state = world.broker.0.lock();
    let State { cache, flights, .. } = &mut *state;
    let (claims, slots, in_flight) = cache.counted();
    assert_eq!(claims, cache.claims());
    assert_eq!(slots, cache.len());
    assert_eq!(in_flight, flights.all());
}

#[tokio::test]
async fn invented_contexts_evict_only_their_own_callers_credentials() {
    let world = World::with(BrokerLimits { capacity: 64, ..BrokerLimits::default() });
    let (same, other) = (feed(0), feed(1));
    for feed in [&same, &other] {
        for tenant in ["a", "b", "c"] {
            world.ask_as(caller(1), feed, tenant).await.unwrap();
        }
    }
    for number in 0..500 {
        // One flood comes from a single grant, another from many grants of one admin. The flooding grant also
        // requests the credentials of the first caller.
        world.ask_as(caller(2), &same, &format!("x{number}")).await.unwrap();
        world.ask_as(made(number), &same, &format!("y{number}")).await.unwrap();
        world.ask_as(caller(2), &same, ["a", "b", "c"][number as usize % 3]).await.unwrap();
        assert!(world.broker.remembered() <= 64);
        check_counts(&world);
    }
    for feed in [&same, &other] {
        for tenant in ["a", "b", "c"] {
            let served = world.ask_as(caller(1), feed, tenant).await.unwrap();
            assert_eq!(served.source, Source::Cache, "{tenant} of {}", feed.path());
        }
    }
}

#[tokio::test]
async fn a_single_caller_may_fill_the_memory_and_makes_room_for_others() {
    let world = World::with(BrokerLimits { capacity: 64, ..BrokerLimits::default() });
    for number in 0..64 {
        world.ask_as(caller(1), &feed(0), &format!("x{number}")).await.unwrap();
    }
    assert_eq!(world.broker.remembered(), 64);
    for tenant in 0..10 {
        world.ask_as(caller(2), &feed(0), &format!("y{tenant}")).await.unwrap();
    }
    for tenant in 0..10 {
        let served = world.ask_as(caller(2), &feed(0), &format!("y{tenant}")).await.unwrap();
        assert_eq!(served.source, Source::Cache);
    }
    assert_eq!(world.broker.remembered(), 64);
}

/// The innocent caller's feed is flooded too, or is another feed of the same provider.
#[tokio::test]
async fn while_one_callers_exchanges_hang_anothers_begin_at_once_at_the_same_feed_and_at_others() {
    type Callers = fn(u128) -> Account;
    let floods: [(&str, Callers, usize); 3] = [
        ("one grant", |_| caller(1), 1),
        ("one grant at many feeds", |_| caller(1), 20),
        ("one admin's", made, 4),
    ];
    for (what, account, feeds) in floods {
        let world = World::new();
        hanging_for_floods(&world);
        let flood: Vec<_> = (0..6000)
            .map(|number| {
                let feed = feed(number % feeds);
                world.asking_as(account(number as u128 % 50), &feed, &format!("flood{number}"))
            })
            .collect();
        for _ in 0..400 {
            settle().await;
        }
        assert!(world.fake.running.load(Ordering::SeqCst) <= 96, "{what}");
        for number in [0, 1, 50] {
            for tenant in ["a", "b"] {
                let served = world.ask_as(caller(2), &feed(number), tenant).await;
                assert_eq!(served.unwrap().source, Source::Exchange, "{what}: {tenant} of {number}");
            }
        }
        let busy = flood.iter().filter(|asking| asking.is_finished()).count();
        assert!(busy >= 6000 - 3072, "{what}: {busy} were turned away");
        check_counts(&world);
        world.pass(16 * SECOND).await;
        for asking in flood {
            assert!(asking.await.unwrap().is_err());
        }
        check_counts(&world);
        let state = world.broker.0.lock();
        assert_eq!((state.flights.all(), state.turns.all()), (0, 0), "{what}: nothing is left behind");
    }
}

/// The flooding caller has requested the innocent caller's credential first, behind a hundred requests that
/// hang.
#[tokio::test]
async fn a_caller_that_waits_for_anothers_exchange_waits_in_its_own_queue() {
    let world = World::new();
    hanging_for_floods(&world);
    let flood: Vec<_> =
        (0..100).map(|number| world.asking_as(caller(1), &feed(0), &format!("flood{number}"))).collect();
    let first = world.asking_as(caller(1), &feed(0), "a");
    settle().await;
    assert!(!first.is_finished(), "it waits behind the others of its caller");
    assert_eq!(world.ask_as(caller(2), &feed(0), "a").await.unwrap().source, Source::Exchange);
    assert_eq!(first.await.unwrap().unwrap().source, Source::Exchange);
    drop(flood);
}

#[tokio::test]
async fn a_credential_that_is_too_long_is_not_kept() {
    let world = World::new();
    world.fake.will(Outcome::Long);
    match world.ask(&feed(0)).await {
        Err(BrokerError::Failed { error, .. }) => {
            assert!(matches!(*error, AttemptError::TooLong(length) if length > 16 * 1024), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A flooding caller requests something new.
    Flood {
        account: u128,
        feed: usize,
    },
    /// Another caller requests the same thing as always.
    Ask {
        account: u128,
        feed: usize,
    },
    Pass(u64),
    Change(usize),
    Forget(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..8_u128, 0..3_usize).prop_map(|(account, feed)| Step::Flood { account, feed }),
        4 => (0..2_u128, 0..3_usize).prop_map(|(account, feed)| Step::Ask { account, feed }),
        1 => (0..120_u64).prop_map(Step::Pass),
        1 => (0..3_usize).prop_map(Step::Change),
        1 => (0..3_usize).prop_map(Step::Forget),
    ];
    proptest::collection::vec(step, 1..400)
}

async fn run(steps: Vec<Step>) {
    let limits = BrokerLimits {
        capacity: 60,
        flights: 64,
        flights_per_feed: 32,
        // Three groups that take as much as they may leave one of these permits free.
        per_provider: 64,
        per_feed: 32,
        ..BrokerLimits::default()
    };
    let world = World::with(limits);
    hanging_for_floods(&world);
    let mut feeds = [feed(0), feed(1), feed(2)];
    let mut until: HashMap<(u128, usize), Duration> = HashMap::new();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Flood { account, feed } => {
                // Two single grants, and six grants of one admin. Some of their requests hang.
                let account = if account < 2 { caller(100 + account) } else { made(account) };
                let tenant = format!("{}{number}", if number % 3 == 0 { "flood" } else { "x" });
                drop(world.asking_as(account, &feeds[feed], &tenant));
            }
            Step::Ask { account, feed } => {
                let served = world.ask_as(caller(account + 1), &feeds[feed], &format!("own{account}")).await;
                let now = world.clock.monotonic();
                let is_kept = until.get(&(account, feed)).is_some_and(|until| now < *until);
                let expected = if is_kept { Source::Cache } else { Source::Exchange };
                match served {
                    Ok(served) => assert_eq!(served.source, expected),
                    // The provider hangs for another caller's tokens of this feed: that failure is cached.
                    Err(BrokerError::Failed { age: Some(_), .. }) if !is_kept => continue,
                    Err(error) => panic!("{error:?}"),
                }
                if !is_kept {
                    until.insert((account, feed), now + HOUR - 5 * MINUTE);
                }
            }
            Step::Pass(seconds) => world.clock.advance(Duration::from_secs(seconds)),
            Step::Change(number) => {
                feeds[number] = changed(&feeds[number]);
                until.retain(|(_, feed), _| *feed != number);
            }
            Step::Forget(number) => {
                world.broker.forget(feeds[number].id);
                until.retain(|(_, feed), _| *feed != number);
            }
        }
        settle().await;
        assert!(world.broker.remembered() <= 60);
        check_counts(&world);
    }
    for feed in &feeds {
        world.broker.forget(feed.id);
    }
    settle().await;
    check_counts(&world);
    let state = world.broker.0.lock();
    assert_eq!((state.flights.all(), state.turns.all(), state.cache.claims()), (0, 0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_flood_evicts_no_other_callers_credentials_and_delays_no_other_request(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(steps));
    }
}
