use jiff::Timestamp;

use super::support::*;
use crate::broker::*;
use crate::store::master_key::MasterKey;
use crate::store::{IfMissing, Store, Trusted};
use crate::values::random::SecureRandom;

async fn open(folder: &tempfile::TempDir) -> Store {
    let url = format!("sqlite:{}", folder.path().join("carnet.db").display()).parse().unwrap();
    Store::open(&url, IfMissing::Create).await.unwrap()
}

/// Returns a store with these feeds.
async fn store_of(folder: &tempfile::TempDir, feeds: &[&Feed]) -> Trusted {
    let master_key = MasterKey::generate(&SecureRandom::default()).unwrap();
    let store = open(folder).await.set_up_new(&master_key).await;
    let mut write = store.write().await.unwrap();
    for feed in feeds {
        write.insert_feed(feed).await.unwrap();
    }
    write.commit().await.unwrap();
    store
}

#[tokio::test]
async fn changed_and_removed_feeds_are_forgotten_with_their_exchanges_in_progress() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let (same, altered, removed) = (feed(0), feed(1), feed(2));
    let store = store_of(&folder, &[&same, &altered, &removed]).await;
    for feed in [&same, &altered, &removed] {
        world.ask(feed).await.unwrap();
    }
    world.broker.forget_changed(&store).await.unwrap();
    assert_eq!(world.broker.remembered(), 3);

    let mut write = store.write().await.unwrap();
    write.update_feed(&changed(&altered)).await.unwrap();
    write.remove_feed(&removed, Timestamp::UNIX_EPOCH).await.unwrap();
    write.commit().await.unwrap();
    // A running exchange in another context, with the row read before the change.
    world.fake.gate.send_replace(false);
    let mut context = Context::empty();
    context.try_insert("tenant".parse().unwrap(), "acme".parse().unwrap()).unwrap();
    let (broker, gone) = (world.broker.clone(), removed.clone());
    let asking =
        tokio::spawn(async move { broker.credential(&gone, &context, &Scope::everything(), None).await });
    settle().await;
    assert_eq!(world.broker.remembered(), 4);

    world.broker.forget_changed(&store).await.unwrap();
    assert!(matches!(asking.await.unwrap(), Err(BrokerError::FeedChanged)));
    world.fake.gate.send_replace(true);
    settle().await;
    assert_eq!(world.broker.remembered(), 1);
    assert_eq!(world.ask(&same).await.unwrap().source, Source::Cache);
}

#[tokio::test]
async fn a_change_is_noticed_by_its_number_and_a_late_one_without_a_number() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    assert_eq!(open(&folder).await.feed_changes().await.unwrap(), None);
    let store = store_of(&folder, &[]).await;
    let (first, second) = (feed(0), feed(1));
    let mut write = store.write().await.unwrap();
    for feed in [&first, &second] {
        write.insert_feed(feed).await.unwrap();
    }
    write.commit().await.unwrap();
    assert_eq!(store.feed_changes().await.unwrap(), Some(2));
    world.ask(&first).await.unwrap();
    world.ask(&second).await.unwrap();
    for _ in 0..2 {
        world.broker.forget_changed(&store).await.unwrap();
        assert_eq!(world.broker.remembered(), 2);
    }

    let mut write = store.write().await.unwrap();
    write.update_feed(&changed(&first)).await.unwrap();
    write.remove_feed(&second, Timestamp::UNIX_EPOCH).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(store.feed_changes().await.unwrap(), Some(4));
    world.broker.forget_changed(&store).await.unwrap();
    assert_eq!(world.broker.remembered(), 0);

    // A caller read the feed before the change, and the number of changes has been seen since.
    world.ask(&first).await.unwrap();
    assert_eq!(world.broker.remembered(), 1);
    world.broker.forget_changed(&store).await.unwrap();
    assert_eq!(world.broker.remembered(), 0);
}

#[tokio::test]
async fn a_version_that_came_in_while_the_store_was_read_is_kept() {
    let (world, old) = (World::new(), feed(0));
    world.ask(&old).await.unwrap();
    let seen = world.broker.0.lock().cache.versions();
    assert_eq!(seen, [(old.id, old.version)]);
    let newer = changed(&old);
    world.ask(&newer).await.unwrap();
    {
        let mut state = world.broker.0.lock();
        let State { cache, flights, .. } = &mut *state;
        cache.forget_version(old.id, old.version, flights, &mut Discarded::default());
    }
    assert_eq!(world.ask(&newer).await.unwrap().source, Source::Cache);
}

#[tokio::test]
async fn a_store_that_cannot_be_read_ends_nothing() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let store = store_of(&folder, &[]).await;
    world.ask(&feed(0)).await.unwrap();
    store.close().await;
    assert!(world.broker.forget_changed(&store).await.is_err());
    assert_eq!(world.broker.remembered(), 1);
}
