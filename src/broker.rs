//! The broker: credentials for deployments, of which thousands ask at a time.
//!
//! Owns what is kept in memory, and when a provider is asked. Nothing is ever written to disk. It
//! never hands out what has expired or is about to, never asks twice for the same thing at once, and
//! lets no failing feed slow another one down. It decides nothing about who may ask and records
//! nothing: that is its callers' part.

mod cache;
mod decision;
mod exchanger;
mod flight;
mod held;
mod limits;
mod served;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use uuid::Uuid;

use self::cache::{Alarm, Cache, Discarded, Key, NoSlot, Remembered};
use self::decision::{Decision, Refresh, decide, recent_failure};
pub use self::exchanger::{AttemptError, ExchangeFuture, Exchanged, Exchanger, MintingExchanger, Request};
use self::flight::{Flight, Landing, Missed};
use self::held::{Held, Now};
pub use self::limits::BrokerLimits;
pub use self::served::{BrokerError, Served, Source};
use crate::clock::Clock;
use crate::feed::Feed;
use crate::feed::scope::Scope;
use crate::metrics::Metrics;
use crate::oidc::subject::Context;
use crate::random::Random;
use crate::store::{Store, StoreError};

/// Hands out credentials. Clones share everything.
#[derive(Debug, Clone)]
pub struct Broker(Arc<Shared>);

/// What tasks and callers share.
#[derive(Debug)]
struct Shared {
    exchanger: Arc<dyn Exchanger>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    limits: BrokerLimits,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    cache: Cache,
    /// By provider, and whether the feed is suspect.
    lanes: HashMap<(&'static str, bool), Arc<Semaphore>>,
    /// Names flights and alarms.
    next_id: u64,
}

impl Broker {
    /// A broker that remembers nothing yet.
    #[must_use]
    pub fn new(
        exchanger: Arc<dyn Exchanger>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        limits: BrokerLimits,
        metrics: Arc<Metrics>,
    ) -> Self {
        let cache = Cache::new(limits.capacity, limits.per_feed);
        let state = Mutex::new(State { cache, lanes: HashMap::new(), next_id: 0 });
        Self(Arc::new(Shared { exchanger, clock, random, limits, metrics, state }))
    }

    /// A credential for `feed` in `context`, limited to `scope`, that lives for at least
    /// `min_remaining`, or [`BrokerLimits::min_remaining`] if that is longer.
    ///
    /// `feed` is the feed as it is stored now: what was kept for an earlier version is dropped. Must be
    /// called inside a tokio runtime; dropping the future leaves the exchange to who else waits.
    ///
    /// # Errors
    ///
    /// [`BrokerError`].
    pub async fn credential(
        &self,
        feed: &Feed,
        context: &Context,
        scope: &Scope,
        min_remaining: Option<Duration>,
    ) -> Result<Served, BrokerError> {
        let answer = self.answer(feed, context, scope, min_remaining).await;
        self.0.metrics.issuance.answered(feed.provider.feed_type(), served::counted_as(&answer));
        answer
    }

    async fn answer(
        &self,
        feed: &Feed,
        context: &Context,
        scope: &Scope,
        min_remaining: Option<Duration>,
    ) -> Result<Served, BrokerError> {
        let shared = &self.0;
        let least = shared.limits.min_remaining;
        let wanted = min_remaining.map_or(least, |asked| asked.max(least));
        let issuer = shared.exchanger.issuer().clone();
        let key = Key { issuer, context: context.clone(), scope: scope.clone() };
        let mut life_observed = Duration::ZERO;
        // Twice, for a credential that ages while this task waits to run: a clock that was set forward.
        for _ in 0..2 {
            let mut landing = match shared.turn(feed, &key, wanted) {
                Turn::Done(outcome) => return outcome,
                Turn::Wait(landing) => landing,
            };
            let landed = landing.wait_for(Option::is_some).await.ok().and_then(|landing| landing.clone());
            let held =
                landed.unwrap_or(Err(Missed::Interrupted)).map_err(|missed| missed.into_error(None))?;
            if held.meets(wanted, Now::of(shared.clock.as_ref())) {
                return Ok(held.served(Source::Exchange));
            }
            life_observed = held.life();
            if life_observed < wanted {
                break;
            }
        }
        Err(BrokerError::unattainable(wanted, life_observed))
    }

    /// Drops what is kept of a feed that was changed or removed, and what is under way for it.
    pub fn forget(&self, feed_id: Uuid) {
        let mut discarded = Discarded::default();
        let mut state = self.0.lock();
        state.cache.forget(feed_id, &mut discarded);
        self.0.metrics.issuance.remembers(state.cache.len());
        drop(state);
    }

    /// Does so for every feed that `store` has in another version, or no longer; whoever waits for it is
    /// told. [`Carnet::run`](crate::carnet::Carnet::run) calls this all the time: nobody asks for a feed
    /// that is gone, so that nothing else would notice.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database cannot be read; nothing is dropped then.
    pub async fn forget_changed(&self, store: &Store) -> Result<(), StoreError> {
        // Before the store is read: what comes in later was read later.
        let remembered = self.0.lock().cache.versions();
        if remembered.is_empty() {
            return Ok(());
        }
        let stored = store.feed_versions().await?;
        let mut discarded = Discarded::default();
        let mut state = self.0.lock();
        for (id, version) in remembered.into_iter().filter(|(id, version)| stored.get(id) != Some(version)) {
            state.cache.forget_version(id, version, &mut discarded);
        }
        Ok(())
    }

    /// How many keys are remembered, at most [`BrokerLimits::capacity`].
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.0.lock().cache.len()
    }
}

/// What a request comes to at once.
enum Turn {
    Done(Result<Served, BrokerError>),
    Wait(tokio::sync::watch::Receiver<Option<Landing>>),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is whole before anything in it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(self: &Arc<Self>, feed: &Feed, key: &Key, wanted: Duration) -> Turn {
        let now = Now::of(self.clock.as_ref());
        // Declared before the lock is taken, so dropped after it is released.
        let mut discarded = Discarded::default();
        let mut state = self.lock();
        let turn = self.turn_in(&mut state, feed, key, wanted, now, &mut discarded);
        self.metrics.issuance.remembers(state.cache.len());
        drop(state);
        turn
    }

    fn turn_in(
        self: &Arc<Self>,
        state: &mut State,
        feed: &Feed,
        key: &Key,
        wanted: Duration,
        now: Now,
        discarded: &mut Discarded,
    ) -> Turn {
        let State { cache, next_id, .. } = state;
        let (health, slot) = match cache.enter(feed, key, now, discarded) {
            Ok(found) => found,
            Err(NoSlot::OldVersion) => return Turn::Done(Err(BrokerError::FeedChanged)),
            Err(NoSlot::Full) => return Turn::Done(Err(BrokerError::Busy)),
        };
        *next_id += 1;
        let id = *next_id;
        let request = || {
            let (context, scope) = (key.context.clone(), key.scope.clone());
            Arc::new(Request { feed: feed.clone(), context, scope })
        };
        let depart = |turns| Flight::depart(self, id, request(), key.clone(), turns);
        match decide(slot, health, wanted, now, self.limits.failure_memory) {
            Decision::Refuse(error) => Turn::Done(Err(error)),
            Decision::Serve { held, source, refresh } => {
                match refresh {
                    Refresh::Now => slot.flight = Some(depart(Arc::clone(&health.turns))),
                    Refresh::Later => slot.alarm = Some(self.wake(id, &held, request(), key.clone())),
                    Refresh::No => {}
                }
                Turn::Done(Ok(held.served(source)))
            }
            Decision::Wait | Decision::Depart => {
                let flight = slot.flight.get_or_insert_with(|| depart(Arc::clone(&health.turns)));
                Turn::Wait(flight.subscribe())
            }
        }
    }

    /// Refreshes `held` when it is due, unless it is replaced or thrown out before.
    fn wake(self: &Arc<Self>, id: u64, held: &Held, request: Arc<Request>, key: Key) -> Alarm {
        let (shared, clock, at) = (Arc::downgrade(self), Arc::clone(&self.clock), held.refresh_at());
        let task = tokio::spawn(async move {
            clock.sleep_until(at).await;
            if let Some(shared) = shared.upgrade() {
                shared.refresh(id, request, key);
            }
        });
        Alarm { id, task: task.abort_handle() }
    }

    fn refresh(self: &Arc<Self>, alarm: u64, request: Arc<Request>, key: Key) {
        let now = Now::of(self.clock.as_ref());
        let mut state = self.lock();
        let State { cache, next_id, .. } = &mut *state;
        let Some((health, slot)) = cache.find(request.feed.id, &key) else { return };
        let is_current = slot.alarm.as_ref().is_some_and(|current| current.id == alarm);
        if is_current
            && slot.flight.is_none()
            && recent_failure(slot, health, now, self.limits.failure_memory).is_none()
        {
            *next_id += 1;
            slot.flight = Some(Flight::depart(self, *next_id, request, key, Arc::clone(&health.turns)));
        }
    }

    /// Keeps what a flight brought, if it is still wanted.
    fn record(&self, flight: u64, feed: &Feed, key: &Key, outcome: Result<Held, Missed>) -> Landing {
        let now = Now::of(self.clock.as_ref());
        // Dropped after the lock is released.
        let _replaced;
        let mut state = self.lock();
        let Some((health, slot)) = state.cache.find(feed.id, key) else { return Err(Missed::Superseded) };
        if slot.flight.as_ref().is_none_or(|current| current.id != flight) {
            return Err(Missed::Superseded);
        }
        slot.flight = None;
        match outcome {
            Ok(held) => {
                let held = Arc::new(held);
                _replaced = (slot.held.replace(Arc::clone(&held)), slot.alarm.take());
                (slot.refresh_failed, slot.failure) = (false, None);
                (health.suspect, health.failure) = (false, None);
                Ok(held)
            }
            Err(missed) => {
                if let Some(held) = &slot.held {
                    slot.refresh_failed = true;
                    let until = held.credential.expires_at;
                    tracing::warn!(feed = %feed.path(), %until, ?missed, "a credential could not be refreshed");
                }
                if let Missed::Failed(error) = &missed
                    && error.is_the_providers()
                {
                    let failure = Remembered { missed: missed.clone(), failed_at: now.monotonic };
                    let place = if error.is_transient() { &mut health.failure } else { &mut slot.failure };
                    // Told again to one that waited for its turn, it does not become younger.
                    if !place.as_ref().is_some_and(|known| known.is(error)) {
                        *place = Some(failure);
                    }
                }
                Err(missed)
            }
        }
    }

    /// The places at the request's provider. Feeds whose last attempt went wrong have a few of their
    /// own, so that the others never wait behind them.
    fn lane(&self, request: &Request) -> Arc<Semaphore> {
        let mut state = self.lock();
        let suspect = state.cache.health(request.feed.id).is_some_and(|health| health.suspect);
        let places = if suspect { self.limits.per_provider / 8 } else { self.limits.per_provider };
        let lane = state.lanes.entry((self.exchanger.provider(request), suspect));
        Arc::clone(lane.or_insert_with(|| Arc::new(Semaphore::new(places.max(1)))))
    }

    fn suspect(&self, feed: &Feed) {
        if let Some(health) = self.lock().cache.health(feed.id) {
            health.suspect = true;
        }
    }

    /// A failure of the whole feed that was just found out.
    fn failure_of(&self, feed: &Feed) -> Option<Arc<AttemptError>> {
        let now = Now::of(self.clock.as_ref());
        let mut state = self.lock();
        let failure = state.cache.health(feed.id)?.failure.as_ref()?;
        match &failure.missed {
            Missed::Failed(error) if failure.age(now) < self.limits.failure_memory => Some(Arc::clone(error)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
