//! How much one caller, and all together, may ask for.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::refusal::Refusal;
use crate::api::problem::{Problem, ProblemType};
use crate::clock::Clock;
use crate::metrics::{Limit, Metrics};

/// A rate: so many a second in the long run, so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second.
    pub per_second: NonZeroU32,
    /// Requests at once, after a time of rest.
    pub burst: NonZeroU32,
}

/// The limits of the API.
#[derive(Debug, Clone, Copy)]
pub struct ApiLimits {
    /// Of each grant.
    pub per_grant: Rate,
    /// Of each client address, whatever grants it uses; of IPv6 each /64.
    pub per_address: Rate,
    /// Requests under way at once, of everybody.
    pub in_flight: usize,
    /// Longest body, in bytes.
    pub max_body: usize,
    /// How long a body may take to arrive.
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

impl Default for ApiLimits {
    /// 500 a second and 5000 at once for each grant, the same for each address, 4096 under way, bodies of
    /// 64 KiB within 10 s.
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

/// carnet's clock, as governor reads it.
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
    in_flight: Arc<Semaphore>,
    clock: Monotonic,
    taken: AtomicU64,
    metrics: Arc<Metrics>,
}

/// Once in so many requests, keys that are at rest are dropped: those that are left have asked within the
/// last seconds, and so many the machine can answer.
const TIDY_EVERY: u64 = 4096;

impl Limits {
    /// What is refused is counted in `metrics`.
    pub(super) fn new(limits: &ApiLimits, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let quota = |rate: Rate| Quota::per_second(rate.per_second).allow_burst(rate.burst);
        let clock = Monotonic(clock);
        Self {
            grants: RateLimiter::dashmap_with_clock(quota(limits.per_grant), clock.clone()),
            addresses: RateLimiter::dashmap_with_clock(quota(limits.per_address), clock.clone()),
            in_flight: Arc::new(Semaphore::new(limits.in_flight)),
            clock,
            taken: AtomicU64::new(0),
            metrics,
        }
    }

    /// Takes one request of `client`; of a Unix socket's peer nothing is counted.
    pub(super) fn take_for_address(&self, client: Option<IpAddr>) -> Result<(), Refusal> {
        client.map_or(Ok(()), |client| self.take(&self.addresses, &network(client), Limit::Address))
    }

    /// Takes one request of the grant.
    pub(super) fn take_for_grant(&self, grant: Uuid) -> Result<(), Refusal> {
        self.take(&self.grants, &grant, Limit::Grant)
    }

    /// A place among the requests under way.
    pub(super) fn enter(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.in_flight).try_acquire_owned().map_err(|_| {
            self.metrics.server.limited(Limit::Concurrency);
            Refusal::new(ProblemType::Busy).retry_after(Duration::from_secs(1))
        })
    }

    fn take<K: std::hash::Hash + Eq + Clone>(
        &self,
        limiter: &Limiter<K>,
        key: &K,
        limit: Limit,
    ) -> Result<(), Refusal> {
        if self.taken.fetch_add(1, Ordering::Relaxed) % TIDY_EVERY == TIDY_EVERY - 1 {
            self.grants.retain_recent();
            self.addresses.retain_recent();
        }
        limiter.check_key(key).map_err(|until| {
            self.metrics.server.limited(limit);
            let wait = until.wait_time_from(self.clock.now());
            let problem = Problem::new(ProblemType::RateLimited)
                .detail(format!("try again in {:.1} s", wait.as_secs_f32()));
            Refusal::from(problem).retry_after(wait)
        })
    }
}

/// Who has one address of IPv6 has a whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}
