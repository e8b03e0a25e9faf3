//! The rows of `states`, and the trust of a process in its database because of them.
//!
//! Tracked rows are those that a state vouches for: signing keys, grants, the issuer URL and the policy. A
//! transaction that changes one appends a state when it commits. A row is accepted only if a state vouches
//! for it: the last one that this process has seen, or a later one that follows from it. `crate::states`
//! defines a state.

mod change;
mod effects;
mod guard;
mod opening;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(super) use self::change::Change;
pub(super) use self::effects::Effects;
pub use self::guard::StateStatus;
pub(super) use self::guard::{Guard, Seen};
pub use self::opening::Witnesses;
use super::database_url::DatabaseUrl;
use super::keyring::{Keyring, Purpose};
use super::sealed::RowMac;
use super::state_file::{Known, StateFileError};
use super::{ReadTransaction, StoreError, corrupt};
use crate::jose::jwk::Kid;
use crate::states::{Contents, DatabaseId, Standing, State, StatePoint, Table, standing};

const TABLE: &str = "states";
/// The number of states that the database keeps. A witness that remembers an older one can no longer
/// recognize the database.
const KEPT: i64 = 100_000;

/// The database is not the one that carnet wrote last, or that cannot be determined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// An older copy has replaced the database.
    #[error(
        "the database {database} is at state {found}, but {witness} has seen it at state {known}: it was \
         replaced by an older database"
    )]
    Older {
        /// The database.
        database: DatabaseUrl,
        /// The number of its last state.
        found: i64,
        /// The number of the remembered state.
        known: i64,
        /// The witness that remembers it.
        witness: String,
    },
    /// The database continued from an older copy, or is another one.
    #[error(
        "the database {database} has another history than {witness} has seen up to state {known}: it \
         continued from an older copy"
    )]
    Forked {
        /// The database.
        database: DatabaseUrl,
        /// The number of the remembered state.
        known: i64,
        /// The witness that remembers it.
        witness: String,
    },
    /// The database no longer keeps the states of the remembered time.
    #[error(
        "the database {database} has its states from {oldest} on, and {witness} has seen state {known}: \
         nothing shows that it is the same database"
    )]
    Forgotten {
        /// The database.
        database: DatabaseUrl,
        /// The first state that it keeps.
        oldest: i64,
        /// The number of the remembered state.
        known: i64,
        /// The witness that remembers it.
        witness: String,
    },
    /// The state file knows other databases, but not this one.
    #[error(
        "{witness} does not know the database {database} (id {id}): it may be an older one, or another one"
    )]
    Unknown {
        /// The database.
        database: DatabaseUrl,
        /// Its identifier.
        id: DatabaseId,
        /// The state file.
        witness: String,
    },
    /// The last row of `states` is missing, or carnet did not write it.
    #[error(
        "the last row of `states` in {0} is missing or fails its MAC: something other than carnet changed the database"
    )]
    Lost(DatabaseUrl),
    /// The tracked rows are not those of the last state.
    #[error(
        "keys, grants, policy or issuer in {database} do not match its last state {n}: something other than \
         carnet restored, inserted, changed or removed rows"
    )]
    Altered {
        /// The database.
        database: DatabaseUrl,
        /// The number of its last state.
        n: i64,
    },
    /// A tracked row is not the one that carnet wrote last.
    #[error(
        "the row {row} of `{table}` is not the one that carnet wrote last: something other than carnet \
         restored, inserted, changed or removed it"
    )]
    NotVouched {
        /// The table.
        table: &'static str,
        /// The row.
        row: String,
    },
    /// A statement affected another number of rows than it must.
    #[error(
        "a statement affected {affected} rows of `{table}` instead of {expected}, and its transaction is undone: \
         something other than carnet changed the database"
    )]
    Ineffective {
        /// The table.
        table: &'static str,
        /// The number of rows that it affected.
        affected: u64,
        /// The number of rows that it must affect.
        expected: u64,
    },
    /// The database's path now names another file.
    #[error(
        "the file of the database {0} was replaced while this process ran: it serves only the public \
         documents until it is started again"
    )]
    Replaced(DatabaseUrl),
    /// Something other than carnet changed the schema.
    #[error(
        "the schema of the database {database} is not carnet's own: {object}; its statements may not do what they say"
    )]
    Schema {
        /// The database.
        database: DatabaseUrl,
        /// The object that differs, and its change.
        object: String,
    },
    /// Something other than carnet changed an index, or pointed it at other pages.
    #[error(
        "the table `{table}` in {database} does not agree with its indexes ({problem}): statements may not find its rows"
    )]
    Indexes {
        /// The database.
        database: DatabaseUrl,
        /// The table.
        table: String,
        /// The problem, as SQLite reports it.
        problem: String,
    },
    /// Another process, of a newer version, has migrated the database.
    #[error("a newer version of carnet has migrated the database {0}: restart with it")]
    Newer(DatabaseUrl),
    /// The state file cannot be used.
    #[error(transparent)]
    File(#[from] StateFileError),
}

impl StateError {
    fn not_vouched(table: Table, row: &str) -> Self {
        Self::NotVouched { table: table.name(), row: row.chars().take(64).collect() }
    }
}

/// A state, and the rows that it vouches for.
#[derive(Debug, Clone)]
struct Vouched {
    id: DatabaseId,
    state: State,
    contents: Arc<Contents>,
    revoked: Vec<Kid>,
    /// The keys of the state's epoch.
    keyring: Arc<Keyring>,
}

impl Vouched {
    fn known(&self) -> Known {
        Known { state: self.state.point(), revoked: self.revoked.clone(), unproved: false, accepted: None }
    }
}

/// A state as it is stored.
#[derive(Debug, sqlx::FromRow)]
struct Row {
    n: i64,
    database_id: String,
    digest: String,
    head: String,
    mac: String,
}

impl Row {
    fn state(&self) -> Result<State, StoreError> {
        let hash =
            |text: &str| text.parse().map_err(|_| corrupt(TABLE, &self.n.to_string(), "is not a state"));
        Ok(State { n: self.n, digest: hash(&self.digest)?, head: hash(&self.head)? })
    }

    /// Returns the database's id and the state, if carnet wrote the row.
    fn authentic(&self, mac: &RowMac) -> Option<(DatabaseId, State)> {
        let (id, state) = (self.database_id.parse().ok()?, self.state().ok()?);
        authenticated(&id, &state, |columns| mac.verifies(columns, &self.mac)).then_some((id, state))
    }
}

/// Calls `use_columns` with every column under the MAC, in their fixed order.
fn authenticated<T>(id: &DatabaseId, state: &State, use_columns: impl FnOnce(&[&str]) -> T) -> T {
    let State { n, digest, head } = state;
    use_columns(&["state-row-1", id.as_str(), &n.to_string(), &digest.to_string(), &head.to_string()])
}

impl ReadTransaction {
    /// Returns the last row of `states`.
    async fn last_state_row(&mut self) -> Result<Option<Row>, StoreError> {
        let last = "SELECT n, database_id, digest, head, mac FROM states ORDER BY n DESC LIMIT 1";
        Ok(sqlx::query_as(last).fetch_optional(self.connection()).await?)
    }

    /// Loads the rows that the last state vouches for, and checks them against its digest.
    async fn load_vouched(&mut self, last: &Row) -> Result<Vouched, StoreError> {
        let keyring = self.keyring();
        let lost = || StateError::Lost(self.url.clone());
        let (id, state) = last.authentic(keyring.mac(Purpose::States)).ok_or_else(lost)?;
        let contents = self.contents().await?;
        if contents.digest() != state.digest {
            // Names the row, if a MAC shows which one it is.
            self.check_key_macs().await?;
            return Err(StateError::Altered { database: self.url.clone(), n: state.n }.into());
        }
        let revoked = self.revoked_kids().await?;
        Ok(Vouched { id, state, contents: Arc::new(contents), revoked, keyring })
    }

    /// Returns the tracked rows as they are now, each with its name and MAC. Reads without an index: one that
    /// lacks rows would hide them.
    async fn tracked_rows(&mut self) -> Result<Vec<(Table, String, String)>, StoreError> {
        let mut found = Vec::new();
        for (table, query) in [
            (Table::SigningKeys, "SELECT kid, mac FROM signing_keys NOT INDEXED"),
            (Table::Grants, "SELECT id, mac FROM grants NOT INDEXED"),
        ] {
            let rows: Vec<(String, String)> = sqlx::query_as(query).fetch_all(self.connection()).await?;
            found.extend(rows.into_iter().map(|(row, mac)| (table, row, mac)));
        }
        let values = self.stored_values().await?.into_iter();
        found.extend(values.map(|(table, value)| (table, String::new(), value)));
        Ok(found)
    }

    /// Returns the tracked rows as they are now.
    ///
    /// # Errors
    ///
    /// [`StateError::NotVouched`] if there are two rows of one name.
    async fn contents(&mut self) -> Result<Contents, StoreError> {
        let mut contents = Contents::default();
        for (table, row, mac) in self.tracked_rows().await? {
            if contents.get(table, &row).is_some() {
                return Err(StateError::not_vouched(table, &row).into());
            }
            contents.set(table, &row, Some(mac));
        }
        Ok(contents)
    }

    /// Returns the keys that were ever revoked, latest last.
    async fn revoked_kids(&mut self) -> Result<Vec<Kid>, StoreError> {
        let kids: Vec<String> = sqlx::query_scalar(
            "SELECT kid FROM signing_keys NOT INDEXED WHERE revoked_at IS NOT NULL ORDER BY revoked_at, kid",
        )
        .fetch_all(self.connection())
        .await?;
        Ok(kids.iter().filter_map(|kid| kid.parse().ok()).collect())
    }

    /// Checks that the database has had the state `known`, which `witness` remembers, and that it is still at
    /// that state or has continued from it. The caller must have authenticated the last row.
    async fn check_standing(
        &mut self,
        id: &DatabaseId,
        known: &StatePoint,
        witness: &str,
    ) -> Result<(), StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT n, database_id, digest, head, mac FROM states WHERE n >= $1 \
             UNION SELECT n, database_id, digest, head, mac FROM states \
             WHERE n IN ((SELECT MIN(n) FROM states), (SELECT MAX(n) FROM states)) ORDER BY n",
        )
        .bind(known.n)
        .fetch_all(self.connection())
        .await?;
        let kept = rows.iter().map(Row::state).collect::<Result<Vec<_>, _>>()?;
        let (database, known_n, witness) = (self.url.clone(), known.n, witness.to_owned());
        Err(StoreError::from(match standing(known, id, &kept) {
            Standing::Current | Standing::Ahead => return Ok(()),
            Standing::Older { found } => StateError::Older { database, found, known: known_n, witness },
            Standing::Forked => StateError::Forked { database, known: known_n, witness },
            Standing::Forgotten { oldest } => {
                StateError::Forgotten { database, oldest, known: known_n, witness }
            }
        }))
    }
}

impl ReadTransaction {
    /// Appends `state`, and deletes states older than the last [`KEPT`]. The transaction must hold the write
    /// lock.
    async fn insert_state(&mut self, id: &DatabaseId, state: &State) -> Result<(), StoreError> {
        let mac = authenticated(id, state, |columns| self.keyring.mac(Purpose::States).tag(columns));
        sqlx::query("INSERT INTO states (n, database_id, digest, head, mac) VALUES ($1, $2, $3, $4, $5)")
            .bind(state.n)
            .bind(id.as_str())
            .bind(state.digest.to_string())
            .bind(state.head.to_string())
            .bind(mac)
            .affects_one(self.connection(), TABLE)
            .await?;
        sqlx::query("DELETE FROM states WHERE n <= $1")
            .bind(state.n.saturating_sub(KEPT))
            .count_affected(self.connection())
            .await?;
        Ok(())
    }
}
