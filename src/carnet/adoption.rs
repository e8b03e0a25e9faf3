//! The issuer URL that a database belongs to and the keys are sealed for: the first one, or another one.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Config, OpenError};
use crate::audit::{Event, EventKind, Outcome};
use crate::store::database_url::DatabaseUrl;
use crate::store::vault::Vault;
use crate::store::{Store, StoreError, Transaction, Trusted};
use crate::values::actor::Actor;
use crate::values::issuer_url::IssuerUrl;

/// Returns the vault of the issuer that the database belongs to from now on.
pub(super) async fn adopt_issuer(store: Trusted, config: &Config) -> Result<Vault, OpenError> {
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
            store_issuer(&mut write, None, &given, &config.actor, config.clock.now()).await?;
            vault(given)
        }
        Some(stored) if stored == given => vault(given),
        Some(stored) if config.change_issuer => {
            let before = stored.clone();
            let vault = vault(stored).hand_over(&mut write, given.clone()).await?;
            store_issuer(&mut write, Some(&before), &given, &config.actor, config.clock.now()).await?;
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

/// The issuer URL of a database to be recovered, which must not be changed before the recovery's own transaction.
#[derive(Debug)]
pub(super) struct IssuerToRecover {
    pub(super) url: IssuerUrl,
    database: DatabaseUrl,
    /// `true` if the database has no issuer URL yet, and the configuration gives this one.
    is_first: bool,
}

impl IssuerToRecover {
    pub(super) async fn find(store: &Store, config: &Config) -> Result<Self, OpenError> {
        let database = config.database.clone();
        match (store.issuer_url().await?, config.issuer.clone()) {
            (None, Some(url)) => Ok(Self { url, database, is_first: true }),
            _ => Ok(Self { url: config.issuer_of(store).await?, database, is_first: false }),
        }
    }

    /// Stores a first issuer URL in the transaction of the recovery.
    pub(super) async fn adopt(
        &self,
        write: &mut Transaction,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), OpenError> {
        if !self.is_first {
            return Ok(());
        }
        // Another process may have been first.
        match write.issuer_url().await? {
            None => Ok(store_issuer(write, None, &self.url, actor, now).await?),
            Some(stored) if stored == self.url => Ok(()),
            Some(stored) => {
                let (database, given) = (self.database.clone(), self.url.clone());
                Err(OpenError::OtherIssuer { database, stored, given })
            }
        }
    }
}

/// Stores the issuer URL and records the change.
async fn store_issuer(
    write: &mut Transaction,
    before: Option<&IssuerUrl>,
    issuer: &IssuerUrl,
    actor: &Actor,
    now: Timestamp,
) -> Result<(), StoreError> {
    let what = match before {
        None => issuer.to_string(),
        Some(before) => format!("{before} to {issuer}"),
    };
    write.set_issuer_url(issuer, now).await?;
    let event = Event::new(EventKind::IssuerChange, Outcome::Done, actor).detail(&what);
    write.append_audit(now, &[event]).await.map(drop)
}
