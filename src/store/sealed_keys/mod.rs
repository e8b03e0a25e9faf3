//! The rows of `sealed_keys`: the keys of the keyring, and the epoch that they belong to.
//!
//! An unlocked store begins every transaction by reading the epoch. If another process has begun a new epoch,
//! this one follows if it can find the new master key. Otherwise it trusts no row and changes nothing.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;

use super::keyring::{Keyring, LIST_VERSION, Purpose, Symmetric};
use super::master_key::MasterKeys;
use super::sealed::Sealer;
use super::{ReadTransaction, Store, StoreError, Transaction, corrupt};
use crate::audit::AuditKey;
use crate::values::random::Random;

const TABLE: &str = "sealed_keys";
const MASTER_KEY_ID: &str = "SELECT master_key_id FROM sealed_keys ORDER BY name LIMIT 1";
const EPOCH: &str = "SELECT epoch, purposes FROM key_state WHERE id = 1";

/// The keyring that a store and all its clones use, and the sources of the master keys of later epochs.
#[derive(Debug, Default)]
pub(super) struct Keyholder {
    sources: OnceLock<MasterKeys>,
    current: ArcSwapOption<Keyring>,
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

    /// Opens the database's symmetric keys, so that rows can be authenticated and changes recorded. Generates
    /// those that a database from before this version lacks. Unlocks every clone of this store as well.
    /// `sources` provides the master keys of later epochs.
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
    ) -> Result<(), StoreError> {
        let mut read = self.inside(self.readers.keys.begin().await?);
        // Boxed, here and below: rarely needed, and large compared with the future that awaits it.
        let keyring = match Box::pin(read.load_keyring(Arc::clone(&sealer))).await? {
            Some(keyring) => keyring,
            None => {
                let mut write = Transaction(self.inside(self.begin_immediate().await?));
                Box::pin(write.complete_keys(&sealer, random)).await?;
                let loaded = Box::pin(write.load_keyring(sealer)).await?;
                let keyring = loaded.ok_or_else(|| gone(Purpose::SigningKeys))?;
                write.commit().await?;
                keyring
            }
        };
        let _ = self.keys.sources.set(sources);
        self.use_keyring(keyring);
        Ok(())
    }

    /// Returns the current keys. [`Transaction::keyring`] returns those that belong to the data that a transaction
    /// reads.
    pub fn keyring(&self) -> Result<Arc<Keyring>, StoreError> {
        self.keys.current.load_full().ok_or_else(|| StoreError::Locked(self.url.clone()))
    }

    /// Uses `keyring` from now on, unless a later one is in use.
    pub fn use_keyring(&self, keyring: Arc<Keyring>) {
        self.keys.current.rcu(|current| match current {
            Some(current) if current.epoch() > keyring.epoch() => Some(Arc::clone(current)),
            _ => Some(Arc::clone(&keyring)),
        });
    }

    /// Returns the keys of the database's current epoch, and uses them from now on.
    pub async fn follow_epoch(&self) -> Result<Arc<Keyring>, StoreError> {
        self.read_from(&self.readers.keys).await?.keyring()
    }

    /// Returns the keyring for a transaction that has just begun; `None` if the store is locked.
    pub(super) async fn keyring_for(
        &self,
        transaction: &mut ReadTransaction,
    ) -> Result<Option<Arc<Keyring>>, StoreError> {
        let Some(current) = self.keys.current.load_full() else { return Ok(None) };
        let Some((epoch, _)) = transaction.epoch().await? else {
            return Err(corrupt("key_state", "1", "is gone"));
        };
        if epoch == current.epoch() {
            return Ok(Some(current));
        }
        let needed = transaction.sealed_with().await?.unwrap_or_default();
        let other = || StoreError::OtherEpoch { epoch, in_use: current.epoch(), needed: needed.clone() };
        // Epochs only increase: an earlier one means that an older copy has replaced the database.
        if epoch < current.epoch() {
            return Err(other());
        }
        let master_key =
            self.keys.sources.get().and_then(|sources| sources.get(&needed)).ok_or_else(other)?;
        let sealer = Arc::new(Sealer::new(&master_key)?);
        let keyring = Box::pin(transaction.load_keyring(sealer)).await?.ok_or_else(other)?;
        self.use_keyring(Arc::clone(&keyring));
        tracing::info!(master_key = %master_key.id(), epoch, "the keys of another epoch are in use now");
        Ok(Some(keyring))
    }
}

impl ReadTransaction {
    /// Returns the keys that authenticate the rows that this transaction reads and writes.
    pub fn keyring(&self) -> Result<Arc<Keyring>, StoreError> {
        self.keyring.clone().ok_or_else(|| StoreError::Locked(self.url.clone()))
    }

    /// Returns the identifier of the master key that seals the database's keys, inside this transaction.
    pub(super) async fn sealed_with(&mut self) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar(MASTER_KEY_ID).fetch_optional(self.connection()).await?)
    }

    /// Returns the epoch, and the version of the list of purposes for which its keys are complete.
    async fn epoch(&mut self) -> Result<Option<(i64, i64)>, StoreError> {
        Ok(sqlx::query_as(EPOCH).fetch_optional(self.connection()).await?)
    }

    /// Opens every key of the list; `None` if the database is from before this version of the list.
    pub(super) async fn load_keyring(
        &mut self,
        sealer: Arc<Sealer>,
    ) -> Result<Option<Arc<Keyring>>, StoreError> {
        let Some((epoch, LIST_VERSION..)) = self.epoch().await? else { return Ok(None) };
        let rows = self.sealed_rows().await?;
        let mut keys = Vec::with_capacity(Purpose::ALL.len());
        for purpose in Purpose::ALL {
            let row = rows.iter().find(|row| row.name == purpose.name()).ok_or_else(|| gone(purpose))?;
            keys.push(Symmetric::open(purpose, epoch, &sealer, (&row.master_key_id, &row.sealed))?);
        }
        let keys = keys.try_into().map_err(|_| gone(Purpose::SigningKeys))?;
        Ok(Some(self.keyring_of(epoch, sealer, &keys).await?))
    }

    /// Returns the keyring of these keys, together with the epochs that have ended.
    pub(super) async fn keyring_of(
        &mut self,
        epoch: i64,
        sealer: Arc<Sealer>,
        keys: &[Symmetric; Purpose::ALL.len()],
    ) -> Result<Arc<Keyring>, StoreError> {
        let audit_key = Box::new(AuditKey::new(&keys[Purpose::AUDIT_CHAIN].key));
        let ended = self.ended_audit_epochs(&audit_key, &sealer).await?;
        Ok(Arc::new(Keyring::new(epoch, sealer, keys, ended)))
    }

    async fn sealed_rows(&mut self) -> Result<Vec<SealedRow>, StoreError> {
        let query = sqlx::query_as("SELECT name, master_key_id, sealed FROM sealed_keys");
        Ok(query.fetch_all(self.connection()).await?)
    }

    /// Opens a key of `keyring` again, in order to seal it under another master key.
    pub(super) async fn open_sealed_key(
        &mut self,
        purpose: Purpose,
        keyring: &Keyring,
    ) -> Result<Symmetric, StoreError> {
        self.open_key(purpose, keyring.epoch(), keyring.sealer()).await
    }

    async fn open_key(
        &mut self,
        purpose: Purpose,
        epoch: i64,
        sealer: &Sealer,
    ) -> Result<Symmetric, StoreError> {
        let rows = self.sealed_rows().await?;
        let row = rows.iter().find(|row| row.name == purpose.name()).ok_or_else(|| gone(purpose))?;
        Ok(Symmetric::open(purpose, epoch, sealer, (&row.master_key_id, &row.sealed))?)
    }
}

impl Transaction {
    /// Generates the keys that a new database, or one from before this list, lacks. Gives rows that another
    /// key authenticated their new MAC. Does nothing if the keys are complete.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if a key is missing that the database once had.
    pub(super) async fn complete_keys(
        &mut self,
        sealer: &Sealer,
        random: &dyn Random,
    ) -> Result<(), StoreError> {
        let Some((epoch, version @ ..LIST_VERSION)) = self.epoch().await? else { return Ok(()) };
        let rows = self.sealed_rows().await?;
        for purpose in Purpose::ALL {
            if rows.iter().any(|row| row.name == purpose.name()) {
                continue;
            }
            if purpose.since() <= version && !rows.is_empty() {
                return Err(gone(purpose));
            }
            let made = Symmetric::generate(purpose, random)?;
            self.insert_sealed_key(&made, epoch, sealer, random).await?;
            if purpose == Purpose::AuditChain {
                self.begin_audit(&AuditKey::new(&made.key)).await?;
            }
        }
        if version < 1 {
            // In version 0, one key authenticated the rows of both tables.
            let before = self.open_key(Purpose::SigningKeys, epoch, sealer).await?;
            let after = self.open_key(Purpose::Grants, epoch, sealer).await?;
            self.renew_grant_macs(&before.mac(), &after.mac()).await?;
        }
        sqlx::query("UPDATE key_state SET purposes = $1 WHERE id = 1")
            .bind(LIST_VERSION)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Stores a key, and replaces the previous one of its purpose.
    pub(super) async fn insert_sealed_key(
        &mut self,
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
        .execute(self.connection())
        .await?;
        Ok(())
    }
}

fn gone(purpose: Purpose) -> StoreError {
    corrupt(TABLE, purpose.name(), "is gone")
}

#[cfg(test)]
impl Store {
    /// Sets up a new database under `master_key` and unlocks it.
    pub(crate) async fn unlock_new(&self, master_key: &super::master_key::MasterKey) {
        let random = crate::values::random::SecureRandom::default();
        let sealer = Arc::new(Sealer::new(master_key).unwrap());
        let mut write = self.write().await.unwrap();
        write.set_up(&sealer, &random, jiff::Timestamp::UNIX_EPOCH).await.unwrap();
        write.commit().await.unwrap();
        let usual = super::master_key::MasterKeySource::Folder("none".into());
        self.unlock(MasterKeys { usual, next: None }, sealer, &random).await.unwrap();
    }
}

#[cfg(test)]
mod tests;
