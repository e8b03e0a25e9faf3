//! What a broker remembers: credentials, failures, and exchanges that are under way.
//!
//! By hand, a map instead of a cache library: entries with an exchange under way must stay,
//! those of a changed feed must go as one, and no library takes our clock. Every entry belongs to those who
//! were given it; [`Claims`] bounds how many there are, and says whose leave.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use uuid::Uuid;

use super::claims::{Claim, Claims, NothingMayGo};
use super::exchanger::AttemptError;
use super::flight::{Flight, Missed};
use super::flights::Flights;
use super::held::{Held, Now};
use super::key::Key;
use crate::feed::Feed;
use crate::values::shares::Account;

/// How often expired credentials are looked for, and removed from memory.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Everything that is remembered.
#[derive(Debug)]
pub(super) struct Cache {
    feeds: HashMap<Uuid, OfFeed>,
    /// How many there are, of all feeds.
    slots: usize,
    claims: Claims,
    /// When to sweep next, on the monotonic clock.
    sweep_at: Duration,
}

/// What is remembered of one version of one feed; never without a slot.
#[derive(Debug)]
struct OfFeed {
    version: i64,
    health: Health,
    slots: HashMap<Key, Slot>,
}

/// What concerns every request of a feed.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Its provider was slow or could not be reached.
    pub(super) failure: Option<Remembered>,
    /// Whether the last attempt failed in that way. Such feeds wait for each other, not others for them.
    pub(super) suspect: bool,
}

/// What is remembered under one key.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Those who were given what is here, each with the number of their last use. Never empty.
    pub(super) claims: HashMap<Account, u64>,
    pub(super) held: Option<Arc<Held>>,
    /// Whether the last exchange since `held` arrived has failed.
    pub(super) refresh_failed: bool,
    /// A failure that concerns this key alone, such as a subject that is not trusted.
    pub(super) failure: Option<Remembered>,
    pub(super) flight: Option<Flight>,
    pub(super) alarm: Option<Alarm>,
}

/// A failure that is given again for a while.
#[derive(Debug, Clone)]
pub(super) struct Remembered {
    pub(super) missed: Missed,
    /// On the monotonic clock.
    pub(super) failed_at: Duration,
}

impl Remembered {
    /// Whether it is this very failure.
    pub(super) fn is(&self, error: &Arc<AttemptError>) -> bool {
        matches!(&self.missed, Missed::Failed(known) if Arc::ptr_eq(known, error))
    }

    pub(super) fn age(&self, now: Now) -> Duration {
        now.monotonic.saturating_sub(self.failed_at)
    }
}

/// A task that waits for the time to refresh, and ends with what it belongs to.
#[derive(Debug)]
pub(super) struct Alarm {
    pub(super) id: u64,
    pub(super) task: AbortHandle,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why nothing can be remembered for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoSlot {
    /// A later version of the feed is known.
    OldVersion,
    /// Memory is full, and what the caller could give up has exchanges under way.
    Full,
}

/// What was thrown out. It is dropped outside the lock, and tells whoever waits for it.
#[derive(Debug, Default)]
pub(super) struct Discarded(Vec<Slot>);

impl Drop for Discarded {
    fn drop(&mut self) {
        for flight in self.0.iter().filter_map(|slot| slot.flight.as_ref()) {
            flight.supersede();
        }
    }
}

impl Cache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { feeds: HashMap::new(), slots: 0, claims: Claims::new(capacity), sweep_at: Duration::ZERO }
    }

    /// The slot of `key`, made if need be, as the latest use of `account`. Throws out what an earlier version
    /// of the feed left, what has expired, and what has to make room.
    pub(super) fn enter(
        &mut self,
        account: Account,
        feed: &Feed,
        key: &Key,
        now: Now,
        (flights, discarded): (&mut Flights, &mut Discarded),
    ) -> Result<(&mut Health, &mut Slot), NoSlot> {
        match self.feeds.get(&feed.id).map(|known| known.version.cmp(&feed.version)) {
            Some(Ordering::Greater) => return Err(NoSlot::OldVersion),
            Some(Ordering::Less) => self.forget(feed.id, flights, discarded),
            Some(Ordering::Equal) | None => {}
        }
        let has_claim = self.find(feed.id, key).is_some_and(|(_, slot)| slot.claims.contains_key(&account));
        if !has_claim {
            self.make_room(account, feed.id, now, discarded)?;
        }
        let of_feed = self.feeds.entry(feed.id).or_insert_with(|| OfFeed {
            version: feed.version,
            health: Health::default(),
            slots: HashMap::new(),
        });
        let slot = of_feed.slots.entry(*key).or_insert_with(|| {
            self.slots += 1;
            Slot::default()
        });
        let used = slot.claims.get(&account).copied();
        let used = self.claims.uses(Claim { account, feed: feed.id, key: *key }, used);
        slot.claims.insert(account, used);
        Ok((&mut of_feed.health, slot))
    }

    /// The slot of `key`, if there is one.
    pub(super) fn find(&mut self, feed: Uuid, key: &Key) -> Option<(&mut Health, &mut Slot)> {
        let of_feed = self.feeds.get_mut(&feed)?;
        Some((&mut of_feed.health, of_feed.slots.get_mut(key)?))
    }

    /// The feed's health, if anything is remembered of the feed.
    pub(super) fn health(&mut self, feed: Uuid) -> Option<&mut Health> {
        self.feeds.get_mut(&feed).map(|of_feed| &mut of_feed.health)
    }

    /// Throws out everything of a feed, and what is under way for it.
    pub(super) fn forget(&mut self, feed: Uuid, flights: &mut Flights, discarded: &mut Discarded) {
        let Some(of_feed) = self.feeds.remove(&feed) else { return };
        self.slots -= of_feed.slots.len();
        for slot in of_feed.slots.into_values() {
            if let Some(flight) = &slot.flight {
                flights.land(flight.account, feed);
            }
            slot.claims.iter().for_each(|(account, used)| self.claims.give_up(*account, feed, *used));
            discarded.0.push(slot);
        }
    }

    /// The same, unless it has another version by now.
    pub(super) fn forget_version(
        &mut self,
        feed: Uuid,
        version: i64,
        flights: &mut Flights,
        discarded: &mut Discarded,
    ) {
        if self.feeds.get(&feed).is_some_and(|of_feed| of_feed.version == version) {
            self.forget(feed, flights, discarded);
        }
    }

    /// Returns whether the last attempt of the feed failed in a way that others wait behind.
    pub(super) fn is_suspect(&self, feed: Uuid) -> bool {
        self.feeds.get(&feed).is_some_and(|of_feed| of_feed.health.suspect)
    }

    /// The feeds of which something is remembered, in which version.
    pub(super) fn versions(&self) -> Vec<(Uuid, i64)> {
        self.feeds.iter().map(|(id, of_feed)| (*id, of_feed.version)).collect()
    }

    /// What is counted of claims, and what is there of claims, slots and flights, counted one by one.
    #[cfg(test)]
    pub(super) fn claims(&self) -> usize {
        self.claims.all()
    }

    #[cfg(test)]
    pub(super) fn counted(&self) -> (usize, usize, usize) {
        let slots = || self.feeds.values().flat_map(|of_feed| of_feed.slots.values());
        let in_flight = slots().filter(|slot| slot.flight.is_some()).count();
        (slots().map(|slot| slot.claims.len()).sum(), slots().count(), in_flight)
    }

    /// How many slots there are.
    pub(super) fn len(&self) -> usize {
        self.slots
    }

    /// Makes room for one more claim of `account` at `feed`.
    fn make_room(
        &mut self,
        account: Account,
        feed: Uuid,
        now: Now,
        discarded: &mut Discarded,
    ) -> Result<(), NoSlot> {
        if now.monotonic >= self.sweep_at {
            self.sweep_at = now.monotonic + SWEEP_EVERY;
            self.sweep(now, discarded);
        }
        let may_go = |feed: Uuid, key: &Key| {
            let slot = self.feeds.get(&feed).and_then(|of_feed| of_feed.slots.get(key));
            slot.is_none_or(|slot| slot.flight.is_none())
        };
        match self.claims.in_the_way(account, feed, may_go) {
            Ok(None) => Ok(()),
            Ok(Some(claim)) => {
                self.give_up(claim, discarded);
                Ok(())
            }
            Err(NothingMayGo) => Err(NoSlot::Full),
        }
    }

    /// Gives up one claim, and with the last one the slot.
    fn give_up(&mut self, claim: Claim, discarded: &mut Discarded) {
        let Claim { account, feed, key } = claim;
        let Some(of_feed) = self.feeds.get_mut(&feed) else { return };
        let Some(slot) = of_feed.slots.get_mut(&key) else { return };
        if let Some(used) = slot.claims.remove(&account) {
            self.claims.give_up(account, feed, used);
        }
        if slot.claims.is_empty() {
            discarded.0.extend(of_feed.slots.remove(&key));
            self.slots -= 1;
            if of_feed.slots.is_empty() {
                self.feeds.remove(&feed);
            }
        }
    }

    /// Throws out what is over, but nothing with an exchange under way.
    fn sweep(&mut self, now: Now, discarded: &mut Discarded) {
        let before = discarded.0.len();
        let claims = &mut self.claims;
        self.feeds.retain(|feed, of_feed| {
            let OfFeed { slots, health, .. } = of_feed;
            let over = slots.extract_if(|_, slot| slot.flight.is_none() && slot.is_over(health, now));
            for (_, slot) in over {
                slot.claims.iter().for_each(|(account, used)| claims.give_up(*account, *feed, *used));
                discarded.0.push(slot);
            }
            !of_feed.slots.is_empty()
        });
        self.slots -= discarded.0.len() - before;
    }
}

impl Slot {
    /// Whether nothing in it is of use any more; the feed's own failure goes with its last slot.
    fn is_over(&self, health: &Health, now: Now) -> bool {
        self.held.as_ref().is_none_or(|held| held.remaining(now).is_zero())
            && [&self.failure, &health.failure]
                .into_iter()
                .flatten()
                .all(|failure| failure.age(now) > SWEEP_EVERY)
    }
}
