//! Random schedules of requests, failures, expiries and clock steps.

use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::support::*;
use crate::broker::*;

const FEEDS: usize = 2;

#[derive(Debug, Clone)]
enum Step {
    Ask { feed: usize, minimum: Option<u64> },
    Pass(u64),
    SetWall(i64),
    Will(Outcome),
    Change { feed: usize, announced: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        4 => prop_oneof![Just(1), Just(200), Just(301), Just(900), Just(3600)]
            .prop_map(|life| Outcome::Credential(Duration::from_secs(life))),
        1 => Just(Outcome::Expired),
        1 => Just(Outcome::Transient),
        1 => Just(Outcome::Refused),
        1 => Just(Outcome::Hang),
        1 => Just(Outcome::Panic),
    ];
    let minimum = proptest::option::of(prop_oneof![Just(1), Just(600), Just(3000), Just(7200)]);
    let step = prop_oneof![
        6 => (0..FEEDS, minimum).prop_map(|(feed, minimum)| Step::Ask { feed, minimum }),
        4 => prop_oneof![0..10u64, 0..400u64, 0..4000u64].prop_map(Step::Pass),
        1 => (-4000..4000i64).prop_map(Step::SetWall),
        3 => outcome.prop_map(Step::Will),
        1 => (0..FEEDS, any::<bool>()).prop_map(|(feed, announced)| Step::Change { feed, announced }),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The test's own model of one feed.
struct Known {
    feed: Feed,
    /// The time at which the last exchange failed for good.
    failed_at: Option<Duration>,
    /// Set if the last credential has been served from the cache.
    asked_since: bool,
    /// Set if the broker may still hold or fetch a credential for an earlier version.
    unannounced: bool,
}

/// A result handed out by the broker, with the wall-clock time.
struct Handed {
    feed: usize,
    version: i64,
    wanted: Duration,
    wall: Timestamp,
    outcome: Result<Served, BrokerError>,
}

struct Run {
    world: World,
    known: Vec<Known>,
    handed: tokio::sync::mpsc::UnboundedReceiver<Handed>,
    hand: tokio::sync::mpsc::UnboundedSender<Handed>,
}

impl Run {
    fn new() -> Self {
        let world = World::new();
        let known = (0..FEEDS)
            .map(|number| Known {
                feed: feed(number),
                failed_at: None,
                asked_since: false,
                unannounced: false,
            })
            .collect();
        let (hand, handed) = tokio::sync::mpsc::unbounded_channel();
        Self { world, known, handed, hand }
    }

    /// Returns the credential that the broker holds for a feed, and whether an exchange is running.
    fn held(&self, feed: usize) -> (Option<Arc<Held>>, bool) {
        let issuer = self.world.broker.0.exchanger.issuer();
        let key = Key::of(issuer, &Context::empty(), &Scope::everything());
        let mut state = self.world.broker.0.lock();
        if self.known[feed].unannounced {
            return (None, false);
        }
        match state.cache.find(self.known[feed].feed.id, &key) {
            Some((_, slot)) => (slot.held.clone(), slot.flight.is_some()),
            None => (None, false),
        }
    }

    async fn take(&mut self, step: Step) {
        let monotonic = self.world.clock.monotonic();
        let before: Vec<_> = self.known.iter().map(|known| self.world.fake.attempts(&known.feed)).collect();
        let held: Vec<_> = (0..FEEDS).map(|feed| self.held(feed)).collect();
        let mut may_ask = [true; FEEDS];
        match step {
            Step::Ask { feed, minimum } => {
                let wanted = minimum.map_or(300, |minimum| minimum.max(300));
                let wanted = Duration::from_secs(wanted);
                let now = Now::of(&self.world.clock);
                // A cached credential that meets the minimum and is not due for refresh is served without an
                // exchange.
                if let (Some(held), false) = &held[feed]
                    && held.meets(wanted, now)
                {
                    may_ask[feed] = held.refresh_is_due(now);
                    self.known[feed].asked_since = true;
                }
                may_ask[1 - feed] = false;
                self.known[feed].unannounced = false;
                let (broker, row) = (self.world.broker.clone(), self.known[feed].feed.clone());
                let (clock, hand) = (self.world.clock.clone(), self.hand.clone());
                tokio::spawn(async move {
                    let minimum = minimum.map(Duration::from_secs);
                    let outcome =
                        broker.credential(&row, &Context::empty(), &Scope::everything(), minimum).await;
                    // In the same poll, so that the clocks have not moved.
                    let _ =
                        hand.send(Handed { feed, version: row.version, wanted, wall: clock.now(), outcome });
                });
            }
            Step::Pass(seconds) => {
                for feed in 0..FEEDS {
                    let known = &self.known[feed];
                    may_ask[feed] = held[feed].1 || known.asked_since || known.unannounced;
                }
                self.world.clock.advance(Duration::from_secs(seconds));
            }
            Step::SetWall(by) => {
                self.world.clock.step_wall_to(self.world.clock.now() + SignedDuration::from_secs(by));
            }
            Step::Will(outcome) => self.world.fake.will(outcome),
            Step::Change { feed, announced } => {
                let known = &mut self.known[feed];
                let feed = changed(&known.feed);
                if announced {
                    self.world.broker.forget(feed.id);
                }
                *known = Known { feed, failed_at: None, asked_since: false, unannounced: !announced };
            }
        }
        settle().await;
        for (feed, known) in self.known.iter().enumerate() {
            let asked = self.world.fake.attempts(&known.feed) - before[feed];
            assert!(may_ask[feed] || asked == 0, "feed {feed} asked without need");
            // One step starts no more than one attempt per feed; retries wait for time to pass.
            assert!(asked <= 1, "feed {feed} asked {asked} times at once");
            let quiet = known.failed_at.is_some_and(|at| monotonic < at + 5 * SECOND);
            let by_itself = held[feed].1;
            if quiet && !by_itself && monotonic == self.world.clock.monotonic() {
                assert_eq!(asked, 0, "feed {feed} was hammered");
            }
        }
        assert!(self.world.fake.running.load(Ordering::SeqCst) <= FEEDS * 2);
        self.check_handed();
    }

    fn check_handed(&mut self) {
        let now = self.world.clock.monotonic();
        while let Ok(Handed { feed, version, wanted, wall, outcome }) = self.handed.try_recv() {
            match outcome {
                Ok(served) => {
                    let credential = &served.credential;
                    assert!(credential.expires_at > wall, "expired");
                    let left = Duration::try_from(credential.expires_at.duration_since(wall)).unwrap();
                    assert!(left >= wanted, "{left:?} is less than {wanted:?}");
                    if served.source == Source::Exchange {
                        self.known[feed].asked_since = false;
                    }
                }
                Err(BrokerError::Failed { age: None, error }) => {
                    let known = &mut self.known[feed];
                    if error.is_the_providers() && version == known.feed.version {
                        known.failed_at = Some(now);
                    }
                }
                Err(BrokerError::Failed { age: Some(age), .. }) => assert!(age < 5 * SECOND),
                Err(BrokerError::MinRemainingUnattainable { wanted, life_observed }) => {
                    assert!(life_observed < wanted);
                }
                Err(_) => {}
            }
        }
    }
}

proptest! {
    #[test]
    fn no_schedule_hands_out_a_short_credential_or_makes_a_needless_request(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new();
            for step in steps {
                run.take(step).await;
            }
        });
    }
}
