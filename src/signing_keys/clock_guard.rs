//! Whether the wall clock can be believed.
//!
//! A clock that jumps forward would rotate keys before verifiers have them and prune keys that are
//! still needed. The monotonic clock tells a jump from the passing of time.

use std::time::Duration;

use jiff::Timestamp;

/// A jump forward is believed once it has held for this long.
pub const HOLD: Duration = Duration::from_secs(10 * 60);

/// Watches one process's clocks.
#[derive(Debug, Clone, Copy)]
pub struct ClockGuard {
    wall: Timestamp,
    monotonic: Duration,
    /// When the clock jumped forward and how far, until that is believed or taken back.
    jump: Option<Jump>,
}

#[derive(Debug, Clone, Copy)]
struct Jump {
    at: Duration,
    by: Duration,
}

/// What to make of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockTrust {
    /// It moves as time does.
    Steady,
    /// It has jumped forward and has not held for [`HOLD`] yet.
    Jumped {
        /// How far.
        by: Duration,
        /// The monotonic time at which it will be believed.
        until: Duration,
    },
}

impl ClockTrust {
    /// The time as far as it is believed, when the wall clock says `wall`.
    ///
    /// Keys are pruned by it: one that is pruned by a wrong clock is missing at once, one that is
    /// pruned late harms nobody.
    #[must_use]
    pub fn believed(self, wall: Timestamp) -> Timestamp {
        match self {
            Self::Steady => wall,
            Self::Jumped { by, .. } => wall.saturating_sub(by).unwrap_or(Timestamp::MIN),
        }
    }
}

impl ClockGuard {
    /// Starts watching; whatever the wall clock says now is believed.
    #[must_use]
    pub fn new(wall: Timestamp, monotonic: Duration) -> Self {
        Self { wall, monotonic, jump: None }
    }

    /// Looks at both clocks. To be called often: only what happens between two looks is compared.
    pub fn observe(&mut self, wall: Timestamp, monotonic: Duration, leeway: Duration) -> ClockTrust {
        let elapsed = monotonic.saturating_sub(self.monotonic);
        let expected = self.wall.saturating_add(elapsed).unwrap_or(Timestamp::MAX);
        let ahead = Duration::try_from(wall.duration_since(expected)).unwrap_or_default();
        let behind = Duration::try_from(expected.duration_since(wall)).unwrap_or_default();
        (self.wall, self.monotonic) = (wall, monotonic);
        if ahead > leeway {
            let before = self.jump.map_or(Duration::ZERO, |jump| jump.by);
            self.jump = Some(Jump { at: monotonic, by: before + ahead });
        } else if let Some(jump) = self.jump
            && (behind + leeway >= jump.by || monotonic.saturating_sub(jump.at) >= HOLD)
        {
            // Set back to where it would have been, or held for long enough to be the truth.
            self.jump = None;
        }
        match self.jump {
            None => ClockTrust::Steady,
            Some(Jump { at, by }) => ClockTrust::Jumped { by, until: at + HOLD },
        }
    }
}

/// Whether a clock that says `now` is further behind `high_water` than clocks may disagree.
#[must_use]
pub fn is_behind(now: Timestamp, high_water: Timestamp, leeway: Duration) -> bool {
    now.saturating_add(leeway).is_ok_and(|latest| latest < high_water)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEEWAY: Duration = Duration::from_secs(300);
    const DAY: Duration = Duration::from_secs(86_400);

    fn at(wall: u64) -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap().checked_add(Duration::from_secs(wall)).unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn time_that_passes_is_believed_however_much_of_it() {
        let mut guard = ClockGuard::new(at(0), seconds(0));
        assert_eq!(guard.observe(at(86_400), DAY, LEEWAY), ClockTrust::Steady);
        assert_eq!(guard.observe(at(86_400 + 299), DAY, LEEWAY), ClockTrust::Steady);
    }

    #[test]
    fn a_jump_is_believed_after_it_has_held_for_ten_minutes() {
        let mut guard = ClockGuard::new(at(0), seconds(0));
        let jumped = ClockTrust::Jumped { by: DAY, until: seconds(600) };
        assert_eq!(guard.observe(at(86_400), seconds(0), LEEWAY), jumped);
        assert_eq!(guard.observe(at(86_400 + 599), seconds(599), LEEWAY), jumped);
        assert_eq!(guard.observe(at(86_400 + 600), seconds(600), LEEWAY), ClockTrust::Steady);
    }

    #[test]
    fn a_jump_does_not_count_before_it_is_believed() {
        let mut guard = ClockGuard::new(at(0), seconds(0));
        assert_eq!(guard.observe(at(86_400 + 5), seconds(5), LEEWAY).believed(at(86_400 + 5)), at(5));
        assert_eq!(guard.observe(at(86_400 + 700), seconds(700), LEEWAY).believed(at(86_400)), at(86_400));
    }

    #[test]
    fn a_jump_that_is_taken_back_is_forgotten() {
        let mut guard = ClockGuard::new(at(0), seconds(0));
        assert!(matches!(guard.observe(at(86_400), seconds(0), LEEWAY), ClockTrust::Jumped { .. }));
        assert_eq!(guard.observe(at(60), seconds(60), LEEWAY), ClockTrust::Steady);
    }

    #[test]
    fn a_second_jump_starts_the_wait_anew() {
        let mut guard = ClockGuard::new(at(0), seconds(0));
        guard.observe(at(86_400), seconds(0), LEEWAY);
        let again = guard.observe(at(3 * 86_400 + 500), seconds(500), LEEWAY);
        assert_eq!(again, ClockTrust::Jumped { by: 3 * DAY, until: seconds(1100) });
    }

    #[test]
    fn a_step_back_alone_is_no_jump() {
        let mut guard = ClockGuard::new(at(86_400), seconds(0));
        assert_eq!(guard.observe(at(0), seconds(0), LEEWAY), ClockTrust::Steady);
    }
}
