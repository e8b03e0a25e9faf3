//! The signing keys of one issuer: the database, together with the issuer URL that private halves are sealed
//! for.

use std::sync::Arc;

use jiff::Timestamp;

use super::keyring::Keyring;
use super::master_key::MasterKey;
use super::rewrap::ForgedRow;
use super::sealed::Sealer;
use super::signing_keys::{StoredKey, StoredKeys};
use super::{ReadTransaction, StoreError, Transaction, Trusted};
use crate::audit::KeyEventKind;
use crate::jose::jws::Signer;
use crate::jose::key_pair::KeyPair;
use crate::signing_keys::SigningKey;
use crate::values::actor::Actor;
use crate::values::clock::Clock;
use crate::values::issuer_url::IssuerUrl;
use crate::values::random::Random;

/// Reads and writes the signing keys of one issuer.
#[derive(Debug)]
pub struct Vault {
    store: Trusted,
    issuer: IssuerUrl,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Vault {
    /// Returns a vault of the keys of `issuer` in `store`.
    #[must_use]
    pub fn new(store: Trusted, issuer: IssuerUrl, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { store, issuer, clock, random }
    }

    /// Returns the issuer that the keys belong to.
    #[must_use]
    pub fn issuer(&self) -> &IssuerUrl {
        &self.issuer
    }

    /// Returns the database.
    #[must_use]
    pub fn store(&self) -> &Trusted {
        &self.store
    }

    /// Returns every signing key, each row authenticated.
    ///
    /// # Errors
    ///
    /// Those of [`Unlocked::signing_keys`](super::Unlocked::signing_keys); [`StoreError::IssuerChanged`] if the keys now belong to another
    /// issuer; [`StoreError::Seal`] if a retired key would stay published for too long.
    pub async fn keys(&self) -> Result<StoredKeys, StoreError> {
        self.ours(self.store.signing_keys().await?)
    }

    /// Returns every signing key as [`Vault::keys`] does, inside this transaction.
    pub async fn keys_in(&self, read: &mut ReadTransaction) -> Result<StoredKeys, StoreError> {
        self.ours(read.signing_keys().await?)
    }

    /// Checks that the keys still belong to this issuer. A process that keeps running after another one has
    /// changed the issuer must neither publish nor seal keys under the old URL.
    fn ours(&self, stored: StoredKeys) -> Result<StoredKeys, StoreError> {
        match &stored.issuer {
            Some(issuer) if *issuer != self.issuer => {
                Err(StoreError::IssuerChanged { from: self.issuer.clone(), to: issuer.clone() })
            }
            _ => stored.check_published_until(self.clock.now()).map(|()| stored),
        }
    }

    /// Opens a key for signing, with the keyring that it was read with; `None` if its private half is
    /// destroyed.
    pub fn signer(&self, key: &StoredKey, keyring: &Keyring) -> Result<Option<Signer>, StoreError> {
        key.signer(&self.issuer, keyring.sealer())
    }

    /// Writes a new key.
    pub async fn insert(
        &self,
        write: &mut Transaction,
        key: &SigningKey,
        pair: &KeyPair,
    ) -> Result<(), StoreError> {
        write.insert_signing_key(key, pair, &self.issuer, self.random.as_ref()).await
    }

    /// Writes the events of a key.
    pub async fn update(&self, write: &mut Transaction, key: &SigningKey) -> Result<(), StoreError> {
        write.update_signing_key(key).await
    }

    /// Seals every private half again for `issuer`, and returns the vault of that issuer.
    pub async fn hand_over(self, write: &mut Transaction, issuer: IssuerUrl) -> Result<Self, StoreError> {
        let StoredKeys { keys, keyring, .. } = self.keys_in(write).await?;
        let sealer = keyring.sealer();
        for stored in keys {
            if let Some(pair) = stored.key_pair(&self.issuer, sealer)? {
                write.reseal_signing_key(&stored.key, &pair, &issuer, sealer, self.random.as_ref()).await?;
            }
        }
        Ok(Self { issuer, ..self })
    }

    /// Generates every symmetric key anew under `master_key`, gives every row its new MAC and seals every
    /// private half again, in one transaction. Returns the rows that failed their MAC; `None` if the database
    /// is already sealed with that master key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Seal`] if the row of a signing key fails its MAC. On any error, nothing has changed.
    pub async fn rewrap(
        &self,
        master_key: &MasterKey,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<Option<Vec<ForgedRow>>, StoreError> {
        let mut write = self.store.write().await?;
        let StoredKeys { keys, keyring, .. } = self.keys_in(&mut write).await?;
        if keyring.sealer().master_key_id() == master_key.id() {
            return Ok(None);
        }
        let random = self.random.as_ref();
        let renewal = write.begin_epoch(Arc::new(Sealer::new(master_key)?), random).await?;
        let (from, to) = (renewal.before.sealer(), renewal.after.sealer());
        for stored in keys {
            if let Some(pair) = stored.key_pair(&self.issuer, from)? {
                write.reseal_signing_key(&stored.key, &pair, &self.issuer, to, random).await?;
            }
            write.update_signing_key(&stored.key).await?;
        }
        let failed = write.renew_macs(&renewal).await?;
        let reason = format!("{} to {}", from.master_key_id(), to.master_key_id());
        write.record_key_event(KeyEventKind::Rewrap, None, &reason, actor, now).await?;
        // Bytes that the old master key sealed count as destroyed only once they are gone from the log, too.
        write.bump_key_generation(true).await?;
        write.commit().await?;
        self.store.use_keyring(&renewal.after);
        Ok(Some(failed))
    }
}
