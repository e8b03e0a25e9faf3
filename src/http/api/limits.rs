//! Limits on the requests of one caller, and of all callers together.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use uuid::Uuid;

use super::refusal::ApiRefusal;
use crate::api_types::problem::{Problem, ProblemType};
use crate::metrics::{Limit, Metrics};
use crate::values::clock::Clock;
use crate::values::network::network;
use crate::values::shares::{Account, Shares};

/// A rate limit: a sustained rate and a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The sustained number of requests per second.
    pub per_second: NonZeroU32,
    /// The number of requests at once after a period without any.
    pub burst: NonZeroU32,
}

/// The limits of the API.
#[derive(Debug, Clone, Copy)]
pub struct ApiLimits {
    /// The rate of each grant.
    pub per_grant: Rate,
    /// The rate of each client address for all its grants together, and separately for its requests without a
    /// valid grant. An IPv6 address counts as its /64.
    pub per_address: Rate,
    /// The maximum number of requests in progress, for all grants together. One grant may hold three quarters
    /// of the permits that the others leave.
    pub in_flight: usize,
    /// The maximum length of a body, in bytes.
    pub max_body: usize,
    /// The maximum time for a body to arrive.
    pub body_timeout: Duration,
}

const fn rate(per_second: u32, burst: u32) -> Rate {
    const fn non_zero(number: u32) -> NonZeroU32 {
        match NonZeroU32::new(number) {
            Some(number) => number,
            None => NonZeroU32::MIN,
        }
    }
    Rate { per_second: non_zero(per_second), burst: non_zero(burst) }
}

/// Returns the rate that each grant has for itself when its address has exhausted its own: a fiftieth.
fn reserve(per_address: Rate) -> Rate {
    let part = |number: NonZeroU32| NonZeroU32::new(number.get() / 50).unwrap_or(NonZeroU32::MIN);
    Rate { per_second: part(per_address.per_second), burst: part(per_address.burst) }
}

impl Default for ApiLimits {
    /// 500 requests per second and 5000 at once for each grant, and the same for each address; 4096 requests
    /// in progress; bodies of 64 KiB within 10 s.
    fn default() -> Self {
        Self {
            per_grant: rate(500, 5000),
            per_address: rate(500, 5000),
            in_flight: 4096,
            max_body: 64 * 1024,
            body_timeout: Duration::from_secs(10),
        }
    }
}

/// carnet's clock as a clock for governor.
#[derive(Debug, Clone)]
struct Monotonic(Arc<dyn Clock>);

impl GovernorClock for Monotonic {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

type Limiter<K> = RateLimiter<K, DashMapStateStore<K>, Monotonic, NoOpMiddleware<Duration>>;

/// Counts requests against [`ApiLimits`].
#[derive(Debug)]
pub(super) struct Limits {
    grants: Limiter<Uuid>,
    addresses: Limiter<IpAddr>,
    strangers: Limiter<IpAddr>,
    /// The rate of each grant when its address has exhausted its own.
    reserves: Limiter<Uuid>,
    in_flight: Arc<Mutex<Shares>>,
    clock: Monotonic,
    taken: AtomicU64,
    metrics: Arc<Metrics>,
}

/// A permit for one request in progress, returned when dropped.
#[derive(Debug)]
pub(super) struct RequestPermit {
    permits: Arc<Mutex<Shares>>,
    account: Account,
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        lock(&self.permits).give_back(self.account);
    }
}

fn lock(permits: &Mutex<Shares>) -> MutexGuard<'_, Shares> {
    // The counts are valid even after a panic: no code panics in the middle of a change.
    permits.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of requests after which idle keys are dropped. The keys that remain were used within the last
/// seconds, so their number is bounded by the requests that the machine can serve.
const TIDY_EVERY: u64 = 4096;

impl Limits {
    /// Creates the limits. Refusals are counted in `metrics`.
    pub(super) fn new(limits: &ApiLimits, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let quota = |rate: Rate| Quota::per_second(rate.per_second).allow_burst(rate.burst);
        let clock = Monotonic(clock);
        Self {
            grants: RateLimiter::dashmap_with_clock(quota(limits.per_grant), clock.clone()),
            addresses: RateLimiter::dashmap_with_clock(quota(limits.per_address), clock.clone()),
            strangers: RateLimiter::dashmap_with_clock(quota(limits.per_address), clock.clone()),
            reserves: RateLimiter::dashmap_with_clock(quota(reserve(limits.per_address)), clock.clone()),
            in_flight: Arc::new(Mutex::new(Shares::new(limits.in_flight))),
            clock,
            taken: AtomicU64::new(0),
            metrics,
        }
    }

    /// Counts a request of `client` without a valid grant.
    pub(super) fn take_for_strangers(&self, client: Option<IpAddr>) -> Result<(), ApiRefusal> {
        client.map_or(Ok(()), |client| self.take(&self.strangers, &network(client), Limit::Anonymous))
    }

    /// Counts a request of `grant` from `client`. A peer on a Unix socket has no address to count. If others
    /// have exhausted the address's rate, the grant has a small rate of its own: the address may be that of a
    /// proxy that the operator has not configured.
    pub(super) fn take_for_address(&self, client: Option<IpAddr>, grant: Uuid) -> Result<(), ApiRefusal> {
        let Some(client) = client else { return Ok(()) };
        if self.addresses.check_key(&network(client)).is_ok() {
            return Ok(());
        }
        self.take(&self.reserves, &grant, Limit::Address)
    }

    /// Counts a request of the grant.
    pub(super) fn take_for_grant(&self, grant: Uuid) -> Result<(), ApiRefusal> {
        self.take(&self.grants, &grant, Limit::Grant)
    }

    /// Takes a permit of `account` for a request in progress.
    pub(super) fn enter(&self, account: Account) -> Result<RequestPermit, ApiRefusal> {
        let mut permits = lock(&self.in_flight);
        if permits.admits(account) {
            permits.take(account);
            return Ok(RequestPermit { permits: Arc::clone(&self.in_flight), account });
        }
        self.metrics.server.limited(Limit::Concurrency);
        Err(ApiRefusal::new(ProblemType::Busy).retry_after(Duration::from_secs(1)))
    }

    fn take<K: std::hash::Hash + Eq + Clone>(
        &self,
        limiter: &Limiter<K>,
        key: &K,
        limit: Limit,
    ) -> Result<(), ApiRefusal> {
        if self.taken.fetch_add(1, Ordering::Relaxed) % TIDY_EVERY == TIDY_EVERY - 1 {
            self.grants.retain_recent();
            self.addresses.retain_recent();
            self.strangers.retain_recent();
            self.reserves.retain_recent();
        }
        limiter.check_key(key).map_err(|until| {
            self.metrics.server.limited(limit);
            let wait = until.wait_time_from(self.clock.now());
            let problem = Problem::new(ProblemType::RateLimited)
                .detail(format!("try again in {:.1} s", wait.as_secs_f32()));
            ApiRefusal::from(problem).retry_after(wait)
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::values::clock::SimulatedClock;

    #[test]
    fn each_limit_refuses_by_itself_and_is_counted() {
        let clock = SimulatedClock::at(Timestamp::UNIX_EPOCH);
        let metrics = Arc::new(Metrics::new());
        let limits = ApiLimits {
            per_grant: rate(1, 1),
            per_address: rate(1, 2),
            in_flight: 4,
            ..ApiLimits::default()
        };
        let limits = Limits::new(&limits, Arc::new(clock.clone()), Arc::clone(&metrics));
        let client = |last: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]));
        let grants = [1, 2].map(Uuid::from_u128);

        assert!(limits.take_for_grant(grants[0]).is_ok() && limits.take_for_grant(grants[1]).is_ok());
        let refusal = limits.take_for_grant(grants[0]).unwrap_err();
        assert_eq!(refusal.problem_type(), Some(ProblemType::RateLimited));
        // All addresses of one network count together; after that, each grant has a small rate of its own.
        let take = |last, grant: usize| limits.take_for_address(client(last), grants[grant]).is_ok();
        assert_eq!(
            [take(1, 0), take(2, 0), take(3, 0), take(4, 0), take(5, 1), take(6, 1)],
            [true, true, true, false, true, false]
        );
        assert!(
            (0..9).all(|_| limits.take_for_address(None, grants[0]).is_ok()),
            "a Unix socket has no address"
        );
        // Callers without a valid grant use up nothing of callers with one.
        assert!([1, 2, 3].map(|last| limits.take_for_strangers(client(last)).is_ok()) == [true, true, false]);
        let [one, other] = grants.map(Account::of);
        let permits: Vec<_> = (0..3).map(|_| limits.enter(one).unwrap()).collect();
        assert_eq!(limits.enter(one).unwrap_err().problem_type(), Some(ProblemType::Busy));
        let permit = limits.enter(other).unwrap();
        drop(permits);
        assert!(limits.enter(one).is_ok());
        drop(permit);
        clock.advance(Duration::from_secs(1));
        assert!(limits.take_for_grant(grants[0]).is_ok() && take(5, 0));

        let text = metrics.encode();
        for (limit, refused) in [("grant", 1), ("address", 2), ("anonymous", 1), ("concurrency", 1)] {
            let series = format!("carnet_http_requests_limited_total{{limit=\"{limit}\"}} {refused}");
            assert!(text.lines().any(|line| line == series), "no {series} in\n{text}");
        }
    }
}
