//! The trust of one process in its wall clock, shared by all code that acts on that clock.
//!
//! Every action reads the clock again: it may jump between two readings of a task that runs only now and
//! then.

pub mod database_clock;

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::signing_keys::clock_guard::{ClockDoubt, ClockGuard, ClockTrust, DatabaseTime};
use crate::signing_keys::policy::RotationPolicy;
use crate::signing_keys::pruning_clock::PruningClock;
use crate::values::clock::Clock;

/// Watches the clock of one process.
#[derive(Debug)]
pub struct ClockWatch {
    clock: Arc<dyn Clock>,
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    guard: ClockGuard,
    pruning: PruningClock,
}

/// One reading of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// The wall clock.
    pub now: Timestamp,
    /// The trust in the wall clock.
    pub trust: ClockTrust,
    /// The time that decides which rows are old enough to be pruned.
    pub pruning_time: Timestamp,
}

impl ClockReading {
    /// Checks that the clock is trusted.
    pub fn check(&self) -> Result<(), ClockDoubt> {
        self.trust.check(self.now)
    }

    /// Checks that the clock is trusted for minting tokens.
    pub fn check_for_minting(&self) -> Result<(), ClockDoubt> {
        self.trust.check_for_minting(self.now)
    }
}

impl ClockWatch {
    /// Returns a watch of `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, watched: Mutex::default() }
    }

    /// Returns the watched clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Reads the clock, and judges it by the times that the database remembers.
    pub fn assess(&self, database: DatabaseTime, policy: &RotationPolicy) -> ClockReading {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that readings are judged in the order of the clocks.
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let trust = watched.guard.observe(now, monotonic, database, policy);
        let pruning_time = watched.pruning.observe(now, monotonic, trust, database, policy);
        ClockReading { now, trust, pruning_time }
    }
}
