//! The time by which rows are old enough to be pruned.
//!
//! Pruned rows cannot be restored, and a trusted clock may still be wrong. So this time advances with the
//! monotonic clock. Time that the process has not observed, such as the time that the machine was off, is
//! added by one day an hour. A pruning removes only rows that have aged by the time since the last pruning
//! and one day.

use std::time::Duration;

use jiff::Timestamp;

use super::clock_guard::{ClockTrust, DatabaseTime};
use super::policy::RotationPolicy;

/// The maximum of unobserved time that is added at once.
pub const CATCH_UP_BY: Duration = Duration::from_secs(24 * 3600);
/// The minimum interval between two such additions.
pub const CATCH_UP_EVERY: Duration = Duration::from_secs(3600);

/// The pruning time as one process observes it.
#[derive(Debug, Clone, Copy, Default)]
pub struct PruningClock {
    last: Option<Last>,
    caught_up_at: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    time: Timestamp,
    monotonic: Duration,
    set_backs: i64,
}

impl PruningClock {
    /// Returns the current pruning time. It does not advance while the wall clock is not trusted.
    pub fn observe(
        &mut self,
        wall: Timestamp,
        monotonic: Duration,
        trust: ClockTrust,
        database: DatabaseTime,
        policy: &RotationPolicy,
    ) -> Timestamp {
        let last = self.last.filter(|last| last.set_backs >= database.set_backs).unwrap_or(Last {
            time: database.pruning_time,
            monotonic,
            set_backs: database.set_backs,
        });
        let time = if trust == ClockTrust::Steady {
            let mut passed = later(last.time, monotonic.saturating_sub(last.monotonic));
            // Another process has observed or added more time. That addition counts as ours for an hour.
            if last.set_backs == database.set_backs && database.pruning_time > passed {
                if database.pruning_time > later(passed, policy.leeway()) {
                    self.caught_up_at = Some(monotonic);
                }
                passed = database.pruning_time;
            }
            self.caught_up(wall, monotonic, passed, policy.leeway())
        } else {
            last.time
        };
        self.last = Some(Last { time, monotonic, ..last });
        time
    }

    fn caught_up(
        &mut self,
        wall: Timestamp,
        monotonic: Duration,
        passed: Timestamp,
        leeway: Duration,
    ) -> Timestamp {
        if wall <= later(passed, leeway) {
            return wall;
        }
        if self.caught_up_at.is_some_and(|at| monotonic < at + CATCH_UP_EVERY) {
            return passed;
        }
        self.caught_up_at = Some(monotonic);
        wall.min(later(passed, CATCH_UP_BY))
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn seen(second: i64) -> DatabaseTime {
        DatabaseTime { high_water: at(second), pruning_time: at(second), set_backs: 0 }
    }

    fn observed(
        clock: &mut PruningClock,
        now: i64,
        off: i64,
        database: DatabaseTime,
        trust: ClockTrust,
    ) -> i64 {
        let monotonic = Duration::from_secs(now.unsigned_abs());
        let policy = RotationPolicy::default();
        let time = clock.observe(at(now + off), monotonic, trust, database, &policy);
        time.as_second() - 1_700_000_000
    }

    fn steady(clock: &mut PruningClock, now: i64, off: i64) -> i64 {
        observed(clock, now, off, seen(0), ClockTrust::Steady)
    }

    #[test]
    fn the_pruning_clock_follows_passing_time() {
        let mut clock = PruningClock::default();
        for now in [0, 10, HOUR, 40 * DAY] {
            assert_eq!(steady(&mut clock, now, 0), now);
        }
        assert_eq!(steady(&mut clock, 40 * DAY, -10), 40 * DAY - 10);
    }

    #[test]
    fn unobserved_time_is_made_up_by_one_day_an_hour() {
        let mut clock = PruningClock::default();
        for (now, expected) in [
            (0, DAY),
            (1, DAY + 1),
            (HOUR - 1, DAY + HOUR - 1),
            (HOUR, 2 * DAY + HOUR),
            (2 * HOUR, 3 * DAY + 2 * HOUR),
            (3 * HOUR, 3 * DAY + 5 * HOUR),
        ] {
            assert_eq!(steady(&mut clock, now, 3 * DAY + 2 * HOUR), expected, "{now}");
        }
    }

    #[test]
    fn the_pruning_clock_stops_while_the_clock_is_doubted() {
        let mut clock = PruningClock::default();
        let ahead = ClockTrust::Ahead { high_water: at(0) };
        for now in [0, 10, 10 * DAY] {
            assert_eq!(observed(&mut clock, now, 3650 * DAY, seen(0), ahead), 0);
        }
    }

    #[test]
    fn time_observed_by_another_process_counts_until_it_is_set_back() {
        let mut clock = PruningClock::default();
        assert_eq!(observed(&mut clock, 0, 9 * DAY, seen(8 * DAY), ClockTrust::Steady), 9 * DAY);
        let set_back = DatabaseTime { set_backs: 1, ..seen(10) };
        assert_eq!(observed(&mut clock, 20, 0, set_back, ClockTrust::Steady), 20);
    }

    proptest! {
        /// Covers any sequence of observed clocks and verdicts on them.
        #[test]
        fn no_step_is_longer_than_the_passed_time_and_a_day(
            readings in proptest::collection::vec((0..2 * HOUR, -2 * DAY..4000 * DAY, 0..3), 1..80)
        ) {
            let mut clock = PruningClock::default();
            let (mut now, mut time, mut furthest, mut database) = (0, 0, 0, seen(0));
            let mut steps = 0;
            for (passes, off, trust) in readings {
                now += passes;
                let trust = if trust == 0 { ClockTrust::Ahead { high_water: at(0) } } else { ClockTrust::Steady };
                let before = time;
                time = observed(&mut clock, now, off, database, trust);
                prop_assert!(trust == ClockTrust::Steady || time == before);
                prop_assert!(time <= furthest + passes + DAY);
                steps += i64::from(time > furthest + passes + 300);
                prop_assert!(steps <= now / HOUR + 1, "{steps} steps in {now} s");
                furthest = furthest.max(time);
                database.pruning_time = at(furthest);
            }
        }
    }
}
