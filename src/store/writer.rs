//! The connection that writes.
//!
//! SQLite parses the schema once per connection, and again when the schema's version number differs. Anyone
//! who can write the database can set that number. So a trigger that a connection has parsed could run after it
//! was removed. The writing connection therefore parses the schema only inside a transaction that then checks
//! it, and no statement runs on it outside such a transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{Connection as _, Sqlite, SqliteConnection};

use super::database_url::DatabaseUrl;
use super::schema::CheckedSchema;
use super::{BUSY_TIMEOUT, StoreError, is_busy, readers};

/// The maximum interval between two attempts of a transaction that waits for another process. SQLite alone
/// retries ten times a second, and so misses the gaps between the transactions of a process that writes
/// continuously.
const ASKED_EVERY: Duration = Duration::from_millis(8);

/// The writing connection. Only transactions that have checked the schema can be had from it.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pool: SqlitePool,
    parsed: Arc<Parsed>,
}

/// The schema as the connection has parsed it.
#[derive(Debug, Default)]
struct Parsed {
    /// `true` until the first check of a connection succeeds. It may have parsed a schema when it connected.
    is_new: AtomicBool,
    /// `true` while a check runs, and after it failed or was cancelled.
    is_unchecked: AtomicBool,
}

impl Writer {
    /// Connects. The pool discards a connection whose last transaction has not ended, and one whose schema
    /// failed its check. If SQLite has rolled a transaction back by itself, as on a full disk, sqlx's own
    /// rollback fails, and the connection could never begin another one.
    pub(super) async fn connect(options: SqliteConnectOptions) -> sqlx::Result<Self> {
        let parsed = Arc::new(Parsed::default());
        let (connected, released) = (Arc::clone(&parsed), Arc::clone(&parsed));
        let pool = readers::pool()
            .max_connections(1)
            .after_connect(move |_, _| {
                connected.is_new.store(true, Ordering::SeqCst);
                connected.is_unchecked.store(false, Ordering::SeqCst);
                Box::pin(async { Ok(()) })
            })
            .after_release(move |connection, _| {
                let parsed = Arc::clone(&released);
                Box::pin(async move {
                    // Executes the pending rollback of a dropped transaction.
                    connection.ping().await?;
                    Ok(!connection.is_in_transaction() && !parsed.is_unchecked.load(Ordering::SeqCst))
                })
            })
            .connect_with(options.busy_timeout(ASKED_EVERY))
            .await?;
        Ok(Self { pool, parsed })
    }

    /// Begins a transaction with the write lock, and retries while another process holds it. The schema is
    /// checked under the lock, so it cannot change before the transaction ends.
    pub(super) async fn begin(
        &self,
        url: &DatabaseUrl,
        schema: &CheckedSchema,
    ) -> Result<sqlx::Transaction<'static, Sqlite>, StoreError> {
        let mut left = BUSY_TIMEOUT.as_millis() / ASKED_EVERY.as_millis();
        let mut begun = loop {
            left -= 1;
            match self.pool.begin_with("BEGIN IMMEDIATE").await {
                Err(error) if is_busy(&error) && left > 0 => {}
                begun => break begun?,
            }
        };
        self.parsed.is_unchecked.store(true, Ordering::SeqCst);
        if self.parsed.is_new.load(Ordering::SeqCst) {
            parse_again(&mut begun).await?;
        }
        schema.check(url, &mut begun).await?;
        self.parsed.is_new.store(false, Ordering::SeqCst);
        self.parsed.is_unchecked.store(false, Ordering::SeqCst);
        Ok(begun)
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Makes SQLite parse the schema again before the next statement.
pub(super) async fn parse_again(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    // Takes effect when it is prepared, so the statement must not be kept.
    sqlx::query("PRAGMA writable_schema = RESET").persistent(false).execute(connection).await.map(drop)
}

/// Tests also do what another process could do.
#[cfg(test)]
impl std::ops::Deref for Writer {
    type Target = SqlitePool;

    fn deref(&self) -> &SqlitePool {
        &self.pool
    }
}
