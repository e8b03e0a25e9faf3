//! Storage: what survives a restart.
//!
//! Owns the SQL, the sealing of private keys and the authentication of key and audit rows. Decides nothing:
//! callers read, decide and write inside one [`Transaction`]. One connection writes, several
//! read, each for those who wait for the same; other processes may do the same on the same file at any time.

pub mod audit;
mod clock;
pub mod custody;
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
pub mod sealed;
mod sealed_keys;
pub mod server_keys;
pub mod signing_keys;
pub mod state_file;
pub mod states;
pub mod uploaded_jwks;
pub mod vault;

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection, Sqlite, SqliteConnection};
use tokio::sync::Mutex;

use self::database_url::DatabaseUrl;
use self::keyring::Keyring;
use self::readers::{LOG_DEADLINE, Readers};
use self::sealed::SealError;
use self::sealed_keys::Keyholder;
use self::states::{Change, Guard, StateError, Vouched};
use crate::values::issuer_url::IssuerUrl;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// How long a statement waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// A transaction that waits for another process's asks again at least this often. SQLite alone asks ten times a second,
/// and so misses the moments between the transactions of a process that writes all the time.
const ASKED_EVERY: Duration = Duration::from_millis(8);

/// How long a checkpoint waits for readers: a server has better things to do, and tries again.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_millis(250);

/// Many more processes than this never start on a new database within one switch.
const MAX_SWITCH_TRIES: u32 = 100;

/// The database could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no database and this command must not make one.
    #[error("there is no database at {0}")]
    Missing(DatabaseUrl),
    /// A file of the database cannot be made or opened.
    #[error("the database {database} cannot be opened")]
    Open {
        /// The database.
        database: DatabaseUrl,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The database file cannot be made.
    #[error("the database file {database} cannot be made")]
    Create {
        /// The database.
        database: DatabaseUrl,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A later version of carnet has changed the database.
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
    /// The schema could not be brought up to date.
    #[error("the schema of {database} could not be brought up to date")]
    Migration {
        /// The database.
        database: DatabaseUrl,
        /// Why.
        #[source]
        source: MigrateError,
    },
    /// A statement failed.
    #[error("the database refused a statement")]
    Sql(#[from] sqlx::Error),
    /// A row holds what carnet never writes.
    #[error("table `{table}`, row {row}: {problem}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The row's key.
        row: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The database belongs to another issuer URL than when this process opened it.
    #[error(
        "the issuer was changed from {from} to {to} while this process ran: start it again with the new URL"
    )]
    IssuerChanged {
        /// As this process knows it.
        from: IssuerUrl,
        /// As the database has it now.
        to: IssuerUrl,
    },
    /// The database is not the one that it was.
    #[error(transparent)]
    State(#[from] StateError),
    /// Sealed bytes do not open, or a row fails its MAC.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database was opened without the master key: no row can be authenticated, and nothing is changed
    /// unrecorded.
    #[error(
        "rows and audit log of {0} need the master key, without which it was opened: nothing was changed"
    )]
    Locked(DatabaseUrl),
    /// The database's symmetric keys are of another epoch than those of this process, and it cannot follow.
    #[error(
        "the database's keys are those of epoch {epoch}, sealed with the master key {needed}, and this process has those \
         of epoch {in_use}: it serves the public documents and does nothing else"
    )]
    OtherEpoch {
        /// The database's.
        epoch: i64,
        /// The one that this process can open.
        in_use: i64,
        /// The master key that opens the database's.
        needed: String,
    },
    /// Others read the audit log, and did not finish in time.
    #[error("the audit log is being read by too many at once")]
    LogBusy,
    /// A page of the audit log took longer than its deadline.
    #[error("reading the audit log took longer than {LOG_DEADLINE:?}")]
    LogTooSlow,
}

impl StoreError {
    /// Returns whether the database's file or folder cannot be written, as on a read-only mount.
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

/// An open database.
#[derive(Debug, Clone)]
pub struct Store {
    url: DatabaseUrl,
    writer: SqlitePool,
    /// Held while waiting for the writer, so that never more than one of those who wait for a turn stands before
    /// those who do not.
    turn: Arc<Mutex<()>>,
    readers: Readers,
    /// Waits for nobody for long.
    checkpointer: SqlitePool,
    /// The symmetric keys, once the master key has opened them; every clone has them then.
    keys: Arc<Keyholder>,
    /// What this process believes of the database.
    guard: Arc<Guard>,
    /// The file that was opened: device and number.
    file: Option<(u64, u64)>,
}

/// Whether opening may make a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// Make an empty one.
    Create,
    /// Refuse.
    Refuse,
}

impl Store {
    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when there is no database and none may be made, when it was used by a newer
    /// carnet, or when SQLite refuses.
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
            // How long a statement took says more of the machine than of the database.
            .disable_statement_logging();
        let mut opening = SqliteConnection::connect_with(&options).await.map_err(open)?;
        use_write_ahead_log(&mut opening).await.map_err(open)?;
        migrate(url, &mut opening).await?;
        let writer = writing_pool()
            .max_connections(1)
            .connect_with(options.clone().busy_timeout(ASKED_EVERY))
            .await
            .map_err(open)?;
        // After the first connection of the writer: the last one to be closed would empty the log.
        opening.close().await.map_err(open)?;
        let checkpointer = readers::pool()
            .max_connections(1)
            .connect_lazy_with(options.clone().busy_timeout(CHECKPOINT_TIMEOUT));
        let readers = Readers::new(&options);
        let (turn, keys, guard) = (Arc::default(), Arc::default(), Arc::default());
        let file = file_at(url.path());
        Ok(Self { url: url.clone(), writer, turn, readers, checkpointer, keys, guard, file })
    }

    /// The database's name in messages.
    #[must_use]
    pub fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// Begins a writing transaction. No other process writes until it ends; dropping it undoes it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sql`] when another process holds the database for longer than the busy time-out;
    /// [`StoreError::OtherEpoch`] when the store is unlocked with keys that are not the database's any more.
    pub async fn write(&self) -> Result<Transaction, StoreError> {
        let _turn = self.turn.lock().await;
        self.write_first().await
    }

    /// As [`Store::write`], before everybody who waits there: for revocations, key changes and the audit log, which a
    /// flood of other changes must not delay.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn write_first(&self) -> Result<Transaction, StoreError> {
        Ok(Transaction(self.begun(self.begin_immediate().await?).await?))
    }

    /// Begins a transaction that may write, once no other process has one.
    async fn begin_immediate(&self) -> sqlx::Result<sqlx::Transaction<'static, Sqlite>> {
        let mut left = BUSY_TIMEOUT.as_millis() / ASKED_EVERY.as_millis();
        loop {
            left -= 1;
            match self.writer.begin_with("BEGIN IMMEDIATE").await {
                Err(error) if is_busy(&error) && left > 0 => {}
                begun => return begun,
            }
        }
    }

    /// Begins a reading transaction: one snapshot, and the keys that authenticate it.
    async fn read(&self) -> Result<ReadTransaction, StoreError> {
        self.read_from(&self.readers.lists).await
    }

    /// As [`Store::read`], on a connection of these.
    async fn read_from(&self, readers: &SqlitePool) -> Result<ReadTransaction, StoreError> {
        self.begun(readers.begin().await?).await
    }

    /// A transaction with the keys of the epoch that it sees.
    async fn begun(&self, begun: sqlx::Transaction<'static, Sqlite>) -> Result<ReadTransaction, StoreError> {
        let mut transaction = self.inside(begun);
        transaction.keyring = self.keyring_for(&mut transaction).await?;
        Ok(transaction)
    }

    fn inside(&self, transaction: sqlx::Transaction<'static, Sqlite>) -> ReadTransaction {
        let (guard, seen) = (Arc::clone(&self.guard), self.guard.vouched());
        ReadTransaction { transaction, url: self.url.clone(), keyring: None, guard, seen, change: None }
    }

    /// Tells whether the database's path names another file by now, or none, than the one that was opened: this
    /// process goes on with the old file then, and sees nothing of what others change.
    fn is_replaced(&self) -> bool {
        self.file.is_some() && file_at(self.url.path()) != self.file
    }

    /// Moves everything from the write-ahead log into the database file and empties the log, so that
    /// overwritten content is gone from both. Says whether it could: a reader delays it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sql`] when the statement itself fails.
    pub async fn truncate_log(&self) -> Result<bool, StoreError> {
        let (busy, _, _): (i64, i64, i64) =
            sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.checkpointer).await?;
        Ok(busy == 0)
    }

    /// Ends statements that read the audit log, now and from now on, as before a process ends.
    pub fn stop_reading(&self) {
        self.readers.stop();
    }

    /// Closes every connection; the write-ahead log is folded into the database file.
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
    /// `None` in a store that was opened without the master key.
    keyring: Option<Arc<Keyring>>,
    guard: Arc<Guard>,
    /// The belief of this process before the transaction first read the database.
    seen: Option<Arc<Vouched>>,
    /// Always `None` unless a [`Transaction`] holds this one.
    change: Option<Change>,
}

impl ReadTransaction {
    fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }
}

/// A writing transaction. It reads as a [`ReadTransaction`] does, its own changes included.
#[derive(Debug)]
pub struct Transaction(ReadTransaction);

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
    /// Commits the transaction durably. If a row that counts was changed, a state is appended first, and the state file is
    /// written afterwards.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sql`]; nothing has been written then.
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

/// Which file a path names.
fn file_at(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Readable by its owner alone: SQLite gives its log and index the same mode.
fn create_private_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        // Another process was quicker: the database is as good as ours.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

/// A pool that keeps no connection whose last transaction has not ended. When SQLite has undone one by itself,
/// as on a full disk, sqlx's own rollback fails, and the connection would never begin another.
fn writing_pool() -> SqlitePoolOptions {
    readers::pool().after_release(|connection, _| {
        Box::pin(async move {
            // Carries out the rollback of a transaction that was dropped.
            connection.ping().await?;
            Ok(!connection.is_in_transaction())
        })
    })
}

/// Switches the database to a write-ahead log; the file remembers it.
///
/// While another process is at the same switch SQLite answers "busy" at once, whatever the busy
/// time-out. Beginning a transaction does wait for that process, so it is the pause between tries.
async fn use_write_ahead_log(connection: &mut SqliteConnection) -> sqlx::Result<()> {
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

/// `SQLITE_BUSY` or one of its extended codes, whose low byte it is.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    code.is_some_and(|code| code & 0xff == 5)
}

/// Brings the schema up to date inside one immediate transaction: sqlx takes no lock on SQLite, and
/// two processes that start at once must migrate once.
async fn migrate(url: &DatabaseUrl, connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let open = |source| StoreError::Open { database: url.clone(), source };
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(open)?;
    match MIGRATIONS.run_direct(None, &mut *transaction, false).await {
        Ok(()) => transaction.commit().await.map_err(open),
        Err(MigrateError::VersionMissing(found)) => {
            let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
            Err(StoreError::TooNew { database: url.clone(), found, known })
        }
        Err(source) => Err(StoreError::Migration { database: url.clone(), source }),
    }
}

/// A time as it is stored: milliseconds since the Unix epoch.
fn to_millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

fn from_millis(table: &'static str, row: &str, millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millis).map_err(|_| corrupt(table, row, format!("{millis} is not a time")))
}

/// A duration as it is stored: whole seconds.
fn to_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn from_seconds(table: &'static str, row: &str, seconds: i64) -> Result<Duration, StoreError> {
    let seconds =
        u64::try_from(seconds).map_err(|_| corrupt(table, row, format!("{seconds} is not a duration")))?;
    Ok(Duration::from_secs(seconds))
}

/// What a column holds, parsed.
fn parse<T: FromStr<Err: std::fmt::Display>>(
    table: &'static str,
    row: &str,
    text: &str,
) -> Result<T, StoreError> {
    text.parse().map_err(|error: T::Err| corrupt(table, row, error.to_string()))
}

fn corrupt(table: &'static str, row: &str, problem: impl Into<String>) -> StoreError {
    StoreError::Corrupt { table, row: row.to_owned(), problem: problem.into() }
}
