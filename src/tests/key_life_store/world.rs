//! A machine with a clock, a database and any number of processes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::carnet::tasks::maintenance::Maintenance;
use crate::carnet::{Carnet, Config, MasterKeySource, OpenError};
use crate::feed::aws::AssumedRole;
use crate::feed::{Feed, FeedDraft, Provider};
use crate::issuer::MintError;
use crate::issuer::rotator::{KeySource, Rotation, RotationError};
use crate::jose::Algorithm;
use crate::jose::jwk::Kid;
use crate::jose::key_pair::{KeyPair, KeyPairError, RsaBits};
use crate::oidc::subject::Context;
use crate::oidc::token::SignedToken;
use crate::signing_keys::rotation::RotationRequest;
use crate::signing_keys::{SigningKey, State};
use crate::store::{IfMissing, Unlocked};
use crate::values::actor::Actor;
use crate::values::clock::{Clock as _, SimulatedClock};
use crate::values::random::SecureRandom;
use jiff::Timestamp;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// Every key pair of this test process, by algorithm: RSA keys are slow to generate, and issuers may share
/// them.
static POOL: [Mutex<Vec<KeyPair>>; 2] = [Mutex::new(Vec::new()), Mutex::new(Vec::new())];

/// Hands out each key pair of the pool once, in order; an error while it is set to fail.
#[derive(Debug, Default)]
pub(crate) struct PooledKeys {
    used: [AtomicUsize; 2],
    pub(crate) fails: AtomicBool,
}

impl KeySource for PooledKeys {
    fn generate(&self, algorithm: Algorithm, rsa_bits: RsaBits) -> Result<KeyPair, KeyPairError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(KeyPairError::Generation(algorithm));
        }
        let kind = usize::from(algorithm == Algorithm::Es256);
        let wanted = self.used[kind].fetch_add(1, Ordering::Relaxed);
        let mut pool = POOL[kind].lock().unwrap();
        while pool.len() <= wanted {
            pool.push(KeyPair::generate(algorithm, rsa_bits, &SecureRandom::default())?);
        }
        Ok(pool[wanted].clone())
    }
}

/// A machine.
pub(crate) struct Machine {
    folder: TempDir,
    pub(crate) clock: SimulatedClock,
    pub(crate) source: Arc<PooledKeys>,
}

/// A process.
pub(crate) struct Process {
    pub(crate) carnet: Carnet,
    pub(crate) maintenance: Maintenance,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: SimulatedClock::at(Timestamp::from_second(1_700_000_000).unwrap()),
            source: Arc::new(PooledKeys::default()),
        }
    }

    pub(crate) async fn try_open(&self) -> Result<Process, OpenError> {
        let folder = self.folder.path();
        let master_key = MasterKeySource::Folder(folder.join("keys"));
        let carnet = Carnet::open(Config {
            if_missing: IfMissing::Create,
            issuer: Some("https://issuer.example".parse().unwrap()),
            clock: Arc::new(self.clock.clone()),
            key_source: Arc::clone(&self.source) as Arc<dyn KeySource>,
            ..Config::new(folder.join("carnet.db").into(), master_key)
        })
        .await?;
        let maintenance = carnet.maintenance();
        Ok(Process { carnet, maintenance })
    }

    /// Opens the database, unlocked, without checking its state.
    pub(crate) async fn open_to_examine(&self) -> Unlocked {
        let folder = self.folder.path();
        let master_key = MasterKeySource::Folder(folder.join("keys"));
        let config = Config::new(folder.join("carnet.db").into(), master_key);
        config.unlock(&config.open_store().await.unwrap()).await.unwrap()
    }

    pub(crate) async fn open(&self) -> Process {
        self.try_open().await.unwrap()
    }

    /// Opens a connection without carnet's code.
    pub(crate) async fn sql(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.folder.path().join("carnet.db"));
        SqliteConnection::connect_with(&options).await.unwrap()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn step_wall(&self, seconds: i64) {
        self.clock.step_wall_to(self.now() + jiff::SignedDuration::from_secs(seconds));
    }
}

pub(crate) fn somebody() -> Actor {
    Actor::local("somebody")
}

pub(crate) fn feed(alg: Algorithm, token_lifetime: Duration) -> Feed {
    let draft = FeedDraft {
        alg: Some(alg),
        token_lifetime: Some(token_lifetime),
        ..FeedDraft::new(
            "default/prod".parse().unwrap(),
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com".parse().unwrap(),
            Provider::AwsEcr(AssumedRole::new("arn:aws:iam::123456789012:role/pull".parse().unwrap())),
        )
    };
    Feed::new(draft, Uuid::from_u128(1), token_lifetime, Timestamp::UNIX_EPOCH).unwrap()
}

impl Process {
    /// Refreshes the process and returns its keys.
    pub(crate) async fn keys(&mut self) -> Vec<SigningKey> {
        self.maintenance.tick().await;
        self.carnet.issuer().key_set().keys.clone()
    }

    pub(crate) fn active_kids(&self) -> Vec<Kid> {
        self.carnet.issuer().key_set().active_kids()
    }

    pub(crate) async fn rotate(&self, force: bool) -> Result<Rotation, RotationError> {
        self.rotate_what_was_seen(self.active_kids(), force).await
    }

    pub(crate) async fn rotate_what_was_seen(
        &self,
        seen: Vec<Kid>,
        force: bool,
    ) -> Result<Rotation, RotationError> {
        let request = RotationRequest { algorithms: Algorithm::ALL.to_vec(), seen, force };
        self.carnet.rotator().rotate(&request, &somebody()).await
    }

    /// Mints the longest token that the policy in this process's view allows.
    pub(crate) fn mint(&self, alg: Algorithm) -> Result<SignedToken, MintError> {
        let longest = self.carnet.issuer().key_set().settings.policy.max_token_lifetime();
        self.carnet.issuer().mint(&feed(alg, longest), &Context::empty())
    }

    /// Returns the bytes that this process serves.
    pub(crate) fn jwks(&self) -> Vec<u8> {
        self.carnet.issuer().documents().jwks.body.to_vec()
    }

    pub(crate) fn serves(&self, kid: &Kid) -> bool {
        String::from_utf8(self.jwks()).unwrap().contains(kid.as_str())
    }

    /// Disconnects this process from the database.
    pub(crate) async fn cut_off(&self) {
        self.carnet.store().close().await;
    }

    /// Returns the keys that are in `state` now.
    pub(crate) fn in_state(&self, state: State) -> Vec<SigningKey> {
        let now = self.carnet.clock().now();
        let key_set = self.carnet.issuer().key_set();
        key_set.keys.iter().filter(|key| key.state(now) == state).cloned().collect()
    }
}

/// Returns whether a token verifies against the bytes of a JWKS, with a library that did not sign it. Times
/// are not checked, because they are simulated.
pub(crate) fn verifies(token: &SignedToken, jwks: &[u8]) -> bool {
    let jwks: jsonwebtoken::jwk::JwkSet = serde_json::from_slice(jwks).unwrap();
    let header = jsonwebtoken::decode_header(token.compact.reveal()).unwrap();
    let Some(jwk) = jwks.find(header.kid.as_deref().unwrap()) else { return false };
    let mut validation = jsonwebtoken::Validation::new(header.alg);
    (validation.validate_exp, validation.validate_aud) = (false, false);
    let key = jsonwebtoken::DecodingKey::from_jwk(jwk).unwrap();
    jsonwebtoken::decode::<serde_json::Value>(token.compact.reveal(), &key, &validation).is_ok()
}
