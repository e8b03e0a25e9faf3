//! The rows of `grants`. Every read authenticates them.
//!
//! An attacker who can write the database but lacks the master key can neither create a grant nor widen or
//! restore one: such a row is [`GrantRow::Forged`]. An earlier row that carnet itself wrote has a valid MAC.
//! It is [`GrantRow::Forged`] as well, because no state vouches for it (see [`super::states`]).

mod makers;
mod recovery;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::keyring::{Keyring, Purpose};
use super::sealed::RowMac;
use super::states::Effects as _;
use super::{
    ReadTransaction, StoreError, Transaction, Trusted, Unlocked, corrupt, from_millis, parse, to_millis,
};
use crate::feed::display_name::DisplayName;
use crate::grant::{Grant, Permissions, TokenHash};
use crate::states::{Contents, Table};

/// A grant and the hash of its token.
#[derive(Debug, Clone)]
pub struct StoredGrant {
    /// The grant.
    pub grant: Grant,
    /// The hash of its token.
    pub token_hash: TokenHash,
}

impl StoredGrant {
    /// Returns whether both have the same grant and token, whenever it was last used.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let unused = |grant: &Grant| Grant { last_used_at: None, ..grant.clone() };
        unused(&self.grant) == unused(&other.grant) && self.token_hash.matches(&other.token_hash)
    }
}

/// A row as it was read.
#[derive(Debug, Clone)]
pub enum GrantRow {
    /// carnet wrote it.
    Authentic(Box<StoredGrant>),
    /// Something other than carnet wrote or changed it.
    Forged {
        /// Its `id` column, cut to 64 characters.
        id: String,
    },
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    token_hash: String,
    role: String,
    spaces: Option<String>,
    feeds: Option<String>,
    context: String,
    scope: String,
    created_at: i64,
    created_by: String,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
    last_used_at: Option<i64>,
    mac: String,
}

/// A row, and the epoch whose keys authenticate it.
#[derive(sqlx::FromRow)]
struct RowInEpoch {
    #[sqlx(flatten)]
    row: Row,
    epoch: i64,
}

const TABLE: &str = "grants";
/// One statement, because every request runs it.
const ONE_IN_EPOCH: &str = "SELECT id, name, token_hash, role, spaces, feeds, context, scope, created_at, created_by, \
                            expires_at, revoked_at, last_used_at, mac, \
                            (SELECT epoch FROM key_state WHERE key_state.id = 1) AS epoch \
                            FROM grants WHERE id = $1";
const ONE: &str = "SELECT id, name, token_hash, role, spaces, feeds, context, scope, created_at, created_by, \
                   expires_at, revoked_at, last_used_at, mac FROM grants WHERE id = $1";
const ALL: &str = "SELECT id, name, token_hash, role, spaces, feeds, context, scope, created_at, created_by, \
                   expires_at, revoked_at, last_used_at, mac FROM grants NOT INDEXED ORDER BY created_at, id";

impl Unlocked {
    /// Returns the grant `id`. An unknown id costs the same work as a known one.
    ///
    /// # Errors
    ///
    /// [`StoreError::State`] while the database is not trusted; [`StoreError::Corrupt`] if this version does
    /// not understand an authentic row.
    pub async fn grant(&self, id: Uuid) -> Result<Option<GrantRow>, StoreError> {
        if let Some(guard) = &self.guard {
            guard.believed()?;
        }
        let keyring = self.keyring();
        let query = sqlx::query_as::<_, RowInEpoch>(ONE_IN_EPOCH).bind(id.to_string());
        match query.fetch_optional(&self.readers.lookups).await? {
            Some(RowInEpoch { row, epoch })
                if epoch == keyring.epoch() && self.vouches(Table::Grants, &row.id, &row.mac) =>
            {
                row.read(mac(&keyring)).map(Some)
            }
            // Another process has just changed the row or begun a new epoch, or someone has restored an
            // earlier row.
            Some(_) => {
                self.catch_up().await?;
                self.read_from(&self.readers.lookups).await?.grant(id).await
            }
            None => {
                let _ = Row::decoy().is_authentic(mac(&keyring));
                Ok(None)
            }
        }
    }

    /// Returns every grant, oldest first.
    pub async fn grants(&self) -> Result<Vec<GrantRow>, StoreError> {
        self.read().await?.grants().await
    }
}

impl Trusted {
    /// Records the times at which grants were last used. A later time that is already recorded stays. If this
    /// fails, nothing is recorded.
    pub async fn note_grant_uses(&self, uses: &[(Uuid, Timestamp)]) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        for (id, at) in uses {
            sqlx::query(
                "UPDATE grants SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)",
            )
            .bind(id.to_string())
            .bind(to_millis(*at))
            .count_affected(write.connection())
            .await?;
        }
        write.commit().await
    }
}

impl ReadTransaction {
    /// Returns the grant `id`, inside this transaction.
    pub async fn grant(&mut self, id: Uuid) -> Result<Option<GrantRow>, StoreError> {
        let keyring = self.keyring();
        let query = sqlx::query_as::<_, Row>(ONE).bind(id.to_string());
        let Some(row) = query.fetch_optional(self.connection()).await? else { return Ok(None) };
        let is_vouched = self.is_vouched(Table::Grants, &row.id, &row.mac).await?;
        if is_vouched { row.read(mac(&keyring)).map(Some) } else { Ok(Some(row.refused())) }
    }

    /// Returns every grant, oldest first, inside this transaction.
    pub async fn grants(&mut self) -> Result<Vec<GrantRow>, StoreError> {
        let keyring = self.keyring();
        let rows: Vec<Row> = sqlx::query_as(ALL).fetch_all(self.connection()).await?;
        let vouched = self.vouched_contents().await?;
        let is_vouched = |row: &Row| {
            let mac = vouched.as_ref().map(|vouched| vouched.get(Table::Grants, &row.id));
            mac.is_none_or(|mac| mac == Some(&row.mac))
        };
        let read = |row: Row| if is_vouched(&row) { row.read(mac(&keyring)) } else { Ok(row.refused()) };
        rows.into_iter().map(read).collect()
    }

    /// Returns the number of rows, authentic or not.
    pub async fn count_grants(&mut self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT COUNT(*) FROM grants").fetch_one(self.connection()).await?)
    }
}

impl Transaction {
    /// Removes the rows of grants that expired or were revoked before `time`. A grant stays as long as a
    /// grant that it made does.
    pub async fn remove_grants_ended_before(&mut self, time: Timestamp) -> Result<(), StoreError> {
        for id in self.grants_ended_before(time).await? {
            self.begin_change().await?;
            self.changed(Table::Grants, &id, None);
            sqlx::query("DELETE FROM grants WHERE id = $1")
                .bind(id)
                .affects_one(self.connection(), TABLE)
                .await?;
        }
        Ok(())
    }

    /// Writes a new grant.
    pub async fn insert_grant(&mut self, stored: &StoredGrant) -> Result<(), StoreError> {
        let keyring = self.keyring();
        self.insert_row(Row::new(stored, mac(&keyring))?).await
    }

    async fn insert_row(&mut self, row: Row) -> Result<(), StoreError> {
        self.begin_change().await?;
        self.changed(Table::Grants, &row.id, Some(row.mac.clone()));
        sqlx::query(
            "INSERT INTO grants (id, name, token_hash, role, spaces, feeds, context, scope, created_at, created_by, \
             expires_at, revoked_at, last_used_at, mac) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .bind(row.id)
        .bind(row.name)
        .bind(row.token_hash)
        .bind(row.role)
        .bind(row.spaces)
        .bind(row.feeds)
        .bind(row.context)
        .bind(row.scope)
        .bind(row.created_at)
        .bind(row.created_by)
        .bind(row.expires_at)
        .bind(row.revoked_at)
        .bind(row.last_used_at)
        .bind(row.mac)
        .affects_one(self.connection(), TABLE)
        .await?;
        Ok(())
    }

    /// Writes the times of a grant, such as its revocation, and its new MAC. Nothing else of a grant ever
    /// changes.
    pub async fn update_grant_times(&mut self, stored: &StoredGrant) -> Result<(), StoreError> {
        self.begin_change().await?;
        let keyring = self.keyring();
        let row = Row::new(stored, mac(&keyring))?;
        self.changed(Table::Grants, &row.id, Some(row.mac.clone()));
        sqlx::query(
            "UPDATE grants SET created_at = $2, expires_at = $3, revoked_at = $4, mac = $5 WHERE id = $1",
        )
        .bind(row.id)
        .bind(row.created_at)
        .bind(row.expires_at)
        .bind(row.revoked_at)
        .bind(row.mac)
        .affects_one(self.connection(), TABLE)
        .await?;
        Ok(())
    }
}

/// The result of giving grants new MACs.
pub(super) struct Renewed {
    /// The ids of the rows that were not authentic, cut to 64 characters. They stay unchanged.
    failed: Vec<String>,
    /// The ids of all other rows, each with its new MAC.
    changed: Vec<(String, String)>,
}

/// Gives each row that is authentic under `before` its MAC under `after`. With `vouched`, a state must vouch
/// for the row, too.
pub(super) async fn renew_macs(
    connection: &mut SqliteConnection,
    before: &RowMac,
    after: &RowMac,
    vouched: Option<&Contents>,
) -> Result<Renewed, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(ALL).fetch_all(&mut *connection).await?;
    let mut renewed = Renewed { failed: Vec::new(), changed: Vec::new() };
    for row in rows {
        let is_vouched = |vouched: &Contents| vouched.get(Table::Grants, &row.id) == Some(&row.mac);
        if !row.is_authentic(before) || !vouched.is_none_or(is_vouched) {
            renewed.failed.push(row.short_id());
            continue;
        }
        let mac = row.authenticated(|columns| after.tag(columns));
        sqlx::query("UPDATE grants SET mac = $2 WHERE id = $1")
            .bind(&row.id)
            .bind(&mac)
            .affects_one(&mut *connection, TABLE)
            .await?;
        renewed.changed.push((row.id, mac));
    }
    Ok(renewed)
}

impl Row {
    fn new(stored: &StoredGrant, mac: &RowMac) -> Result<Self, StoreError> {
        let Grant { id, name, permissions, created_at, created_by, .. } = &stored.grant;
        let id = id.to_string();
        let list = |json: String| Some(json).filter(|json| json != "null");
        let mut row = Self {
            name: name.to_string(),
            token_hash: stored.token_hash.to_text(),
            role: permissions.role.to_string(),
            spaces: list(json(&id, &permissions.spaces)?),
            feeds: list(json(&id, &permissions.feeds)?),
            context: json(&id, &permissions.context)?,
            scope: json(&id, &permissions.scope)?,
            created_at: to_millis(*created_at),
            created_by: created_by.clone(),
            expires_at: stored.grant.expires_at.map(to_millis),
            revoked_at: stored.grant.revoked_at.map(to_millis),
            last_used_at: stored.grant.last_used_at.map(to_millis),
            mac: String::new(),
            id,
        };
        row.mac = row.authenticated(|columns| mac.tag(columns));
        Ok(row)
    }

    /// Returns a row of typical length that is never stored. Verifying it costs as much as verifying a real
    /// one.
    fn decoy() -> Self {
        Self {
            id: Uuid::nil().to_string(),
            name: "decoy".to_owned(),
            token_hash: TokenHash::of_nothing().to_text(),
            role: "deployer".to_owned(),
            spaces: Some(r#"["default"]"#.to_owned()),
            feeds: Some(r#"["decoy"]"#.to_owned()),
            context: "{}".to_owned(),
            scope: r#"{"actions":["pull","push"]}"#.to_owned(),
            created_at: 1_000_000_000_000,
            created_by: "local:decoy".to_owned(),
            expires_at: Some(1_000_000_000_000),
            revoked_at: None,
            last_used_at: None,
            mac: "A".repeat(43),
        }
    }

    /// Returns the id, cut to 64 characters in case carnet did not write it.
    fn short_id(&self) -> String {
        self.id.chars().take(64).collect()
    }

    /// Returns the result for a row that is not authentic, or that no state vouches for.
    fn refused(&self) -> GrantRow {
        GrantRow::Forged { id: self.short_id() }
    }

    fn is_authentic(&self, mac: &RowMac) -> bool {
        self.authenticated(|columns| mac.verifies(columns, &self.mac))
    }

    fn read(self, mac: &RowMac) -> Result<GrantRow, StoreError> {
        if !self.is_authentic(mac) {
            return Ok(self.refused());
        }
        let time = |millis| from_millis(TABLE, &self.id, millis);
        let optional_time = |millis: Option<i64>| millis.map(time).transpose();
        let hash = TokenHash::from_text(&self.token_hash);
        let grant = Grant {
            id: parse(TABLE, &self.id, &self.id)?,
            name: DisplayName::stored(&self.name)
                .map_err(|error| corrupt(TABLE, &self.id, error.to_string()))?,
            permissions: Permissions {
                role: parse(TABLE, &self.id, &self.role)?,
                spaces: from_json(&self.id, self.spaces.as_deref().unwrap_or("null"))?,
                feeds: from_json(&self.id, self.feeds.as_deref().unwrap_or("null"))?,
                context: from_json(&self.id, &self.context)?,
                scope: from_json(&self.id, &self.scope)?,
            },
            created_at: time(self.created_at)?,
            created_by: self.created_by.clone(),
            expires_at: optional_time(self.expires_at)?,
            revoked_at: optional_time(self.revoked_at)?,
            last_used_at: optional_time(self.last_used_at)?,
        };
        let token_hash = hash.ok_or_else(|| corrupt(TABLE, &self.id, "its token's hash is malformed"))?;
        Ok(GrantRow::Authentic(Box::new(StoredGrant { grant, token_hash })))
    }

    /// Calls `use_columns` with every column under the MAC, in their fixed order. A column is empty only if
    /// it is NULL.
    fn authenticated<T>(&self, use_columns: impl FnOnce(&[&str]) -> T) -> T {
        let number = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
        use_columns(&[
            "grant-row-1",
            &self.id,
            &self.name,
            &self.token_hash,
            &self.role,
            self.spaces.as_deref().unwrap_or_default(),
            self.feeds.as_deref().unwrap_or_default(),
            &self.context,
            &self.scope,
            &number(Some(self.created_at)),
            &self.created_by,
            &number(self.expires_at),
            &number(self.revoked_at),
        ])
    }
}

fn mac(keyring: &Keyring) -> &RowMac {
    keyring.mac(Purpose::Grants)
}

fn json(id: &str, value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| corrupt(TABLE, id, error.to_string()))
}

fn from_json<T: DeserializeOwned>(id: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| corrupt(TABLE, id, error.to_string()))
}
