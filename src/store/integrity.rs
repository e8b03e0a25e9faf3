//! SQLite's own checks of its file.

use super::{Store, StoreError};

/// The maximum number of problems reported. A reader needs no more to know that the file is damaged.
const MAX_LISTED: usize = 20;

impl Store {
    /// Returns the problems that `PRAGMA integrity_check` reports; none if the file is sound. Reads the whole
    /// file.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sql`] if the file is too damaged to be checked.
    pub async fn integrity_problems(&self) -> Result<Vec<String>, StoreError> {
        let mut found: Vec<String> =
            sqlx::query_scalar("PRAGMA integrity_check(20)").fetch_all(&self.readers.lists).await?;
        found.retain(|line| line != "ok");
        Ok(found)
    }

    /// Returns a description of each row that refers to a missing row.
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
