//! Another master key: by routine, and after a leak of database and master key.
//!
//! Both make every symmetric key anew in one transaction. By routine every row that was authentic stays so; after a
//! leak nothing stays but the grants that the operator names, because whoever had the old keys could have written
//! any of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::adoption::{adopt_issuer, unlock};
use super::{Carnet, Config, OpenError};
use crate::audit::{Event, EventKind, Outcome};
use crate::clock_watch::ClockWatch;
use crate::feed::Feed;
use crate::grant::{Grant, GrantState};
use crate::issuer::rotator::{RotationError, Rotator};
use crate::signing_keys::Stage;
use crate::signing_keys::rotation::Change;
use crate::store::custody;
use crate::store::grants::{GrantRow, StoredGrant};
use crate::store::master_key::{Aside, MasterKey, MasterKeyError, MasterKeyId, MasterKeys};
use crate::store::rewrap::ForgedRow;
use crate::store::sealed::Sealer;
use crate::store::states::Witnesses;
use crate::store::vault::Vault;
use crate::store::{IfMissing, Store, StoreError};
use crate::values::actor::Actor;
use crate::values::clock::Clock;
use crate::values::issuer_url::IssuerUrl;
use crate::values::random::Random;

/// A server that finds the new key by itself has said so after this long.
const SERVERS_SAY_WITHIN: Duration = Duration::from_secs(3);
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// The word in the records that tells a rewrap after a leak from one by routine.
const LEAKED: &str = "leaked";

/// Whether servers may be left behind that cannot open the new master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stranded {
    /// Refuse.
    Refuse,
    /// They serve documents and nothing else until they are given the key.
    Accept,
}

/// The master key was not changed.
#[derive(Debug, thiserror::Error)]
pub enum RewrapError {
    /// The issuer cannot be opened, or its database refuses.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A server would be left behind.
    #[error(
        "{servers} of the servers that were seen in the last minute cannot open the master key {new}: they would serve the \
         public documents and nothing else"
    )]
    Stranded {
        /// How many.
        servers: usize,
        /// The new master key.
        new: MasterKeyId,
    },
    /// The key that leaked was given as the new one.
    #[error(
        "the database is sealed with the master key {0} already, and not by a recovery from a leak: a key that may have \
         leaked cannot take its own place"
    )]
    SameKey(MasterKeyId),
    /// A grant that is to be kept is not there, or not authentic.
    #[error("there is no authentic grant {0} to keep")]
    NoGrant(Uuid),
    /// New keys could not be made.
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

/// What a recovery from a leak has done.
#[derive(Debug)]
pub struct Recovered {
    /// The new master key.
    pub master_key: MasterKeyId,
    /// What became of the signing keys; empty if an earlier call had done everything and only files were left.
    pub changes: Vec<Change>,
    /// The grants that are revoked.
    pub grants: Vec<Grant>,
    /// How many upload confirmations are deleted.
    pub confirmations: u64,
    /// The rows that failed their MAC before and are deleted.
    pub forged: Vec<ForgedRow>,
}

/// Puts the master key in `new`, which is made if it is not there, where it will be looked for before anything
/// needs it.
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

/// Refuses while a server that was seen lately cannot open `key`. Servers that share the keys folder can.
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
    /// Makes every symmetric key anew under the master key in `new`, which is made if it is not there, gives every
    /// row its new MAC, and puts the new master key in the place of the one in use. Returns the rows that failed
    /// their old MAC, or `None` if there was nothing to do.
    ///
    /// A crash between any two steps leaves an issuer that opens, and the same call goes on where it
    /// stopped. Servers that run meanwhile take the new key into use within a second.
    ///
    /// # Errors
    ///
    /// [`RewrapError`] when the key cannot be read, made or put in place, when a server would be left behind, or
    /// the database refuses.
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
        // Best effort: until it succeeds, `erasure: pending` stands in the key list.
        let _ = self.store.finish_erasure().await?;
        self.master_keys.usual.settle(&key, Aside::Kept)?;
        Ok((key.id().clone(), failed))
    }
}

/// An issuer whose database and master key have leaked. Unlike [`Carnet`] it opens whatever stands in the rows.
#[derive(Debug)]
pub struct Recovery {
    store: Store,
    vault: Arc<Vault>,
    rotator: Rotator,
    master_keys: MasterKeys,
    witnesses: Witnesses,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Recovery {
    /// Opens the issuer that `config` describes, which must be there.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when the database cannot be opened or unlocked.
    pub async fn open(config: &Config) -> Result<Self, OpenError> {
        let config = Config { if_missing: IfMissing::Refuse, ..config.clone() };
        custody::check(config.database.path(), &config.master_key)?;
        let store = Store::open(&config.database, config.if_missing).await?;
        unlock(&store, &config).await?;
        let vault = Arc::new(adopt_issuer(store.clone(), &config).await?);
        let (clock, random) = (Arc::clone(&config.clock), Arc::clone(&config.random));
        let watch = Arc::new(ClockWatch::new(Arc::clone(&clock)));
        let rotator = Rotator::new(Arc::clone(&vault), watch, Arc::clone(&config.key_source));
        let (master_keys, witnesses) = (config.master_keys(), config.witnesses());
        Ok(Self { store, vault, rotator, master_keys, witnesses, clock, random })
    }

    /// Whose database it is.
    #[must_use]
    pub fn issuer(&self) -> &IssuerUrl {
        self.vault.issuer()
    }

    /// The database.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The grants of these ids, to be shown before they are kept.
    ///
    /// # Errors
    ///
    /// [`RewrapError::NoGrant`] for one that is not there, fails its MAC or has ended.
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

    /// Every feed, for the operator to see where its tokens go: nothing authenticates these rows.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database cannot be read.
    pub async fn feeds(&self) -> Result<Vec<Feed>, StoreError> {
        self.store.feeds(None).await
    }

    /// Makes every symmetric key anew under the master key in `new`, revokes and replaces every signing key, revokes
    /// every grant but those of `keep`, and deletes upload confirmations, in one transaction. No old key is looked
    /// for afterwards. The same call may be repeated after a crash.
    ///
    /// # Errors
    ///
    /// [`RewrapError`]; the database has not changed then, or only the keys folder is left to be set in order.
    pub async fn rewrap(
        &self,
        new: &Path,
        keep: &[StoredGrant],
        stranded: Stranded,
        actor: &Actor,
    ) -> Result<Recovered, RewrapError> {
        let key = bring_in(new, &self.master_keys, self.random.as_ref())?;
        let mut recovered = Recovered {
            master_key: key.id().clone(),
            changes: Vec::new(),
            grants: Vec::new(),
            confirmations: 0,
            forged: Vec::new(),
        };
        if self.store.keyring()?.sealer().master_key_id() == key.id() {
            if !self.store.was_rewrapped(&recovery_to(key.id())).await? {
                return Err(RewrapError::SameKey(key.id().clone()));
            }
            // A crash may have left a state file that only the old master key authenticates, which is set aside now.
            self.store.establish_state(&self.witnesses).await?;
        } else {
            if stranded == Stranded::Refuse {
                strands_nobody(&self.store, &self.master_keys, &key, self.clock.as_ref()).await?;
            }
            self.replace(&key, keep, actor, &mut recovered).await?;
        }
        let _ = self.store.finish_erasure().await?;
        self.master_keys.usual.settle(&key, Aside::Leaked)?;
        Ok(recovered)
    }

    async fn replace(
        &self,
        key: &MasterKey,
        keep: &[StoredGrant],
        actor: &Actor,
        recovered: &mut Recovered,
    ) -> Result<(), RewrapError> {
        // What was put back is ended by the recovery, like everything else. Not before the operator has confirmed that:
        // a state file that is out of the way would remember nothing.
        if let Some(aside) = self.store.tolerate_state(&self.witnesses)? {
            tracing::warn!(file = %aside.display(), "the state file is not authentic; it was moved aside");
        }
        let rsa_bits = self.store.key_settings().await?.rsa_bits;
        let replacement = self.rotator.make_replacement(rsa_bits).await?;
        let sealer = Arc::new(Sealer::new(key).map_err(StoreError::from)?);
        let mut write = self.store.write().await?;
        let now = self.clock.now();
        let (seen, mut forged) = write.keep_authentic_signing_keys().await?;
        let renewal = write.begin_epoch(sealer, self.random.as_ref()).await?;
        let reason = format!("{} from {}", recovery_to(key.id()), renewal.before.sealer().master_key_id());
        write.record_key_event(EventKind::KeyRewrap, None, &reason, actor, now).await?;
        for stored in &seen.keys {
            if matches!(stored.key.stage, Stage::Revoked { .. }) {
                self.vault.update(&mut write, &stored.key).await?;
            }
        }
        recovered.changes =
            self.rotator.replace_everything(&mut write, &seen, replacement, LEAKED, actor).await?;
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
        recovered.confirmations = write.forget_all_confirmed_keys().await?;
        write.commit().await?;
        self.store.use_keyring(renewal.after);
        (recovered.grants, recovered.forged) = (grants, forged);
        Ok(())
    }
}

fn revoked(grant: &Grant, actor: &Actor) -> Event {
    let detail =
        format!("{LEAKED}: {} “{}”, made by {}", grant.permissions.role, grant.name, grant.created_by);
    Event::new(EventKind::GrantRevoke, Outcome::Done, actor).about_grant(grant.id).detail(&detail)
}

/// The beginning of what the records say of a recovery to this master key.
fn recovery_to(id: &MasterKeyId) -> String {
    format!("{LEAKED}: to {id}")
}
