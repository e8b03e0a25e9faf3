//! The parts that opening an issuer creates or finds: the master key, and the issuer URL that the keys are
//! sealed for.

use std::sync::Arc;

use super::{Config, OpenError};
use crate::audit::{Event, EventKind, Outcome};
use crate::store::master_key::{MasterKey, MasterKeyError, MasterKeySource};
use crate::store::sealed::{SealError, Sealer};
use crate::store::states::StateStatus;
use crate::store::vault::Vault;
use crate::store::{IfMissing, Store, StoreError, Transaction};
use crate::values::issuer_url::IssuerUrl;

/// Unlocks `store` with its master key. Sets up a new database if `config` allows it.
pub(super) async fn unlock(store: &Store, config: &Config) -> Result<(), OpenError> {
    match unlock_with(store, config).await {
        // Another process has just changed the master key.
        Err(OpenError::Store(StoreError::Seal(SealError::OtherMasterKey { .. }))) => {
            unlock_with(store, config).await
        }
        unlocked => unlocked,
    }
}

async fn unlock_with(store: &Store, config: &Config) -> Result<(), OpenError> {
    let database = || config.database.clone();
    let seal = |error: SealError| OpenError::Store(error.into());
    let keys = config.master_keys();
    if store.sealed_with().await?.is_none() {
        if config.if_missing == IfMissing::Refuse {
            return Err(OpenError::NotSetUp(database()));
        }
        let sealer = Sealer::new(&read_or_make(config)?).map_err(seal)?;
        let mut write = store.write().await?;
        write.set_up(&sealer, config.random.as_ref(), config.clock.now()).await?;
        write.commit().await?;
    }
    // Another process may have set up the database first, so the stored master key identifier decides.
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
    let sealer = Arc::new(Sealer::new(&master_key).map_err(seal)?);
    Ok(store.unlock(keys, sealer, config.random.as_ref()).await?)
}

/// Checks, as far as anything outside the database remembers its state, that the database is not an older or
/// altered one.
pub(super) async fn establish_state(store: &Store, config: &Config) -> Result<(), StoreError> {
    let witnesses = config.witnesses();
    store.establish_state(&witnesses).await?;
    if let Some(StateStatus { state, unproved: true, .. }) = store.state_status() {
        let file = witnesses.file.as_ref().map(|file| file.path().display().to_string()).unwrap_or_default();
        tracing::warn!(
            database = %store.url(), %state, file,
            "nothing outside the database records its state: an older database in its place would not be \
             detected"
        );
    }
    Ok(())
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

/// Returns the vault of the issuer that the database belongs to from now on.
pub(super) async fn adopt_issuer(store: Store, config: &Config) -> Result<Vault, OpenError> {
    let (clock, random) = (Arc::clone(&config.clock), Arc::clone(&config.random));
    let vault = |issuer| Vault::new(store.clone(), issuer, clock, random);
    let stored = store.issuer_url().await?;
    let (stored, given) = match (stored, config.issuer.clone()) {
        (Some(stored), None) => return Ok(vault(stored)),
        (Some(stored), Some(given)) if stored == given => return Ok(vault(stored)),
        (None, None) => return Err(OpenError::NoIssuer(config.database.clone())),
        (stored, Some(given)) => (stored, given),
    };
    let mut write = store.write().await?;
    // Another process may have been first.
    let stored = stored.or(write.issuer_url().await?);
    let vault = match stored {
        None => {
            adopt(&mut write, None, &given, config).await?;
            vault(given)
        }
        Some(stored) if stored == given => vault(given),
        Some(stored) if config.change_issuer => {
            let before = stored.clone();
            let vault = vault(stored).hand_over(&mut write, given.clone()).await?;
            adopt(&mut write, Some(&before), &given, config).await?;
            write.bump_key_generation(false).await?;
            vault
        }
        Some(stored) => {
            return Err(OpenError::OtherIssuer { database: config.database.clone(), stored, given });
        }
    };
    write.commit().await?;
    Ok(vault)
}

/// Stores the issuer URL and records the change.
async fn adopt(
    write: &mut Transaction,
    before: Option<&IssuerUrl>,
    issuer: &IssuerUrl,
    config: &Config,
) -> Result<(), StoreError> {
    let now = config.clock.now();
    let what = match before {
        None => issuer.to_string(),
        Some(before) => format!("{before} to {issuer}"),
    };
    write.set_issuer_url(issuer, now).await?;
    let event = Event::new(EventKind::IssuerChange, Outcome::Done, &config.actor).detail(&what);
    write.append_audit(now, &[event]).await.map(drop)
}
