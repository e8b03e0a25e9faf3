//! What the database knows of the places: keys wait for those that stand there.

use std::sync::Arc;

use jiff::Timestamp;

use super::Edition;
use super::target::{DocumentName, sha256};
use super::write::Foreign;
use crate::jose::jwk::Kid;
use crate::store::publications::{PublicationTarget, Shown, WrittenText};
use crate::store::{ReadTransaction, Store, StoreError};
use crate::values::actor::Actor;
use crate::values::clock::Clock;
use crate::values::target_url::TargetUrl;

/// The places of one database. Its store has to be unlocked: what is changed is recorded in the audit log.
#[derive(Debug, Clone)]
pub struct Records {
    store: Store,
    clock: Arc<dyn Clock>,
    actor: Actor,
}

/// What a write has found in the place of what it wrote.
#[derive(Debug, Clone, Copy, Default)]
pub struct Found<'a> {
    /// Keys of what was written that a copy there lacked.
    pub lacked: &'a [Kid],
    /// What stood there without an authentic label.
    pub foreign: &'a [Foreign],
    /// Whether the documents were known to stand there as they should.
    pub was_shown: bool,
}

impl Records {
    /// The records in `store`, changed in the name of `actor`.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, actor: Actor) -> Self {
        Self { store, clock, actor }
    }

    /// Every place.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn targets(&self) -> Result<Vec<PublicationTarget>, StoreError> {
        self.store.publication_targets().await
    }

    /// `target` shows `edition`, and from now on every key waits for it. Says whether it is new.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing has changed then.
    pub async fn register(&self, target: &TargetUrl, edition: &Edition) -> Result<bool, StoreError> {
        let mut write = self.store.write().await?;
        let now = self.now(&mut write).await?;
        let is_new = write.register_target(target, &self.actor, now).await?;
        write.note_shown(target, &shown(edition, Found::default()), &self.actor, now).await?;
        write.commit().await?;
        Ok(is_new)
    }

    /// No key waits for `target` any more. Says whether one did.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing has changed then.
    pub async fn forget(&self, target: &TargetUrl) -> Result<bool, StoreError> {
        let mut write = self.store.write().await?;
        let now = self.now(&mut write).await?;
        let was_there = write.forget_target(target, &self.actor, now).await?;
        write.commit().await?;
        Ok(was_there)
    }

    /// `target` shows `edition` since now, if keys wait for it. Says whether something else than carnet had written
    /// there, which is recorded: what carnet wrote last is known by its digest, also if its keys were replaced since.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing has changed then.
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

    /// `target` was not brought up to date.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn failed(&self, target: &TargetUrl, error: &str) -> Result<(), StoreError> {
        self.store.note_publication_failed(target, error, self.clock.now()).await
    }

    /// `target` shows what it should, though nothing had to be written.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn works(&self, target: &TargetUrl) -> Result<(), StoreError> {
        self.store.note_publication_works(target).await
    }

    /// No publication begins earlier than what is known to have been: by a clock that is behind, a key would
    /// count as published for long once that is set right.
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
