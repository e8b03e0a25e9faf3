//! A broker on a simulated clock, with a scripted exchanger.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use crate::broker::exchanger::{ExchangeFuture, Exchanged};
use crate::broker::*;
use crate::diagnosis::Retry;
use crate::exchange::{Credential, ExchangeError, ExchangeFailure, Secret, StatedExpiry, Step, Upstream};
use crate::feed::endpoints::Endpoints;
use crate::feed::{FeedChanges, FeedDraft};
use crate::issuer::MintError;
use crate::jose::Algorithm;
use crate::oidc::token::Presented;
use crate::values::clock::SimulatedClock;
use crate::values::issuer_url::IssuerUrl;
use crate::values::random::RandomnessUnavailable;
use crate::values::secret::SecretString;

pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const PASSWORD: &str = "hunter2";

/// The outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A credential with this lifetime.
    Credential(Duration),
    /// A credential that is expired on arrival.
    Expired,
    /// A password of 17 KiB.
    Long,
    /// HTTP 503.
    Transient,
    /// HTTP 403.
    Refused,
    /// HTTP 401, from a replica that lags behind the others.
    Unknown,
    /// No token was minted.
    Unminted,
    /// No response, ever.
    Hang,
    Panic,
}

type Decide = dyn FnMut(&Request) -> Outcome + Send;

/// A fake exchanger that counts attempts and lets them through while its gate is open.
pub(super) struct Fake {
    issuer: IssuerUrl,
    clock: SimulatedClock,
    decide: Mutex<Box<Decide>>,
    attempts: Mutex<HashMap<Uuid, usize>>,
    pub(super) gate: watch::Sender<bool>,
    pub(super) running: AtomicUsize,
    pub(super) most_running: AtomicUsize,
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

impl Exchanger for Fake {
    fn issuer(&self) -> &IssuerUrl {
        &self.issuer
    }

    fn exchange<'a>(&'a self, request: &'a Request) -> ExchangeFuture<'a> {
        Box::pin(async move {
            *self.attempts.lock().unwrap().entry(request.feed.id).or_default() += 1;
            let _running = Running::begin(self);
            let outcome = (self.decide.lock().unwrap())(request);
            self.gate.subscribe().wait_for(|open| *open).await.unwrap();
            self.comes_to(outcome, request).await
        })
    }

    /// Treats each space as a provider.
    fn provider(&self, request: &Request) -> &'static str {
        if request.feed.space.as_str() == "default" { "one" } else { "another" }
    }
}

impl Fake {
    async fn comes_to(&self, outcome: Outcome, request: &Request) -> Result<Exchanged, AttemptError> {
        let now = self.clock.now();
        let expires_at = match outcome {
            Outcome::Credential(life) => now + life,
            Outcome::Long => now + HOUR,
            Outcome::Expired => now,
            Outcome::Transient => return Err(failure(503).into()),
            Outcome::Refused => return Err(failure(403).into()),
            Outcome::Unknown => return Err(failure(401).advise(Vec::new(), Retry::Once).into()),
            Outcome::Unminted => return Err(MintError::Unconfirmed(Duration::from_secs(10)).into()),
            Outcome::Hang => std::future::pending().await,
            Outcome::Panic => panic!("as the test wants"),
        };
        let password = PASSWORD.repeat(if outcome == Outcome::Long { 2500 } else { 1 });
        let credential = Credential {
            registry: request.feed.registry.clone(),
            secret: Secret::Password { username: "AWS".into(), password: SecretString::new(password) },
            issued_at: now,
            expires_at,
            expiries: vec![StatedExpiry { of: "sts", at: expires_at }],
        };
        Ok(Exchanged { credential, jti: Uuid::from_u128(self.attempts(&request.feed) as u128) })
    }

    pub(super) fn attempts(&self, feed: &Feed) -> usize {
        self.attempts.lock().unwrap().get(&feed.id).copied().unwrap_or_default()
    }

    pub(super) fn all_attempts(&self) -> usize {
        self.attempts.lock().unwrap().values().sum()
    }

    pub(super) fn will(&self, outcome: Outcome) {
        self.decides(move |_| outcome);
    }

    pub(super) fn decides(&self, decide: impl FnMut(&Request) -> Outcome + Send + 'static) {
        *self.decide.lock().unwrap() = Box::new(decide);
    }
}

struct Running<'a>(&'a Fake);

impl<'a> Running<'a> {
    fn begin(fake: &'a Fake) -> Self {
        let running = fake.running.fetch_add(1, Ordering::SeqCst) + 1;
        fake.most_running.fetch_max(running, Ordering::SeqCst);
        Self(fake)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn failure(status: u16) -> ExchangeError {
    let step = Step { provider: "aws", name: "sts:AssumeRoleWithWebIdentity" };
    let presented = Presented {
        iss: "https://issuer.example".into(),
        sub: "space:default:feed:a".into(),
        aud: "sts.amazonaws.com".into(),
        kid: "key-1".into(),
        alg: Algorithm::Es256,
    };
    let upstream = Upstream {
        provider: step.provider,
        step: step.name,
        status: Some(status),
        code: None,
        message: None,
        request_id: None,
    };
    ExchangeError::new(step, &presented, &Endpoints::default(), ExchangeFailure::Refused(upstream))
}

/// A source of randomness that always fails, which makes every pause the full one.
#[derive(Debug)]
struct NoRandomness;

impl Random for NoRandomness {
    fn fill(&self, _: &mut [u8]) -> Result<(), RandomnessUnavailable> {
        Err(RandomnessUnavailable)
    }
}

pub(super) struct World {
    pub(super) clock: SimulatedClock,
    pub(super) fake: Arc<Fake>,
    pub(super) broker: Broker,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(BrokerLimits::default())
    }

    /// Creates a world in which every credential lives for an hour, unless the test says otherwise.
    pub(super) fn with(limits: BrokerLimits) -> Self {
        let clock = SimulatedClock::at("2026-03-01T12:00:00Z".parse().unwrap());
        let fake = Arc::new(Fake {
            issuer: "https://issuer.example".parse().unwrap(),
            clock: clock.clone(),
            decide: Mutex::new(Box::new(|_| Outcome::Credential(HOUR))),
            attempts: Mutex::default(),
            gate: watch::Sender::new(true),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
        });
        let exchanger = Arc::clone(&fake) as Arc<dyn Exchanger>;
        let broker =
            Broker::new(exchanger, Arc::new(clock.clone()), Arc::new(NoRandomness), limits, Arc::default());
        Self { clock, fake, broker }
    }

    pub(super) async fn ask(&self, feed: &Feed) -> Result<Served, BrokerError> {
        self.ask_for(feed, None).await
    }

    pub(super) async fn ask_for(
        &self,
        feed: &Feed,
        minimum: Option<Duration>,
    ) -> Result<Served, BrokerError> {
        self.broker.credential(feed, &Context::empty(), &Scope::everything(), minimum).await
    }

    /// Requests a credential for a caller, in a context with this tenant.
    pub(super) async fn ask_as(
        &self,
        account: Account,
        feed: &Feed,
        tenant: &str,
    ) -> Result<Served, BrokerError> {
        self.broker.credential_for(account, feed, &tenant_is(tenant), &Scope::everything(), None).await
    }

    /// As [`World::ask_as`], in a task of its own.
    pub(super) fn asking_as(
        &self,
        account: Account,
        feed: &Feed,
        tenant: &str,
    ) -> tokio::task::JoinHandle<Result<Served, BrokerError>> {
        let (broker, feed, context) = (self.broker.clone(), feed.clone(), tenant_is(tenant));
        tokio::spawn(async move {
            broker.credential_for(account, &feed, &context, &Scope::everything(), None).await
        })
    }

    /// Requests a credential in a task of its own.
    pub(super) fn asking(&self, feed: &Feed) -> tokio::task::JoinHandle<Result<Served, BrokerError>> {
        let (broker, feed) = (self.broker.clone(), feed.clone());
        tokio::spawn(
            async move { broker.credential(&feed, &Context::empty(), &Scope::everything(), None).await },
        )
    }

    /// Advances the clock in steps small enough for every pause to end on time.
    pub(super) async fn pass(&self, time: Duration) {
        let step = Duration::from_millis(100);
        let mut left = time;
        while !left.is_zero() {
            settle().await;
            self.clock.advance(left.min(step));
            left = left.saturating_sub(step);
        }
        settle().await;
    }
}

/// Lets every task run until it waits for time, a gate or a provider. Needs a single-threaded runtime.
pub(super) async fn settle() {
    for _ in 0..40 {
        tokio::task::yield_now().await;
    }
}

pub(super) fn tenant_is(tenant: &str) -> Context {
    let mut context = Context::empty();
    context.try_insert("tenant".parse().unwrap(), tenant.parse().unwrap()).unwrap();
    context
}

pub(super) fn feed(number: usize) -> Feed {
    feed_in("default", number)
}

pub(super) fn feed_in(space: &str, number: usize) -> Feed {
    let aws = serde_json::json!({ "type": "aws-ecr", "role_arn": "arn:aws:iam::123456789012:role/pull" });
    let draft = FeedDraft::new(
        format!("{space}/f{number}").parse().unwrap(),
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com".parse().unwrap(),
        serde_json::from_value(aws).unwrap(),
    );
    let id = Uuid::from_u128(number as u128 + 1 + ((space == "default") as u128 * 1_000_000));
    Feed::new(draft, id, HOUR, "2026-03-01T12:00:00Z".parse().unwrap()).unwrap()
}

pub(super) fn changed(feed: &Feed) -> Feed {
    feed.changed(FeedChanges::default(), HOUR, feed.updated_at).unwrap()
}

/// Polls once. Panics if the future is ready.
pub(super) fn begin<F: Future + Unpin>(future: &mut F) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(std::pin::Pin::new(future).poll(&mut context).is_pending());
}
