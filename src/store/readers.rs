//! Connections that only read, kept apart by who waits for them.
//!
//! A caller who reads much must never delay what decides: the key pulse and the lookup of callers and feeds have
//! connections that nothing else uses. The audit log has a few of its own; a statement on one of those ends at its
//! deadline, when whoever asked goes away, or when the store stops.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{Connection as _, Sqlite, SqliteConnection};

use super::StoreError;

/// The longest time for one page of the audit log. Pages are bounded and take milliseconds; a slow disk takes longer.
pub(super) const LOG_DEADLINE: Duration = Duration::from_secs(5);

/// The longest wait for a connection to the audit log.
const LOG_TURN_WITHIN: Duration = Duration::from_secs(2);

/// The longest wait for any other reading connection.
const TURN_WITHIN: Duration = Duration::from_secs(5);

/// Connections to the audit log. With more of them, readers would take every core.
const LOG_CONNECTIONS: u32 = 2;

/// A statement on the audit log looks about every 50 µs whether it should end.
const INSTRUCTIONS_BETWEEN_LOOKS: i32 = 4_000;

/// A connection that was idle for less is taken to work: to ask it costs as much as a lookup.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// The pools. Connections are opened when they are first needed.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    /// For one row of the key state alone, which one task reads several times a second.
    pub(super) pulse: SqlitePool,
    /// For the keys, which are read when they change.
    pub(super) keys: SqlitePool,
    /// For lookups by an index that every request needs: the caller's grant, the feed.
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

    /// A connection to the audit log. A statement on it is interrupted once the connection is dropped, or the store
    /// stops.
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

    /// Ends every statement on the audit log, now and from now on.
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

/// A connection to the audit log, whose statement ends when this is dropped.
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

/// A pool that asks a connection whether it works only after it was idle.
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
