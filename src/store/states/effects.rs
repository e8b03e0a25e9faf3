//! Statements are trusted by the number of rows that they affect.
//!
//! A statement that succeeds need not have done anything: a trigger may have ignored it, or the index that it
//! searches may lack the row. So every statement that changes rows is run by a method of [`Effects`]. A
//! statement that affects another number of rows than it must fails its transaction.

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, SqliteConnection};

use super::StateError;
use crate::store::StoreError;

/// The ways to run a statement that changes rows.
pub(in crate::store) trait Effects: Sized {
    /// Runs the statement, and returns the number of rows that it affected. For statements whose number is not
    /// known in advance.
    async fn count_affected(self, connection: &mut SqliteConnection) -> Result<u64, StoreError>;

    /// Runs the statement, which must affect `expected` rows of `table`.
    ///
    /// # Errors
    ///
    /// [`StateError::Ineffective`] if it affects another number.
    async fn affects(
        self,
        connection: &mut SqliteConnection,
        table: &'static str,
        expected: u64,
    ) -> Result<(), StoreError> {
        let affected = self.count_affected(connection).await?;
        if affected == expected {
            Ok(())
        } else {
            Err(StateError::Ineffective { table, affected, expected }.into())
        }
    }

    /// Runs the statement, which must affect exactly one row of `table`.
    ///
    /// # Errors
    ///
    /// [`StateError::Ineffective`] if it affects another number.
    async fn affects_one(
        self,
        connection: &mut SqliteConnection,
        table: &'static str,
    ) -> Result<(), StoreError> {
        self.affects(connection, table, 1).await
    }
}

impl Effects for Query<'_, Sqlite, SqliteArguments> {
    async fn count_affected(self, connection: &mut SqliteConnection) -> Result<u64, StoreError> {
        Ok(self.execute(connection).await?.rows_affected())
    }
}
