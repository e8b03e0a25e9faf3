//! Transactions: one that reads, and one that also writes.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use sqlx::{Sqlite, SqliteConnection};

use super::StoreError;
use super::database_url::DatabaseUrl;
use super::keyring::Keyring;
use super::states::{Change, Guard, Vouched};

/// A reading transaction: one snapshot of the database, and the keys that authenticate its rows.
#[derive(Debug)]
pub struct ReadTransaction {
    pub(super) transaction: sqlx::Transaction<'static, Sqlite>,
    pub(super) url: DatabaseUrl,
    /// `None` in a store that was opened without the master key.
    pub(super) keyring: Option<Arc<Keyring>>,
    pub(super) guard: Arc<Guard>,
    /// The state that this process trusted before the transaction first read the database. The transaction
    /// therefore sees that state or a later one.
    pub(super) seen: Option<Arc<Vouched>>,
    /// Always `None` unless a [`Transaction`] holds this one.
    pub(super) change: Option<Change>,
}

impl ReadTransaction {
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }
}

/// A writing transaction. It reads as a [`ReadTransaction`] does, its own changes included.
#[derive(Debug)]
pub struct Transaction(pub(super) ReadTransaction);

impl Deref for Transaction {
    type Target = ReadTransaction;

    fn deref(&self) -> &ReadTransaction {
        &self.0
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut ReadTransaction {
        &mut self.0
    }
}

impl Transaction {
    /// Commits the transaction durably. If it changed tracked rows (see [`super::states`]), appends a state before
    /// the commit and writes the state file after it. If this fails, nothing has been written.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        let appended = self.append_state().await?;
        let ReadTransaction { transaction, guard, .. } = self.0;
        transaction.commit().await?;
        if let Some(appended) = appended {
            guard.committed(appended).await;
        }
        Ok(())
    }
}
