//! One process's opinion of its wall clock, shared by everything that acts by it.
//!
//! Every act looks anew: between two looks of a task that runs now and then a clock may jump.

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

/// One look at the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// The wall clock.
    pub now: Timestamp,
    /// How far it can be believed.
    pub trust: ClockTrust,
    /// The time by which rows are old enough to be pruned.
    pub pruning_time: Timestamp,
}

impl ClockReading {
    /// Passes a clock that is believed.
    ///
    /// # Errors
    ///
    /// [`ClockDoubt`].
    pub fn check(&self) -> Result<(), ClockDoubt> {
        self.trust.check(self.now)
    }

    /// Passes a clock that tokens may be minted by.
    ///
    /// # Errors
    ///
    /// [`ClockDoubt`].
    pub fn check_for_minting(&self) -> Result<(), ClockDoubt> {
        self.trust.check_for_minting(self.now)
    }
}

impl ClockWatch {
    /// Begins to watch `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, watched: Mutex::default() }
    }

    /// The clock that is watched.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Looks at the clock, given the times that the database remembers.
    pub fn look(&self, database: DatabaseTime, policy: &RotationPolicy) -> ClockReading {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that looks come in the order of the clocks.
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let trust = watched.guard.observe(now, monotonic, database, policy);
        let pruning_time = watched.pruning.observe(now, monotonic, trust, database, policy);
        ClockReading { now, trust, pruning_time }
    }
}
