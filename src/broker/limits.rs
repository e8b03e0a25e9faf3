//! The numbers that a broker keeps to.

use std::time::Duration;

use crate::feed::MIN_REMAINING;

/// A broker's limits. The defaults are the documented ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerLimits {
    /// The minimum remaining life of a credential that is handed out; see [`Feed::min_remaining`](crate::feed::Feed::min_remaining).
    pub min_remaining: Duration,
    /// How long one exchange may take in all: waiting for its turn, every attempt, every pause.
    pub deadline: Duration,
    /// How often one exchange is tried in all, if its failures are transient.
    pub attempts: u32,
    /// How long a failure is remembered, and given again, before the provider is asked again.
    pub failure_memory: Duration,
    /// How many credentials and failures are kept, counted once for each caller that was given one.
    pub capacity: usize,
    /// How many exchanges are under way at once, those that wait for their turn included.
    pub flights: usize,
    /// The same for one feed.
    pub flights_per_feed: usize,
    /// How many attempts run at once at one provider.
    pub per_provider: usize,
    /// How many attempts run at once for one feed.
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
