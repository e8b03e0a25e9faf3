//! The changes of a transaction to tracked rows, and the state that it appends for them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::guard::Guard;
use super::{StateError, Vouched};
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
    /// The rows that were changed; `None` in a recovery, after which no other rows may exist.
    rows: Option<BTreeSet<(Table, String)>>,
}

impl Change {
    fn of(base: Arc<Vouched>) -> Self {
        Self { contents: Arc::clone(&base.contents), base, above: 0, rows: Some(BTreeSet::new()) }
    }

    /// Returns the change of a recovery, which begins with the contents of `base` instead of the tables'. Its
    /// state has a number above `above`.
    pub(super) fn recovery(base: Arc<Vouched>, above: i64) -> Self {
        Self { above, rows: None, ..Self::of(base) }
    }

    pub(super) fn contents(&self) -> Arc<Contents> {
        Arc::clone(&self.contents)
    }

    fn set(&mut self, table: Table, row: &str, mac: Option<String>) {
        Arc::make_mut(&mut self.contents).set(table, row, mac);
        if let Some(rows) = &mut self.rows {
            rows.insert((table, row.to_owned()));
        }
    }

    /// Checks that the tables have the rows as this change wrote them; in a recovery, those rows and no others.
    fn check(&self, found: &[(Table, String, String)]) -> Result<(), StateError> {
        let is_meant = |table: Table, row: &str| {
            self.rows.as_ref().is_none_or(|rows| rows.contains(&(table, row.to_owned())))
        };
        let mut expected = Contents::default();
        for table in Table::ALL {
            for (row, mac) in self.contents.of(table).filter(|(row, _)| is_meant(table, row)) {
                expected.set(table, row, Some(mac.to_owned()));
            }
        }
        for table in Table::ALL {
            let of_table = found.iter().filter(|(of, row, _)| *of == table && is_meant(table, row));
            let of_table = of_table.map(|(_, row, mac)| (row.as_str(), mac.as_str()));
            if let Some(row) = expected.difference(table, of_table) {
                return Err(StateError::not_vouched(table, &row));
            }
        }
        Ok(())
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
            None => self.read.change_of_recovery(&self.guard.tolerated).await?,
        };
        self.change = Some(change);
        Ok(())
    }

    /// Records the new MAC of a row; `None` if the row was deleted. In a recovery, also the MAC of a row that it
    /// keeps.
    pub(in crate::store) fn changed(&mut self, table: Table, row: &str, mac: Option<String>) {
        if let Some(change) = &mut self.change {
            change.set(table, row, mac);
        }
    }

    /// Makes the next state cover the tables as they are, as a thief of the keys would.
    #[cfg(feature = "test-internals")]
    pub async fn vouch_for_all_rows(&mut self) -> Result<(), StoreError> {
        self.begin_change().await?;
        for (table, row, mac) in self.tracked_rows().await? {
            self.changed(table, &row, Some(mac));
        }
        Ok(())
    }

    /// Appends the state of this transaction's changes, if there are any.
    ///
    /// # Errors
    ///
    /// [`StateError::NotVouched`] if a row in the tables is not as this transaction wrote it.
    pub(in crate::store) async fn append_state(&mut self) -> Result<Option<Appended>, StoreError> {
        let Some(change) = self.change.take() else { return Ok(None) };
        change.check(&self.tracked_rows().await?)?;
        let Change { base, contents, above, .. } = change;
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
        if self.vouched().is_none() {
            // A recovery: the operator accepts the database in this state.
            self.accepted.store(next.state.n, Ordering::Relaxed);
        }
        self.believe(next);
        self.write_file(without).await;
    }
}
