use std::sync::atomic::Ordering;

use super::support::*;
use crate::broker::*;

fn hanging_by_space(world: &World) {
    world.fake.decides(|request| match request.feed.space.as_str() {
        "default" => Outcome::Hang,
        _ => Outcome::Credential(HOUR),
    });
}

#[tokio::test]
async fn a_hanging_provider_leaves_others_alone() {
    let world = World::new();
    hanging_by_space(&world);
    let hanging: Vec<_> = (0..1000).map(|number| world.asking(&feed(number))).collect();
    for _ in 0..100 {
        settle().await;
    }
    assert_eq!(world.fake.running.load(Ordering::SeqCst), BrokerLimits::default().per_provider);
    for number in 0..10 {
        assert_eq!(world.ask(&feed_in("other", number)).await.unwrap().source, Source::Exchange);
    }
    assert!(hanging.iter().all(|asking| !asking.is_finished()));
}

#[tokio::test]
async fn attempts_at_one_provider_are_bounded_and_nothing_waits_longer_than_the_deadline() {
    let world = World::with(BrokerLimits { per_provider: 8, ..BrokerLimits::default() });
    world.fake.will(Outcome::Hang);
    let asking: Vec<_> = (0..20).map(|number| world.asking(&feed(number))).collect();
    world.pass(16 * SECOND).await;
    assert_eq!(world.fake.most_running.load(Ordering::SeqCst), 8);
    let mut no_turn = 0;
    for asking in asking {
        match asking.await.unwrap() {
            Err(BrokerError::Failed { error, age: None }) => {
                no_turn += usize::from(matches!(*error, AttemptError::NoTurn(_)));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(no_turn, 12);
}

/// Requests many contexts of a failing feed, while another feed of the same provider works.
#[tokio::test]
async fn a_failing_feed_neither_takes_every_permit_of_its_provider_nor_is_hammered() {
    let world = World::new();
    let failing = feed(0);
    let bad = failing.id;
    world.fake.decides(
        move |request| {
            if request.feed.id == bad { Outcome::Hang } else { Outcome::Credential(HOUR) }
        },
    );
    for round in 0..2 {
        for number in 0..200 {
            let mut context = Context::empty();
            let tenant = format!("t{round}-{number}");
            context.try_insert("tenant".parse().unwrap(), tenant.parse().unwrap()).unwrap();
            let (broker, failing) = (world.broker.clone(), failing.clone());
            tokio::spawn(async move {
                let _ = broker.credential(&failing, &context, &Scope::everything(), None).await;
            });
        }
        for _ in 0..20 {
            settle().await;
        }
        // In the second round the feed is suspect. Its lane has 16 permits, an eighth of the provider's.
        assert_eq!(world.fake.running.load(Ordering::SeqCst), [32, 16][round]);
        assert_eq!(world.ask(&feed(round + 1)).await.unwrap().source, Source::Exchange);
        world.pass(20 * SECOND).await;
    }
    // Attempts that had no turn before the failure was found get that failure, without a request to the
    // provider.
    assert_eq!(world.fake.attempts(&failing), 32 + 16);
}
