//! A flight: one exchange for everyone who waits for it.
//!
//! It runs in a task of its own, so it goes on when the caller that began it disconnects. It always reports
//! an outcome to the callers that wait: a credential, a failure, or, if the task is dropped, an interruption.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::Instrument as _;

use super::exchanger::{AttemptError, Request};
use super::held::{Held, Now};
use super::key::Key;
use super::{BrokerError, Shared};
use crate::values::random::Random;
use crate::values::shares::Account;

/// The outcome of a flight.
pub(super) type Landing = Result<Arc<Held>, Missed>;

/// The reasons why a flight brought no credential.
#[derive(Debug, Clone)]
pub(super) enum Missed {
    /// The last attempt failed.
    Failed(Arc<AttemptError>),
    /// The feed was changed or removed meanwhile.
    Superseded,
    /// The task was dropped: a panic, or the end of the runtime.
    Interrupted,
}

impl Missed {
    /// Converts to the caller's error; `age` is set if the failure was cached.
    pub(super) fn into_error(self, age: Option<Duration>) -> BrokerError {
        match self {
            Self::Failed(error) => BrokerError::Failed { error, age },
            Self::Superseded => BrokerError::FeedChanged,
            Self::Interrupted => BrokerError::Interrupted,
        }
    }
}

/// The handle to a running flight.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) id: u64,
    /// The account to which it is charged.
    pub(super) account: Account,
    /// The accounts that wait for it. It queues for its turn in the line of each.
    pub(super) waited_for_by: Vec<Account>,
    landing: watch::Sender<Option<Landing>>,
    task: AbortHandle,
}

impl Flight {
    /// Starts the flight. Must be called inside a tokio runtime.
    pub(super) fn depart(
        shared: &Arc<Shared>,
        id: u64,
        account: Account,
        request: Arc<Request>,
        key: Key,
    ) -> Self {
        let landing = watch::Sender::new(None);
        let crew =
            Crew { shared: Arc::clone(shared), id, request, key, landing: landing.clone(), landed: false };
        // The span belongs to the request that starts the flight; the other requests only show that they
        // waited.
        let span = tracing::info_span!("flight", feed = %crew.request.feed.path());
        let task = tokio::spawn(crew.fly().instrument(span)).abort_handle();
        Self { id, account, waited_for_by: vec![account], landing, task }
    }

    /// Returns a receiver for the outcome.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Landing>> {
        self.landing.subscribe()
    }

    /// Ends the flight: its outcome is of no use any more.
    pub(super) fn supersede(&self) {
        announce(&self.landing, Err(Missed::Superseded));
        self.task.abort();
    }
}

/// Announces the outcome. Only the first announcement takes effect.
fn announce(landing: &watch::Sender<Option<Landing>>, outcome: Landing) {
    landing.send_if_modified(|landing| {
        let first = landing.is_none();
        if first {
            *landing = Some(outcome);
        }
        first
    });
}

struct Crew {
    shared: Arc<Shared>,
    id: u64,
    request: Arc<Request>,
    key: Key,
    landing: watch::Sender<Option<Landing>>,
    landed: bool,
}

impl Crew {
    async fn fly(mut self) {
        let outcome = attempts(&self).await;
        self.land(outcome.map_err(Missed::Failed));
    }

    fn land(&mut self, outcome: Result<Held, Missed>) {
        self.landed = true;
        let outcome = self.shared.record(self.id, &self.request.feed, &self.key, outcome);
        announce(&self.landing, outcome);
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if !self.landed {
            self.land(Err(Missed::Interrupted));
        }
    }
}

/// Retries until there is a credential, the failure is not transient, or the deadline has passed.
async fn attempts(crew: &Crew) -> Result<Held, Arc<AttemptError>> {
    let (shared, request) = (crew.shared.as_ref(), crew.request.as_ref());
    let (clock, limits) = (shared.clock.as_ref(), shared.limits);
    let deadline = clock.monotonic() + limits.deadline;
    let mut last = None;
    for attempt in 0..limits.attempts.max(1) {
        if attempt > 0 {
            let wake = clock.monotonic() + pause(attempt, shared.random.as_ref());
            if wake >= deadline {
                break;
            }
            clock.sleep_until(wake).await;
            // After a suspend, the machine wakes much later than planned.
            if clock.monotonic() >= deadline {
                break;
            }
        }
        let mut begun = false;
        let outcome = tokio::select! {
            biased;
            () = clock.sleep_until(deadline) => Err(Arc::new(if begun {
                AttemptError::NoAnswer(limits.deadline)
            } else {
                AttemptError::NoTurn(limits.deadline)
            })),
            outcome = one_attempt(crew, &mut begun) => outcome,
        };
        match outcome {
            Err(error) if error.is_transient() => {
                if begun {
                    shared.suspect(&request.feed);
                }
                // An earlier error of the provider tells more than a timeout.
                let says_more = !matches!(*error, AttemptError::NoAnswer(_) | AttemptError::NoTurn(_));
                if says_more || last.is_none() {
                    last = Some(error);
                }
                if clock.monotonic() >= deadline {
                    break;
                }
            }
            // A second attempt may reach another replica of the provider. There is no third.
            Err(error) if attempt == 0 && error.is_worth_one_more() => last = Some(error),
            // A refusal by carnet itself tells less than an earlier error of the provider or the network.
            Err(error) if matches!(*error, AttemptError::Mint(_) | AttemptError::Audit(_)) => {
                return Err(last.unwrap_or(error));
            }
            outcome => return outcome,
        }
    }
    Err(last.unwrap_or_else(|| Arc::new(AttemptError::NoAnswer(limits.deadline))))
}

/// Runs one attempt when its turn has come.
async fn one_attempt(crew: &Crew, begun: &mut bool) -> Result<Held, Arc<AttemptError>> {
    let (shared, request) = (crew.shared.as_ref(), crew.request.as_ref());
    let mut turn = shared.line_up(crew.id, request, &crew.key);
    turn.comes().await;
    // Another attempt may have found a failure while this one waited.
    if let Some(failure) = shared.failure_of(&request.feed) {
        return Err(failure);
    }
    *begun = true;
    let began = Now::of(shared.clock.as_ref());
    let exchanged = shared.exchanger.exchange(request).await.map_err(Arc::new)?;
    Held::new(exchanged, began, Now::of(shared.clock.as_ref())).map_err(Arc::new)
}

/// Returns the pause before a retry: 0.2, 0.4, 0.8 … 2 s. Half of it is random, so that callers that failed
/// together do not retry together.
fn pause(attempt: u32, random: &dyn Random) -> Duration {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(2);
    let full = FIRST.saturating_mul(1 << (attempt - 1).min(10)).min(LONGEST);
    let mut byte = [u8::MAX];
    // Without randomness, the full pause.
    let chance = random.fill(&mut byte).map_or(u8::MAX, |()| byte[0]);
    full / 2 + full / 2 * u32::from(chance) / u32::from(u8::MAX)
}
