//! A transaction's own changes of rows that count, and the state that it appends because of them.

use std::sync::Arc;

use super::StateError;
use super::guard::{Guard, Vouched};
use crate::states::{Contents, Table};
use crate::store::keyring::Keyring;
use crate::store::{ReadTransaction, StoreError, Transaction};

/// What a transaction has changed since the last state.
///
/// The next state is made of what the last one vouches for and of these changes alone, never of what else is found in
/// the tables: a row that somebody put back stays one that no state vouches for.
#[derive(Debug)]
pub(in crate::store) struct Change {
    base: Arc<Vouched>,
    contents: Arc<Contents>,
    /// The new state's number is above this one, too.
    above: i64,
    /// The next state vouches for all that is in the tables.
    is_whole: bool,
}

impl Change {
    fn of(base: Arc<Vouched>) -> Self {
        Self { contents: Arc::clone(&base.contents), base, above: 0, is_whole: false }
    }

    /// A change after which the tables are taken as they are, with a number above `above`.
    pub(super) fn whole(base: Arc<Vouched>, above: i64) -> Self {
        Self { above, is_whole: true, ..Self::of(base) }
    }

    pub(super) fn contents(&self) -> Arc<Contents> {
        Arc::clone(&self.contents)
    }
}

impl ReadTransaction {
    /// Lets the new master key authenticate the state file before it seals the database; gives the old one, which is
    /// to authenticate it no longer afterwards.
    async fn prepare_file(&self, before: &Arc<Keyring>, after: &Arc<Keyring>) -> Option<String> {
        let old = before.sealer().master_key_id();
        if old == after.sealer().master_key_id() {
            return None;
        }
        if let Some(file) = self.guard.file.get().cloned() {
            let (before, after) = (Arc::clone(before), Arc::clone(after));
            let prepared = tokio::task::spawn_blocking(move || file.prepare(before.sealer(), after.sealer()));
            if let Ok(Err(error)) = prepared.await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the state file could not be written"
                );
            }
        }
        Some(old.to_string())
    }
}

impl Transaction {
    /// Says that rows that count are about to be changed: to be called before the first statement that does so.
    ///
    /// # Errors
    ///
    /// [`StoreError::State`] when the database is not what its last state says, so that nothing may be changed.
    pub(in crate::store) async fn begin_change(&mut self) -> Result<(), StoreError> {
        if self.change.is_some() {
            return Ok(());
        }
        if let Some(record) = self.guard.tolerated.get().filter(|_| self.seen.is_none()).cloned() {
            self.change = Some(self.change_of_whole(&record).await?);
            return Ok(());
        }
        match self.vouched().await? {
            Some(base) => self.change = Some(Change::of(base)),
            // Set up, or upgraded: its first state is made after that.
            None if self.last_state_row().await?.is_none() => {}
            None => return Err(StateError::NotEstablished(self.url.clone()).into()),
        }
        Ok(())
    }

    /// Records that a row has this MAC now, or is gone. Does nothing before there is a first state.
    pub(in crate::store) fn changed(&mut self, table: Table, row: &str, mac: Option<String>) {
        if let Some(change) = &mut self.change {
            Arc::make_mut(&mut change.contents).set(table, row, mac);
        }
    }

    /// Appends the state of what this transaction has changed, if it has.
    pub(in crate::store) async fn append_state(&mut self) -> Result<Option<Appended>, StoreError> {
        let Some(Change { base, contents, above, is_whole }) = self.change.take() else { return Ok(None) };
        let contents = if is_whole { Arc::new(self.contents().await?) } else { contents };
        let state = base.state.next_above(above, &base.id, contents.digest());
        self.insert_state(&base.id, &state).await?;
        let (id, revoked, keyring) = (base.id.clone(), self.revoked_kids().await?, self.keyring()?);
        let next = Arc::new(Vouched { id, state, contents, revoked, keyring });
        Ok(Some(Appended { without: self.prepare_file(&base.keyring, &next.keyring).await, next }))
    }
}

/// A state that is appended and not yet committed.
#[derive(Debug)]
pub(in crate::store) struct Appended {
    next: Arc<Vouched>,
    /// The master key of before.
    without: Option<String>,
}

impl Guard {
    /// Believes a state that is committed now, and writes that down: before anybody is told of the change.
    pub(in crate::store) async fn committed(&self, Appended { next, without }: Appended) {
        self.believe(next);
        self.write_file(without).await;
    }
}
