//! Whether SQLite finds its own file sound.

use super::{Store, StoreError};

/// More complaints than this tell nobody more.
const MAX_LISTED: usize = 20;

impl Store {
    /// What `PRAGMA integrity_check` complains about; nothing of a sound file. Reads all of it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sql`] when the file is too broken to be checked.
    pub async fn integrity_problems(&self) -> Result<Vec<String>, StoreError> {
        let mut found: Vec<String> =
            sqlx::query_scalar("PRAGMA integrity_check(20)").fetch_all(&self.readers.lists).await?;
        found.retain(|line| line != "ok");
        Ok(found)
    }

    /// The rows that refer to a row that is not there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sql`] when the file cannot be read.
    pub async fn foreign_key_problems(&self) -> Result<Vec<String>, StoreError> {
        let found: Vec<(String, Option<i64>, String, i64)> =
            sqlx::query_as("PRAGMA foreign_key_check").fetch_all(&self.readers.lists).await?;
        let described = found.into_iter().take(MAX_LISTED).map(|(table, row, parent, _)| match row {
            Some(row) => format!("row {row} of {table} refers to no row of {parent}"),
            None => format!("a row of {table} refers to no row of {parent}"),
        });
        Ok(described.collect())
    }
}
