//! The last use of grants, recorded in memory first: a write for every request would cost more than the
//! request itself.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use uuid::Uuid;

use super::MAX_GRANTS;

/// The uses that are not yet written to the database, at most [`MAX_GRANTS`].
#[derive(Debug, Default)]
pub(super) struct Uses(Mutex<HashMap<Uuid, Timestamp>>);

impl Uses {
    /// Records a use of a grant, unless a later one is recorded.
    pub(super) fn note(&self, id: Uuid, at: Timestamp) {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(latest) = uses.get_mut(&id) {
            *latest = at.max(*latest);
        } else if uses.len() < MAX_GRANTS {
            uses.insert(id, at);
        }
    }

    /// Removes and returns all recorded uses.
    pub(super) fn take(&self) -> Vec<(Uuid, Timestamp)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_latest_use_is_kept_and_memory_is_bounded() {
        let uses = Uses::default();
        let id = Uuid::from_u128(0);
        for at in [second(2), second(3), second(1)] {
            uses.note(id, at);
        }
        for other in 1..=MAX_GRANTS as u128 {
            uses.note(Uuid::from_u128(other), second(1));
        }
        let taken = uses.take();
        assert!(taken.len() == MAX_GRANTS && taken.contains(&(id, second(3))));
        assert!(uses.take().is_empty());
    }
}
