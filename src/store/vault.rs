//! The signing keys of one issuer: the store together with what seals and authenticates its rows.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;

use super::master_key::{MasterKey, MasterKeySource};
use super::sealed::{RowMac, SealError, Sealer};
use super::signing_keys::{Sealing, StoredKey, StoredKeys};
use super::{Store, StoreError, Write};
use crate::actor::Actor;
use crate::audit::EventKind;
use crate::issuer_url::IssuerUrl;
use crate::jose::jws::Signer;
use crate::jose::key_pair::KeyPair;
use crate::random::Random;
use crate::signing_keys::SigningKey;

/// Reads and writes signing keys.
#[derive(Debug)]
pub struct Vault {
    store: Store,
    master_key: MasterKeySource,
    sealer: ArcSwap<Sealer>,
    mac: RowMac,
    issuer: IssuerUrl,
    random: Arc<dyn Random>,
}

impl Vault {
    /// The keys of `issuer` in `store`, which `sealer` (made of a key of `master_key`) and `mac` guard.
    #[must_use]
    pub fn new(
        store: Store,
        master_key: MasterKeySource,
        sealer: Sealer,
        mac: RowMac,
        issuer: IssuerUrl,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { store, master_key, sealer: ArcSwap::from_pointee(sealer), mac, issuer, random }
    }

    /// Whose keys these are.
    #[must_use]
    pub fn issuer(&self) -> &IssuerUrl {
        &self.issuer
    }

    /// The database.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Every signing key, each row authenticated.
    ///
    /// # Errors
    ///
    /// See [`Store::signing_keys`]; [`StoreError::IssuerChanged`] when they are another issuer's by now.
    pub async fn keys(&self) -> Result<StoredKeys, StoreError> {
        self.ours(self.store.signing_keys(&self.mac).await?)
    }

    /// As [`Vault::keys`], inside a writing transaction.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn keys_in(&self, write: &mut Write) -> Result<StoredKeys, StoreError> {
        self.ours(write.signing_keys(&self.mac).await?)
    }

    /// A process that runs on after another one has changed the issuer must neither publish nor seal
    /// keys under the old name.
    fn ours(&self, stored: StoredKeys) -> Result<StoredKeys, StoreError> {
        match &stored.issuer {
            Some(issuer) if *issuer != self.issuer => {
                Err(StoreError::IssuerChanged { from: self.issuer.clone(), to: issuer.clone() })
            }
            _ => Ok(stored),
        }
    }

    /// Opens and parses a key for signing; `None` once its private half is destroyed.
    ///
    /// A key that another master key seals is tried again with the one that stands in its place by
    /// now: somebody may have changed it beside this process.
    ///
    /// # Errors
    ///
    /// See [`StoredKey::signer`].
    pub fn signer(&self, key: &StoredKey) -> Result<Option<Signer>, StoreError> {
        match key.signer(&self.issuer, &self.sealer.load()) {
            Err(StoreError::Seal(SealError::OtherMasterKey { needed, .. })) if self.reload(&needed) => {
                key.signer(&self.issuer, &self.sealer.load())
            }
            other => other,
        }
    }

    /// Writes a new key.
    ///
    /// # Errors
    ///
    /// See [`Write::insert_signing_key`].
    pub async fn insert(
        &self,
        write: &mut Write,
        key: &SigningKey,
        pair: &KeyPair,
    ) -> Result<(), StoreError> {
        let sealer = self.sealer_in(write).await?;
        write.insert_signing_key(key, pair, &self.issuer, &self.sealing(&sealer)).await
    }

    /// Writes what has happened to a key.
    ///
    /// # Errors
    ///
    /// See [`Write::update_signing_key`].
    pub async fn update(&self, write: &mut Write, key: &SigningKey) -> Result<(), StoreError> {
        write.update_signing_key(key, &self.mac).await
    }

    /// Seals every private half again for `issuer`, whose keys they are from now on.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when a key does not open or a statement fails.
    pub async fn hand_over(self, write: &mut Write, issuer: IssuerUrl) -> Result<Self, StoreError> {
        let sealer = self.sealer_in(write).await?;
        for stored in self.keys_in(write).await?.keys {
            if let Some(pair) = stored.key_pair(&self.issuer, &sealer)? {
                write.reseal_signing_key(&stored.key, &pair, &issuer, &self.sealing(&sealer)).await?;
            }
        }
        Ok(Self { issuer, ..self })
    }

    /// Seals everything again under `master_key`, in one transaction. Says whether there was anything
    /// to do.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing has changed then.
    pub async fn rewrap(
        &self,
        master_key: &MasterKey,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let to = Sealer::new(master_key)?;
        let mut write = self.store.write().await?;
        let from = self.sealer_in(&mut write).await?;
        if from.master_key_id() == to.master_key_id() {
            return Ok(false);
        }
        for stored in self.keys_in(&mut write).await?.keys {
            if let Some(pair) = stored.key_pair(&self.issuer, &from)? {
                write.reseal_signing_key(&stored.key, &pair, &self.issuer, &self.sealing(&to)).await?;
            }
        }
        write.reseal_mac_keys(&from, &to, self.random.as_ref()).await?;
        let reason = format!("{} to {}", from.master_key_id(), to.master_key_id());
        write.record_key_event(EventKind::KeyRewrap, None, &reason, actor, now).await?;
        // What the old master key sealed is as good as destroyed once it is gone from the log, too.
        write.bump_key_generation(true).await?;
        write.commit().await?;
        self.sealer.store(Arc::new(to));
        Ok(true)
    }

    /// The sealer of the master key that the database is sealed with at this moment.
    async fn sealer_in(&self, write: &mut Write) -> Result<Arc<Sealer>, StoreError> {
        let needed = write.sealed_row_mac().await?.map(|sealed| sealed.master_key_id);
        match needed {
            Some(needed)
                if needed != self.sealer.load().master_key_id().as_str() && !self.reload(&needed) =>
            {
                let in_use = self.sealer.load().master_key_id().clone();
                Err(SealError::OtherMasterKey { what: "the database".to_owned(), in_use, needed }.into())
            }
            _ => Ok(self.sealer.load_full()),
        }
    }

    /// Takes the master key `needed` into use if it is to be found.
    fn reload(&self, needed: &str) -> bool {
        let found = self.master_key.find(needed).ok().filter(|key| key.id().as_str() == needed);
        let Some(sealer) = found.and_then(|key| Sealer::new(&key).ok()) else { return false };
        self.sealer.store(Arc::new(sealer));
        tracing::info!(master_key = needed, "another master key is in use now");
        true
    }

    fn sealing<'a>(&'a self, sealer: &'a Sealer) -> Sealing<'a> {
        Sealing { sealer, mac: &self.mac, random: self.random.as_ref() }
    }
}
