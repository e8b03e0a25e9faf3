//! The broker: serves credentials to deployments, thousands of which may request one at the same time.
//!
//! It owns the credentials in memory and decides when to send a request to a provider. Nothing is written to
//! disk. The broker never hands out an expired credential or one that is about to expire, never runs two
//! identical exchanges at once, and isolates feeds and callers: a failing feed does not slow down another
//! feed, and one caller cannot use up the capacity of the others. It neither authorizes nor records requests;
//! its callers do.

mod cache;
mod changed;
mod claims;
mod decision;
pub mod exchanger;
mod flight;
mod flights;
mod held;
mod key;
mod limits;
mod served;
mod turns;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use uuid::Uuid;

use self::cache::{Alarm, Cache, Discarded, NoSlot, Remembered};
use self::changed::Compared;
use self::decision::{Decision, Refresh, decide, recent_failure};
pub use self::exchanger::{AttemptError, Exchanger, MintingExchanger, Request};
use self::flight::{Flight, Landing, Missed};
use self::flights::Flights;
use self::held::{Held, Now};
use self::key::Key;
pub use self::limits::BrokerLimits;
pub use self::served::{BrokerError, Served, Source};
use self::turns::Turns;
use crate::feed::Feed;
use crate::feed::scope::Scope;
use crate::metrics::Metrics;
use crate::oidc::subject::Context;
use crate::values::clock::Clock;
use crate::values::random::Random;
use crate::values::shares::Account;

/// Hands out credentials. Clones share one state.
#[derive(Debug, Clone)]
pub struct Broker(Arc<Shared>);

/// The state that tasks and callers share.
#[derive(Debug)]
struct Shared {
    exchanger: Arc<dyn Exchanger>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    limits: BrokerLimits,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    compared: Mutex<Compared>,
}

#[derive(Debug)]
struct State {
    cache: Cache,
    flights: Flights,
    turns: Turns,
    /// The source of ids for flights and alarms.
    next_id: u64,
}

impl Broker {
    /// Creates a broker with an empty cache.
    #[must_use]
    pub fn new(
        exchanger: Arc<dyn Exchanger>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        limits: BrokerLimits,
        metrics: Arc<Metrics>,
    ) -> Self {
        let cache = Cache::new(limits.capacity);
        let flights = Flights::new(limits.flights, limits.flights_per_feed);
        let turns = Turns::new(limits.per_provider, limits.per_feed);
        let state = Mutex::new(State { cache, flights, turns, next_id: 0 });
        Self(Arc::new(Shared {
            exchanger,
            clock,
            random,
            limits,
            metrics,
            state,
            compared: Mutex::default(),
        }))
    }

    /// Returns a credential for the process itself; see [`Broker::credential_for`].
    pub async fn credential(
        &self,
        feed: &Feed,
        context: &Context,
        scope: &Scope,
        min_remaining: Option<Duration>,
    ) -> Result<Served, BrokerError> {
        self.credential_for(Account::PROCESS, feed, context, scope, min_remaining).await
    }

    /// Returns a credential for `feed` in `context`, limited to `scope`, with a remaining life of at least
    /// `min_remaining`, or of [`BrokerLimits::min_remaining`] if that is longer. The capacity that the
    /// request uses is charged to `account`.
    ///
    /// `feed` must be the feed as it is stored now: everything cached for an earlier version is dropped. Must
    /// be called inside a tokio runtime. If the future is dropped, the exchange goes on for the other callers
    /// that wait for it.
    pub async fn credential_for(
        &self,
        account: Account,
        feed: &Feed,
        context: &Context,
        scope: &Scope,
        min_remaining: Option<Duration>,
    ) -> Result<Served, BrokerError> {
        let wants = Wants { account, feed, context, scope };
        let response = self.response(wants, min_remaining).await;
        self.0.metrics.issuance.answered(feed.provider.feed_type(), served::counted_as(&response));
        response
    }

    async fn response(
        &self,
        wants: Wants<'_>,
        min_remaining: Option<Duration>,
    ) -> Result<Served, BrokerError> {
        let shared = &self.0;
        let minimum = wants.feed.min_remaining(shared.limits.min_remaining);
        let wanted = min_remaining.map_or(minimum, |asked| asked.max(minimum));
        let key = Key::of(shared.exchanger.issuer(), wants.context, wants.scope);
        let mut life_observed = Duration::ZERO;
        // A second attempt is for a credential that ages before this task runs, because the clock was set
        // forward.
        for _ in 0..2 {
            let mut landing = match shared.turn(wants, &key, wanted) {
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

    /// Drops the cache entries and running exchanges of a feed that was changed or removed.
    pub fn forget(&self, feed_id: Uuid) {
        let mut discarded = Discarded::default();
        let mut state = self.0.lock();
        let State { cache, flights, .. } = &mut *state;
        cache.forget(feed_id, flights, &mut discarded);
        self.0.metrics.issuance.remembers(state.cache.len());
        drop(state);
    }

    /// Returns the number of cached keys, at most [`BrokerLimits::capacity`].
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.0.lock().cache.len()
    }
}

/// A request with its caller.
#[derive(Clone, Copy)]
struct Wants<'a> {
    account: Account,
    feed: &'a Feed,
    context: &'a Context,
    scope: &'a Scope,
}

/// The immediate result of a request: an outcome, or an exchange to wait for.
enum Turn {
    Done(Result<Served, BrokerError>),
    Wait(tokio::sync::watch::Receiver<Option<Landing>>),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Safe after a panic: each change under the lock is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(self: &Arc<Self>, wants: Wants<'_>, key: &Key, wanted: Duration) -> Turn {
        let now = Now::of(self.clock.as_ref());
        // Declared before the lock is taken, so that it is dropped after the lock is released.
        let mut discarded = Discarded::default();
        let mut state = self.lock();
        let turn = self.turn_in(&mut state, wants, key, wanted, now, &mut discarded);
        self.metrics.issuance.remembers(state.cache.len());
        drop(state);
        turn
    }

    fn turn_in(
        self: &Arc<Self>,
        state: &mut State,
        wants: Wants<'_>,
        key: &Key,
        wanted: Duration,
        now: Now,
        discarded: &mut Discarded,
    ) -> Turn {
        let Wants { account, feed, context, scope } = wants;
        let State { cache, flights, turns, next_id } = state;
        // Checked before an entry is evicted for an exchange that cannot begin.
        if cache.find(feed.id, key).is_none() && !flights.admits(account, feed.id) {
            return Turn::Done(Err(BrokerError::Busy));
        }
        let (health, slot) = match cache.enter(account, feed, key, now, (flights, discarded)) {
            Ok(found) => found,
            Err(NoSlot::OldVersion) => return Turn::Done(Err(BrokerError::FeedChanged)),
            Err(NoSlot::Full) => return Turn::Done(Err(BrokerError::Busy)),
        };
        *next_id += 1;
        let id = *next_id;
        let request =
            || Arc::new(Request { feed: feed.clone(), context: context.clone(), scope: scope.clone() });
        let mut depart = || {
            let admitted = flights.admits(account, feed.id);
            admitted.then(|| {
                flights.depart(account, feed.id);
                Flight::depart(self, id, account, request(), *key)
            })
        };
        match decide(slot, health, wanted, now, self.limits.failure_memory) {
            Decision::Refuse(error) => Turn::Done(Err(error)),
            Decision::Serve { held, source, refresh } => {
                match refresh {
                    Refresh::Now => slot.flight = depart(),
                    Refresh::Later => slot.alarm = Some(self.wake(id, &held, request(), *key)),
                    Refresh::No => {}
                }
                Turn::Done(Ok(held.served(source)))
            }
            Decision::Wait | Decision::Depart => match &mut slot.flight {
                Some(flight) => {
                    if !flight.waited_for_by.contains(&account) {
                        flight.waited_for_by.push(account);
                        turns.join(flight.id, account, health.suspect);
                    }
                    Turn::Wait(flight.subscribe())
                }
                None => {
                    let Some(flight) = depart() else { return Turn::Done(Err(BrokerError::Busy)) };
                    let landing = flight.subscribe();
                    slot.flight = Some(flight);
                    Turn::Wait(landing)
                }
            },
        }
    }

    /// Schedules a refresh of `held` at 80 % of its life. Replacing or evicting the entry cancels it.
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
        let State { cache, flights, next_id, .. } = &mut *state;
        let feed = request.feed.id;
        let Some((health, slot)) = cache.find(feed, &key) else { return };
        let is_current = slot.alarm.as_ref().is_some_and(|current| current.id == alarm);
        if !is_current
            || slot.flight.is_some()
            || recent_failure(slot, health, now, self.limits.failure_memory).is_some()
        {
            return;
        }
        // The exchange may be charged to any account with a claim. If none has capacity left, the next
        // request begins it.
        let payer = slot.claims.keys().copied().min_by_key(|account| (flights.of(*account), *account));
        if let Some(account) = payer.filter(|account| flights.admits(*account, feed)) {
            *next_id += 1;
            flights.depart(account, feed);
            slot.flight = Some(Flight::depart(self, *next_id, account, request, key));
        }
    }

    /// Caches the outcome of a flight, unless the flight was superseded.
    fn record(&self, flight: u64, feed: &Feed, key: &Key, outcome: Result<Held, Missed>) -> Landing {
        let now = Now::of(self.clock.as_ref());
        // Dropped after the lock is released.
        let _replaced;
        let mut state = self.lock();
        let State { cache, flights, .. } = &mut *state;
        let Some((health, slot)) = cache.find(feed.id, key) else { return Err(Missed::Superseded) };
        let Some(landed) = slot.flight.take_if(|current| current.id == flight) else {
            return Err(Missed::Superseded);
        };
        flights.land(landed.account, feed.id);
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
                    // Repeating a known failure to an attempt that waited must not renew its age.
                    if !place.as_ref().is_some_and(|known| known.is(error)) {
                        *place = Some(failure);
                    }
                }
                Err(missed)
            }
        }
    }

    /// Queues the flight `id` for its turn among the attempts of its feed and its provider. Feeds whose last
    /// attempt failed share a small number of permits of their own, so that the other feeds never wait behind
    /// them.
    fn line_up(&self, id: u64, request: &Request, key: &Key) -> InLine<'_> {
        let provider = self.exchanger.provider(request);
        let mut state = self.lock();
        let State { cache, turns, .. } = &mut *state;
        let waiting = cache.find(request.feed.id, key).and_then(|(health, slot)| {
            let flight = slot.flight.as_ref().filter(|flight| flight.id == id)?;
            Some((flight.waited_for_by.as_slice(), health.suspect))
        });
        let comes = waiting
            .map(|(accounts, is_suspect)| turns.line_up(id, request.feed.id, provider, accounts, is_suspect));
        InLine { shared: self, id, comes }
    }

    fn suspect(&self, feed: &Feed) {
        if let Some(health) = self.lock().cache.health(feed.id) {
            health.suspect = true;
        }
    }

    /// Returns a recent failure that concerns the whole feed.
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

/// An attempt that waits for its turn or has it. Dropping it releases the turn.
struct InLine<'a> {
    shared: &'a Shared,
    id: u64,
    /// The signal that the turn has come; `None` for a superseded flight, whose turn never comes.
    comes: Option<oneshot::Receiver<()>>,
}

impl InLine<'_> {
    async fn comes(&mut self) {
        let has_come = match self.comes.take() {
            // An error means that the sender was dropped: the flight was superseded.
            Some(comes) => comes.await.is_ok(),
            None => false,
        };
        if !has_come {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let State { cache, turns, .. } = &mut *state;
        turns.leave(self.id, |feed| cache.is_suspect(feed));
    }
}

#[cfg(test)]
mod tests;
