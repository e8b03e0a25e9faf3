//! The database's records of publication targets. A key signs only after every registered target has shown
//! it.

use std::sync::Arc;

use jiff::Timestamp;

use super::Edition;
use super::target::{DocumentName, sha256};
use super::write::Foreign;
use crate::jose::jwk::Kid;
use crate::states::StatePoint;
use crate::store::publications::{PublicationTarget, Shown, WrittenText};
use crate::store::{ReadTransaction, StoreError, Trusted};
use crate::values::actor::Actor;
use crate::values::clock::Clock;
use crate::values::target_url::TargetUrl;

/// The targets of one database. Every change is recorded in the audit log.
#[derive(Debug, Clone)]
pub struct Records {
    store: Trusted,
    clock: Arc<dyn Clock>,
    actor: Actor,
}

/// The findings of a write about the copy that it replaced.
#[derive(Debug, Clone, Copy, Default)]
pub struct Found<'a> {
    /// The written keys that the previous copy lacked.
    pub lacked: &'a [Kid],
    /// The previous documents without an authentic label.
    pub foreign: &'a [Foreign],
    /// `true` if this process knew the target to show the documents already.
    pub was_shown: bool,
}

impl Records {
    /// Creates the records in `store`, changed in the name of `actor`.
    #[must_use]
    pub fn new(store: Trusted, clock: Arc<dyn Clock>, actor: Actor) -> Self {
        Self { store, clock, actor }
    }

    /// Returns every target.
    pub async fn targets(&self) -> Result<Vec<PublicationTarget>, StoreError> {
        self.store.publication_targets().await
    }

    /// Checks that the database has had `state`, which a label at `target` remembers. If that is its last state,
    /// the database counts as proved.
    ///
    /// # Errors
    ///
    /// [`StoreError::State`] if an older database, or another one, is in its place.
    pub async fn prove_state(&self, state: &StatePoint, target: &TargetUrl) -> Result<(), StoreError> {
        let witness = format!("the label of the published copy at {target}");
        if self.store.prove_state(state, &witness).await? {
            tracing::debug!(%target, %state, "the published copy remembers the database's last state");
        }
        Ok(())
    }

    /// Registers `target`, which shows `edition`: from now on every key waits until the target shows it.
    /// Returns whether the target is new.
    pub async fn register(&self, target: &TargetUrl, edition: &Edition) -> Result<bool, StoreError> {
        let mut write = self.store.write().await?;
        let now = self.now(&mut write).await?;
        let is_new = write.register_target(target, &self.actor, now).await?;
        write.note_shown(target, &shown(edition, Found::default()), &self.actor, now).await?;
        write.commit().await?;
        Ok(is_new)
    }

    /// Removes `target`, so that no key waits for it any more. Returns whether it was registered.
    pub async fn forget(&self, target: &TargetUrl) -> Result<bool, StoreError> {
        let mut write = self.store.write().await?;
        let now = self.now(&mut write).await?;
        let was_there = write.forget_target(target, &self.actor, now).await?;
        write.commit().await?;
        Ok(was_there)
    }

    /// Records that `target` shows `edition` now, if it is registered. Returns whether something other than
    /// carnet had changed the copy; that is recorded too. The digest of the last written text identifies
    /// carnet's own copy even if its keys were replaced since.
    pub async fn shows(
        &self,
        target: &TargetUrl,
        edition: &Edition,
        found: Found<'_>,
    ) -> Result<bool, StoreError> {
        let mut write = self.store.write().await?;
        let now = self.now(&mut write).await?;
        let was_altered = write.note_shown(target, &shown(edition, found), &self.actor, now).await?;
        write.commit().await?;
        Ok(was_altered)
    }

    /// Records that `target` could not be brought up to date.
    pub async fn failed(&self, target: &TargetUrl, error: &str) -> Result<(), StoreError> {
        self.store.note_publication_failed(target, error, self.clock.now()).await
    }

    /// Records that `target` is up to date without a write, which ends a recorded failure.
    pub async fn works(&self, target: &TargetUrl) -> Result<(), StoreError> {
        self.store.note_publication_works(target).await
    }

    /// Returns the current time, or the high-water time if the clock is behind it. With an earlier time, a
    /// key would count as published for too long once the clock is corrected.
    async fn now(&self, read: &mut ReadTransaction) -> Result<Timestamp, StoreError> {
        Ok(self.clock.now().max(read.key_settings().await?.high_water))
    }
}

fn shown<'a>(edition: &'a Edition, found: Found<'a>) -> Shown<'a> {
    let of = |wanted: DocumentName| move |foreign: &&Foreign| foreign.name == wanted;
    let written = |name| WrittenText {
        sha256: sha256(&edition.document(name).body),
        foreign: found.foreign.iter().find(of(name)).map(|foreign| foreign.sha256.as_str()),
    };
    Shown {
        generation: edition.label.generation,
        kids: &edition.kids,
        lacked: found.lacked,
        jwks: written(DocumentName::Jwks),
        discovery: written(DocumentName::Discovery),
        was_removed: found.was_shown,
    }
}
