//! The guard that decides whether the wall clock can be trusted.
//!
//! A clock that is ahead would rotate keys before verifiers have them, prune keys and rows that are still
//! needed, and move the database's high-water time to a value that no correct clock reaches for years. Two
//! things reveal a wrong clock: the monotonic clock, which shows jumps, and the high-water time, which a
//! process has from its start.

use std::time::Duration;

use jiff::Timestamp;

use super::policy::RotationPolicy;

/// The time for which a jump forward must hold before the clock is trusted again.
pub const HOLD: Duration = Duration::from_secs(10 * 60);

/// The times stored in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseTime {
    /// The latest time that a process with a steady clock has seen; the Unix epoch if there was none.
    pub high_water: Timestamp,
    /// The time that decides whether rows are old enough to be pruned.
    pub pruning_time: Timestamp,
    /// The number of times that the high-water time was set back. The high-water time only goes down together
    /// with a greater number; a lower time with the same number is a stale reading.
    pub set_backs: i64,
}

/// The guard's verdict on the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockTrust {
    /// The clock agrees with the monotonic clock and the high-water time.
    Steady,
    /// The clock has jumped forward and has not held for [`HOLD`] yet.
    Jumped {
        /// The size of the jump.
        by: Duration,
        /// The monotonic time from which the clock is trusted again.
        until: Duration,
    },
    /// The clock must be accepted by the operator: it is too far beyond the high-water time, or the operator
    /// has set that time back.
    Ahead {
        /// The high-water time.
        high_water: Timestamp,
    },
    /// The clock is further behind the high-water time than clocks may disagree.
    Behind {
        /// The high-water time.
        high_water: Timestamp,
    },
}

/// The reason why a wall clock is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClockDoubt {
    /// The clock is behind.
    #[error(
        "this machine's clock says {now}, which is before {high_water}, the latest time known to the database"
    )]
    Behind {
        /// The wall clock.
        now: Timestamp,
        /// The high-water time.
        high_water: Timestamp,
    },
    /// The clock is too far ahead.
    #[error("this machine's clock says {now}, but the latest time known to the database is {high_water}")]
    Ahead {
        /// The wall clock.
        now: Timestamp,
        /// The high-water time.
        high_water: Timestamp,
    },
    /// The clock has jumped.
    #[error(
        "this machine's clock has jumped forward by {} s to {now}; it is accepted after ten minutes without \
         another jump",
        by.as_secs()
    )]
    Jumped {
        /// The wall clock.
        now: Timestamp,
        /// The size of the jump.
        by: Duration,
    },
}

impl ClockDoubt {
    /// The fix that the operator can apply.
    #[must_use]
    pub fn fix(&self) -> &'static str {
        match self {
            Self::Behind { .. } => {
                "set this machine's clock; if it is right, a wrong one was accepted before: `carnet key \
                 clock --set-back` sets the database's time back"
            }
            Self::Ahead { .. } => {
                "compare this machine's clock with another; if it is right, run `carnet key clock --accept`"
            }
            Self::Jumped { .. } => {
                "compare this machine's clock with another; if it is right, wait, or run `carnet key clock --accept`"
            }
        }
    }
}

impl ClockTrust {
    /// Returns an error unless the clock is trusted. `now` is the wall clock's time, for the message.
    pub fn check(self, now: Timestamp) -> Result<(), ClockDoubt> {
        match self {
            Self::Steady => Ok(()),
            Self::Jumped { by, .. } => Err(ClockDoubt::Jumped { now, by }),
            Self::Ahead { high_water } => Err(ClockDoubt::Ahead { now, high_water }),
            Self::Behind { high_water } => Err(ClockDoubt::Behind { now, high_water }),
        }
    }

    /// Returns an error unless tokens may be minted by this clock. A jump only suspends acts with lasting
    /// effects, because the clock of a machine that wakes from sleep has jumped, too.
    pub fn check_for_minting(self, now: Timestamp) -> Result<(), ClockDoubt> {
        if matches!(self, Self::Jumped { .. }) { Ok(()) } else { self.check(now) }
    }
}

/// Watches the clocks of one process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClockGuard {
    /// The newest reading of the database's times.
    database: Option<DatabaseTime>,
    /// The readings of both clocks when the wall clock was last trusted.
    believed: Option<(Timestamp, Duration)>,
    jump: Option<Jump>,
    /// `true` if the operator has set the high-water time back to before this process's clock.
    is_rejected: bool,
}

#[derive(Debug, Clone, Copy)]
struct Jump {
    since: Duration,
    by: Duration,
}

impl ClockGuard {
    /// Compares both clocks. Call it often: the monotonic clock only shows changes between two calls.
    pub fn observe(
        &mut self,
        wall: Timestamp,
        monotonic: Duration,
        database: DatabaseTime,
        policy: &RotationPolicy,
    ) -> ClockTrust {
        let (high_water, leeway) = (self.note(database, wall, policy).high_water, policy.leeway());
        if is_behind(wall, high_water, leeway) {
            // The last trusted reading stays the reference: a clock that returns to it has not jumped.
            self.jump = None;
            return ClockTrust::Behind { high_water };
        }
        if wall <= later(high_water, leeway) {
            return self.believe(wall, monotonic);
        }
        let is_far = is_far_ahead(wall, high_water, policy);
        let Some((was, at)) = self.believed.filter(|_| !self.is_rejected) else {
            let is_refused = self.is_rejected || is_far;
            return if is_refused { ClockTrust::Ahead { high_water } } else { self.believe(wall, monotonic) };
        };
        let expected = later(was, monotonic.saturating_sub(at));
        let by = Duration::try_from(wall.duration_since(expected)).unwrap_or_default();
        if by <= leeway {
            return self.believe(wall, monotonic);
        }
        let jump = self.jump.filter(|jump| jump.by.abs_diff(by) <= leeway);
        let jump = *self.jump.insert(jump.unwrap_or(Jump { since: monotonic, by }));
        let until = jump.since + HOLD;
        match () {
            () if is_far => ClockTrust::Ahead { high_water },
            () if monotonic >= until => self.believe(wall, monotonic),
            () => ClockTrust::Jumped { by: jump.by, until },
        }
    }

    /// Remembers the database's times, unless they were read before those already known.
    fn note(&mut self, read: DatabaseTime, wall: Timestamp, policy: &RotationPolicy) -> DatabaseTime {
        let newest = match self.database {
            Some(known) if read.set_backs < known.set_backs => known,
            Some(known) if read.set_backs == known.set_backs => {
                DatabaseTime { high_water: read.high_water.max(known.high_water), ..read }
            }
            Some(_) => {
                self.is_rejected = wall > later(read.high_water, policy.leeway());
                read
            }
            None => read,
        };
        *self.database.insert(newest)
    }

    fn believe(&mut self, wall: Timestamp, monotonic: Duration) -> ClockTrust {
        (self.believed, self.jump, self.is_rejected) = (Some((wall, monotonic)), None, false);
        ClockTrust::Steady
    }
}

/// Returns whether a clock that shows `now` is further behind `high_water` than clocks may disagree.
#[must_use]
pub fn is_behind(now: Timestamp, high_water: Timestamp, leeway: Duration) -> bool {
    later(now, leeway) < high_water
}

/// Returns whether a clock that shows `now` is so far beyond `high_water` that an operator has to accept it.
/// Without a high-water time no clock is too far ahead.
#[must_use]
pub fn is_far_ahead(now: Timestamp, high_water: Timestamp, policy: &RotationPolicy) -> bool {
    high_water > Timestamp::UNIX_EPOCH && now > later(high_water, policy.largest_step())
}

/// The high-water time that a command writes, if any. A command does not watch its clock for long enough to
/// vouch for the current time. But where no server runs and only commands are used, the high-water time must
/// still advance, or else the clock would come to look far ahead.
///
/// The time written is half of the largest step behind the current time, so that a command whose clock is
/// ahead by less than that does not harm servers.
#[must_use]
pub fn high_water_of_a_command(
    now: Timestamp,
    high_water: Timestamp,
    policy: &RotationPolicy,
) -> Option<Timestamp> {
    const WORTH_WRITING: Duration = Duration::from_secs(3600);
    let vouched = now.checked_sub(policy.largest_step() / 2).ok()?;
    (vouched > later(high_water, WORTH_WRITING)).then_some(vouched)
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
