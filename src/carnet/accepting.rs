//! Accepting a database that was restored to an older state or altered. None of its keys and grants is
//! trusted any more.

use std::path::PathBuf;
use std::sync::Arc;

use super::adoption::IssuerToRecover;
use super::recovery::RewrapError;
use super::{Config, OpenError};
use crate::audit::{Event, EventKind, Outcome};
use crate::clock_watch::ClockWatch;
use crate::issuer::rotator::{KeySource, Rotator};
use crate::signing_keys::rotation::Change;
use crate::states::StatePoint;
use crate::store::rewrap::ForgedRow;
use crate::store::states::Witnesses;
use crate::store::vault::Vault;
use crate::store::{IfMissing, Unlocked};
use crate::values::actor::Actor;
use crate::values::clock::Clock;
use crate::values::random::Random;

/// A database to be accepted, whatever the witnesses of its state say.
#[derive(Debug)]
pub struct Acceptance {
    store: Unlocked,
    issuer: IssuerToRecover,
    watch: Arc<ClockWatch>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    key_source: Arc<dyn KeySource>,
    /// The description of the database's state, with the problem if there is one.
    found: String,
    witnesses: Witnesses,
}

/// The result of accepting a database.
#[derive(Debug)]
pub struct Accepted {
    /// The changes of the signing keys.
    pub changes: Vec<Change>,
    /// The number of revoked grants.
    pub grants: usize,
    /// The number of deleted upload confirmations.
    pub confirmations: u64,
    /// The rows that failed their MAC and were deleted.
    pub forged: Vec<ForgedRow>,
    /// The new path of a state file that was not trusted and was moved.
    pub moved: Option<PathBuf>,
    /// The database's state afterwards.
    pub state: Option<StatePoint>,
}

impl Acceptance {
    /// Opens the database that `config` names, which must exist.
    pub async fn open(config: &Config) -> Result<Self, OpenError> {
        let config = Config { if_missing: IfMissing::Refuse, ..config.clone() };
        let store = config.unlock(&config.open_store().await?).await?;
        let witnesses = config.witnesses();
        let found = match store.examine_state(&witnesses).await {
            Ok(_) => {
                format!("Nothing shows that the database {} was replaced or changed.", store.url())
            }
            Err(error) => format!("{error}."),
        };
        let issuer = IssuerToRecover::find(&store, &config).await?;
        let watch = Arc::new(ClockWatch::new(Arc::clone(&config.clock)));
        let Config { clock, random, key_source, .. } = config;
        Ok(Self { store, issuer, watch, clock, random, key_source, found, witnesses })
    }

    /// The description of the database's state, with the problem if there is one.
    #[must_use]
    pub fn found(&self) -> &str {
        &self.found
    }

    /// Revokes and replaces every signing key, revokes every grant and deletes all upload confirmations, in
    /// one transaction. The appended state is greater than any that is remembered.
    ///
    /// After an error, nothing has changed.
    pub async fn accept(self, actor: &Actor) -> Result<Accepted, RewrapError> {
        let (store, moved) = self.store.tolerate_state(&self.witnesses)?;
        let vault = Vault::new(store.clone(), self.issuer.url.clone(), Arc::clone(&self.clock), self.random);
        let rotator = Rotator::new(Arc::new(vault), self.watch, self.key_source);
        let rsa_bits = store.key_settings().await?.rsa_bits;
        let replacement = rotator.make_replacement(rsa_bits).await?;
        let mut write = store.write().await?;
        let now = self.clock.now();
        let (seen, mut forged) = write.keep_authentic_signing_keys().await?;
        self.issuer.adopt(&mut write, actor, now).await?;
        let changes = rotator.replace_everything(&mut write, &seen, replacement, ACCEPTED, actor).await?;
        let (revoked, forged_grants) = write.revoke_all_grants(now).await?;
        forged.extend(forged_grants);
        let confirmations = write.forget_all_confirmed_keys().await?;
        let mut events =
            vec![Event::new(EventKind::DatabaseAccept, Outcome::Done, actor).detail(&self.found)];
        events.extend(revoked.iter().map(|grant| {
            let what = format!("{ACCEPTED}: {} “{}”", grant.permissions.role, grant.name);
            Event::new(EventKind::GrantRevoke, Outcome::Done, actor).about_grant(grant.id).detail(&what)
        }));
        events.extend(forged.iter().map(|row| {
            let what = format!("{ACCEPTED}: deleted row {} of {}, which failed its MAC", row.row, row.table);
            Event::new(EventKind::DatabaseAccept, Outcome::Done, actor).detail(&what)
        }));
        write.append_audit(now, &events).await?;
        write.commit().await?;
        let _ = store.finish_erasure().await?;
        let state = store.state_status().map(|status| status.state);
        Ok(Accepted { changes, grants: revoked.len(), confirmations, forged, moved, state })
    }
}

/// The reason in the records.
const ACCEPTED: &str = "accepted";
