//! What becomes of a request, given what is remembered: a pure decision.

use std::sync::Arc;
use std::time::Duration;

use super::cache::{Health, Remembered, Slot};
use super::held::{Held, Now};
use super::{BrokerError, Source};

/// What to do for a request.
#[derive(Debug)]
pub(super) enum Decision {
    /// Hand this out.
    Serve { held: Arc<Held>, source: Source, refresh: Refresh },
    /// Wait for the exchange that is under way.
    Wait,
    /// Begin an exchange, and wait for it.
    Depart,
    /// Refuse, without asking anybody.
    Refuse(BrokerError),
}

/// What to do about a credential that is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refresh {
    /// Get the next one now, in the background.
    Now,
    /// Get the next one when 80 % of this one's life are over, because somebody has asked for it.
    Later,
    /// Nothing, or nothing more.
    No,
}

/// Decides. `memory` is how long a failure is given again instead of asking.
pub(super) fn decide(slot: &Slot, health: &Health, wanted: Duration, now: Now, memory: Duration) -> Decision {
    let failure = recent_failure(slot, health, now, memory);
    if let Some(held) = &slot.held {
        if held.meets(wanted, now) {
            let refresh = match held.refresh_is_due(now) {
                _ if slot.flight.is_some() => Refresh::No,
                true if failure.is_some() => Refresh::No,
                true => Refresh::Now,
                false if slot.alarm.is_some() => Refresh::No,
                false => Refresh::Later,
            };
            let source = if slot.refresh_failed { Source::StaleRefresh } else { Source::Cache };
            return Decision::Serve { held: Arc::clone(held), source, refresh };
        }
        // It is as good as fresh, and a fresh one would do no better.
        if held.life() < wanted && held.age(now) < memory {
            return Decision::Refuse(BrokerError::unattainable(wanted, held.life()));
        }
    }
    match failure {
        _ if slot.flight.is_some() => Decision::Wait,
        Some(failure) => Decision::Refuse(failure.missed.clone().into_error(Some(failure.age(now)))),
        None => Decision::Depart,
    }
}

/// The key's own failure, or else the feed's, if it is to be given again.
pub(super) fn recent_failure<'a>(
    slot: &'a Slot,
    health: &'a Health,
    now: Now,
    memory: Duration,
) -> Option<&'a Remembered> {
    [&slot.failure, &health.failure].into_iter().flatten().find(|failure| failure.age(now) < memory)
}
