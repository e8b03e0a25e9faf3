//! One exchange for everybody who waits for it.
//!
//! It runs in a task of its own, so that it goes on when whoever asked first goes away. It always
//! lands: with a credential, with a failure, or, when it is dropped, by saying so.

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

/// How a flight ended.
pub(super) type Landing = Result<Arc<Held>, Missed>;

/// Why a flight brought nothing.
#[derive(Debug, Clone)]
pub(super) enum Missed {
    /// The last attempt's failure.
    Failed(Arc<AttemptError>),
    /// The feed was changed or removed meanwhile.
    Superseded,
    /// The task was dropped: a panic, or the end of the runtime.
    Interrupted,
}

impl Missed {
    /// As told to who asked; `age` if it is told again.
    pub(super) fn into_error(self, age: Option<Duration>) -> BrokerError {
        match self {
            Self::Failed(error) => BrokerError::Failed { error, age },
            Self::Superseded => BrokerError::FeedChanged,
            Self::Interrupted => BrokerError::Interrupted,
        }
    }
}

/// A flight as others see it.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) id: u64,
    /// To whom it is charged.
    pub(super) account: Account,
    /// In whose lines it waits for its turn: of everyone who waits for it.
    pub(super) waited_for_by: Vec<Account>,
    landing: watch::Sender<Option<Landing>>,
    task: AbortHandle,
}

impl Flight {
    /// Departs. Must be called inside a tokio runtime.
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
        // Below the request that departs: whoever else waits shows no more than that it waited.
        let span = tracing::info_span!("flight", feed = %crew.request.feed.path());
        let task = tokio::spawn(crew.fly().instrument(span)).abort_handle();
        Self { id, account, waited_for_by: vec![account], landing, task }
    }

    /// To wait for the landing.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Landing>> {
        self.landing.subscribe()
    }

    /// Ends it: what it would bring is of no use any more.
    pub(super) fn supersede(&self) {
        announce(&self.landing, Err(Missed::Superseded));
        self.task.abort();
    }
}

/// Whoever announces first is right.
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

/// Tries until a credential is there, the failure is not transient, or the time is over.
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
            // A machine that slept wakes much later than it wanted to.
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
                // What the provider said before tells more than that it then said nothing.
                let says_more = !matches!(*error, AttemptError::NoAnswer(_) | AttemptError::NoTurn(_));
                if says_more || last.is_none() {
                    last = Some(error);
                }
                if clock.monotonic() >= deadline {
                    break;
                }
            }
            // A second attempt may reach another replica of the provider; there is no third.
            Err(error) if attempt == 0 && error.is_worth_one_more() => last = Some(error),
            // That carnet itself refused in the end tells less than what the provider or the network did before.
            Err(error) if matches!(*error, AttemptError::Mint(_) | AttemptError::Audit(_)) => {
                return Err(last.unwrap_or(error));
            }
            outcome => return outcome,
        }
    }
    Err(last.unwrap_or_else(|| Arc::new(AttemptError::NoAnswer(limits.deadline))))
}

/// One attempt, when its turn among those of its feed and of its provider has come.
async fn one_attempt(crew: &Crew, begun: &mut bool) -> Result<Held, Arc<AttemptError>> {
    let (shared, request) = (crew.shared.as_ref(), crew.request.as_ref());
    let mut turn = shared.line_up(crew.id, request, &crew.key);
    turn.comes().await;
    // While this one waited, another one may have found out.
    if let Some(failure) = shared.failure_of(&request.feed) {
        return Err(failure);
    }
    *begun = true;
    let began = Now::of(shared.clock.as_ref());
    let exchanged = shared.exchanger.exchange(request).await.map_err(Arc::new)?;
    Held::new(exchanged, began, Now::of(shared.clock.as_ref())).map_err(Arc::new)
}

/// How long to wait before this attempt: 0.2, 0.4, 0.8 … 2 s, of which half is left to chance, so that
/// those who failed together do not return together.
fn pause(attempt: u32, random: &dyn Random) -> Duration {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(2);
    let full = FIRST.saturating_mul(1 << (attempt - 1).min(10)).min(LONGEST);
    let mut byte = [u8::MAX];
    // Without randomness: the full pause.
    let chance = random.fill(&mut byte).map_or(u8::MAX, |()| byte[0]);
    full / 2 + full / 2 * u32::from(chance) / u32::from(u8::MAX)
}
