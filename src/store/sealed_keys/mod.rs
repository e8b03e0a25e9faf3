//! The rows of `sealed_keys`: the keys of the keyring, and the epoch that they belong to.
//!
//! An unlocked store begins every transaction by reading the epoch. If another process has begun a new epoch,
//! this one follows if it can find the new master key. Otherwise it trusts no row and changes nothing.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::audit::{begin_audit, ended_audit_epochs};
use super::grants::renew_macs;
use super::issuer::insert_key_state;
use super::keyring::{Keyring, LIST_VERSION, Purpose, Symmetric};
use super::master_key::MasterKeys;
use super::sealed::Sealer;
use super::states::Effects as _;
use super::{Store, StoreError, Unlocked, corrupt};
use crate::audit::AuditKey;
use crate::values::random::Random;

const TABLE: &str = "sealed_keys";
const MASTER_KEY_ID: &str = "SELECT master_key_id FROM sealed_keys ORDER BY name LIMIT 1";
const EPOCH: &str = "SELECT epoch, purposes FROM key_state WHERE id = 1";

/// The keyring that an unlocked store and all its clones use, and the sources of the master keys of later
/// epochs.
#[derive(Debug)]
pub(super) struct Keyholder {
    sources: MasterKeys,
    current: ArcSwap<Keyring>,
}

/// A key as it is stored.
#[derive(sqlx::FromRow)]
struct SealedRow {
    name: String,
    master_key_id: String,
    sealed: String,
}

impl Store {
    /// Returns the identifier of the master key that seals the database's keys; `None` if the database is not
    /// set up.
    pub async fn sealed_with(&self) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar(MASTER_KEY_ID).fetch_optional(&self.readers.keys).await?)
    }

    /// Sets up a new database: writes the default policy, and generates and seals every key of the keyring.
    /// Does nothing if the database is already set up. `now` becomes the first high-water time.
    pub async fn set_up(
        &self,
        sealer: &Sealer,
        random: &dyn Random,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let mut write = self.begin_immediate().await?;
        insert_key_state(&mut write, now).await?;
        Box::pin(complete_keys(&mut write, sealer, random)).await?;
        Ok(write.commit().await?)
    }

    /// Opens the database's symmetric keys, so that rows can be authenticated. Generates those that a database
    /// from before this version lacks. `sources` provides the master keys of later epochs.
    ///
    /// # Errors
    ///
    /// [`StoreError::Seal`] if another master key seals the database; [`StoreError::Corrupt`] if a key is
    /// missing.
    pub async fn unlock(
        &self,
        sources: MasterKeys,
        sealer: Arc<Sealer>,
        random: &dyn Random,
    ) -> Result<Unlocked, StoreError> {
        let mut read = self.readers.keys.begin().await?;
        // Boxed, here and below: rarely needed, and large compared with the future that awaits it.
        let keyring = match Box::pin(load_keyring(&mut read, Arc::clone(&sealer))).await? {
            Some(keyring) => keyring,
            None => {
                let mut write = self.begin_immediate().await?;
                Box::pin(complete_keys(&mut write, &sealer, random)).await?;
                let loaded = Box::pin(load_keyring(&mut write, sealer)).await?;
                let keyring = loaded.ok_or_else(|| gone(Purpose::SigningKeys))?;
                write.commit().await?;
                keyring
            }
        };
        let keys = Arc::new(Keyholder { sources, current: ArcSwap::new(keyring) });
        Ok(Unlocked { store: self.clone(), keys, guard: None })
    }
}

impl Keyholder {
    /// Returns the current keys.
    pub(super) fn current(&self) -> Arc<Keyring> {
        self.current.load_full()
    }

    /// Uses `keyring` from now on, unless a later one is in use.
    pub(super) fn advance(&self, keyring: &Arc<Keyring>) {
        self.current
            .rcu(|current| Arc::clone(if current.epoch() > keyring.epoch() { current } else { keyring }));
    }

    /// Returns the keyring for a transaction that has just begun.
    pub(super) async fn of_epoch(
        &self,
        transaction: &mut SqliteConnection,
    ) -> Result<Arc<Keyring>, StoreError> {
        let current = self.current();
        let Some((epoch, _)) = epoch(transaction).await? else {
            return Err(corrupt("key_state", "1", "is gone"));
        };
        if epoch == current.epoch() {
            return Ok(current);
        }
        let needed = sqlx::query_scalar(MASTER_KEY_ID).fetch_optional(&mut *transaction).await?;
        let needed: String = needed.unwrap_or_default();
        let other = || StoreError::OtherEpoch { epoch, in_use: current.epoch(), needed: needed.clone() };
        // Epochs only increase: an earlier one means that an older copy has replaced the database.
        if epoch < current.epoch() {
            return Err(other());
        }
        let master_key = self.sources.get(&needed).ok_or_else(other)?;
        let sealer = Arc::new(Sealer::new(&master_key)?);
        let keyring = Box::pin(load_keyring(transaction, sealer)).await?.ok_or_else(other)?;
        self.advance(&keyring);
        tracing::info!(master_key = %master_key.id(), epoch, "the keys of another epoch are in use now");
        Ok(keyring)
    }
}

/// Returns the epoch, and the version of the list of purposes for which its keys are complete.
async fn epoch(connection: &mut SqliteConnection) -> Result<Option<(i64, i64)>, StoreError> {
    Ok(sqlx::query_as(EPOCH).fetch_optional(connection).await?)
}

/// Opens every key of the list; `None` if the database is from before this version of the list.
async fn load_keyring(
    connection: &mut SqliteConnection,
    sealer: Arc<Sealer>,
) -> Result<Option<Arc<Keyring>>, StoreError> {
    let Some((epoch, LIST_VERSION..)) = epoch(connection).await? else { return Ok(None) };
    let rows = sealed_rows(connection).await?;
    let mut keys = Vec::with_capacity(Purpose::ALL.len());
    for purpose in Purpose::ALL {
        let row = rows.iter().find(|row| row.name == purpose.name()).ok_or_else(|| gone(purpose))?;
        keys.push(Symmetric::open(purpose, epoch, &sealer, (&row.master_key_id, &row.sealed))?);
    }
    let keys = keys.try_into().map_err(|_| gone(Purpose::SigningKeys))?;
    Ok(Some(keyring_of(connection, epoch, sealer, &keys).await?))
}

/// Returns the keyring of these keys, together with the epochs that have ended.
pub(super) async fn keyring_of(
    connection: &mut SqliteConnection,
    epoch: i64,
    sealer: Arc<Sealer>,
    keys: &[Symmetric; Purpose::ALL.len()],
) -> Result<Arc<Keyring>, StoreError> {
    let audit_key = Box::new(AuditKey::new(&keys[Purpose::AUDIT_CHAIN].key));
    let ended = ended_audit_epochs(connection, &audit_key, &sealer).await?;
    Ok(Arc::new(Keyring::new(epoch, sealer, keys, ended)))
}

async fn sealed_rows(connection: &mut SqliteConnection) -> Result<Vec<SealedRow>, StoreError> {
    let query = sqlx::query_as("SELECT name, master_key_id, sealed FROM sealed_keys");
    Ok(query.fetch_all(connection).await?)
}

/// Opens a key of `keyring` again, in order to seal it under another master key.
pub(super) async fn open_sealed_key(
    connection: &mut SqliteConnection,
    purpose: Purpose,
    keyring: &Keyring,
) -> Result<Symmetric, StoreError> {
    open_key(connection, purpose, keyring.epoch(), keyring.sealer()).await
}

async fn open_key(
    connection: &mut SqliteConnection,
    purpose: Purpose,
    epoch: i64,
    sealer: &Sealer,
) -> Result<Symmetric, StoreError> {
    let rows = sealed_rows(connection).await?;
    let row = rows.iter().find(|row| row.name == purpose.name()).ok_or_else(|| gone(purpose))?;
    Ok(Symmetric::open(purpose, epoch, sealer, (&row.master_key_id, &row.sealed))?)
}

/// Generates the keys that a new database, or one from before this list, lacks. Gives rows that another key
/// authenticated their new MAC. Does nothing if the keys are complete.
///
/// # Errors
///
/// [`StoreError::Corrupt`] if a key is missing that the database once had.
async fn complete_keys(
    connection: &mut SqliteConnection,
    sealer: &Sealer,
    random: &dyn Random,
) -> Result<(), StoreError> {
    let Some((epoch, version @ ..LIST_VERSION)) = epoch(connection).await? else { return Ok(()) };
    let rows = sealed_rows(connection).await?;
    for purpose in Purpose::ALL {
        if rows.iter().any(|row| row.name == purpose.name()) {
            continue;
        }
        if purpose.since() <= version && !rows.is_empty() {
            return Err(gone(purpose));
        }
        let made = Symmetric::generate(purpose, random)?;
        insert_sealed_key(connection, &made, epoch, sealer, random).await?;
        if purpose == Purpose::AuditChain {
            begin_audit(connection, &AuditKey::new(&made.key)).await?;
        }
    }
    if version < 1 {
        let states: Option<i64> =
            sqlx::query_scalar("SELECT n FROM states LIMIT 1").fetch_optional(&mut *connection).await?;
        if states.is_some() {
            return Err(corrupt("key_state", "1", "is from before the states, and the database has states"));
        }
        // In version 0, one key authenticated the rows of both tables.
        let before = open_key(connection, Purpose::SigningKeys, epoch, sealer).await?;
        let after = open_key(connection, Purpose::Grants, epoch, sealer).await?;
        renew_macs(connection, &before.mac(), &after.mac(), None).await?;
    }
    sqlx::query("UPDATE key_state SET purposes = $1 WHERE id = 1")
        .bind(LIST_VERSION)
        .affects_one(connection, "key_state")
        .await?;
    Ok(())
}

/// Stores a key, and replaces the previous one of its purpose.
pub(super) async fn insert_sealed_key(
    connection: &mut SqliteConnection,
    key: &Symmetric,
    epoch: i64,
    sealer: &Sealer,
    random: &dyn Random,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO sealed_keys (name, master_key_id, sealed) VALUES ($1, $2, $3) \
         ON CONFLICT (name) DO UPDATE SET master_key_id = $2, sealed = $3",
    )
    .bind(key.purpose.name())
    .bind(sealer.master_key_id().as_str())
    .bind(key.seal(epoch, sealer, random)?)
    .affects_one(connection, TABLE)
    .await?;
    Ok(())
}

fn gone(purpose: Purpose) -> StoreError {
    corrupt(TABLE, purpose.name(), "is gone")
}

#[cfg(test)]
impl Store {
    /// Sets up a new database under `master_key`, and makes its first state.
    pub(crate) async fn set_up_new(&self, master_key: &super::master_key::MasterKey) -> super::Trusted {
        let random = crate::values::random::SecureRandom::default();
        let sealer = Arc::new(Sealer::new(master_key).unwrap());
        self.set_up(&sealer, &random, Timestamp::UNIX_EPOCH).await.unwrap();
        let usual = super::master_key::MasterKeySource::Folder("none".into());
        let unlocked = self.unlock(MasterKeys { usual, next: None }, sealer, &random).await.unwrap();
        unlocked.establish_state(&super::states::Witnesses::default()).await.unwrap()
    }
}

#[cfg(test)]
mod tests;
