//! The issuer URL that a database belongs to and the keys are sealed for: the first one, or another one.

use std::sync::Arc;

use super::{Config, OpenError};
use crate::audit::{Event, EventKind, Outcome};
use crate::store::vault::Vault;
use crate::store::{StoreError, Transaction, Trusted};
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
