//! Changing the master key: routinely, and after a leak of the database and the master key.
//!
//! Both replace every symmetric key in one transaction. In a routine change, every authentic row stays
//! authentic. After a leak, only the grants that the operator names are kept, because an attacker with the
//! old keys could have written any row.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::adoption::IssuerToRecover;
use super::{Carnet, Config, OpenError};
use crate::audit::{Event, EventKind, KeyEventKind, Outcome};
use crate::clock_watch::ClockWatch;
use crate::feed::Feed;
use crate::grant::{Grant, GrantState};
use crate::issuer::rotator::{KeySource, RotationError, Rotator};
use crate::signing_keys::Stage;
use crate::signing_keys::rotation::Change;
use crate::store::grants::{GrantRow, StoredGrant};
use crate::store::master_key::{Aside, MasterKey, MasterKeyError, MasterKeyId, MasterKeys};
use crate::store::rewrap::ForgedRow;
use crate::store::sealed::Sealer;
use crate::store::states::Witnesses;
use crate::store::vault::Vault;
use crate::store::{IfMissing, Store, StoreError, Trusted, Unlocked};
use crate::values::actor::Actor;
use crate::values::clock::Clock;
use crate::values::issuer_url::IssuerUrl;
use crate::values::random::Random;

/// The time within which a server that finds the new key by itself has reported it.
const SERVERS_SAY_WITHIN: Duration = Duration::from_secs(3);
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// The reason in the records that distinguishes a rewrap after a leak from a routine one.
const LEAKED: &str = "leaked";

/// The choice of whether a rewrap may strand servers that cannot open the new master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stranded {
    /// Refuse the rewrap.
    Refuse,
    /// Accept it. Stranded servers only serve documents until they are given the key.
    Accept,
}

/// The reason why the master key was not changed.
#[derive(Debug, thiserror::Error)]
pub enum RewrapError {
    /// The issuer cannot be opened, or its database failed.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A server would be stranded.
    #[error(
        "{servers} of the servers that were seen in the last minute cannot open the master key {new}: they \
         would serve only the public documents"
    )]
    Stranded {
        /// The number of servers.
        servers: usize,
        /// The new master key.
        new: MasterKeyId,
    },
    /// The leaked key was given as the new one.
    #[error(
        "the database is sealed with the master key {0} already, and not by a recovery from a leak: a key \
         that may have leaked cannot replace itself"
    )]
    SameKey(MasterKeyId),
    /// A grant to keep does not exist, or is not authentic.
    #[error("there is no authentic grant {0} to keep")]
    NoGrant(Uuid),
    /// New keys could not be generated.
    #[error(transparent)]
    Rotation(#[from] RotationError),
}

impl From<StoreError> for RewrapError {
    fn from(error: StoreError) -> Self {
        Self::Open(error.into())
    }
}

impl From<MasterKeyError> for RewrapError {
    fn from(error: MasterKeyError) -> Self {
        Self::Open(error.into())
    }
}

/// The result of a recovery from a leak.
#[derive(Debug)]
pub struct Recovered {
    /// The new master key.
    pub master_key: MasterKeyId,
    /// The changes of the signing keys; empty if an earlier call had made all of them and only files were
    /// left.
    pub changes: Vec<Change>,
    /// The revoked grants.
    pub grants: Vec<Grant>,
    /// The number of deleted upload confirmations.
    pub confirmations: u64,
    /// The rows that failed their MAC before the recovery and were deleted.
    pub forged: Vec<ForgedRow>,
    /// The database afterwards.
    pub store: Trusted,
}

/// Reads or creates the master key in `new` and adds it to the usual location, before anything needs it
/// there.
fn bring_in(new: &Path, keys: &MasterKeys, random: &dyn Random) -> Result<MasterKey, MasterKeyError> {
    let key = match MasterKey::read(new) {
        Err(MasterKeyError::Missing(_)) => {
            let made = MasterKey::generate(random)?;
            made.write_new(new)?;
            made
        }
        present => present?,
    };
    key.remove_unfinished(new);
    keys.usual.add(&key)?;
    Ok(key)
}

/// Fails while a recently seen server cannot open `key`. Servers that share the keys folder can.
async fn strands_nobody(
    store: &Store,
    keys: &MasterKeys,
    key: &MasterKey,
    clock: &dyn Clock,
) -> Result<(), RewrapError> {
    let ids: Vec<String> = [key.id().to_string()].into_iter().chain(keys.usual.place()).collect();
    let until = clock.monotonic() + SERVERS_SAY_WITHIN;
    loop {
        let stranded = store.servers_without(&ids, clock.now()).await?;
        if stranded.is_empty() {
            return Ok(());
        }
        if clock.monotonic() >= until {
            return Err(RewrapError::Stranded { servers: stranded.len(), new: key.id().clone() });
        }
        clock.sleep_until(clock.monotonic() + ASK_AGAIN_AFTER).await;
    }
}

impl Carnet {
    /// Replaces every symmetric key, under the master key in `new`, which is created if it does not exist.
    /// Gives every row its new MAC, and replaces the master key in use with the new one. Returns the rows
    /// that failed their old MAC, or `None` if there was nothing to do.
    ///
    /// After a crash between any two steps the issuer still opens, and the same call continues from there.
    /// Servers that run in the meantime load the new key within a second.
    pub async fn rewrap(
        &self,
        new: &Path,
        stranded: Stranded,
        actor: &Actor,
    ) -> Result<(MasterKeyId, Option<Vec<ForgedRow>>), RewrapError> {
        let key = bring_in(new, &self.master_keys, self.random.as_ref())?;
        if stranded == Stranded::Refuse {
            strands_nobody(&self.store, &self.master_keys, &key, self.clock.as_ref()).await?;
        }
        let failed = self.vault.rewrap(&key, actor, self.clock.now()).await?;
        // Best effort: until the erasure succeeds, the key list shows `erasure: pending`.
        let _ = self.store.finish_erasure().await?;
        self.master_keys.usual.settle(&key, Aside::Kept)?;
        Ok((key.id().clone(), failed))
    }
}

/// An issuer whose database and master key have leaked. Unlike [`Carnet`], it opens whatever the rows
/// contain.
#[derive(Debug)]
pub struct Recovery {
    store: Unlocked,
    issuer: IssuerToRecover,
    watch: Arc<ClockWatch>,
    key_source: Arc<dyn KeySource>,
    nudges: bool,
    master_keys: MasterKeys,
    witnesses: Witnesses,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Recovery {
    /// Opens the issuer that `config` describes, which must exist.
    pub async fn open(config: &Config) -> Result<Self, OpenError> {
        let config = Config { if_missing: IfMissing::Refuse, ..config.clone() };
        let store = config.unlock(&config.open_store().await?).await?;
        let issuer = IssuerToRecover::find(&store, &config).await?;
        let watch = Arc::new(ClockWatch::new(Arc::clone(&config.clock)));
        let (master_keys, witnesses) = (config.master_keys(), config.witnesses());
        let Config { clock, random, key_source, .. } = config;
        Ok(Self { store, issuer, watch, key_source, nudges: true, master_keys, witnesses, clock, random })
    }

    /// Returns this recovery, without a request to nudge the verifiers.
    #[must_use]
    pub fn without_nudges(self) -> Self {
        Self { nudges: false, ..self }
    }

    /// The issuer URL.
    #[must_use]
    pub fn issuer(&self) -> &IssuerUrl {
        &self.issuer.url
    }

    /// The database.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the grants with these ids, to show them before they are kept.
    ///
    /// # Errors
    ///
    /// [`RewrapError::NoGrant`] if a grant does not exist, fails its MAC or has ended.
    pub async fn grants(&self, ids: &[Uuid]) -> Result<Vec<StoredGrant>, RewrapError> {
        let mut grants: Vec<StoredGrant> = Vec::new();
        for id in ids {
            match self.store.grant(*id).await? {
                Some(GrantRow::Authentic(stored))
                    if stored.grant.state(self.clock.now()) == GrantState::Valid =>
                {
                    if !grants.iter().any(|seen| seen.grant.id == *id) {
                        grants.push(*stored);
                    }
                }
                _ => return Err(RewrapError::NoGrant(*id)),
            }
        }
        Ok(grants)
    }

    /// Returns every feed, so that the operator can check where its tokens go. These rows are not
    /// authenticated.
    pub async fn feeds(&self) -> Result<Vec<Feed>, StoreError> {
        self.store.feeds(None).await
    }

    /// Replaces every symmetric key, under the master key in `new`, revokes and replaces every signing key,
    /// revokes every grant except those in `keep`, and deletes all upload confirmations, in one transaction.
    /// Also requests the nudges of every verifier. Afterwards no old key is accepted. The same call may be
    /// repeated after a crash.
    ///
    /// After an error, either the database has not changed or only files are left to be updated.
    pub async fn rewrap(
        &self,
        new: &Path,
        keep: &[StoredGrant],
        stranded: Stranded,
        actor: &Actor,
    ) -> Result<Recovered, RewrapError> {
        let key = bring_in(new, &self.master_keys, self.random.as_ref())?;
        let recovered = if self.store.keyring().sealer().master_key_id() == key.id() {
            if !self.store.was_rewrapped(&recovery_to(key.id())).await? {
                return Err(RewrapError::SameKey(key.id().clone()));
            }
            // A crash may have left a state file that only the old master key authenticates. It is moved
            // aside now.
            Recovered {
                master_key: key.id().clone(),
                changes: Vec::new(),
                grants: Vec::new(),
                confirmations: 0,
                forged: Vec::new(),
                store: self.store.clone().establish_state(&self.witnesses).await?,
            }
        } else {
            if stranded == Stranded::Refuse {
                strands_nobody(&self.store, &self.master_keys, &key, self.clock.as_ref()).await?;
            }
            self.replace(&key, keep, actor).await?
        };
        let _ = recovered.store.finish_erasure().await?;
        self.master_keys.usual.settle(&key, Aside::Leaked)?;
        Ok(recovered)
    }

    async fn replace(
        &self,
        key: &MasterKey,
        keep: &[StoredGrant],
        actor: &Actor,
    ) -> Result<Recovered, RewrapError> {
        // The recovery replaces a restored database's contents like all others, so its state is tolerated.
        // Call this only after the operator's confirmation: once the state file is moved aside, nothing
        // outside the database remembers its state.
        let (store, moved) = self.store.clone().tolerate_state(&self.witnesses)?;
        if let Some(aside) = moved {
            tracing::warn!(file = %aside.display(), "the state file is not authentic; it was moved aside");
        }
        let (clock, random) = (Arc::clone(&self.clock), Arc::clone(&self.random));
        let vault = Arc::new(Vault::new(store.clone(), self.issuer.url.clone(), clock, random));
        let key_source = Arc::clone(&self.key_source);
        let rotator = Rotator::new(Arc::clone(&vault), Arc::clone(&self.watch), key_source);
        let rotator = if self.nudges { rotator } else { rotator.without_nudges() };
        let rsa_bits = store.key_settings().await?.rsa_bits;
        let replacement = rotator.make_replacement(rsa_bits).await?;
        let sealer = Arc::new(Sealer::new(key).map_err(StoreError::from)?);
        let mut write = store.write().await?;
        let now = self.clock.now();
        let (seen, mut forged) = write.keep_authentic_signing_keys().await?;
        let renewal = write.begin_epoch(sealer, self.random.as_ref()).await?;
        let reason = format!("{} from {}", recovery_to(key.id()), renewal.before.sealer().master_key_id());
        write.record_key_event(KeyEventKind::Rewrap, None, &reason, actor, now).await?;
        self.issuer.adopt(&mut write, actor, now).await?;
        for stored in &seen.keys {
            if matches!(stored.key.stage, Stage::Revoked { .. }) {
                vault.update(&mut write, &stored.key).await?;
            }
        }
        let changes = rotator.replace_everything(&mut write, &seen, replacement, LEAKED, actor).await?;
        let (ended, forged_grants) = write.keep_grants(keep, &renewal).await?;
        let grants: Vec<Grant> = ended.into_iter().filter(|grant| grant.revoked_at.is_none()).collect();
        forged.extend(forged_grants);
        let mut events: Vec<Event> = grants.iter().map(|grant| revoked(grant, actor)).collect();
        events.extend(forged.iter().map(|row| {
            let what = format!("{LEAKED}: deleted row {} of {}, which failed its MAC", row.row, row.table);
            Event::new(EventKind::KeyRewrap, Outcome::Done, actor).detail(&what)
        }));
        write.append_audit(now, &events).await?;
        write.forget_removed_subject_keys().await?;
        let confirmations = write.forget_all_confirmed_keys().await?;
        write.commit().await?;
        store.use_keyring(&renewal.after);
        Ok(Recovered { master_key: key.id().clone(), changes, grants, confirmations, forged, store })
    }
}

fn revoked(grant: &Grant, actor: &Actor) -> Event {
    let detail =
        format!("{LEAKED}: {} “{}”, made by {}", grant.permissions.role, grant.name, grant.created_by);
    Event::new(EventKind::GrantRevoke, Outcome::Done, actor).about_grant(grant.id).detail(&detail)
}

/// The beginning of the record of a recovery to this master key.
fn recovery_to(id: &MasterKeyId) -> String {
    format!("{LEAKED}: to {id}")
}
