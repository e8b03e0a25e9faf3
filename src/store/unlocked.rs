//! The transactions of an unlocked database, and of a trusted one.

use std::sync::Arc;

use sqlx::Sqlite;
use sqlx::sqlite::SqlitePool;

use super::keyring::Keyring;
use super::states::Guard;
use super::{ReadTransaction, StoreError, Transaction, Trusted, Unlocked};
use crate::states::Table;

impl Unlocked {
    /// Returns the current keys. [`ReadTransaction::keyring`] returns those that belong to the data that a
    /// transaction reads.
    #[must_use]
    pub fn keyring(&self) -> Arc<Keyring> {
        self.keys.current()
    }

    /// Begins a reading transaction: one snapshot, with the keys that authenticate it.
    ///
    /// # Errors
    ///
    /// [`StoreError::OtherEpoch`] if another process has begun a new epoch whose master key is not available.
    pub(crate) async fn read(&self) -> Result<ReadTransaction, StoreError> {
        self.read_from(&self.readers.lists).await
    }

    /// Begins a reading transaction as [`Unlocked::read`] does, on a connection of `readers`.
    pub(super) async fn read_from(&self, readers: &SqlitePool) -> Result<ReadTransaction, StoreError> {
        self.begun(readers.begin().await?).await
    }

    /// Adds the trusted state, and the keys of the epoch that the transaction sees.
    pub(super) async fn begun(
        &self,
        mut transaction: sqlx::Transaction<'static, Sqlite>,
    ) -> Result<ReadTransaction, StoreError> {
        // Before the transaction first reads the database.
        let seen = self.guard.as_ref().and_then(Guard::seen);
        let keyring = self.keys.of_epoch(&mut transaction).await?;
        Ok(ReadTransaction { transaction, url: self.url.clone(), keyring, seen, change: None })
    }

    /// Returns whether the trusted state vouches for the row. Also `true` if no state is trusted.
    pub(super) fn vouches(&self, table: Table, row: &str, mac: &str) -> bool {
        self.guard.as_ref().is_none_or(|guard| guard.vouches(table, row, mac))
    }
}

impl Trusted {
    pub(super) fn new(unlocked: Unlocked, guard: Guard) -> Self {
        let guard = Arc::new(guard);
        Self { unlocked: Unlocked { guard: Some(Arc::clone(&guard)), ..unlocked }, guard }
    }

    /// Begins a writing transaction. No other process can write until it ends. Dropping it rolls it back.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sql`] if another process holds the write lock for longer than the busy timeout;
    /// [`StoreError::OtherEpoch`] if another process has begun a new epoch whose master key is not available.
    pub async fn write(&self) -> Result<Transaction, StoreError> {
        let _turn = self.turn.lock().await;
        self.write_first().await
    }

    /// Begins a writing transaction ahead of all callers that wait in [`Trusted::write`]. For revocations, key
    /// changes and the audit log, which a flood of other changes must not delay.
    pub async fn write_first(&self) -> Result<Transaction, StoreError> {
        let read = self.begun(self.begin_immediate().await?).await?;
        let (guard, log_end) = (Arc::clone(&self.guard), Arc::clone(&self.log_end));
        Ok(Transaction { read, guard, log_end, written_end: None })
    }

    /// Uses `keyring` from now on, unless a later one is in use.
    pub fn use_keyring(&self, keyring: &Arc<Keyring>) {
        self.keys.advance(keyring);
    }

    /// Returns the keys of the database's current epoch, and uses them from now on.
    pub async fn follow_epoch(&self) -> Result<Arc<Keyring>, StoreError> {
        Ok(self.read_from(&self.readers.keys).await?.keyring())
    }
}
