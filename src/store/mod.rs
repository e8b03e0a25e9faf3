//! Storage: everything that survives a restart.
//!
//! Owns the SQL, the sealing of private keys, and the MACs on key and audit rows. Makes no decisions: callers
//! read, decide and write inside one [`Transaction`]. One connection writes. Several connections read, in a
//! separate pool for each purpose. Other processes may use the same file in the same way at any time.
//!
//! A database is opened in three steps, and each step has a type that allows more than the previous one:
//! [`Store`] reads rows that need no keys, [`Unlocked`] authenticates rows, and [`Trusted`] changes them.

pub mod audit;
mod clock;
mod columns;
pub mod custody;
mod database_file;
pub mod database_url;
pub mod feeds;
pub mod grants;
pub mod integrity;
pub mod issuer;
pub mod jwks_clients;
pub mod key_events;
pub mod keyring;
pub mod master_key;
pub mod nudges;
#[cfg(test)]
mod plan_tests;
pub mod publications;
mod readers;
pub mod removed_subjects;
pub mod rewrap;
mod schema;
pub mod sealed;
mod sealed_keys;
pub mod server_keys;
pub mod signing_keys;
pub mod state_file;
pub mod states;
mod unlocked;
pub mod uploaded_jwks;
pub mod vault;
mod writer;

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection, Sqlite, SqliteConnection};
use tokio::sync::Mutex;

use self::audit::WrittenEnd;
use self::columns::{corrupt, from_millis, from_seconds, parse, to_millis, to_seconds};
use self::database_file::{create_private_file, migrate, use_write_ahead_log};
use self::database_url::DatabaseUrl;
use self::keyring::Keyring;
use self::readers::{LOG_DEADLINE, Readers};
use self::schema::CheckedSchema;
use self::sealed::SealError;
use self::sealed_keys::Keyholder;
use self::states::{Change, Guard, Seen, StateError};
use self::writer::Writer;
use crate::audit::Anchor;
use crate::values::issuer_url::IssuerUrl;

/// The maximum time that a statement waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum time that a checkpoint waits for readers. It is short because a server retries later.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_millis(250);

/// A database operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no database, and this command must not create one.
    #[error("there is no database at {0}")]
    Missing(DatabaseUrl),
    /// A file of the database cannot be created or opened.
    #[error("the database {database} cannot be opened")]
    Open {
        /// The database.
        database: DatabaseUrl,
        /// The cause.
        #[source]
        source: sqlx::Error,
    },
    /// The database file cannot be created.
    #[error("the database file {database} cannot be created")]
    Create {
        /// The database.
        database: DatabaseUrl,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A newer version of carnet has changed the schema.
    #[error(
        "the database {database} has schema {found} and this program knows schemas up to {known}: it was used by a newer carnet"
    )]
    TooNew {
        /// The database.
        database: DatabaseUrl,
        /// The schema in the database.
        found: i64,
        /// The newest schema of this program.
        known: i64,
    },
    /// The schema migration failed.
    #[error("the schema of {database} could not be brought up to date")]
    Migration {
        /// The database.
        database: DatabaseUrl,
        /// The cause.
        #[source]
        source: MigrateError,
    },
    /// A statement failed.
    #[error("the database refused a statement")]
    Sql(#[from] sqlx::Error),
    /// A row holds a value that carnet never writes.
    #[error("table `{table}`, row {row}: {problem}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The row's key.
        row: String,
        /// The problem with the row.
        problem: String,
    },
    /// The issuer URL in the database has changed since this process opened it.
    #[error(
        "the issuer was changed from {from} to {to} while this process ran: start it again with the new URL"
    )]
    IssuerChanged {
        /// The URL that this process uses.
        from: IssuerUrl,
        /// The URL that is now in the database.
        to: IssuerUrl,
    },
    /// The database was replaced or altered, or its state cannot be determined.
    #[error(transparent)]
    State(#[from] StateError),
    /// Sealed bytes do not open, or a row fails its MAC.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database's symmetric keys belong to another epoch, and this process cannot open them.
    #[error(
        "the database's keys are those of epoch {epoch}, sealed with the master key {needed}, and this \
         process has the keys of epoch {in_use}: it serves only the public documents"
    )]
    OtherEpoch {
        /// The epoch of the database.
        epoch: i64,
        /// The epoch of the keys that this process holds.
        in_use: i64,
        /// The identifier of the master key that opens the database's keys.
        needed: String,
    },
    /// Every connection to the audit log was in use, and none became free in time.
    #[error("too many requests are reading the audit log")]
    LogBusy,
    /// A page of the audit log took longer than its deadline.
    #[error("reading the audit log took longer than {LOG_DEADLINE:?}")]
    LogTooSlow,
}

impl StoreError {
    /// Returns whether the error shows that the database's file or folder is not writable, as on a read-only
    /// mount.
    #[must_use]
    pub fn is_unwritable(&self) -> bool {
        /// SQLite's primary result codes <https://www.sqlite.org/rescode.html>: READONLY and CANTOPEN.
        const CODES: [i32; 2] = [8, 14];
        let of_database = |error: &sqlx::Error| {
            let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
            code.is_some_and(|code| CODES.contains(&(code & 0xff)))
        };
        match self {
            Self::Open { source, .. } | Self::Sql(source) => of_database(source),
            Self::Migration { source: MigrateError::Execute(source), .. } => of_database(source),
            Self::Create { source, .. } => {
                matches!(
                    source.kind(),
                    std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem
                )
            }
            _ => false,
        }
    }
}

/// An open database, locked: without its keys, no row can be authenticated and no change can be recorded in
/// the audit log, so nothing can be changed. [`Store::unlock`] opens the keys.
#[derive(Debug, Clone)]
pub struct Store {
    url: DatabaseUrl,
    writer: Writer,
    /// Held by an ordinary writer while it waits for a connection. [`Trusted::write_first`] does not take it,
    /// so that at most one ordinary writer is ahead of an urgent one.
    turn: Arc<Mutex<()>>,
    readers: Readers,
    /// Has a short busy timeout, so that a checkpoint never waits for long.
    checkpointer: SqlitePool,
    /// The last row of the audit log that this process wrote, shared by all clones.
    log_end: Arc<WrittenEnd>,
    /// The schema, shared by all clones.
    schema: Arc<CheckedSchema>,
    /// The device and inode number of the file that was opened.
    file: Option<(u64, u64)>,
}

/// A database whose symmetric keys are open, so that its rows and its audit log can be authenticated.
///
/// Nothing shows yet that it is not an older copy, so nothing can be changed, and its rows are only good for a
/// report. [`Unlocked::establish_state`] takes the next step.
#[derive(Debug, Clone)]
pub struct Unlocked {
    store: Store,
    /// Shared by all clones.
    keys: Arc<Keyholder>,
    /// The state that rows are compared with, shared by all clones; `None` unless a [`Trusted`] holds this
    /// one.
    guard: Option<Arc<Guard>>,
}

/// A database whose state was compared with its witnesses, or that is recovered from an untrusted one. Only
/// this type begins a [`Transaction`]; the steps before it write only the keys and the first state that a
/// database lacks.
///
/// A row is accepted only if a state vouches for it: see [`states`].
#[derive(Debug, Clone)]
pub struct Trusted {
    unlocked: Unlocked,
    /// The same one as in `unlocked`.
    guard: Arc<Guard>,
}

impl Deref for Unlocked {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Deref for Trusted {
    type Target = Unlocked;

    fn deref(&self) -> &Unlocked {
        &self.unlocked
    }
}

/// The action of [`Store::open`] if the database does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// Create an empty database.
    Create,
    /// Fail with [`StoreError::Missing`].
    Refuse,
}

impl Store {
    /// Opens the database, migrates its schema to the current version, and checks it.
    pub async fn open(url: &DatabaseUrl, if_missing: IfMissing) -> Result<Self, StoreError> {
        if !url.path().exists() {
            match if_missing {
                IfMissing::Refuse => return Err(StoreError::Missing(url.clone())),
                IfMissing::Create => create_private_file(url.path())
                    .map_err(|source| StoreError::Create { database: url.clone(), source })?,
            }
        }
        let open = |source| StoreError::Open { database: url.clone(), source };
        let options = SqliteConnectOptions::from_str("sqlite:")
            .map_err(open)?
            .filename(url.path())
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            // Deleted content is overwritten: a destroyed private key must not survive in a free page.
            .pragma("secure_delete", "ON")
            // The duration of a statement depends more on the machine than on the database, so slow ones are
            // not logged.
            .disable_statement_logging();
        let mut opening = SqliteConnection::connect_with(&options).await.map_err(open)?;
        use_write_ahead_log(&mut opening).await.map_err(open)?;
        let schema = Arc::new(CheckedSchema::default());
        migrate(url, &schema, &mut opening).await?;
        let writer = Writer::connect(options.clone()).await.map_err(open)?;
        // Closed only now that the writer is connected: the last connection to close would empty the
        // write-ahead log.
        opening.close().await.map_err(open)?;
        let checkpointer = readers::pool()
            .max_connections(1)
            .connect_lazy_with(options.clone().busy_timeout(CHECKPOINT_TIMEOUT));
        let readers = Readers::new(&options);
        let (turn, log_end, file) = (Arc::default(), Arc::default(), file_at(url.path()));
        Ok(Self { url: url.clone(), writer, turn, readers, checkpointer, log_end, schema, file })
    }

    /// Returns the database's name for messages.
    #[must_use]
    pub fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// Begins a transaction with the write lock, whose schema was checked.
    async fn begin_immediate(&self) -> Result<sqlx::Transaction<'static, Sqlite>, StoreError> {
        self.writer.begin(&self.url, &self.schema).await
    }

    /// Returns whether the database's path no longer names the file that was opened. This process would keep
    /// using the old file, and see none of the changes that other processes make.
    fn is_replaced(&self) -> bool {
        self.file.is_some() && file_at(self.url.path()) != self.file
    }

    /// Moves the whole write-ahead log into the database file and empties it, so that overwritten content is
    /// gone from both. Returns `false` if a reader still needs the log.
    pub async fn truncate_log(&self) -> Result<bool, StoreError> {
        let (busy, _, _): (i64, i64, i64) =
            sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.checkpointer).await?;
        Ok(busy == 0)
    }

    /// Interrupts every statement that reads the audit log, now and later. Called before the process ends.
    pub fn stop_reading(&self) {
        self.readers.stop();
    }

    /// Closes every connection. SQLite then moves the write-ahead log into the database file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.checkpointer.close().await;
        self.writer.close().await;
    }
}

/// A reading transaction: one snapshot of the database, and the keys that authenticate its rows.
#[derive(Debug)]
pub struct ReadTransaction {
    transaction: sqlx::Transaction<'static, Sqlite>,
    url: DatabaseUrl,
    /// The keys of the epoch that the transaction sees.
    keyring: Arc<Keyring>,
    /// The state that this process trusted before the transaction first read the database. The transaction
    /// therefore sees that state or a later one. `None` if no state is trusted: see [`Unlocked`].
    seen: Option<Seen>,
    /// Always `None` unless a [`Transaction`] holds this one.
    change: Option<Change>,
}

impl ReadTransaction {
    fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }

    /// Returns the keys that authenticate the rows that this transaction reads and writes.
    #[must_use]
    pub fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.keyring)
    }
}

/// A writing transaction. It reads as a [`ReadTransaction`] does, its own changes included.
#[derive(Debug)]
pub struct Transaction {
    read: ReadTransaction,
    guard: Arc<Guard>,
    log_end: Arc<WrittenEnd>,
    /// The end of the audit log that this transaction has written.
    written_end: Option<Anchor>,
}

impl Deref for Transaction {
    type Target = ReadTransaction;

    fn deref(&self) -> &ReadTransaction {
        &self.read
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut ReadTransaction {
        &mut self.read
    }
}

impl Transaction {
    /// Commits the transaction durably. If it changed tracked rows (see [`states`]), appends a state before
    /// the commit and writes the state file after it. If this fails, nothing has been written.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        let appended = self.append_state().await?;
        self.read.transaction.commit().await?;
        if let Some(end) = self.written_end {
            self.log_end.committed(end);
        }
        if let Some(appended) = appended {
            self.guard.committed(appended).await;
        }
        Ok(())
    }
}

/// Returns the device and inode number of the file at `path`.
fn file_at(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Returns whether the error is `SQLITE_BUSY` or one of its extended codes, which have the same low byte.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    code.is_some_and(|code| code & 0xff == 5)
}
