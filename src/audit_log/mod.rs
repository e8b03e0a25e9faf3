//! Recording events that are not changes of the database: mints, exchanges, credentials, refusals.
//!
//! Group commit: one transaction writes all waiting events, because making it durable costs the same for one
//! event as for hundreds. A caller that records an event waits until it is durable, and returns no token or
//! credential before. Changes of keys, feeds and grants are recorded in their own transactions instead.

mod queue;
mod refusals;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use uuid::Uuid;

use self::queue::{Entry, Queue};
use self::refusals::Refusals;
use crate::audit::{Event, EventKind, Outcome};
use crate::metrics::Metrics;
use crate::store::{StoreError, Trusted};
use crate::values::actor::Actor;
use crate::values::clock::Clock;

/// The maximum number of waiting events. If more would wait, the database is not responding.
pub const MAX_WAITING: usize = 4096;

/// The maximum number of events in one transaction, so that other writers get their turn.
const MAX_BATCH: usize = 512;

/// The number of consecutive transactions after which the database is left to other processes for
/// [`FREE_FOR`]. That is longer than the interval at which they try again; otherwise they would rarely find
/// it free.
const MAX_IN_A_ROW: u32 = 8;

/// See [`MAX_IN_A_ROW`].
const FREE_FOR: Duration = Duration::from_millis(10);

/// The maximum time that a caller waits for its event to be recorded.
pub const RECORDED_WITHIN: Duration = Duration::from_secs(5);

/// The log message for refusals that were counted.
const COUNTED: &str = "requests were refused";

/// The reason why an event may not have been recorded. An act that depends on the record must not be done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuditError {
    /// The queue is full.
    #[error("too many events wait to be recorded in the audit log")]
    Full,
    /// The database did not respond in time. The event may still be recorded.
    #[error("the audit log was not written within {RECORDED_WITHIN:?}")]
    TooSlow,
    /// The database failed.
    #[error("the audit log could not be written")]
    Store(#[source] Arc<StoreError>),
    /// The writer was dropped, by a panic or the end of the runtime.
    #[error("the writing of the audit log was interrupted")]
    Interrupted,
}

/// Records events. Clones share one queue.
#[derive(Debug, Clone)]
pub struct AuditLog(Arc<Shared>);

type Recorded = oneshot::Receiver<Result<i64, AuditError>>;

#[derive(Debug)]
struct Shared {
    store: Trusted,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    queue: Mutex<Queue>,
    refusals: Mutex<Refusals>,
}

impl AuditLog {
    /// The log of `store`. Counts waiting, written and failed events in `metrics`.
    #[must_use]
    pub fn new(store: Trusted, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let (queue, refusals) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Shared { store, clock, metrics, queue, refusals }))
    }

    /// Records an event, and returns its sequence number once it is durable. If this fails, the recorded act
    /// must not continue.
    ///
    /// Must be called inside a tokio runtime. Dropping the future does not cancel the record.
    pub async fn record(&self, event: Event) -> Result<i64, AuditError> {
        let recorded = self.begin(event)?;
        self.wait(recorded).await
    }

    /// Records an event on which nothing depends, without waiting for it. Must be called inside a tokio
    /// runtime.
    pub fn note(&self, event: Event) {
        let kind = event.kind;
        if let Err(error) = self.enqueue(Entry { event, reply: None }) {
            tracing::error!(%kind, %error, "an event was not recorded");
        }
    }

    /// Counts a refused request without a valid grant. Returns whether it is the first of its kind. Once a
    /// minute, the maintenance task records the counts by network and reason, within bounds.
    pub fn note_refusal(&self, client: IpAddr, reason: &'static str) -> bool {
        self.refusals().count(client, reason)
    }

    /// Counts a refused request of `grant`; the event's detail is the route and the reason. Returns the first
    /// event of its kind, which the caller records. Once a minute, the maintenance task records the number of
    /// further ones, within bounds.
    #[must_use]
    pub fn count_refusal(&self, grant: Uuid, event: Event) -> Option<Event> {
        self.refusals().count_granted(grant, event)
    }

    /// Returns the number of events that are not durable yet.
    #[cfg(any(test, feature = "test-internals"))]
    /// The number of events that are not durable yet.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.queue().depth()
    }

    /// Records the refusals counted since the last call. After an error, those that were not recorded stay
    /// counted.
    pub async fn write_refusals(&self) -> Result<(), AuditError> {
        let (counted, granted) = {
            let mut refusals = self.refusals();
            (refusals.take(), refusals.take_granted())
        };
        let event = |client: Option<IpAddr>, reason, count| {
            let event = Event::new(EventKind::Request, Outcome::Refused, &Actor::anonymous());
            let event = event.detail(reason).counted(count);
            if let Some(client) = client { event.with_client(client) } else { event }
        };
        // All events enter the queue before the first is awaited, so that one transaction writes them.
        let begun: Vec<_> = counted
            .into_iter()
            .map(|(client, reason, count)| (client, reason, count, self.begin(event(client, reason, count))))
            .collect();
        let granted: Vec<_> = granted
            .into_iter()
            .map(|(kind, counted)| {
                let begun = self.begin(counted.event.clone().counted(counted.more));
                (kind, counted, begun)
            })
            .collect();
        let mut failed = None;
        for (client, reason, count, begun) in begun {
            match self.written(begun).await {
                Ok(_) if count > 1 => {
                    tracing::info!(client = client.map(tracing::field::display), reason, count, "{COUNTED}");
                }
                Ok(_) => {}
                Err(error) => {
                    self.refusals().put_back(client, reason, count);
                    failed = Some(error);
                }
            }
        }
        for (kind, counted, begun) in granted {
            match self.written(begun).await {
                Ok(_) => {
                    let (actor, what) = (&counted.event.actor, counted.event.detail.as_deref());
                    tracing::info!(%actor, what, more = counted.more, "{COUNTED}");
                }
                Err(error) => {
                    self.refusals().put_back_granted(kind, counted);
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Waits until every event recorded so far is durable or has failed. Call it before a process ends.
    pub async fn flush(&self) {
        if let Err(error) = self.write_refusals().await {
            tracing::error!(%error, "refusals could not be recorded");
        }
        let idle = self.queue().when_idle();
        let clock = self.0.clock.as_ref();
        tokio::select! {
            // Ends with an error when the writer has finished.
            _ = idle => {}
            () = clock.sleep_until(clock.monotonic() + RECORDED_WITHIN) => {}
        }
    }

    fn begin(&self, event: Event) -> Result<Recorded, AuditError> {
        let (reply, recorded) = oneshot::channel();
        self.enqueue(Entry { event, reply: Some(reply) })?;
        Ok(recorded)
    }

    async fn written(&self, begun: Result<Recorded, AuditError>) -> Result<i64, AuditError> {
        self.wait(begun?).await
    }

    async fn wait(&self, recorded: Recorded) -> Result<i64, AuditError> {
        let clock = self.0.clock.as_ref();
        tokio::select! {
            biased;
            outcome = recorded => outcome.unwrap_or(Err(AuditError::Interrupted)),
            () = clock.sleep_until(clock.monotonic() + RECORDED_WITHIN) => Err(AuditError::TooSlow),
        }
    }

    fn enqueue(&self, entry: Entry) -> Result<(), AuditError> {
        let departs = {
            let mut queue = self.queue();
            let departs = queue.push(entry).ok_or(AuditError::Full)?;
            // Counted under the lock, so that the writer cannot count the event as written before.
            self.0.metrics.audit.queued();
            departs
        };
        if departs {
            // A separate task, so that the other callers get their result even if this one is cancelled.
            tokio::spawn(Writer { shared: Arc::clone(&self.0), is_done: false }.write());
        }
        Ok(())
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue()
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.0.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Under the lock, no change can panic half-way, so the queue is usable after a panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the events, and returns the sequence number of the first.
    async fn write_batch(&self, events: &[Event]) -> Result<i64, StoreError> {
        let began = self.clock.monotonic();
        let outcome = self.transact(events).await;
        let metrics = &self.metrics.audit;
        match &outcome {
            Ok(_) => metrics.written(events.len(), self.clock.monotonic().saturating_sub(began)),
            Err(_) => metrics.failed(),
        }
        outcome
    }

    async fn transact(&self, events: &[Event]) -> Result<i64, StoreError> {
        let mut write = self.store.write_first().await?;
        let end = write.append_audit(self.clock.now(), events).await?;
        write.commit().await?;
        Ok(end.seq - i64::try_from(events.len()).unwrap_or_default() + 1)
    }
}

/// Writes while events wait.
struct Writer {
    shared: Arc<Shared>,
    is_done: bool,
}

impl Writer {
    async fn write(mut self) {
        let mut in_a_row = 0;
        loop {
            if in_a_row == MAX_IN_A_ROW {
                in_a_row = 0;
                leave_free().await;
            }
            in_a_row += 1;
            let batch = self.shared.queue().take(MAX_BATCH);
            if batch.is_empty() {
                self.is_done = true;
                return;
            }
            let (events, reply): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|Entry { event, reply }| (event, reply)).unzip();
            let outcome = self.shared.write_batch(&events).await.map_err(Arc::new);
            if let Err(error) = &outcome {
                let error = error.as_ref() as &dyn std::error::Error;
                tracing::error!(error, events = events.len(), "the audit log could not be written");
            }
            self.shared.metrics.audit.left_queue(events.len());
            for (place, reply) in (0..).zip(reply) {
                let outcome = match &outcome {
                    Ok(first) => Ok(first + place),
                    Err(error) => Err(AuditError::Store(Arc::clone(error))),
                };
                // The caller may have been cancelled.
                let _ = reply.map(|reply| reply.send(outcome));
            }
        }
    }
}

/// Waits for [`FREE_FOR`] in real time, because other processes wait in real time.
#[expect(clippy::disallowed_methods, reason = "no decision depends on this pause")]
async fn leave_free() {
    tokio::time::sleep(FREE_FOR).await;
}

impl Drop for Writer {
    /// After a panic, or at the end of the runtime, callers that still wait see their channel close, and the
    /// next event starts a new writer.
    fn drop(&mut self) {
        if !self.is_done {
            let dropped = self.shared.queue().interrupt();
            self.shared.metrics.audit.left_queue(dropped);
        }
    }
}

#[cfg(test)]
mod tests;
