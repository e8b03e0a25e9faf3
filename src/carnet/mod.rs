//! Opening an issuer: the database, the master key, the state, the issuer URL and the keys, in that order.
//!
//! Owns the rules of first and later starts: which of the five may be created, which must exist, and which
//! must be unchanged.

pub mod accepting;
mod adoption;
mod master_keys;
mod opening;
pub mod recovery;
pub mod tasks;

use std::error::Error;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::adoption::adopt_issuer;
use crate::access::grants::Grants;
use crate::audit::{Event, EventKind, Outcome};
use crate::audit_log::AuditLog;
use crate::broker::{Broker, BrokerLimits, MintingExchanger};
use crate::carnet::tasks::audit_log::AuditMaintenance;
use crate::carnet::tasks::maintenance::Maintenance;
use crate::clock_watch::ClockWatch;
use crate::clock_watch::database_clock::vouch_for_the_past;
use crate::exchange::address::Loopback;
use crate::exchange::transport::{HttpTransport, ReqwestTransport, TransportConfig, TransportConfigError};
use crate::feed::Feed;
use crate::feeds::Feeds;
use crate::feeds::uploads::Uploads;
use crate::issuer::audited::{AuditedIssuer, AuditedMintError};
use crate::issuer::rotator::{GeneratedKeys, KeySource, RotationError, Rotator};
use crate::issuer::{Issuer, KeyStateError};
use crate::metrics::Metrics;
use crate::oidc::subject::Context;
use crate::oidc::token::SignedToken;
use crate::states::StatePoint;
use crate::store::custody::CustodyError;
use crate::store::database_url::DatabaseUrl;
pub use crate::store::master_key::MasterKeySource;
use crate::store::master_key::{MasterKeyError, MasterKeyId, MasterKeys};
use crate::store::state_file::{self, StateFile};
use crate::store::states::Witnesses;
use crate::store::vault::Vault;
use crate::store::{IfMissing, StoreError, Trusted};
use crate::values::actor::Actor;
use crate::values::clock::{Clock, SystemClock};
use crate::values::issuer_url::IssuerUrl;
use crate::values::random::{Random, SecureRandom};

/// The interval at which the broker checks for feeds that other processes have changed. Cached credentials of
/// such a feed are used for at most this long.
const LOOK_FOR_CHANGED_FEEDS_EVERY: Duration = Duration::from_millis(500);

/// The configuration of an issuer.
#[derive(Debug, Clone)]
pub struct Config {
    /// The database.
    pub database: DatabaseUrl,
    /// The choice between creating a missing database and refusing it.
    pub if_missing: IfMissing,
    /// The master key.
    pub master_key: MasterKeySource,
    /// The file of the next master key, which may not exist yet.
    pub next_master_key: Option<PathBuf>,
    /// The state file. Without one, nothing outside the database remembers the database's state. See
    /// [`StateFile`].
    pub state_file: Option<PathBuf>,
    /// A state that the database must have reached.
    pub state_at_least: Option<StatePoint>,
    /// The issuer URL. Required if the database stores none; otherwise it must match the stored one.
    pub issuer: Option<IssuerUrl>,
    /// `true` to let `issuer` replace the stored one. All trust that was set up for the old issuer ends.
    pub change_issuer: bool,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub random: Arc<dyn Random>,
    /// The source of new keys.
    pub key_source: Arc<dyn KeySource>,
    /// The settings for connections to the clouds. Loopback is always allowed if the issuer is on it.
    pub transport: TransportConfig,
    /// The actor of acts without a named principal, as the audit log names it.
    pub actor: Actor,
    /// The time for which audit records are kept; `None` to keep them forever.
    pub audit_retention: Option<Duration>,
}

impl Config {
    /// A configuration with this machine's clock, randomness and keys. The state file is in the keys folder
    /// if the master key is.
    #[must_use]
    pub fn new(database: DatabaseUrl, master_key: MasterKeySource) -> Self {
        let random: Arc<dyn Random> = Arc::new(SecureRandom::default());
        let state_file = match &master_key {
            MasterKeySource::Folder(folder) => Some(folder.join(state_file::FILE_NAME)),
            MasterKeySource::File(_) => None,
        };
        Self {
            state_file,
            state_at_least: None,
            database,
            if_missing: IfMissing::Refuse,
            master_key,
            next_master_key: None,
            issuer: None,
            change_issuer: false,
            clock: Arc::new(SystemClock::new()),
            key_source: Arc::new(GeneratedKeys(Arc::clone(&random))),
            random,
            transport: TransportConfig::default(),
            actor: Actor::server(),
            audit_retention: None,
        }
    }

    fn master_keys(&self) -> MasterKeys {
        MasterKeys { usual: self.master_key.clone(), next: self.next_master_key.clone() }
    }

    /// The witnesses of the database's state outside it.
    #[must_use]
    pub fn witnesses(&self) -> Witnesses {
        let file = self.state_file.clone().map(|path| StateFile::new(path, self.master_keys()));
        Witnesses { file, at_least: self.state_at_least }
    }
}

/// An open issuer.
#[derive(Debug)]
pub struct Carnet {
    store: Trusted,
    vault: Arc<Vault>,
    master_keys: MasterKeys,
    issuer: Arc<Issuer>,
    rotator: Arc<Rotator>,
    grants: Arc<Grants>,
    clock: Arc<dyn Clock>,
    watch: Arc<ClockWatch>,
    random: Arc<dyn Random>,
    transport: TransportConfig,
    actor: Actor,
    audit_log: AuditLog,
    audit_retention: Option<Duration>,
    /// Created on first use, because reading the machine's certificates takes time.
    broker: Mutex<Option<Broker>>,
}

/// The reason why an issuer cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another user could change the database's or the master key's files.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// A new database has no master key yet, and none can be created.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The database's master key cannot be read.
    #[error("the database {database} needs the master key {needed}")]
    MasterKeyOf {
        /// The database.
        database: DatabaseUrl,
        /// The master key's identifier.
        needed: String,
        /// The reason why it cannot be read.
        #[source]
        source: MasterKeyError,
    },
    /// The database was sealed with another master key.
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
    /// The database has no issuer URL yet, and the configuration gives none.
    #[error("the database {0} has no issuer yet")]
    NoIssuer(DatabaseUrl),
    /// The issuer URL differs from the stored one.
    #[error(
        "the database {database} belongs to the issuer {stored}, not {given}: every cloud that trusts {stored} would \
         refuse the tokens of {given}"
    )]
    OtherIssuer {
        /// The database.
        database: DatabaseUrl,
        /// The issuer that the database belongs to.
        stored: IssuerUrl,
        /// The given issuer.
        given: IssuerUrl,
    },
    /// A new issuer's keys could not be generated.
    #[error("the first signing keys could not be made")]
    FirstKeys(#[from] RotationError),
    /// The keys cannot be used.
    #[error(transparent)]
    KeyState(#[from] KeyStateError),
}

impl Carnet {
    /// Opens the issuer that `config` describes. On the first start, creates the parts that `config` allows.
    ///
    /// A first start that fails part way continues from there when it is repeated.
    pub async fn open(config: Config) -> Result<Self, OpenError> {
        let store = config.open_trusted().await?;
        let watch = Arc::new(ClockWatch::new(Arc::clone(&config.clock)));
        let grants = Grants::new(store.clone(), Arc::clone(&watch), Arc::clone(&config.random));
        let vault = Arc::new(adopt_issuer(store.clone(), &config).await?);
        let master_keys = config.master_keys();
        let Config { clock, random, key_source, mut transport, actor, audit_retention, .. } = config;
        let rotator = Arc::new(Rotator::new(Arc::clone(&vault), Arc::clone(&watch), key_source));
        let stored = vault.keys().await?;
        if stored.keys.is_empty() {
            rotator.tick(&actor).await?;
        }
        if stored.settings.erasure_pending {
            // A reader may delay the erasure; a running server tries again.
            let _ = store.finish_erasure().await?;
        }
        let metrics = Arc::new(Metrics::new());
        let (issuer_watch, issuer_random) = (Arc::clone(&watch), Arc::clone(&random));
        let issuer =
            Issuer::load(Arc::clone(&vault), issuer_watch, issuer_random, Arc::clone(&metrics)).await?;
        vouch_for_the_past(&store, &issuer).await?;
        let issuer = Arc::new(issuer);
        let read = Arc::downgrade(&issuer);
        metrics.keys.read_with(move || read.upgrade().map(|issuer| issuer.reading()));
        if issuer.url().is_loopback() {
            transport.loopback = Loopback::Allow;
        }
        let audit_log = AuditLog::new(store.clone(), Arc::clone(&clock), Arc::clone(&metrics));
        let broker = Mutex::new(None);
        let grants = Arc::new(grants);
        Ok(Self {
            store,
            vault,
            master_keys,
            issuer,
            rotator,
            grants,
            clock,
            watch,
            random,
            transport,
            actor,
            audit_log,
            audit_retention,
            broker,
        })
    }

    /// Mints a token for `feed` in `context`. The audit log names `by`, and its row is durable before this returns.
    ///
    /// # Errors
    ///
    /// [`AuditedMintError`]: the token was not minted, or it was discarded because it could not be recorded. A refusal is
    /// recorded, too.
    pub async fn mint(
        &self,
        feed: &Feed,
        context: &Context,
        by: &Actor,
    ) -> Result<SignedToken, AuditedMintError> {
        let asked = Event::new(EventKind::TokenMint, Outcome::Done, by);
        self.audited_issuer().mint(feed, context, asked).await
    }

    /// The issuer URL, below which verifiers find the public documents.
    #[must_use]
    pub fn issuer_url(&self) -> &IssuerUrl {
        self.issuer.url()
    }

    /// Closes the database. Call it after [`Carnet::run`] has returned.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// Keeps the published documents and the signers of this process current, rotates keys when they are due,
    /// and drops cached credentials of feeds that are changed or removed, until `shutdown` completes. Writes
    /// the remaining evidence of JWKS fetches before it returns.
    ///
    /// Every process needs it, although one of several is enough for the rotation. See [`Maintenance`].
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        self.run_publishing(Vec::new(), shutdown).await;
    }

    /// Makes the broker, once there is one, forget feeds that any process has changed or removed. Runs
    /// forever.
    async fn forget_changed_feeds(&self) {
        let mut works = true;
        loop {
            self.clock.sleep_until(self.clock.monotonic() + LOOK_FOR_CHANGED_FEEDS_EVERY).await;
            let broker = self.broker.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let Some(broker) = broker else { continue };
            let outcome = broker.forget_changed(&self.store).await;
            if let (Err(error), true) = (&outcome, works) {
                tracing::warn!(error = error as &dyn Error, "feeds cannot be checked for changes");
            }
            works = outcome.is_ok();
        }
    }

    /// The maintenance task behind [`Carnet::run`], for tests that drive the clock.
    #[must_use]
    pub(crate) fn maintenance(&self) -> Maintenance {
        Maintenance::new(
            Arc::clone(&self.issuer),
            Arc::clone(&self.rotator),
            Arc::clone(&self.grants),
            self.store.clone(),
            Arc::clone(&self.clock),
        )
    }

    /// The maintenance task of the audit log, for tests that drive the clock.
    #[must_use]
    pub(crate) fn audit_maintenance(&self) -> AuditMaintenance {
        let (log, store, retention) = (self.audit_log.clone(), self.store.clone(), self.audit_retention);
        AuditMaintenance::new(log, store, Arc::clone(&self.issuer), Arc::clone(&self.clock), retention)
    }

    /// Returns whether the master key comes from a file that carnet never writes.
    #[must_use]
    pub(crate) fn master_key_is_a_file(&self) -> bool {
        matches!(self.master_keys.usual, MasterKeySource::File(_))
    }

    /// The database.
    #[must_use]
    pub(crate) fn store(&self) -> &Trusted {
        &self.store
    }

    /// The log that records mints, credentials and refusals. Every call returns the same one.
    #[must_use]
    pub(crate) fn audit_log(&self) -> &AuditLog {
        &self.audit_log
    }

    /// The actor of acts without a named principal.
    #[must_use]
    pub(crate) fn actor(&self) -> &Actor {
        &self.actor
    }

    /// The issuer whose mints are recorded.
    #[must_use]
    pub(crate) fn audited_issuer(&self) -> AuditedIssuer {
        AuditedIssuer::new(Arc::clone(&self.issuer), self.audit_log.clone())
    }

    /// The issuer whose mints are not recorded.
    #[must_use]
    pub(crate) fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// The metrics of this issuer.
    #[must_use]
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        self.issuer.metrics()
    }

    /// The rotator. After a rotation, call [`Issuer::refresh`] to load the changed keys into this process.
    #[must_use]
    pub(crate) fn rotator(&self) -> &Arc<Rotator> {
        &self.rotator
    }

    /// The grants, which permit callers to use the API. [`Carnet::run`] writes the times of their use.
    #[must_use]
    pub fn grants(&self) -> &Arc<Grants> {
        &self.grants
    }

    /// The broker, which hands out credentials. Every call returns the same one, with its cache.
    ///
    /// # Errors
    ///
    /// [`TransportConfigError`] if the HTTP client cannot be made, for example because of a malformed CA
    /// bundle.
    pub fn broker(&self) -> Result<Broker, TransportConfigError> {
        let mut broker = self.broker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(broker) = &*broker {
            return Ok(broker.clone());
        }
        let transport = self.http()?;
        let (actor, clock) = (self.actor.clone(), Arc::clone(&self.clock));
        let exchanger = MintingExchanger::new(self.audited_issuer(), actor, transport, clock);
        let (clock, random) = (Arc::clone(&self.clock), Arc::clone(&self.random));
        let made =
            Broker::new(Arc::new(exchanger), clock, random, BrokerLimits::default(), self.metrics().clone());
        Ok(broker.insert(made).clone())
    }

    /// Makes an HTTP client for the clouds. Reads the machine's certificates.
    pub(crate) fn http(&self) -> Result<Arc<dyn HttpTransport>, TransportConfigError> {
        Ok(Arc::new(ReqwestTransport::new(self.transport.clone())?))
    }

    /// The feeds, for changes.
    #[must_use]
    pub fn feeds(&self) -> Feeds {
        Feeds::watched(self.store.clone(), Arc::clone(&self.watch), Arc::clone(&self.random))
    }

    /// The confirmations of uploaded JWKSs.
    #[must_use]
    pub(crate) fn uploads(&self) -> Uploads {
        Uploads::new(Arc::clone(&self.vault), Arc::clone(&self.clock))
    }

    /// The randomness that the issuer was opened with.
    #[must_use]
    pub(crate) fn random(&self) -> &Arc<dyn Random> {
        &self.random
    }

    /// The clock that the issuer was opened with.
    #[must_use]
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}
