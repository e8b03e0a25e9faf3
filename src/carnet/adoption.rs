//! What opening an issuer makes or finds: its master key, and the issuer URL that the keys are sealed for.

use std::sync::Arc;

use super::{Config, OpenError};
use crate::audit::{Event, EventKind, Outcome};
use crate::issuer_url::IssuerUrl;
use crate::store::master_key::{MasterKey, MasterKeyError, MasterKeySource};
use crate::store::sealed::{RowMac, SealError, Sealer};
use crate::store::vault::Vault;
use crate::store::{IfMissing, Store, StoreError, Write};

/// The master key's uses: sealing, the MAC on key rows, and the audit log, for which `store` is unlocked.
pub(super) async fn unlock(store: &Store, config: &Config) -> Result<(Sealer, RowMac), OpenError> {
    let (sealer, mac) = master_key_of(store, config).await?;
    match store.unlock_audit(&sealer, config.random.as_ref()).await {
        // Another process has put another master key in place just now.
        Err(StoreError::Seal(SealError::OtherMasterKey { .. })) => {
            let (sealer, mac) = master_key_of(store, config).await?;
            store.unlock_audit(&sealer, config.random.as_ref()).await?;
            Ok((sealer, mac))
        }
        unlocked => Ok(unlocked.map(|()| (sealer, mac))?),
    }
}

/// Makes master key and MAC keys in a database that has none.
async fn master_key_of(store: &Store, config: &Config) -> Result<(Sealer, RowMac), OpenError> {
    let database = || config.database.clone();
    let seal = |error: SealError| OpenError::Store(error.into());
    let Some(sealed) = store.sealed_row_mac().await? else {
        if config.if_missing == IfMissing::Refuse {
            return Err(OpenError::NotSetUp(database()));
        }
        let sealer = Sealer::new(&read_or_make(config)?).map_err(seal)?;
        let mut write = store.write().await?;
        write.set_up(&sealer, config.random.as_ref()).await?;
        write.commit().await?;
        // Another process may have set it up first: what counts is what the database holds.
        let sealed = store.sealed_row_mac().await?.ok_or_else(|| OpenError::NotSetUp(database()))?;
        let mac = sealed.row_mac(&sealer)?;
        return Ok((sealer, mac));
    };
    let needed = || sealed.master_key_id.clone();
    let master_key = config
        .master_key
        .find(&sealed.master_key_id)
        .map_err(|source| OpenError::MasterKeyOf { database: database(), needed: needed(), source })?;
    if master_key.id().as_str() != sealed.master_key_id {
        let given = master_key.id().clone();
        return Err(OpenError::OtherMasterKey { database: database(), needed: needed(), given });
    }
    let sealer = Sealer::new(&master_key).map_err(seal)?;
    let mac = sealed.row_mac(&sealer)?;
    Ok((sealer, mac))
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
        // Another process that starts at the same time was quicker; its key is the one.
        Err(error) => MasterKey::read(&path).map_err(|_| error.into()),
    }
}

/// The vault of the issuer that the database belongs to from now on.
pub(super) async fn adopt_issuer(
    store: Store,
    sealer: Sealer,
    mac: RowMac,
    config: &Config,
) -> Result<Vault, OpenError> {
    let random = Arc::clone(&config.random);
    let source = config.master_key.clone();
    let vault = |issuer| Vault::new(store.clone(), source, sealer, mac, issuer, random);
    let stored = store.issuer_url().await?;
    let (stored, given) = match (stored, config.issuer.clone()) {
        (Some(stored), None) => return Ok(vault(stored)),
        (Some(stored), Some(given)) if stored == given => return Ok(vault(stored)),
        (None, None) => return Err(OpenError::NoIssuer(config.database.clone())),
        (stored, Some(given)) => (stored, given),
    };
    let mut write = store.write().await?;
    // Another process may have been quicker with the first start.
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

/// Stores the issuer URL and records that.
async fn adopt(
    write: &mut Write,
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
