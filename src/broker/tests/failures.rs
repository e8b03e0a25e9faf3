use super::support::*;
use crate::broker::*;

/// Returns the age of a cached failure, `None` for a new one. Panics on any other outcome.
fn age(outcome: Result<Served, BrokerError>) -> Option<Duration> {
    match outcome {
        Err(BrokerError::Failed { age, .. }) => age,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refusal_is_repeated_for_a_few_seconds_with_its_age_and_then_retried() {
    let world = World::new();
    let feed = feed(0);
    world.fake.will(Outcome::Refused);
    assert_eq!(age(world.ask(&feed).await), None);
    world.clock.advance(4 * SECOND);
    let again = world.ask(&feed).await;
    assert!(again.as_ref().unwrap_err().to_string().contains("the failure is 4.0 s old"));
    assert_eq!(age(again), Some(4 * SECOND));
    assert_eq!(world.fake.attempts(&feed), 1);
    world.clock.advance(SECOND);
    world.fake.will(Outcome::Credential(HOUR));
    assert_eq!(world.ask(&feed).await.unwrap().source, Source::Exchange);
}

#[tokio::test]
async fn a_refusal_is_about_its_context_and_an_outage_about_the_feed() {
    for (outcome, shared) in [(Outcome::Refused, false), (Outcome::Transient, true)] {
        let world = World::with(BrokerLimits { attempts: 1, ..BrokerLimits::default() });
        let feed = feed(0);
        world.fake.will(outcome);
        age(world.ask(&feed).await);
        let mut context = Context::empty();
        context.try_insert("tenant".parse().unwrap(), "acme".parse().unwrap()).unwrap();
        let other = world.broker.credential(&feed, &context, &Scope::everything(), None).await;
        assert_eq!(age(other).is_some(), shared, "{outcome:?}");
    }
}

#[tokio::test]
async fn transient_failures_are_retried_with_growing_pauses_and_new_tokens() {
    let world = World::new();
    let feed = feed(0);
    let mut failures = 2;
    world.fake.decides(move |_| {
        failures -= 1;
        if failures >= 0 { Outcome::Transient } else { Outcome::Credential(HOUR) }
    });
    let asking = world.asking(&feed);
    settle().await;
    assert_eq!(world.fake.attempts(&feed), 1);
    world.pass(Duration::from_millis(200)).await;
    assert_eq!(world.fake.attempts(&feed), 2);
    world.pass(Duration::from_millis(400)).await;
    assert_eq!(world.fake.attempts(&feed), 3);
    let served = asking.await.unwrap().unwrap();
    assert_eq!((served.source, served.jti), (Source::Exchange, Uuid::from_u128(3)));
}

#[tokio::test]
async fn attempts_are_counted_and_the_last_error_is_given() {
    let world = World::new();
    let feed = feed(0);
    world.fake.will(Outcome::Transient);
    let asking = world.asking(&feed);
    world.pass(10 * SECOND).await;
    let error = asking.await.unwrap().unwrap_err();
    assert!(matches!(&error, BrokerError::Failed { error, age: None } if error.is_transient()));
    assert_eq!(world.fake.attempts(&feed), 5);
}

#[tokio::test]
async fn other_failures_are_not_retried() {
    for outcome in [Outcome::Refused, Outcome::Expired] {
        let world = World::new();
        world.fake.will(outcome);
        assert_eq!(age(world.ask(&feed(0)).await), None);
        assert_eq!(world.fake.attempts(&feed(0)), 1);
    }
}

#[tokio::test]
async fn a_token_unknown_to_one_replica_is_presented_to_another_once() {
    for (knows, attempts) in [(true, 2), (false, 2)] {
        let world = World::new();
        let feed = feed(0);
        let mut first = true;
        world.fake.decides(move |_| match std::mem::take(&mut first) || !knows {
            true => Outcome::Unknown,
            false => Outcome::Credential(HOUR),
        });
        let asking = world.asking(&feed);
        world.pass(SECOND).await;
        assert_eq!(asking.await.unwrap().is_ok(), knows);
        assert_eq!(world.fake.attempts(&feed), attempts);
    }
}

#[tokio::test]
async fn one_deadline_ends_every_attempt_and_pause() {
    let world = World::new();
    let feed = feed(0);
    world.fake.will(Outcome::Hang);
    let asking = world.asking(&feed);
    world.pass(15 * SECOND - Duration::from_millis(100)).await;
    assert!(!asking.is_finished());
    world.pass(Duration::from_millis(100)).await;
    match asking.await.unwrap() {
        Err(BrokerError::Failed { error, .. }) => {
            assert!(matches!(*error, AttemptError::NoAnswer(after) if after == 15 * SECOND));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.fake.attempts(&feed), 1);
    assert_eq!(world.fake.running.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_last_message_before_a_provider_fell_silent_is_reported() {
    let world = World::new();
    let mut first = true;
    world.fake.decides(move |_| if std::mem::take(&mut first) { Outcome::Transient } else { Outcome::Hang });
    let asking = world.asking(&feed(0));
    world.pass(15 * SECOND).await;
    match asking.await.unwrap() {
        Err(BrokerError::Failed { error, .. }) => assert!(matches!(*error, AttemptError::Exchange(_))),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refusal_by_carnet_does_not_replace_the_providers_earlier_error() {
    let world = World::new();
    let mut first = true;
    world
        .fake
        .decides(move |_| if std::mem::take(&mut first) { Outcome::Transient } else { Outcome::Unminted });
    let asking = world.asking(&feed(0));
    world.pass(15 * SECOND).await;
    match asking.await.unwrap() {
        Err(BrokerError::Failed { error, .. }) => assert!(matches!(*error, AttemptError::Exchange(_))),
        other => panic!("{other:?}"),
    }
    let world = World::new();
    world.fake.will(Outcome::Unminted);
    match world.ask(&feed(0)).await {
        Err(BrokerError::Failed { error, .. }) => assert!(matches!(*error, AttemptError::Mint(_))),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refresh_that_fails_leaves_the_old_one_marked_while_it_lasts() {
    let world = World::new();
    let feed = feed(0);
    world.ask(&feed).await.unwrap();
    world.fake.will(Outcome::Refused);
    world.clock.advance(50 * MINUTE);
    assert_eq!(world.ask(&feed).await.unwrap().source, Source::Cache);
    settle().await;
    for attempts in [2, 2, 3, 3] {
        assert_eq!(world.ask(&feed).await.unwrap().source, Source::StaleRefresh);
        settle().await;
        assert_eq!(world.fake.attempts(&feed), attempts);
        world.clock.advance(3 * SECOND);
    }
    // Its remaining life is too short now.
    world.clock.advance(5 * MINUTE);
    assert_eq!(age(world.ask(&feed).await), None);
    world.clock.advance(5 * SECOND);
    world.fake.will(Outcome::Credential(HOUR));
    assert_eq!(world.ask(&feed).await.unwrap().source, Source::Exchange);
    assert_eq!(world.ask(&feed).await.unwrap().source, Source::Cache);
}

#[tokio::test]
async fn a_request_for_more_than_the_remaining_lifetime_gets_the_error() {
    let world = World::new();
    let feed = feed(0);
    world.ask(&feed).await.unwrap();
    world.fake.will(Outcome::Refused);
    world.clock.advance(20 * MINUTE);
    assert_eq!(age(world.ask_for(&feed, Some(50 * MINUTE)).await), None);
    assert_eq!(world.ask(&feed).await.unwrap().source, Source::StaleRefresh);
}
