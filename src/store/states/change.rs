//! The changes of a transaction to tracked rows, and the state that it appends for them.

use std::sync::Arc;

use super::Vouched;
use super::guard::Guard;
use crate::states::{Contents, Table};
use crate::store::keyring::Keyring;
use crate::store::{StoreError, Transaction};

/// The changes of a transaction since the last state.
///
/// The next state is made only of the rows that the last one vouches for and of these changes, never of
/// anything else in the tables. If someone has restored an earlier row, still no state vouches for it.
#[derive(Debug)]
pub(in crate::store) struct Change {
    base: Arc<Vouched>,
    contents: Arc<Contents>,
    /// A number that the number of the new state also exceeds.
    above: i64,
    /// `true` if the next state vouches for everything in the tables.
    is_whole: bool,
}

impl Change {
    fn of(base: Arc<Vouched>) -> Self {
        Self { contents: Arc::clone(&base.contents), base, above: 0, is_whole: false }
    }

    /// Returns a change that takes the tables as they are. Its state has a number above `above`.
    pub(super) fn whole(base: Arc<Vouched>, above: i64) -> Self {
        Self { above, is_whole: true, ..Self::of(base) }
    }

    pub(super) fn contents(&self) -> Arc<Contents> {
        Arc::clone(&self.contents)
    }
}

impl Transaction {
    /// Adds the new master key to those that authenticate the state file, before it seals the database.
    /// Returns the old one, which must no longer authenticate the file afterwards.
    async fn prepare_file(&self, before: &Arc<Keyring>, after: &Arc<Keyring>) -> Option<String> {
        let old = before.sealer().master_key_id();
        if old == after.sealer().master_key_id() {
            return None;
        }
        if let Some(file) = self.guard.file.clone() {
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

    /// Prepares a change to tracked rows. Must be called before the first statement that changes one.
    ///
    /// # Errors
    ///
    /// [`StoreError::State`] if the database differs from its last state. Nothing may be changed then.
    pub(in crate::store) async fn begin_change(&mut self) -> Result<(), StoreError> {
        if self.change.is_some() {
            return Ok(());
        }
        let change = match self.vouched().await? {
            Some(base) => Change::of(base),
            None => self.read.change_of_whole(&self.guard.tolerated).await?,
        };
        self.change = Some(change);
        Ok(())
    }

    /// Records the new MAC of a row; `None` if the row was deleted.
    pub(in crate::store) fn changed(&mut self, table: Table, row: &str, mac: Option<String>) {
        if let Some(change) = &mut self.change {
            Arc::make_mut(&mut change.contents).set(table, row, mac);
        }
    }

    /// Appends the state of this transaction's changes, if there are any.
    pub(in crate::store) async fn append_state(&mut self) -> Result<Option<Appended>, StoreError> {
        let Some(Change { base, contents, above, is_whole }) = self.change.take() else { return Ok(None) };
        let contents = if is_whole { Arc::new(self.contents().await?) } else { contents };
        let state = base.state.next_above(above, &base.id, contents.digest());
        self.insert_state(&base.id, &state).await?;
        let (id, revoked, keyring) = (base.id.clone(), self.revoked_kids().await?, self.keyring());
        let next = Arc::new(Vouched { id, state, contents, revoked, keyring });
        Ok(Some(Appended { without: self.prepare_file(&base.keyring, &next.keyring).await, next }))
    }
}

/// A state that is appended and not yet committed.
#[derive(Debug)]
pub(in crate::store) struct Appended {
    next: Arc<Vouched>,
    /// The previous master key, which must no longer authenticate the state file.
    without: Option<String>,
}

impl Guard {
    /// Trusts a state that was just committed, and writes it to the state file before any caller learns of
    /// the change.
    pub(in crate::store) async fn committed(&self, Appended { next, without }: Appended) {
        self.believe(next);
        self.write_file(without).await;
    }
}
