//! Drops cached feeds that were changed or removed and that no request mentions any more.

use std::collections::HashSet;
use std::sync::PoisonError;

use uuid::Uuid;

use super::cache::Discarded;
use super::{Broker, State};
use crate::store::{Store, StoreError};

/// The result of the last comparison between the database and the cache.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// The number of feed changes at that time; `None` if the database did not have it.
    changes: Option<i64>,
    /// The cached versions that were current in the database.
    current: HashSet<(Uuid, i64)>,
}

impl Broker {
    /// Drops every cached feed that `store` has in another version or no longer has, and notifies the callers
    /// that wait for it. [`Carnet::run`](crate::carnet::Carnet::run) calls this periodically: no request for
    /// a removed feed would reveal the change.
    ///
    /// While no feed changes, a call reads one number, plus the version of each newly cached feed once.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] if the database cannot be read; nothing is dropped then.
    pub async fn forget_changed(&self, store: &Store) -> Result<(), StoreError> {
        // Taken before the store is read: entries that come later were read from the store later.
        let remembered: HashSet<_> = self.0.lock().cache.versions().into_iter().collect();
        if remembered.is_empty() {
            return Ok(());
        }
        // Read before the versions: a change in between is found by the next call.
        let changes = store.feed_changes().await?;
        let unknown: Vec<_> = {
            let compared = self.0.compared.lock().unwrap_or_else(PoisonError::into_inner);
            let nothing_changed = changes.is_some() && changes == compared.changes;
            let is_current = |version: &(Uuid, i64)| nothing_changed && compared.current.contains(version);
            remembered.iter().copied().filter(|version| !is_current(version)).collect()
        };
        let outdated = outdated(store, &unknown).await?;
        let mut discarded = Discarded::default();
        let mut state = self.0.lock();
        let State { cache, flights, .. } = &mut *state;
        for (id, version) in &outdated {
            cache.forget_version(*id, *version, flights, &mut discarded);
        }
        self.0.metrics.issuance.remembers(state.cache.len());
        drop(state);
        let current = remembered.into_iter().filter(|version| !outdated.contains(version)).collect();
        *self.0.compared.lock().unwrap_or_else(PoisonError::into_inner) = Compared { changes, current };
        Ok(())
    }
}

/// Returns those of `versions` that differ from the store's.
async fn outdated(store: &Store, versions: &[(Uuid, i64)]) -> Result<HashSet<(Uuid, i64)>, StoreError> {
    let ids: Vec<Uuid> = versions.iter().map(|(id, _)| *id).collect();
    let stored = store.feed_versions(&ids).await?;
    Ok(versions.iter().copied().filter(|(id, version)| stored.get(id) != Some(version)).collect())
}
