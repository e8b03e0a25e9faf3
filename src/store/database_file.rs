//! The database's file: creating it, its journal mode and its schema.

use std::path::Path;

use sqlx::migrate::MigrateError;
use sqlx::{Connection as _, SqliteConnection};

use super::database_url::DatabaseUrl;
use super::schema::{CheckedSchema, MIGRATIONS, newest_migration};
use super::writer::parse_again;
use super::{StoreError, is_busy};

/// The maximum number of attempts to switch to a write-ahead log. An attempt fails only while another process
/// switches the same new database, and fewer processes than this ever start at once.
const MAX_SWITCH_TRIES: u32 = 100;

/// Creates a file that only its owner can read. SQLite gives its log and index files the same mode.
pub(super) fn create_private_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        // Another process has just created it, which is as good.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

/// Switches the database to a write-ahead log. The file stays in that mode.
///
/// While another process makes the same switch, SQLite returns `SQLITE_BUSY` at once and ignores the busy
/// timeout. Beginning a transaction does wait for that process, so it serves as the pause between attempts.
pub(super) async fn use_write_ahead_log(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        match sqlx::query("PRAGMA journal_mode = WAL").execute(&mut *connection).await {
            Err(error) if is_busy(&error) && tries < MAX_SWITCH_TRIES => {
                connection.begin_with("BEGIN IMMEDIATE").await?.commit().await?;
            }
            switched => return switched.map(drop),
        }
    }
}

/// Migrates the schema and checks it, inside one immediate transaction. sqlx takes no lock on SQLite, so
/// without that transaction two processes that start at once would both migrate.
pub(super) async fn migrate(
    url: &DatabaseUrl,
    schema: &CheckedSchema,
    connection: &mut SqliteConnection,
) -> Result<(), StoreError> {
    let open = |source| StoreError::Open { database: url.clone(), source };
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(open)?;
    parse_again(&mut transaction).await.map_err(open)?;
    match MIGRATIONS.run_direct(None, &mut *transaction, false).await {
        Ok(()) => {
            schema.check(url, &mut transaction).await?;
            transaction.commit().await.map_err(open)
        }
        Err(MigrateError::VersionMissing(found)) => {
            Err(StoreError::TooNew { database: url.clone(), found, known: newest_migration() })
        }
        Err(source) => Err(StoreError::Migration { database: url.clone(), source }),
    }
}
