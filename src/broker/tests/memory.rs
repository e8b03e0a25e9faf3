use super::support::*;
use crate::broker::*;

#[tokio::test]
async fn no_credential_is_handed_out_below_the_minimum_lifetime() {
    let world = World::new();
    let feed = feed(0);
    world.ask(&feed).await.unwrap();
    world.clock.advance(HOUR - 5 * MINUTE);
    assert_eq!(world.ask(&feed).await.unwrap().source, Source::Cache);
    settle().await;
    // The background refresh brought a new credential meanwhile.
    assert_eq!(world.fake.attempts(&feed), 2);
    world.clock.advance(HOUR - 5 * MINUTE + SECOND);
    world.fake.gate.send_replace(false);
    let asking = world.asking(&feed);
    settle().await;
    assert!(!asking.is_finished());
    world.fake.gate.send_replace(true);
    assert_eq!(asking.await.unwrap().unwrap().source, Source::Exchange);
}

#[tokio::test]
async fn a_request_that_asks_for_more_gets_a_fresh_one_and_one_that_asks_for_less_does_not() {
    let world = World::new();
    let feed = feed(0);
    world.ask(&feed).await.unwrap();
    world.clock.advance(20 * MINUTE);
    for (minimum, source) in [
        (Some(SECOND), Source::Cache),
        (Some(40 * MINUTE), Source::Cache),
        (Some(41 * MINUTE), Source::Exchange),
        (Some(41 * MINUTE), Source::Cache),
    ] {
        assert_eq!(world.ask_for(&feed, minimum).await.unwrap().source, source, "{minimum:?}");
    }
    // A request for less than the minimum still gets the minimum.
    world.clock.advance(56 * MINUTE);
    assert_eq!(world.ask_for(&feed, Some(SECOND)).await.unwrap().source, Source::Exchange);
}

#[tokio::test]
async fn an_unattainable_lifetime_is_refused_with_the_observed_one_and_not_retried() {
    let world = World::new();
    let feed = feed(0);
    for _ in 0..10 {
        match world.ask_for(&feed, Some(2 * HOUR)).await {
            Err(BrokerError::MinRemainingUnattainable { wanted, life_observed }) => {
                assert_eq!((wanted, life_observed), (2 * HOUR, HOUR));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(world.fake.attempts(&feed), 1);
    }
    // It stays cached for requests with a lower minimum.
    assert_eq!(world.ask(&feed).await.unwrap().source, Source::Cache);
    world.fake.will(Outcome::Credential(3 * HOUR));
    world.clock.advance(5 * SECOND);
    assert_eq!(world.ask_for(&feed, Some(2 * HOUR)).await.unwrap().source, Source::Exchange);
}

#[tokio::test]
async fn a_credential_shorter_than_the_minimum_is_never_handed_out() {
    let world = World::new();
    world.fake.will(Outcome::Credential(4 * MINUTE));
    for _ in 0..3 {
        assert!(matches!(
            world.ask(&feed(0)).await,
            Err(BrokerError::MinRemainingUnattainable { life_observed, .. }) if life_observed == 4 * MINUTE
        ));
    }
    assert_eq!(world.fake.attempts(&feed(0)), 1);
}

#[tokio::test]
async fn a_requested_credential_is_refreshed_once_in_the_background_at_eighty_percent() {
    let world = World::new();
    let feed = feed(0);
    world.ask(&feed).await.unwrap();
    world.clock.advance(10 * MINUTE);
    assert_eq!(world.ask(&feed).await.unwrap().source, Source::Cache);
    world.clock.advance(38 * MINUTE - SECOND);
    settle().await;
    assert_eq!(world.fake.attempts(&feed), 1);
    world.clock.advance(SECOND);
    settle().await;
    assert_eq!(world.fake.attempts(&feed), 2);
    // The second credential has not been requested: it expires without a refresh.
    world.clock.advance(24 * HOUR);
    settle().await;
    assert_eq!(world.fake.attempts(&feed), 2);
}

#[tokio::test]
async fn a_credential_that_is_not_requested_again_is_not_refreshed() {
    let world = World::new();
    let feed = feed(0);
    world.ask(&feed).await.unwrap();
    world.clock.advance(50 * MINUTE);
    settle().await;
    assert_eq!(world.fake.attempts(&feed), 1);
    // A request then gets the cached credential at once and starts a refresh in the background.
    assert_eq!(world.ask(&feed).await.unwrap().source, Source::Cache);
    settle().await;
    assert_eq!(world.fake.attempts(&feed), 2);
    assert_eq!(world.ask(&feed).await.unwrap().jti, Uuid::from_u128(2));
}

#[tokio::test]
async fn a_wall_clock_that_is_set_back_makes_no_credential_live_longer() {
    let world = World::new();
    let feed = feed(0);
    world.ask(&feed).await.unwrap();
    world.clock.advance(HOUR);
    world.clock.step_wall_to("2026-03-01T12:00:00Z".parse().unwrap());
    assert_eq!(world.ask(&feed).await.unwrap().source, Source::Exchange);
    assert_eq!(world.fake.attempts(&feed), 2);
}

#[tokio::test]
async fn a_wall_clock_set_forward_ends_the_credentials_that_expired_by_it() {
    let world = World::new();
    let feed = feed(0);
    world.ask(&feed).await.unwrap();
    world.clock.step_wall_to("2026-03-01T13:00:00Z".parse().unwrap());
    assert_eq!(world.ask(&feed).await.unwrap().source, Source::Exchange);
}

#[tokio::test]
async fn memory_is_bounded_and_the_least_recently_used_leave_first() {
    let world = World::with(BrokerLimits { capacity: 32, ..BrokerLimits::default() });
    for number in 0..32 {
        world.ask(&feed(number)).await.unwrap();
    }
    world.ask(&feed(0)).await.unwrap();
    for number in 32..200 {
        world.ask(&feed(number)).await.unwrap();
        world.ask(&feed(0)).await.unwrap();
        assert!(world.broker.remembered() <= 32);
    }
    assert_eq!(world.fake.attempts(&feed(0)), 1, "what is used all the time stays");
    world.ask(&feed(1)).await.unwrap();
    assert_eq!(world.fake.attempts(&feed(1)), 2, "what is not leaves");
}

#[tokio::test]
async fn exchanges_in_progress_are_never_evicted_and_none_begins_beyond_the_limit() {
    let world = World::with(BrokerLimits { capacity: 4, ..BrokerLimits::default() });
    world.fake.gate.send_replace(false);
    let asking: Vec<_> = (0..4).map(|number| world.asking(&feed(number))).collect();
    settle().await;
    assert!(matches!(world.ask(&feed(4)).await, Err(BrokerError::Busy)));
    world.fake.gate.send_replace(true);
    for asking in asking {
        asking.await.unwrap().unwrap();
    }
    world.ask(&feed(4)).await.unwrap();
}

#[tokio::test]
async fn expired_credentials_do_not_stay_in_memory() {
    let world = World::new();
    for number in 0..100 {
        world.ask(&feed(number)).await.unwrap();
    }
    world.clock.advance(HOUR);
    world.ask(&feed(100)).await.unwrap();
    assert_eq!(world.broker.remembered(), 1);
}
