//! What a broker remembers: credentials, failures, and exchanges that are under way.
//!
//! A map of our own rather than a cache library's: entries with an exchange under way must stay,
//! those of a changed feed must go as one, and no library takes our clock. Bounded by `capacity`
//! entries; when it is full, the least recently used sixteenth leaves.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::exchanger::AttemptError;
use super::flight::{Flight, Missed};
use super::held::{Held, Now};
use crate::feed::Feed;
use crate::feed::scope::Scope;
use crate::issuer_url::IssuerUrl;
use crate::oidc::subject::Context;

/// How often expired credentials are looked for, and removed from memory.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What shapes a credential, beside the feed and its version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) issuer: IssuerUrl,
    pub(super) context: Context,
    pub(super) scope: Scope,
}

/// Everything that is remembered.
#[derive(Debug)]
pub(super) struct Cache {
    feeds: HashMap<Uuid, OfFeed>,
    /// How many there are, of all feeds.
    slots: usize,
    capacity: usize,
    per_feed: usize,
    /// Counts uses: a larger number is a later use.
    uses: u64,
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
#[derive(Debug)]
pub(super) struct Health {
    /// Its provider was slow or could not be reached.
    pub(super) failure: Option<Remembered>,
    /// Whether the last attempt failed in that way. Such feeds wait for each other, not others for them.
    pub(super) suspect: bool,
    /// Bounds the attempts that run at once for this feed.
    pub(super) turns: Arc<Semaphore>,
}

/// What is remembered under one key.
#[derive(Debug, Default)]
pub(super) struct Slot {
    used: u64,
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
    /// Every slot has an exchange under way.
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
    pub(super) fn new(capacity: usize, per_feed: usize) -> Self {
        Self {
            feeds: HashMap::new(),
            slots: 0,
            capacity: capacity.max(1),
            per_feed: per_feed.max(1),
            uses: 0,
            sweep_at: Duration::ZERO,
        }
    }

    /// The slot of `key`, made if need be, as its latest use. Throws out what an earlier version of
    /// the feed left, what has expired, and what has to make room.
    pub(super) fn enter(
        &mut self,
        feed: &Feed,
        key: &Key,
        now: Now,
        discarded: &mut Discarded,
    ) -> Result<(&mut Health, &mut Slot), NoSlot> {
        match self.feeds.get(&feed.id).map(|known| known.version.cmp(&feed.version)) {
            Some(Ordering::Greater) => return Err(NoSlot::OldVersion),
            Some(Ordering::Less) => self.forget(feed.id, discarded),
            Some(Ordering::Equal) | None => {}
        }
        if self.find(feed.id, key).is_none() {
            self.make_room(now, discarded)?;
            self.slots += 1;
        }
        self.uses += 1;
        let of_feed = self.feeds.entry(feed.id).or_insert_with(|| OfFeed {
            version: feed.version,
            health: Health { failure: None, suspect: false, turns: Arc::new(Semaphore::new(self.per_feed)) },
            slots: HashMap::new(),
        });
        let slot = of_feed.slots.entry(key.clone()).or_default();
        slot.used = self.uses;
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

    /// Throws out everything of a feed.
    pub(super) fn forget(&mut self, feed: Uuid, discarded: &mut Discarded) {
        if let Some(of_feed) = self.feeds.remove(&feed) {
            self.slots -= of_feed.slots.len();
            discarded.0.extend(of_feed.slots.into_values());
        }
    }

    /// The same, unless it has another version by now.
    pub(super) fn forget_version(&mut self, feed: Uuid, version: i64, discarded: &mut Discarded) {
        if self.feeds.get(&feed).is_some_and(|of_feed| of_feed.version == version) {
            self.forget(feed, discarded);
        }
    }

    /// The feeds of which something is remembered, in which version.
    pub(super) fn versions(&self) -> Vec<(Uuid, i64)> {
        self.feeds.iter().map(|(id, of_feed)| (*id, of_feed.version)).collect()
    }

    /// How many slots there are.
    pub(super) fn len(&self) -> usize {
        self.slots
    }

    fn make_room(&mut self, now: Now, discarded: &mut Discarded) -> Result<(), NoSlot> {
        if now.monotonic >= self.sweep_at {
            self.sweep_at = now.monotonic + SWEEP_EVERY;
            self.throw_out(discarded, |health, slot| slot.is_over(health, now));
        }
        if self.slots < self.capacity {
            return Ok(());
        }
        let slots = self.feeds.values().flat_map(|of_feed| of_feed.slots.values());
        let mut uses: Vec<u64> = slots.filter(|slot| slot.flight.is_none()).map(|slot| slot.used).collect();
        if uses.is_empty() {
            return Err(NoSlot::Full);
        }
        let leaving = (self.capacity / 16).clamp(1, uses.len());
        let (_, last, _) = uses.select_nth_unstable(leaving - 1);
        let last = *last;
        self.throw_out(discarded, |_, slot| slot.used <= last);
        Ok(())
    }

    /// Throws out the slots that `leaves` names, but none with an exchange under way.
    fn throw_out(&mut self, discarded: &mut Discarded, leaves: impl Fn(&Health, &Slot) -> bool) {
        let before = discarded.0.len();
        self.feeds.retain(|_, of_feed| {
            let OfFeed { slots, health, .. } = of_feed;
            let left = slots.extract_if(|_, slot| slot.flight.is_none() && leaves(health, slot));
            discarded.0.extend(left.map(|(_, slot)| slot));
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
