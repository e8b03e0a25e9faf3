//! A clock that only tests move.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::Clock;

/// A clock that moves only when a test or simulation moves it.
#[derive(Debug, Clone)]
pub struct SimulatedClock {
    state: Arc<Mutex<(Timestamp, Duration)>>,
    changed: Arc<watch::Sender<()>>,
}

impl SimulatedClock {
    /// Returns a clock that stands still at `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { state: Arc::new(Mutex::new((now, Duration::ZERO))), changed: Arc::new(watch::Sender::new(())) }
    }

    /// Advances wall time and monotonic time by `by`.
    pub fn advance(&self, by: Duration) {
        self.change(|(wall, monotonic)| {
            *wall = wall.saturating_add(by).unwrap_or(Timestamp::MAX);
            *monotonic += by;
        });
    }

    /// Sets the wall time, as an operator or NTP would. Monotonic time stays the same.
    pub fn step_wall_to(&self, now: Timestamp) {
        self.change(|(wall, _)| *wall = now);
    }

    fn change(&self, change: impl FnOnce(&mut (Timestamp, Duration))) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_replace(());
    }

    fn read(&self) -> (Timestamp, Duration) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        self.read().0
    }

    fn monotonic(&self) -> Duration {
        self.read().1
    }

    fn sleep_until(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let mut changed = self.changed.subscribe();
            // The sender lives as long as `self`, so `changed()` cannot fail during the wait.
            while self.monotonic() < deadline && changed.changed().await.is_ok() {}
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_simulated_time_reaches_its_deadline() {
        let clock = SimulatedClock::at(Timestamp::UNIX_EPOCH);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(Duration::from_secs(10)).await }
        });
        clock.advance(Duration::from_secs(9));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
    }

    #[test]
    fn stepping_the_wall_clock_leaves_monotonic_time_alone() {
        let clock = SimulatedClock::at(Timestamp::UNIX_EPOCH);
        clock.advance(Duration::from_secs(5));
        clock.step_wall_to(Timestamp::UNIX_EPOCH);
        assert_eq!((clock.now(), clock.monotonic()), (Timestamp::UNIX_EPOCH, Duration::from_secs(5)));
    }
}
