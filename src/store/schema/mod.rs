//! The check that the schema is the one that the migrations make.
//!
//! A user who can write the database can also add a trigger or a view, alter a table, or point an index at
//! other pages. Then a statement succeeds and does something else: a revocation changes no row, the log does
//! not get a record. Neither MACs nor states show that. So no process opens or changes a database whose schema
//! something other than carnet has changed, and a running server stops trusting it.
//!
//! Additional tables are accepted, because they do not change what carnet's own statements do, and replication
//! tools keep theirs in the same file. A table that references one of carnet's does change that: it can refuse
//! a deletion.

mod indexes;
mod objects;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use sqlx::migrate::Migrator;
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::OnceCell;

use self::indexes::{Scope, index_problem};
use self::objects::{Object, foreign, objects, reference};
use super::database_url::DatabaseUrl;
use super::states::StateError;
use super::{ReadTransaction, StoreError};

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!();

/// The objects of the schema that the migrations make.
static EXPECTED: OnceCell<Vec<Object>> = OnceCell::const_new();

/// Everything that SQLite parses a schema from, in its order, and the version of the newest migration.
///
/// `quote` tells NULL, texts and blobs apart and ends a text at a NUL, as SQLite does when it parses the
/// schema. The sum of the lengths shows text after a NUL.
const TEXT: &str = "SELECT CAST(group_concat(quote(type) || quote(name) || quote(tbl_name) || quote(rootpage) || quote(sql), '') \
    || ' ' || sum(octet_length(type || name || tbl_name || coalesce(sql, ''))) \
    || ' ' || (SELECT quote(max(version)) FROM _sqlx_migrations) AS BLOB) \
    FROM (SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema ORDER BY rowid) AS t";

/// The schema that a store has checked last. Comparing with it is all that the usual check does.
#[derive(Debug, Default)]
pub(super) struct CheckedSchema(ArcSwapOption<Vec<u8>>);

impl CheckedSchema {
    /// Checks the schema that a transaction on `connection` sees. If it differs from the last one, also checks
    /// the indexes of small tables.
    ///
    /// # Errors
    ///
    /// [`StateError::Schema`] names the first object that is not carnet's, [`StateError::Indexes`] the first
    /// table that does not agree with its indexes. [`StateError::Newer`] if another process, of a newer
    /// version, has migrated the database.
    pub(super) async fn check(
        &self,
        url: &DatabaseUrl,
        connection: &mut SqliteConnection,
    ) -> Result<(), StoreError> {
        // Fails if the table of migrations is gone; the whole check names it.
        let text: Result<Option<Vec<u8>>, _> = sqlx::query_scalar(TEXT).fetch_one(&mut *connection).await;
        if let Ok(Some(text)) = &text
            && self.0.load().as_deref() == Some(text)
        {
            return Ok(());
        }
        // Rare, and large.
        Box::pin(check_whole(url, connection)).await?;
        self.0.store(text?.map(Arc::new));
        Ok(())
    }
}

async fn check_whole(url: &DatabaseUrl, connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let expected = expected().await?;
    let schema = |object: String| StateError::Schema { database: url.clone(), object };
    let found = objects(connection).await?.map_err(|object| schema(object.to_string()))?;
    let difference = foreign(expected, &found);
    // The difference may be what the newer version has made.
    if is_newer(connection).await? {
        return Err(StateError::Newer(url.clone()).into());
    }
    if let Some(object) = difference {
        return Err(schema(object.to_string()).into());
    }
    if let Some(object) = reference(expected, connection).await? {
        return Err(schema(object.to_string()).into());
    }
    check_indexes(url, connection, Scope::Small).await
}

impl ReadTransaction {
    /// Checks that all tables except the audit log agree with their indexes. Called by what must find every
    /// row, before it changes anything.
    ///
    /// # Errors
    ///
    /// [`StateError::Indexes`] names the first table that does not.
    pub async fn check_indexes(&mut self) -> Result<(), StoreError> {
        let url = self.url.clone();
        check_indexes(&url, self.connection(), Scope::AllButAudit).await
    }
}

/// Checks that the tables in `scope` agree with their indexes.
async fn check_indexes(
    url: &DatabaseUrl,
    connection: &mut SqliteConnection,
    scope: Scope,
) -> Result<(), StoreError> {
    let Some((table, problem)) = index_problem(connection, &tables(expected().await?, scope)).await? else {
        return Ok(());
    };
    Err(StateError::Indexes { database: url.clone(), table, problem }.into())
}

/// Returns the names of carnet's tables in `scope`.
fn tables(expected: &[Object], scope: Scope) -> Vec<&str> {
    let tables = expected.iter().filter(|object| object.is_table()).map(|object| object.name.as_str());
    tables.filter(|table| scope.has(table)).collect()
}

/// Returns the version of the newest migration.
pub(super) fn newest_migration() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Returns whether a newer version has migrated the database while this process runs.
async fn is_newer(connection: &mut SqliteConnection) -> Result<bool, StoreError> {
    let latest: Result<Option<i64>, _> =
        sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(connection).await;
    // If there is no such table, it is reported as missing.
    Ok(latest.is_ok_and(|latest| latest > Some(newest_migration())))
}

/// Returns the objects that the migrations make, by applying them to an empty database in memory.
async fn expected() -> Result<&'static [Object], StoreError> {
    let expected = EXPECTED.get_or_try_init(|| async {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await?;
        MIGRATIONS.run_direct(None, &mut connection, false).await.map_err(sqlx::Error::from)?;
        let made = objects(&mut connection).await?.unwrap_or_default();
        connection.close().await?;
        Ok::<_, StoreError>(made)
    });
    Ok(expected.await?)
}
