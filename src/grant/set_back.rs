//! Corrects a grant when the database's time is set back after a wrong clock was trusted.

use std::time::Duration;

use jiff::Timestamp;

use super::Grant;

impl Grant {
    /// Returns the grant as it should have been created, if the time is in fact `now` and the clock was ahead
    /// by `by`; `None` if nothing changes. The grant keeps its intended lifetime and never ends later than
    /// before. A grant that had expired by the wrong clock stays expired.
    #[must_use]
    pub fn set_back(&self, now: Timestamp, by: Duration) -> Option<Self> {
        let mut after = self.clone();
        if let Ok(ahead) = Duration::try_from(self.created_at.duration_since(now))
            && !ahead.is_zero()
        {
            let by = by.max(ahead);
            after.created_at = earlier(self.created_at, by);
            after.expires_at = self.expires_at.map(|end| earlier(end, by));
        }
        after.revoked_at = self.revoked_at.map(|at| at.min(now));
        (after != *self).then_some(after)
    }
}

fn earlier(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::{GrantState, Permissions};

    const DAY: i64 = 24 * 3600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn grant(created_at: i64, expires_at: Option<i64>) -> Grant {
        Grant {
            id: uuid::Uuid::from_u128(1),
            name: "ci".parse().unwrap(),
            permissions: Permissions::unlimited_admin(),
            created_at: at(created_at),
            created_by: "local:somebody".to_owned(),
            expires_at: expires_at.map(at),
            revoked_at: None,
            last_used_at: None,
        }
    }

    #[test]
    fn a_grant_made_by_a_wrong_clock_lives_as_long_as_was_meant() {
        let year = 365 * DAY;
        let by = Duration::from_secs((10 * year).unsigned_abs());
        for (created, expires, expected) in [
            (10 * year - 60, Some(10 * year + DAY - 60), Some((-60, Some(DAY - 60)))),
            (10 * year - 60, Some(10 * year - 1), Some((-60, Some(-1)))),
            (10 * year - 60, None, Some((-60, None))),
            // Created by a clock that was further ahead than the database ever recorded.
            (11 * year, Some(11 * year + DAY), Some((0, Some(DAY)))),
            // Created by a right clock, whatever its expiry.
            (-DAY, Some(20 * year), None),
            (-DAY, Some(-1), None),
        ] {
            let after = grant(created, expires).set_back(at(0), by);
            let times = after.map(|grant| (grant.created_at, grant.expires_at));
            assert_eq!(times, expected.map(|(made, ends)| (at(made), ends.map(at))), "{created} {expires:?}");
        }
    }

    #[test]
    fn a_grant_that_was_revoked_or_had_expired_by_the_wrong_clock_stays_so() {
        let mut revoked = grant(-DAY, None);
        revoked.revoked_at = Some(at(3650 * DAY));
        let after = revoked.set_back(at(0), Duration::ZERO).unwrap();
        assert_eq!((after.revoked_at, after.state(at(0))), (Some(at(0)), GrantState::Revoked));

        let expired = grant(3649 * DAY, Some(3650 * DAY));
        let by = Duration::from_secs((3650 * DAY).unsigned_abs());
        assert_eq!(expired.set_back(at(0), by).unwrap().state(at(0)), GrantState::Expired);
    }
}
