//! Forgetting feeds that somebody changed or removed, of whom nobody asks any more.

use std::collections::HashSet;
use std::sync::PoisonError;

use uuid::Uuid;

use super::cache::Discarded;
use super::{Broker, State};
use crate::store::{Store, StoreError};

/// The state in which the database was last compared with what is remembered.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// The number of changes of feeds at that time; `None` if the database did not say.
    changes: Option<i64>,
    /// The versions that were the database's, too.
    current: HashSet<(Uuid, i64)>,
}

impl Broker {
    /// Forgets every feed that `store` has in another version, or no longer; whoever waits for it is
    /// told. [`Carnet::run`](crate::carnet::Carnet::run) calls this all the time: nobody asks for a feed
    /// that is gone, so that nothing else would notice.
    ///
    /// While no feed changes, this reads one number, and once the version of each feed that is remembered anew.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database cannot be read; nothing is dropped then.
    pub async fn forget_changed(&self, store: &Store) -> Result<(), StoreError> {
        // Before the store is read: what comes in later was read later.
        let remembered: HashSet<_> = self.0.lock().cache.versions().into_iter().collect();
        if remembered.is_empty() {
            return Ok(());
        }
        // Before the versions: a change in between is found again the next time.
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

/// Those of `versions` that are not the store's.
async fn outdated(store: &Store, versions: &[(Uuid, i64)]) -> Result<HashSet<(Uuid, i64)>, StoreError> {
    let ids: Vec<Uuid> = versions.iter().map(|(id, _)| *id).collect();
    let stored = store.feed_versions(&ids).await?;
    Ok(versions.iter().copied().filter(|(id, version)| stored.get(id) != Some(version)).collect())
}
