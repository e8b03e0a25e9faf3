//! Time as a parameter.
//!
//! The only module that reads the machine's clocks. All other code receives the time, so that tests of
//! rotation, expiry and caching cover years in milliseconds.

#[cfg(any(test, feature = "test-internals"))]
mod simulated;

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use jiff::Timestamp;

#[cfg(any(test, feature = "test-internals"))]
pub use self::simulated::SimulatedClock;

/// A source of the time, and a way to wait.
///
/// Wall time may step in either direction. Monotonic time never goes backwards: waits and timeouts are
/// measured on it.
pub trait Clock: Debug + Send + Sync {
    /// Returns the wall time, to the millisecond: the resolution of all stored times.
    fn now(&self) -> Timestamp;

    /// Returns the time since an arbitrary fixed point. Never decreases.
    fn monotonic(&self) -> Duration;

    /// Completes once [`Clock::monotonic`] has reached `deadline`.
    fn sleep_until(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// The machine's own clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Returns a clock whose monotonic time is now zero.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the machine's monotonic clock"
    )]
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the machine's wall clock"
    )]
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep_until(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep_until(tokio::time::Instant::from_std(self.started + deadline)))
    }
}
