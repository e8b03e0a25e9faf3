//! Read-only connections, in a separate pool for each purpose.
//!
//! A caller that reads much must never delay the reads that every decision depends on: the key pulse, and the
//! lookups of callers and feeds, have connections of their own. The audit log has a few of its own as well. A
//! statement on one of those ends at its deadline, when its caller disconnects, or when the store stops.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{Connection as _, Sqlite, SqliteConnection};

use super::StoreError;

/// The maximum time for one page of the audit log. Pages are bounded and take milliseconds, except on a slow
/// disk.
pub(super) const LOG_DEADLINE: Duration = Duration::from_secs(5);

/// The maximum wait for a connection to the audit log.
const LOG_TURN_WITHIN: Duration = Duration::from_secs(2);

/// The maximum wait for any other reading connection.
const TURN_WITHIN: Duration = Duration::from_secs(5);

/// The number of connections to the audit log. With more of them, readers could take every core.
const LOG_CONNECTIONS: u32 = 2;

/// The number of SQLite instructions between two checks of whether a statement on the audit log should end;
/// about 50 µs.
const INSTRUCTIONS_BETWEEN_LOOKS: i32 = 4_000;

/// The idle time up to which a connection is used without a ping. A ping costs as much as a lookup.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// The pools. Each connection is opened when it is first needed.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    /// For one row of the key state, which one task polls several times a second.
    pub(super) pulse: SqlitePool,
    /// For the signing keys and the keyring, which are read when they change.
    pub(super) keys: SqlitePool,
    /// For the indexed lookups that every request needs: the caller's grant, the feed.
    pub(super) lookups: SqlitePool,
    /// For lists.
    pub(super) lists: SqlitePool,
    log: SqlitePool,
    stopping: Arc<AtomicBool>,
}

impl Readers {
    pub(super) fn new(options: &SqliteConnectOptions) -> Self {
        let options = options.clone().pragma("query_only", "ON");
        let of = |connections: u32, within: Duration| {
            pool().max_connections(connections).acquire_timeout(within).connect_lazy_with(options.clone())
        };
        Self {
            pulse: of(1, TURN_WITHIN),
            keys: of(2, TURN_WITHIN),
            lookups: of(2, TURN_WITHIN),
            lists: of(4, TURN_WITHIN),
            log: of(LOG_CONNECTIONS, LOG_TURN_WITHIN),
            stopping: Arc::default(),
        }
    }

    /// Returns a connection to the audit log. Its statement is interrupted when the connection is dropped or
    /// the store stops.
    pub(super) async fn log(&self) -> Result<LogConnection, StoreError> {
        let mut connection = self.log.acquire().await.map_err(|error| match error {
            sqlx::Error::PoolTimedOut => StoreError::LogBusy,
            other => other.into(),
        })?;
        let dropped = Arc::new(AtomicBool::new(false));
        let (stopping, gone) = (Arc::clone(&self.stopping), Arc::clone(&dropped));
        // Waits for a statement that is still being interrupted.
        let mut handle = connection.lock_handle().await?;
        handle.set_progress_handler(INSTRUCTIONS_BETWEEN_LOOKS, move || {
            !gone.load(Ordering::Relaxed) && !stopping.load(Ordering::Relaxed)
        });
        drop(handle);
        Ok(LogConnection { connection, dropped })
    }

    /// Interrupts every statement on the audit log, now and later.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) async fn close(&self) {
        self.stop();
        for pool in [&self.log, &self.lists, &self.lookups, &self.keys, &self.pulse] {
            pool.close().await;
        }
    }
}

/// A connection to the audit log. Dropping it interrupts its statement.
#[derive(Debug)]
pub(super) struct LogConnection {
    connection: PoolConnection<Sqlite>,
    dropped: Arc<AtomicBool>,
}

impl Deref for LogConnection {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for LogConnection {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

impl Drop for LogConnection {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
    }
}

/// Returns a pool that pings a connection before use only if it has been idle for [`TRUSTED_FOR`].
pub(super) fn pool() -> SqlitePoolOptions {
    SqlitePoolOptions::new().test_before_acquire(false).before_acquire(|connection, idle| {
        Box::pin(async move {
            if idle.idle_for >= TRUSTED_FOR {
                connection.ping().await?;
            }
            Ok(true)
        })
    })
}
