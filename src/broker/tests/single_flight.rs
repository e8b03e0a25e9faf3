use super::support::*;
use crate::broker::*;

#[tokio::test]
async fn ten_thousand_requests_make_one_exchange_also_when_the_first_thousand_hang_up() {
    let world = World::new();
    world.fake.gate.send_replace(false);
    let feed = feed(0);
    let (context, scope) = (Context::empty(), Scope::everything());
    let mut waiting: Vec<_> =
        (0..10_000).map(|_| Box::pin(world.broker.credential(&feed, &context, &scope, None))).collect();
    waiting.iter_mut().for_each(begin);
    waiting.drain(..1000);
    settle().await;
    assert_eq!(world.fake.attempts(&feed), 1);

    world.fake.gate.send_replace(true);
    for waiting in waiting {
        let served = waiting.await.unwrap();
        assert_eq!((served.source, served.jti), (Source::Exchange, Uuid::from_u128(1)));
    }
    assert_eq!(world.fake.attempts(&feed), 1);
    assert_eq!(world.ask(&feed).await.unwrap().source, Source::Cache);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_requests_for_each_of_a_thousand_feeds_make_a_thousand_exchanges() {
    let world = World::new();
    let asking: Vec<_> = (0..10).flat_map(|_| 0..1000).map(|number| world.asking(&feed(number))).collect();
    for asking in asking {
        asking.await.unwrap().unwrap();
    }
    assert_eq!(world.fake.all_attempts(), 1000);
    assert!((0..1000).all(|number| world.fake.attempts(&feed(number)) == 1));
}

#[tokio::test]
async fn requests_for_different_credentials_never_share_one() {
    let world = World::new();
    let mut context = Context::empty();
    context.try_insert("tenant".parse().unwrap(), "acme".parse().unwrap()).unwrap();
    let scope: Scope = serde_json::from_str(r#"{"repositories":["a"]}"#).unwrap();
    let everything = Scope::everything();
    for (feed, context, scope, attempts) in [
        (feed(0), &Context::empty(), &everything, 1),
        (feed(0), &context, &everything, 2),
        (feed(0), &context, &scope, 3),
        (feed(0), &context, &scope, 3),
        (feed(1), &context, &scope, 4),
        (changed(&feed(0)), &context, &scope, 5),
    ] {
        world.broker.credential(&feed, context, scope, None).await.unwrap();
        assert_eq!(world.fake.all_attempts(), attempts);
    }
}

#[tokio::test]
async fn a_changed_feed_loses_its_cached_credentials_and_exchanges_in_progress() {
    let world = World::new();
    let feed = feed(0);
    world.fake.gate.send_replace(false);
    let old = world.asking(&feed);
    settle().await;
    let newer = changed(&feed);
    let new = world.asking(&newer);
    settle().await;
    assert!(matches!(old.await.unwrap(), Err(BrokerError::FeedChanged)));
    assert_eq!(world.fake.running.load(std::sync::atomic::Ordering::SeqCst), 1);
    world.fake.gate.send_replace(true);
    assert_eq!(new.await.unwrap().unwrap().source, Source::Exchange);
    // A caller with the old row must read it again.
    assert!(matches!(world.ask(&feed).await, Err(BrokerError::FeedChanged)));
}

#[tokio::test]
async fn a_removed_feed_loses_its_cached_credentials_and_exchanges_in_progress() {
    let world = World::new();
    let feed = feed(0);
    world.ask(&feed).await.unwrap();
    world.broker.forget(feed.id);
    assert_eq!(world.broker.remembered(), 0);
    world.fake.gate.send_replace(false);
    let asking = world.asking(&feed);
    settle().await;
    world.broker.forget(feed.id);
    assert!(matches!(asking.await.unwrap(), Err(BrokerError::FeedChanged)));
    world.fake.gate.send_replace(true);
    settle().await;
    assert_eq!(world.broker.remembered(), 0);
}

#[tokio::test]
async fn a_panic_in_an_exchange_is_reported_and_the_next_request_retries() {
    let world = World::new();
    world.fake.will(Outcome::Panic);
    assert!(matches!(world.ask(&feed(0)).await, Err(BrokerError::Interrupted)));
    world.fake.will(Outcome::Credential(HOUR));
    assert_eq!(world.ask(&feed(0)).await.unwrap().source, Source::Exchange);
}

#[tokio::test]
async fn neither_broker_nor_errors_show_a_password() {
    let world = World::new();
    let served = world.ask(&feed(0)).await.unwrap();
    let shown = format!("{served:?} {:?}", world.broker);
    assert!(shown.contains("SecretString(…)") && !shown.contains(PASSWORD), "{shown}");
    assert_eq!(served.credential.password().unwrap().reveal(), PASSWORD);
}
