//! The limits of a broker.

use std::time::Duration;

use crate::feed::MIN_REMAINING;

/// A broker's limits. The defaults are the documented ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerLimits {
    /// The minimum remaining life of a credential that is handed out; see
    /// [`Feed::min_remaining`](crate::feed::Feed::min_remaining).
    pub min_remaining: Duration,
    /// The maximum duration of one exchange, including waiting for its turn, all attempts and pauses.
    pub deadline: Duration,
    /// The maximum number of attempts of one exchange, if its failures are transient.
    pub attempts: u32,
    /// The period in which a failure is returned again before the next request to the provider.
    pub failure_memory: Duration,
    /// The maximum number of cached credentials and failures, each counted once for every caller that was
    /// given it.
    pub capacity: usize,
    /// The maximum number of concurrent exchanges, including those that wait for their turn.
    pub flights: usize,
    /// The maximum number of concurrent exchanges for one feed.
    pub flights_per_feed: usize,
    /// The maximum number of concurrent attempts at one provider.
    pub per_provider: usize,
    /// The maximum number of concurrent attempts for one feed.
    pub per_feed: usize,
}

impl Default for BrokerLimits {
    fn default() -> Self {
        Self {
            min_remaining: MIN_REMAINING,
            deadline: Duration::from_secs(15),
            attempts: 5,
            failure_memory: Duration::from_secs(5),
            capacity: 10_000,
            flights: 4096,
            flights_per_feed: 1024,
            per_provider: 128,
            per_feed: 32,
        }
    }
}
