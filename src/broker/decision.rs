//! The decision about a request, given the cached state. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::cache::{Health, Remembered, Slot};
use super::held::{Held, Now};
use super::{BrokerError, Source};

/// The action for a request.
#[derive(Debug)]
pub(super) enum Decision {
    /// Return this credential.
    Serve { held: Arc<Held>, source: Source, refresh: Refresh },
    /// Wait for the running exchange.
    Wait,
    /// Begin an exchange and wait for it.
    Depart,
    /// Refuse without a request to the provider.
    Refuse(BrokerError),
}

/// The time at which a returned credential is refreshed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refresh {
    /// Refresh now, in the background.
    Now,
    /// Refresh at 80 % of its life, because it has been requested again.
    Later,
    /// Do not refresh, or a refresh is already scheduled.
    No,
}

/// Decides about a request. `memory` is the period in which a failure is returned again without a new
/// exchange.
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
        // The credential is almost new: a fresh one would not live longer.
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

/// Returns the key's own recent failure, or otherwise the feed's.
pub(super) fn recent_failure<'a>(
    slot: &'a Slot,
    health: &'a Health,
    now: Now,
    memory: Duration,
) -> Option<&'a Remembered> {
    [&slot.failure, &health.failure].into_iter().flatten().find(|failure| failure.age(now) < memory)
}
