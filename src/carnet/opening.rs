//! The steps of opening a database: open it, unlock it, check its state.
//!
//! Each step returns a type that allows more than the previous one. A command takes as many steps as it needs.

use std::sync::Arc;

use super::{Config, OpenError};
use crate::store::custody;
use crate::store::master_key::{MasterKey, MasterKeyError, MasterKeySource};
use crate::store::sealed::{SealError, Sealer};
use crate::store::states::StateStatus;
use crate::store::{IfMissing, Store, StoreError, Trusted, Unlocked};
use crate::values::issuer_url::IssuerUrl;

impl Config {
    /// Opens the database, to read rows that need no keys. Sets up a new database if [`Config::if_missing`]
    /// allows it; only that needs the master key.
    pub(crate) async fn open_store(&self) -> Result<Store, OpenError> {
        custody::check(self.database.path(), &self.master_key, self.state_file.as_deref())?;
        self.open_store_of_anyone().await
    }

    /// Opens the database as [`Config::open_store`] does, even if other users could change its files. Use it
    /// only to report on the files.
    pub(crate) async fn open_store_of_anyone(&self) -> Result<Store, OpenError> {
        let store = Store::open(&self.database, self.if_missing).await?;
        if store.sealed_with().await?.is_none() {
            if self.if_missing == IfMissing::Refuse {
                return Err(OpenError::NotSetUp(self.database.clone()));
            }
            let sealer = Sealer::new(&read_or_make(self)?).map_err(StoreError::from)?;
            store.set_up(&sealer, self.random.as_ref(), self.clock.now()).await?;
        }
        Ok(store)
    }

    /// Unlocks `store` with its master key, so that its rows can be authenticated and its audit log verified.
    pub(crate) async fn unlock(&self, store: &Store) -> Result<Unlocked, OpenError> {
        match self.unlock_once(store).await {
            // Another process has just changed the master key.
            Err(OpenError::Store(StoreError::Seal(SealError::OtherMasterKey { .. }))) => {
                self.unlock_once(store).await
            }
            unlocked => unlocked,
        }
    }

    async fn unlock_once(&self, store: &Store) -> Result<Unlocked, OpenError> {
        let database = || self.database.clone();
        let keys = self.master_keys();
        // Another process may have set up the database, so the stored master key identifier decides.
        let needed = store.sealed_with().await?.ok_or_else(|| OpenError::NotSetUp(database()))?;
        let master_key = keys.find(&needed).map_err(|source| OpenError::MasterKeyOf {
            database: database(),
            needed: needed.clone(),
            source,
        })?;
        if master_key.id().as_str() != needed {
            let given = master_key.id().clone();
            return Err(OpenError::OtherMasterKey { database: database(), needed, given });
        }
        let sealer = Arc::new(Sealer::new(&master_key).map_err(StoreError::from)?);
        Ok(store.unlock(keys, sealer, self.random.as_ref()).await?)
    }

    /// Checks, as far as anything outside the database remembers its state, that the database is not an older
    /// or altered one. Only then can it be changed.
    pub(crate) async fn establish_state(&self, store: Unlocked) -> Result<Trusted, StoreError> {
        let witnesses = self.witnesses();
        let store = store.establish_state(&witnesses).await?;
        if let Some(StateStatus { state, unproved: true, .. }) = store.state_status() {
            let file =
                witnesses.file.as_ref().map(|file| file.path().display().to_string()).unwrap_or_default();
            tracing::warn!(
                database = %store.url(), %state, file,
                "nothing outside the database proves its state: it may be an older database than the last one"
            );
        }
        Ok(store)
    }

    /// Takes all three steps.
    pub(crate) async fn open_trusted(&self) -> Result<Trusted, OpenError> {
        let store = self.open_store().await?;
        let store = self.unlock(&store).await?;
        Ok(self.establish_state(store).await?)
    }

    /// Returns the issuer that `store` belongs to. An issuer URL in the configuration must be the same.
    pub(crate) async fn issuer_of(&self, store: &Store) -> Result<IssuerUrl, OpenError> {
        let database = || self.database.clone();
        match (store.issuer_url().await?, self.issuer.clone()) {
            (None, _) => Err(OpenError::NoIssuer(database())),
            (Some(stored), Some(given)) if stored != given => {
                Err(OpenError::OtherIssuer { database: database(), stored, given })
            }
            (Some(stored), _) => Ok(stored),
        }
    }
}

fn read_or_make(config: &Config) -> Result<MasterKey, OpenError> {
    let path = config.master_key.path();
    match (config.master_key.read(), &config.master_key) {
        (Err(MasterKeyError::Missing(_)), MasterKeySource::Folder(_)) => {}
        (present, MasterKeySource::Folder(_)) => {
            let present = present?;
            present.remove_unfinished(&path);
            return Ok(present);
        }
        (present, MasterKeySource::File(_)) => return Ok(present?),
    }
    let made = MasterKey::generate(config.random.as_ref()).map_err(MasterKeyError::from)?;
    match made.write_new(&path) {
        Ok(()) => Ok(made),
        // Another process that started at the same time was first; its key is used.
        Err(error) => MasterKey::read(&path).map_err(|_| error.into()),
    }
}
