//! A cached credential and its remaining life.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::exchanger::{AttemptError, Exchanged, MAX_SECRET};
use super::{Served, Source};
use crate::exchange::Credential;
use crate::values::clock::Clock;

/// Both clocks, read together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) wall: Timestamp,
    pub(super) monotonic: Duration,
}

impl Now {
    pub(super) fn of(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic() }
    }
}

/// A credential that had not expired when it arrived.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) credential: Arc<Credential>,
    jti: Uuid,
    /// The remaining life on arrival, by the clock that gives less.
    life: Duration,
    /// The time of arrival, on the monotonic clock.
    arrived: Duration,
}

impl Held {
    pub(super) fn new(exchanged: Exchanged, began: Now, arrived: Now) -> Result<Self, AttemptError> {
        let Exchanged { credential, jti } = exchanged;
        let length = credential.secret.len();
        if length > MAX_SECRET {
            return Err(AttemptError::TooLong(length));
        }
        let expires_at = credential.expires_at;
        // The wall clock may have been set back during the exchange.
        let took = arrived.monotonic.saturating_sub(began.monotonic);
        let life =
            between(arrived.wall, expires_at).min(between(began.wall, expires_at).saturating_sub(took));
        if life.is_zero() {
            return Err(AttemptError::ArrivedExpired(expires_at));
        }
        Ok(Self { credential: Arc::new(credential), jti, life, arrived: arrived.monotonic })
    }

    pub(super) fn served(&self, source: Source) -> Served {
        Served { credential: Arc::clone(&self.credential), source, jti: self.jti }
    }

    /// Returns the remaining life on arrival.
    pub(super) fn life(&self) -> Duration {
        self.life
    }

    pub(super) fn age(&self, now: Now) -> Duration {
        now.monotonic.saturating_sub(self.arrived)
    }

    /// Returns the remaining life by the clock that gives less: setting the wall clock back does not make a
    /// credential live longer.
    pub(super) fn remaining(&self, now: Now) -> Duration {
        between(now.wall, self.credential.expires_at).min(self.life.saturating_sub(self.age(now)))
    }

    /// Returns whether the credential lives for at least `wanted`. An expired one never does.
    pub(super) fn meets(&self, wanted: Duration, now: Now) -> bool {
        let remaining = self.remaining(now);
        !remaining.is_zero() && remaining >= wanted
    }

    /// Returns whether 80 % of its life have passed.
    pub(super) fn refresh_is_due(&self, now: Now) -> bool {
        self.remaining(now) <= self.life / 5
    }

    /// Returns the time when 80 % of its life will have passed, on the monotonic clock.
    pub(super) fn refresh_at(&self) -> Duration {
        self.arrived + self.life / 5 * 4
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    // A negative duration becomes zero.
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
