//! The broker's cache: credentials, failures, and running exchanges.
//!
//! A map of our own, not a cache library: entries with a running exchange must stay, the entries of a changed
//! feed must go together, and no library accepts our clock. Every entry belongs to the accounts that were
//! given it; [`Claims`] bounds the number of claims and decides which one to evict.

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

/// The interval at which expired credentials are removed from memory.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// The cache of all feeds.
#[derive(Debug)]
pub(super) struct Cache {
    feeds: HashMap<Uuid, OfFeed>,
    /// The number of slots of all feeds.
    slots: usize,
    claims: Claims,
    /// The time of the next sweep, on the monotonic clock.
    sweep_at: Duration,
}

/// The entries of one version of one feed. There is always at least one slot.
#[derive(Debug)]
struct OfFeed {
    version: i64,
    health: Health,
    slots: HashMap<Key, Slot>,
}

/// The state that concerns every request of a feed.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// The last transient failure: the provider was slow or unreachable.
    pub(super) failure: Option<Remembered>,
    /// Set if the last attempt failed transiently. Attempts of such feeds wait for each other, never others
    /// for them.
    pub(super) suspect: bool,
}

/// The entry of one key.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The accounts that were given this entry, each with the sequence number of its last use. Never empty.
    pub(super) claims: HashMap<Account, u64>,
    pub(super) held: Option<Arc<Held>>,
    /// Set if the last exchange after `held` arrived failed.
    pub(super) refresh_failed: bool,
    /// A failure that concerns only this key, such as an untrusted subject.
    pub(super) failure: Option<Remembered>,
    pub(super) flight: Option<Flight>,
    pub(super) alarm: Option<Alarm>,
}

/// A cached failure, which is returned again for a while.
#[derive(Debug, Clone)]
pub(super) struct Remembered {
    pub(super) missed: Missed,
    /// The time of the failure, on the monotonic clock.
    pub(super) failed_at: Duration,
}

impl Remembered {
    /// Returns whether this is the same failure, by pointer.
    pub(super) fn is(&self, error: &Arc<AttemptError>) -> bool {
        matches!(&self.missed, Missed::Failed(known) if Arc::ptr_eq(known, error))
    }

    pub(super) fn age(&self, now: Now) -> Duration {
        now.monotonic.saturating_sub(self.failed_at)
    }
}

/// A task that waits for the time to refresh. Dropping the alarm cancels the task.
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

/// The reasons why a request gets no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoSlot {
    /// A later version of the feed is known.
    OldVersion,
    /// The cache is full, and every entry that the caller could give up has a running exchange.
    Full,
}

/// The evicted entries. They must be dropped outside the lock; dropping them notifies everyone who waits for
/// their exchanges.
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

    /// Returns the slot of `key`, creating it if needed, and records the use by `account`. Evicts entries of
    /// an earlier version of the feed, expired entries, and an entry to make room.
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

    /// Returns the slot of `key`, if it exists.
    pub(super) fn find(&mut self, feed: Uuid, key: &Key) -> Option<(&mut Health, &mut Slot)> {
        let of_feed = self.feeds.get_mut(&feed)?;
        Some((&mut of_feed.health, of_feed.slots.get_mut(key)?))
    }

    /// Returns the feed's health, if the feed has an entry.
    pub(super) fn health(&mut self, feed: Uuid) -> Option<&mut Health> {
        self.feeds.get_mut(&feed).map(|of_feed| &mut of_feed.health)
    }

    /// Evicts all entries of a feed, with its running exchanges.
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

    /// Evicts the feed as [`Cache::forget`] does, if the cached version is still `version`.
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

    /// Returns whether the feed's last attempt failed transiently, so that other feeds must not wait behind
    /// it.
    pub(super) fn is_suspect(&self, feed: Uuid) -> bool {
        self.feeds.get(&feed).is_some_and(|of_feed| of_feed.health.suspect)
    }

    /// Returns the cached feeds with their versions.
    pub(super) fn versions(&self) -> Vec<(Uuid, i64)> {
        self.feeds.iter().map(|(id, of_feed)| (*id, of_feed.version)).collect()
    }

    /// Returns the number of claims by the counter; [`Cache::counted`] counts claims, slots and flights one
    /// by one.
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

    /// Returns the number of slots.
    pub(super) fn len(&self) -> usize {
        self.slots
    }

    /// Evicts a claim, if needed, so that `account` can get one more at `feed`.
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

    /// Gives up one claim. Evicts the slot with its last claim.
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

    /// Evicts expired entries, except those with a running exchange.
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
    /// Returns whether the slot holds nothing useful any more. The feed's own failure is dropped with its
    /// last slot.
    fn is_over(&self, health: &Health, now: Now) -> bool {
        self.held.as_ref().is_none_or(|held| held.remaining(now).is_zero())
            && [&self.failure, &health.failure]
                .into_iter()
                .flatten()
                .all(|failure| failure.age(now) > SWEEP_EVERY)
    }
}
