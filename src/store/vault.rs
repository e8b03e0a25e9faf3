//! The signing keys of one issuer: the store together with what seals and authenticates its rows.

use std::sync::Arc;

use super::sealed::{RowMac, Sealer};
use super::signing_keys::{Sealing, StoredKey, StoredKeys};
use super::{Store, StoreError, Write};
use crate::issuer_url::IssuerUrl;
use crate::jose::jws::Signer;
use crate::jose::key_pair::KeyPair;
use crate::random::Random;
use crate::signing_keys::SigningKey;

/// Reads and writes signing keys.
#[derive(Debug)]
pub struct Vault {
    store: Store,
    sealer: Sealer,
    mac: RowMac,
    issuer: IssuerUrl,
    random: Arc<dyn Random>,
}

impl Vault {
    /// The keys that `sealer` and `mac` guard in `store` for `issuer`.
    #[must_use]
    pub fn new(
        store: Store,
        sealer: Sealer,
        mac: RowMac,
        issuer: IssuerUrl,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { store, sealer, mac, issuer, random }
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
    /// See [`Store::signing_keys`].
    pub async fn keys(&self) -> Result<StoredKeys, StoreError> {
        self.store.signing_keys(&self.mac).await
    }

    /// As [`Vault::keys`], inside a writing transaction.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn keys_in(&self, write: &mut Write) -> Result<StoredKeys, StoreError> {
        write.signing_keys(&self.mac).await
    }

    /// Opens and parses a key for signing; `None` once its private half is destroyed.
    ///
    /// # Errors
    ///
    /// See [`StoredKey::signer`].
    pub fn signer(&self, key: &StoredKey) -> Result<Option<Signer>, StoreError> {
        key.signer(&self.issuer, &self.sealer)
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
        write.insert_signing_key(key, pair, &self.issuer, &self.sealing()).await
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
        for stored in self.keys_in(write).await?.keys {
            if let Some(pair) = stored.key_pair(&self.issuer, &self.sealer)? {
                write.reseal_signing_key(&stored.key, &pair, &issuer, &self.sealing()).await?;
            }
        }
        Ok(Self { issuer, ..self })
    }

    fn sealing(&self) -> Sealing<'_> {
        Sealing { sealer: &self.sealer, mac: &self.mac, random: self.random.as_ref() }
    }
}
