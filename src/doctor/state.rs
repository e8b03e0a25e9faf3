//! The database's state, compared with the state that is remembered outside the database.

use super::{Finding, causes};
use crate::states::{DatabaseId, StatePoint};
use crate::store::StoreError;
use crate::store::states::StateError;

const ID: &str = "database-state";

/// The fix for a database that is not trusted.
pub const PUT_BACK: &str = "find out who can write the database; put the latest database back in its place, \
                            or run `carnet database accept`, which accepts this one with new signing keys \
                            and without grants";

/// Reports the result of [`Unlocked::examine_state`](crate::store::Unlocked::examine_state).
#[must_use]
pub fn check(examined: Result<Option<&(DatabaseId, StatePoint, bool)>, &StoreError>) -> Finding {
    match examined {
        Ok(Some((_, state, true))) => {
            Finding::ok(ID, format!("is at state {state}, as its state file records"))
        }
        Ok(Some((_, state, false))) => Finding::warning(
            ID,
            format!("is at state {state}, and nothing outside the database proves that this is its last one"),
        )
        .detail(
            "It may be an older database, which brings back revoked keys and grants: there was no state file \
             when it was opened.",
        )
        .hint(
            "start the server once with --state-at-least and a state that was kept elsewhere: the state file \
             then records it as proved",
        ),
        Ok(None) => Finding::ok(ID, "has no state yet; the next start gives it its first one"),
        Err(error @ StoreError::State(StateError::File(_))) => Finding::failed(ID, causes(error))
            .detail("No server starts while the file exists: carnet does not treat it as missing.")
            .hint("put the file back from where the keys folder is kept, or run `carnet database accept`"),
        Err(error @ StoreError::State(_)) => Finding::failed(ID, causes(error))
            .detail(
                "No server starts on it; a running one continues to serve its own documents, and mints and \
                 changes nothing.",
            )
            .hint(PUT_BACK),
        Err(error) => Finding::failed(ID, causes(error)),
    }
}
