//! Opening an issuer: database, master key, issuer URL, keys, in that order.
//!
//! Owns the rules of a first start and of a later one: which of the four may be made, which must be
//! there, and which must be what they were.

use std::error::Error;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::issuer::{Issuer, KeyStateError};
use crate::issuer_url::IssuerUrl;
use crate::random::{Random, SecureRandom};
use crate::rotator::{GeneratedKeys, KeySource, RotationError, Rotator};
use crate::signing_keys::rotation::plan;
use crate::store::database_url::DatabaseUrl;
use crate::store::master_key::{self, MasterKey, MasterKeyError, MasterKeyId};
use crate::store::sealed::{RowMac, SealError, Sealer};
use crate::store::vault::Vault;
use crate::store::{IfMissing, Store, StoreError};

/// Where the master key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasterKeySource {
    /// `master.key` in this folder; made there together with a new database.
    Folder(PathBuf),
    /// This file, which somebody else provides: never made.
    File(PathBuf),
}

/// Another process's change of keys is seen after at most this long.
const REFRESH_EVERY: Duration = Duration::from_millis(250);

/// When to try again what has failed.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
    not_before: Duration,
}

impl Backoff {
    fn may_try(&self, now: Duration) -> bool {
        now >= self.not_before
    }

    /// The wait doubles from one second up to about four minutes.
    fn failed(&mut self, now: Duration) {
        self.not_before = now + Duration::from_secs(1 << self.failures.min(8));
        self.failures += 1;
    }
}

/// What to open, and with what.
#[derive(Debug, Clone)]
pub struct Config {
    /// The database.
    pub database: DatabaseUrl,
    /// Whether a database may be made.
    pub if_missing: IfMissing,
    /// The master key.
    pub master_key: MasterKeySource,
    /// The issuer URL: needed when the database knows none, else it must be the one that it knows.
    pub issuer: Option<IssuerUrl>,
    /// Let `issuer` replace another one. Every trust that was set up for the old one ends.
    pub change_issuer: bool,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// New keys.
    pub key_source: Arc<dyn KeySource>,
}

impl Config {
    /// A configuration with this machine's clock, randomness and keys.
    #[must_use]
    pub fn new(database: DatabaseUrl, master_key: MasterKeySource) -> Self {
        let random: Arc<dyn Random> = Arc::new(SecureRandom::default());
        Self {
            database,
            if_missing: IfMissing::Refuse,
            master_key,
            issuer: None,
            change_issuer: false,
            clock: Arc::new(SystemClock::new()),
            key_source: Arc::new(GeneratedKeys(Arc::clone(&random))),
            random,
        }
    }
}

/// An open issuer.
#[derive(Debug)]
pub struct Carnet {
    store: Store,
    issuer: Arc<Issuer>,
    rotator: Arc<Rotator>,
    clock: Arc<dyn Clock>,
}

/// An issuer cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A new database has no master key yet and none can be made.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The database's own master key cannot be had.
    #[error("the database {database} needs the master key {needed}")]
    MasterKeyOf {
        /// The database.
        database: DatabaseUrl,
        /// The master key's identifier.
        needed: String,
        /// Why it cannot be had.
        #[source]
        source: MasterKeyError,
    },
    /// The master key is another one than the database was sealed with.
    #[error("the database {database} is sealed with the master key {needed}, not with {given}")]
    OtherMasterKey {
        /// The database.
        database: DatabaseUrl,
        /// The master key that it needs.
        needed: String,
        /// The master key that was given.
        given: MasterKeyId,
    },
    /// The database is empty: nothing has been set up in it.
    #[error("the database {0} has not been set up")]
    NotSetUp(DatabaseUrl),
    /// Nobody has said yet what the issuer URL is.
    #[error("the database {0} has no issuer yet")]
    NoIssuer(DatabaseUrl),
    /// Another issuer URL than at the first start.
    #[error(
        "the database {database} belongs to the issuer {stored}, not {given}: every cloud that trusts {stored} would \
         refuse the tokens of {given}"
    )]
    OtherIssuer {
        /// The database.
        database: DatabaseUrl,
        /// The issuer that it belongs to.
        stored: IssuerUrl,
        /// The issuer that was given.
        given: IssuerUrl,
    },
    /// A new issuer's keys could not be made.
    #[error("the first signing keys could not be made")]
    FirstKeys(#[from] RotationError),
    /// The keys cannot be used.
    #[error(transparent)]
    KeyState(#[from] KeyStateError),
}

impl Carnet {
    /// Opens the issuer that `config` describes; at a first start, makes what it is allowed to make.
    ///
    /// # Errors
    ///
    /// [`OpenError`] names what is missing or does not fit. A first start that fails half-way goes
    /// on where it stopped when it is tried again.
    pub async fn open(config: Config) -> Result<Self, OpenError> {
        let store = Store::open(&config.database, config.if_missing).await?;
        let (sealer, mac) = unlock(&store, &config).await?;
        let vault = Arc::new(adopt_issuer(store.clone(), sealer, mac, &config).await?);
        let Config { clock, random, key_source, .. } = config;
        let rotator = Arc::new(Rotator::new(Arc::clone(&vault), Arc::clone(&clock), key_source));
        if vault.keys().await?.keys.is_empty() {
            rotator.tick().await?;
        }
        let issuer = Arc::new(Issuer::load(vault, Arc::clone(&clock), random).await?);
        Ok(Self { store, issuer, rotator, clock })
    }

    /// Opens the database alone, for what needs no keys, and sets up a new one if `config` allows it.
    ///
    /// # Errors
    ///
    /// [`OpenError`] as for [`Carnet::open`], but for issuer and keys.
    pub async fn open_store(config: &Config) -> Result<Store, OpenError> {
        let store = Store::open(&config.database, config.if_missing).await?;
        if store.sealed_row_mac().await?.is_none() {
            unlock(&store, config).await?;
        }
        Ok(store)
    }

    /// Keeps what this process publishes and signs current, and rotates keys when they are due, until
    /// `shutdown` completes. One process of several is enough for the rotation; each needs it for the
    /// rest.
    ///
    /// A failure is logged and tried again; it never ends this.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            () = shutdown => {}
            () = self.keep_current() => {}
        }
    }

    async fn keep_current(&self) {
        let mut rotation = Backoff::default();
        loop {
            if let Err(error) = self.issuer.refresh().await {
                tracing::warn!(error = &error as &dyn Error, "the key state could not be confirmed");
            }
            let now = self.clock.monotonic();
            if rotation.may_try(now) && self.rotation_is_due() {
                match self.rotator.tick().await {
                    Ok(_) => rotation = Backoff::default(),
                    Err(error) => {
                        tracing::error!(error = &error as &dyn Error, "signing keys could not be rotated");
                        rotation.failed(now);
                    }
                }
            } else {
                self.clock.sleep_until(now + REFRESH_EVERY).await;
            }
        }
    }

    fn rotation_is_due(&self) -> bool {
        let key_set = self.issuer.key_set();
        !plan(&key_set.keys, &key_set.settings.policy, self.clock.now()).is_empty()
    }

    /// The database.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What is published and signed.
    #[must_use]
    pub fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// What changes keys. After a rotation, [`Issuer::refresh`] makes this process see it.
    #[must_use]
    pub fn rotator(&self) -> &Arc<Rotator> {
        &self.rotator
    }

    /// The clock that it was opened with.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}

/// The master key's two uses. Makes master key and MAC key in a database that has neither.
async fn unlock(store: &Store, config: &Config) -> Result<(Sealer, RowMac), OpenError> {
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
    let path = match &config.master_key {
        MasterKeySource::Folder(folder) => folder.join(master_key::FILE_NAME),
        MasterKeySource::File(file) => file.clone(),
    };
    let master_key = MasterKey::read(&path).map_err(|source| OpenError::MasterKeyOf {
        database: database(),
        needed: needed(),
        source,
    })?;
    if master_key.id().as_str() != sealed.master_key_id {
        let given = master_key.id().clone();
        return Err(OpenError::OtherMasterKey { database: database(), needed: needed(), given });
    }
    let sealer = Sealer::new(&master_key).map_err(seal)?;
    let mac = sealed.row_mac(&sealer)?;
    Ok((sealer, mac))
}

fn read_or_make(config: &Config) -> Result<MasterKey, OpenError> {
    let path = match &config.master_key {
        MasterKeySource::File(file) => return Ok(MasterKey::read(file)?),
        MasterKeySource::Folder(folder) => folder.join(master_key::FILE_NAME),
    };
    match MasterKey::read(&path) {
        Err(MasterKeyError::Missing(_)) => {}
        present => return Ok(present?),
    }
    let made = MasterKey::generate(config.random.as_ref()).map_err(MasterKeyError::from)?;
    match made.write_new(&path) {
        Ok(()) => Ok(made),
        // Another process that starts at the same time was quicker; its key is the one.
        Err(error) => MasterKey::read(&path).map_err(|_| error.into()),
    }
}

/// The vault of the issuer that the database belongs to from now on.
async fn adopt_issuer(
    store: Store,
    sealer: Sealer,
    mac: RowMac,
    config: &Config,
) -> Result<Vault, OpenError> {
    let random = Arc::clone(&config.random);
    let vault = |issuer| Vault::new(store.clone(), sealer, mac, issuer, random);
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
            write.set_issuer_url(&given, config.clock.now()).await?;
            vault(given)
        }
        Some(stored) if stored == given => vault(given),
        Some(stored) if config.change_issuer => {
            let vault = vault(stored).hand_over(&mut write, given.clone()).await?;
            write.set_issuer_url(&given, config.clock.now()).await?;
            write.bump_key_generation().await?;
            vault
        }
        Some(stored) => {
            return Err(OpenError::OtherIssuer { database: config.database.clone(), stored, given });
        }
    };
    write.commit().await?;
    Ok(vault)
}
